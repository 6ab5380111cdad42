"""The documentation keeps its word: its code runs, commands and links exist, no table is missing.

CI builds the site itself (`.ci/run`); this needs no builder.
"""

import ast
import doctest
import re
import shlex
import tomllib
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import typer

import pythia_profile as pp
from pythia_profile import tables
from pythia_profile.cli import app

ROOT = Path(__file__).parents[1]
PAGES = sorted((ROOT / "docs").rglob("*.md"))
TEXTS = {
    path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8")
    for path in [*PAGES, ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "llms.txt"]
}
FENCED = re.compile(r"(<!-- no-run: [^>]+ -->\n)?^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)
ELSEWHERE = {
    "docs/recipes.md": "end_to_end/test_recipes.py",
    "docs/extending.md": "test_packaging.py",
}
"""Pages whose every block another test runs."""
ON_MINI = ("README.md", "docs/findings.md")
"""Pages whose blocks train the mini suite; the README's are run in test_api and as a recipe."""


def blocks(language, texts):
    """Blocks of a language as (page, marked no-run, code)."""
    return [
        (page, bool(mark), code)
        for page, text in texts.items()
        for mark, of, code in FENCED.findall(text)
        if of == language
    ]


def commands():
    """Command lines of blocks and of running text, as (page, words behind `pythia-profile`)."""
    shells = [block for language in ("sh", "bash") for block in blocks(language, TEXTS)]
    lines = [
        (page, line) for page, _, code in shells for line in code.replace("\\\n", " ").splitlines()
    ]
    lines += [
        (page, line)
        for page, text in TEXTS.items()
        for line in re.findall(r"`(pythia-profile [^`…]+)`", FENCED.sub("", text))
    ]
    for page, line in lines:
        for part in re.split(r"&&|\|", line):
            words = shlex.split(part, comments=True)
            if words and words[0].rsplit("/")[-1] == "pythia-profile":
                yield page, tuple(words[1:])


@pytest.mark.parametrize(("page", "words"), sorted(set(commands())))
def test_a_command_names_a_verb_and_options_that_exist(page, words):
    command, rest = typer.main.get_command(app), list(words)
    while hasattr(command, "commands") and rest and not rest[0].startswith("-"):
        name = rest.pop(0)
        group = typer.Context(command)
        assert name in command.list_commands(group), (page, name)
        command = command.get_command(group, name)
    context = typer.Context(command, info_name=words[0], resilient_parsing=True)

    _, left, _ = command.make_parser(context).parse_args(rest)

    assert left == [], page  # more words than the verb takes


def test_commands_were_found():
    assert len(set(commands())) > 60


@pytest.mark.parametrize("page", ELSEWHERE)
def test_pages_that_are_run_elsewhere_are(page):
    assert Path(page).name in (ROOT / "tests" / ELSEWHERE[page]).read_text(encoding="utf-8")


def run_page(page, names):
    """Run a page's blocks, which share their names; lines with >>> as doctests."""
    for _, marked, code in blocks("python", {page: TEXTS[page]}):
        if ">>>" in code:
            test = doctest.DocTestParser().get_doctest(code, names, page, page, 0)
            runner = doctest.DocTestRunner(optionflags=doctest.NORMALIZE_WHITESPACE)
            assert runner.run(test).failed == 0
        elif not marked:
            exec(code, names)


@pytest.mark.parametrize(
    "page", sorted({page for page, *_ in blocks("python", TEXTS)} - {*ELSEWHERE, *ON_MINI})
)
def test_python_of_a_page_runs_as_it_stands(page):
    rng = np.random.default_rng(0)
    tokens = rng.integers(0, 50, (80, 9)).astype(np.uint16)
    rows = pl.DataFrame(
        {
            "row_id": np.arange(80),
            "treatment_step": np.repeat([1, 2, 3, 4], 20),
            "batch": np.repeat([0, 1, 2, 3], 20),
            "tokens": tokens.tolist(),
            "earlier_exposure": 0.0,
        }
    )

    run_page(page, {"rows": rows, "checkpoints": [0, 2, 4]})


@pytest.mark.slow
def test_findings_run_as_they_stand(tiny_suite, tiny_rows, tiny_scores, monkeypatch):
    """On the tiny suite and its scores in place of mini's."""
    monkeypatch.setattr(pp, "mini_suite", lambda _: tiny_suite, raising=False)
    monkeypatch.setattr(pp, "sample_rows", lambda _: tiny_rows, raising=False)
    monkeypatch.setattr(pp, "score", lambda *_: tiny_scores, raising=False)
    names = {}

    run_page("docs/findings.md", names)

    assert str(names["found"])


@pytest.mark.parametrize("page", TEXTS)
def test_links_of_a_page_lead_to_files_and_headings(page):
    folder = (ROOT / page).parent
    for link in re.findall(r"\]\((?!https?:)([^)\s]+)\)", FENCED.sub("", TEXTS[page])):
        path, _, anchor = link.partition("#")
        target = (folder / path).resolve() if path else ROOT / page
        assert target.exists(), link
        if anchor:
            text = FENCED.sub("", target.read_text(encoding="utf-8"))
            assert anchor in {slug(line) for line in re.findall(r"^#+ (.*)$", text, re.M)}, link


def slug(heading):
    """The address of a heading, as mkdocs and most others make it."""
    return re.sub(r"[-\s]+", "-", re.sub(r"[^\w\s-]", "", heading).strip().lower())


def test_every_page_stands_in_the_navigation():
    named = re.findall(r": ([\w/]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    at_the_root = {"changelog.md", "contributing.md"}

    notebooks = [
        f"notebooks/{path.stem}.md" for path in sorted((ROOT / "notebooks").glob("*.ipynb"))
    ]

    assert [name for name in named if name.startswith("notebooks/")] == notebooks
    assert sorted({*named} - at_the_root - {*notebooks}) == [
        path.relative_to(ROOT / "docs").as_posix() for path in PAGES
    ]
    assert len(named) == len(set(named))


def test_every_table_is_documented():
    shown = set(re.findall(r"^\| `(\w+)(?:\.parquet|/)` \|", "\n".join(TEXTS.values()), re.M))
    known = {t.name for t in vars(tables).values() if isinstance(t, tables.Table)}

    assert known <= shown


@pytest.mark.parametrize("module", ["pythia_profile", "pythia_profile.did", "data_order"])
def test_every_public_name_is_in_the_reference(module):
    """By its stub, in which one object may have two names."""
    page = f"docs/api/{module.rsplit('.')[-1]}.md"
    shown = re.findall(rf"^::: {module}\.(\w+)$", TEXTS[page], re.MULTILINE)
    stub = ast.parse((ROOT / module.replace(".", "/") / "__init__.pyi").read_text())
    objects = {
        alias.asname: (node.module, alias.name)
        for node in ast.walk(stub)
        if isinstance(node, ast.ImportFrom) and node.module != "pythia_profile"
        for alias in node.names
    }

    assert {objects[name] for name in shown} == set(objects.values())
    assert len(shown) == len({objects[name] for name in shown})


def test_figures_of_coverage_are_those_that_were_simulated():
    stored = pl.read_csv(ROOT / "tests/bench/did_coverage.csv")
    shown = re.findall(
        r"^\| (.+) \| (\d+) \|((?: [.\d]+, [.\d]+ \|){4})$",
        TEXTS["docs/validation.md"],
        re.MULTILINE,
    )

    assert {name for name, *_ in shown} == set(stored["design"])
    for name, panels, cells in shown:
        lines = stored.filter(design=name)
        numbers = [float(number) for number in re.findall(r"[.\d]+", cells)]
        assert numbers == lines.select("single", "simultaneous").to_numpy().ravel().tolist()
        assert set(lines["panels"]) == {int(panels)}


def test_what_builds_the_site_is_an_extra_that_ci_installs():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    script = (ROOT / ".ci" / "run").read_text(encoding="utf-8")

    assert {re.split(r"[\[>]", name)[0] for name in project["optional-dependencies"]["docs"]} == {
        "mkdocs-material",
        "mkdocstrings",
    }
    assert "mkdocs build --strict" in script
    assert '".[docs]"' in script
