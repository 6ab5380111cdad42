"""A suite described by a file: round trip, and what a wrong file says."""

from dataclasses import replace

import pytest

from pythia_profile.checkpoints.grid import folder_listing
from pythia_profile.cli import app
from pythia_profile.cli.app import run
from pythia_profile.errors import NotFoundError, StudyError
from pythia_profile.suites.folder import read_suite, write_suite
from pythia_profile.suites.model import Size, Suite
from pythia_profile.suites.registry import open_suite, suite_facts_of


@pytest.fixture
def suite(tmp_path) -> Suite:
    small = Size(
        name="s",
        layers=2,
        width=8,
        heads=2,
        parameters=1000,
        peak_lr=1e-3,
        min_lr=1e-4,
        precision="float32",
        weights="s",
        checkpoints=(0, 10),
    )
    return Suite(
        name="mine",
        title="two checkpoints",
        batch_size=4,
        steps=10,
        row_tokens=9,
        vocabulary=50,
        schedule="neox_v1",
        warmup_steps=2,
        seed=3,
        sizes={"s": small},
        root=tmp_path,
        store="document",
    )


def test_a_suite_reads_back_as_it_was_written(suite, tmp_path):
    write_suite(suite, tmp_path)

    assert read_suite(tmp_path) == suite
    assert open_suite(str(tmp_path), ["s"]) == suite
    assert str(tmp_path) not in (tmp_path / "suite.toml").read_text()


def test_a_relative_folder_is_read_near_the_study(suite, tmp_path):
    write_suite(suite, tmp_path / "models")

    assert open_suite("models", near=tmp_path).name == "mine"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("format = 1", "format = 9", "has format 9, this version of pythia-profile reads 1"),
        ("steps = 10", 'steps = "ten"', "steps: got 'ten', expected"),
        ("steps = 10", "stepz = 10", r"'stepz'; did you mean 'steps'\? known: name, title"),
        ("steps = 10", "stepz = 10", "; steps: missing, expected a value; `pythia-profile suites"),
        ('revision = "step{label}"', 'revision = "step"', "expected a name with {label} in it"),
        ('revision = "step{label}"', 'revision = "{x}"', "revision is '{x}', expected"),
        ('revision = "step{label}"', 'revision = "../{label}"', "revision is"),
        ("steps = 10", "", "steps: missing, expected a value"),
        ("steps = 10", "steps = = 10", "cannot be read"),
    ],
)
def test_a_wrong_file_is_named_with_the_setting(suite, tmp_path, old, new, message):
    write_suite(suite, tmp_path)
    file = tmp_path / "suite.toml"
    file.write_text(file.read_text().replace(old, new))

    with pytest.raises(StudyError, match=message):
        read_suite(tmp_path)


def test_all_faults_of_a_file_are_named_at_once(suite, tmp_path):
    write_suite(suite, tmp_path)
    file = tmp_path / "suite.toml"
    text = file.read_text().replace("steps = 10", 'steps = "ten"').replace("layers = 2", "")
    file.write_text(text.replace("batch_size = 4", "").replace("seed = 3", "seed = 1.5"))

    with pytest.raises(StudyError) as caught:
        read_suite(tmp_path)

    message = str(caught.value)
    assert "batch_size, sizes.s.layers: missing, expected a value each" in message
    assert "steps: got 'ten', expected" in message
    assert "seed: got 1.5, expected" in message


def test_the_template_is_a_suite(tmp_path, capsys):
    assert run(app, ["suites", "--template"]) == 0
    (tmp_path / "suite.toml").write_text(capsys.readouterr().out)

    assert read_suite(tmp_path).size("70m").checkpoints == (0, 1000, 2000, 3000)


def test_folders_of_checkpoints_may_have_names_of_their_own(suite, tmp_path):
    own = replace(suite, revision="global_step{label}")
    for step in (0, 10):
        (tmp_path / f"s/global_step{step}").mkdir(parents=True)
        (tmp_path / f"s/global_step{step}/model.safetensors").write_bytes(bytes([step]))

    listing = folder_listing(own, "s", [0, 10])

    assert listing.known == (0, 10)
    assert own.folder_of("s", 10) == tmp_path / "s/global_step10"


def test_a_missing_folder_of_weights_never_asks_the_hub(suite, tmp_path):
    small = replace(suite.size("s"), weights="models/s")
    own = replace(suite, sizes={"s": small})

    assert own.repository("s") is None
    with pytest.raises(NotFoundError, match=r"no folder '.*models/s'; a rep.* is written 'hf:"):
        folder_listing(own, "s", [0])
    far = replace(own, sizes={"s": replace(small, weights="hf://models/s")})
    assert far.repository("s") == "models/s"


def test_unknown_names_are_answered_with_near_matches(suite, tmp_path):
    write_suite(suite, tmp_path)

    with pytest.raises(NotFoundError, match="no suite 'minni'; did you mean 'mini'"):
        open_suite("minni")
    with pytest.raises(NotFoundError, match="no size in suite 'mine': 'ss'; did you mean 's'"):
        open_suite(str(tmp_path), ["ss"])


def test_the_mini_suite_states_its_facts_without_training():
    facts = suite_facts_of("mini")

    assert list(facts.sizes) == ["xs", "s", "m", "l"]
    assert facts.order.rows == 8192
    assert facts.size("l").checkpoints == tuple(range(0, 513, 32))
