"""What is not known of a run is said in one line, with what to do, wherever it is asked for."""

import pytest

from pythia_profile.cli import app
from pythia_profile.cli.app import run
from pythia_profile.errors import NotFoundError
from pythia_profile.suites.pythia import PUBLISHED
from pythia_profile.suites.registry import open_suite
from pythia_profile.suites.sampling import open_rows
from pythia_profile.suites.unreplayable import why_unknown
from tests.stand_in.hub import Hub

NAMES = {
    "OLMo-1.7-7B": "at which step it ended is not stated",
    "olmo-7b-0424": "at which step it ended is not stated",
    "allenai/OLMo-7B-0724": "a copy of 0424's",
    "allenai/OLMo-Hybrid-7B": "over how many steps it read which list",
    "datadecide": "where the token files lie",
    "allenai/DataDecide-dolma1_7-1B": "where the token files lie",
    "olmo3-7b-stage3": "packs documents by best fit",
    "Apertus-8B-2509": "only windows of iterations",
    "marin-32b": "no random parts of the rows",
}


@pytest.mark.parametrize("name", NAMES)
def test_a_run_that_is_no_suite_says_what_is_not_known(name, capsys):
    with pytest.raises(NotFoundError, match=NAMES[name]) as caught:
        open_suite(name)

    assert "\n" not in str(caught.value)
    assert "known:" not in str(caught.value)  # no list of other names instead
    assert run(app, ["suites", name]) == run(app, ["order", "--suite", name, "--step", "1"]) == 2
    assert capsys.readouterr().err.count(NAMES[name]) == 2


@pytest.mark.parametrize("name", ["olmo-1b", "olmo-7b"])
def test_the_order_of_olmo_1_is_not_known_and_nothing_is_guessed(name, capsys):
    with pytest.raises(NotFoundError, match="it depends on when the run was made"):
        open_rows(open_suite(name))
    assert run(app, ["order", "--suite", name, "--step", "1"]) == 2
    assert "it depends on when the run was made" in capsys.readouterr().err


def test_nothing_is_held_against_suites_that_are_known():
    known = {name for name in PUBLISHED if why_unknown(name)}

    assert known == {"olmo-1b", "olmo-7b"}


def test_pico_s_own_repositories_have_no_checkpoints_that_are_loaded(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = str(tmp_path / "study")
    with Hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        hub.add("model", "pico-lm/pico-decoder-tiny", {"README.md": b"pico"}, revision="main")
        branch = {"config.json": b"{}", "model.safetensors": b"weights"}
        hub.add("model", "pico-lm/pico-decoder-tiny", branch, revision="pico-decoder-tiny-1")
        start = ["--suite", "pico", "--sizes", "tiny", "--checkpoints", "0,1000,2000"]
        assert run(app, ["init", folder, *start]) == 0

        code = run(app, ["plan", folder])

    said = capsys.readouterr().err
    assert code == 2
    assert "no checkpoints in pico-lm/pico-decoder-tiny: Pico's checkpoints are commits" in said
    assert "`pythia-profile suite new`" in said
