"""What a package index shows, what is said of the package, and what other packages can add."""

import ast
import importlib
import re
import sys
import tomllib
from pathlib import Path
from types import ModuleType, SimpleNamespace

import numpy as np
import polars as pl
import pytest
from PIL import Image

import pythia_profile as pp
from pythia_profile.scoring.columns import KNOWN, scorer_columns
from pythia_profile.scoring.outcomes import outcome
from pythia_profile.suites.registry import known_suites

ROOT = Path(__file__).parents[1]
GUIDE = (ROOT / "docs" / "extending.md").read_text(encoding="utf-8")


@pytest.fixture
def build(monkeypatch):
    """`hatch_build.py`, whose base class only the build has."""
    interface = ModuleType("hatchling.metadata.plugin.interface")
    interface.MetadataHookInterface = SimpleNamespace
    monkeypatch.setitem(sys.modules, interface.__name__, interface)
    module = ModuleType("hatch_build")
    exec((ROOT / "hatch_build.py").read_text(encoding="utf-8"), module.__dict__)
    return module


def relative_links(page):
    return re.findall(r"\]\((?!https?:|#)[^)]*\)", page)


@pytest.mark.parametrize("url", ["", "https://example.org/project"])
def test_the_page_of_the_package_index_has_no_relative_link(build, url):
    readme = (ROOT / "README.md").read_text(encoding="utf-8")
    assert relative_links(readme)

    page = build.for_package_index(readme, url)

    assert relative_links(page) == []
    assert page.count("```") == readme.count("```")
    assert ("https://example.org/project/raw/main/docs/profile.png" in page) == bool(url)


def test_no_address_is_claimed_that_is_not_known(build, monkeypatch):
    monkeypatch.delenv(build.VARIABLE, raising=False)
    metadata = {}

    build.CustomMetadataHook(root=str(ROOT)).update(metadata)

    assert set(metadata["urls"]) == {"Paper", "Method"}


def test_the_version_is_one_everywhere():
    cited = (ROOT / "CITATION.cff").read_text(encoding="utf-8")

    assert f"version: {pp.__version__}" in cited.splitlines()


def test_every_file_that_the_guides_name_is_there():
    for name in ("llms.txt", "CONTRIBUTING.md", "CHANGELOG.md"):
        text = (ROOT / name).read_text(encoding="utf-8")
        for path in re.findall(r"\]\((?!http)([^)#]+)\)", text):
            assert (ROOT / path).exists(), (name, path)


def test_what_the_image_copies_is_there_and_not_ignored():
    copied = re.findall(r"^COPY (.*) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    kept = (ROOT / ".dockerignore").read_text().split()

    for path in " ".join(copied).split():
        assert (ROOT / path).exists()
        assert f"!{path}" in kept


def test_classifiers_name_pythons_that_are_allowed():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]

    named = [c.rsplit(" ")[-1] for c in project["classifiers"] if re.search(r":: 3\.\d+$", c)]
    assert project["requires-python"] == f">={named[0]}"


@pytest.mark.parametrize("name", KNOWN)
def test_a_scorer_adds_the_columns_that_its_name_says(name):
    assert outcome(name).columns == scorer_columns(name)


@pytest.fixture
def other_package(tmp_path, monkeypatch, tiny_suite):
    """Install the guide's examples as a package would be: a module, and its entry points."""
    code = re.findall(r"```python\n(.*?)```", GUIDE, re.DOTALL)
    module = tmp_path / "my_package.py"
    module.write_text("\n".join(code), encoding="utf-8")
    (tmp_path / "suite").symlink_to(tiny_suite.root, target_is_directory=True)
    points = tomllib.loads(re.search(r"```toml\n(.*?)```", GUIDE, re.DOTALL)[1])
    info = tmp_path / "my_package-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: my-package\nVersion: 1\n")
    groups = points["project"]["entry-points"].items()
    (info / "entry_points.txt").write_text(
        "\n".join(
            line
            for group, entries in groups
            for line in (f"[{group}]", *(f"{name} = {place}" for name, place in entries.items()))
        )
    )
    monkeypatch.syspath_prepend(str(tmp_path))
    importlib.invalidate_caches()
    yield ast.parse(module.read_text())
    sys.modules.pop("my_package", None)


def test_the_guides_suite_is_found_by_name(other_package, tiny_suite):
    assert "my-suite" in known_suites()
    assert pp.open_suite("my-suite").sizes == tiny_suite.sizes


def test_the_guides_scorer_is_computed_and_named_as_an_outcome(other_package, tiny_suite):
    from transformers import GPTNeoXForCausalLM

    model = GPTNeoXForCausalLM.from_pretrained(tiny_suite.root / "xs/step64").eval()
    tokens = np.random.default_rng(0).integers(0, 300, (3, 17))

    found = pp.score_checkpoint(model, tokens, outcomes=["last_16"])

    # of 16 targets the last 16 are all
    assert found["log_likelihood_last_16"].to_list() == pytest.approx(
        found["log_likelihood"].to_list(), abs=1e-12
    )
    study = pp.Study(suite="a", sizes=("b",), outcomes=("last_16",))
    assert study.outcomes == ("log_likelihood_last_16",)
    assert study.score.scorers == ("last_16",)


def test_the_guides_figure_is_drawn_with_the_others(other_package, tmp_path):
    from pythia_profile.pipeline.plugins import draw_plugins

    profiles = pl.DataFrame(
        {"kind": ["instantaneous"] * 2, "cohort": [16, 32], "att": [0.1, 0.2]},
    )

    assert draw_plugins({"profiles": profiles}, tmp_path / "figures") == ["effects_at_once"]

    with Image.open(tmp_path / "figures/effects_at_once.png") as drawn:
        assert drawn.width > 100
