"""The verb `order` for runs over token files: numbers alone, files of a folder, and both ways."""

import json
from dataclasses import replace

import numpy as np
import pytest

from data_order.shuffled import runs
from pythia_profile.cli import app
from pythia_profile.cli.app import run
from tests.data_order.test_shuffled_runs import Listed


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """Forty rows of 8 tokens in two files, as if they were OLMo-2 7B's."""
    rng = np.random.default_rng(0)
    for name in ("a.npy", "b.npy"):
        rng.integers(0, 90_000, 163, dtype=np.uint32).tofile(tmp_path / name)
    small = replace(
        runs.RUNS["olmo2-7b"],
        files=Listed(("a.npy", "b.npy")),
        batch_size=4,
        steps=9,
        row_tokens=8,
        rows_between=(40, 40),
    )
    monkeypatch.setitem(runs.RUNS, "olmo2-7b", small)
    monkeypatch.setattr("pythia_profile.suites.model.Suite.__post_init__", lambda _: None)
    return tmp_path


def order(capsys, *arguments):
    code = run(app, ["order", "--suite", *map(str, arguments)])
    captured = capsys.readouterr()
    return code, captured.out, captured.err


def test_numbers_follow_from_the_batch_size_alone(capsys):
    code, out, _ = order(capsys, "olmo2-7b", "--row", 2048)

    assert code == 0
    assert "row 2,048  step 3, place 0 of 1,024" in out
    assert "sizes of 1,117 token files" in out
    code, out, _ = order(capsys, "olmo2-13b", "--step", 464_324, "--show", 1, "--json")
    assert json.loads(out)[0] == {"row": 464_323 * 2048, "step": 464_324, "place": 0}


def test_rows_of_a_step_and_the_step_of_a_token_agree(capsys, folder):
    code, out, _ = order(capsys, "olmo2-7b", "--step", 3, "--store", folder, "--json")
    lines = json.loads(out)

    assert (code, len(lines)) == (0, 4)
    for line in lines:
        content = np.fromfile(folder / line["file"], np.uint32)
        assert line["tokens"] == content[line["token"] : line["token"] + 8].tolist()
        assert (line["steps"], line["state"]) == ([3], "read once")
        _, back, _ = order(
            *(capsys, "olmo2-7b", "--file", line["file"], "--offset", line["token"] + 5),
            *("--store", folder, "--json"),
        )
        assert json.loads(back)[0]["steps"] == [3]
    code, out, _ = order(capsys, "olmo2-7b", "--row", 39, "--store", folder)
    assert "read by no step" in out
    assert "never read; steps that read it: none" in out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["olmo2-7b"], "give one of --step, --row and --file"),
        (["olmo2-7b", "--step", 1, "--row", 1], "give one of --step, --row and --file"),
        (["olmo2-7b", "--file", "a.npy"], "--file needs the token files"),
        (["olmo2-7b", "--row", 1, "--decode", "t"], "--decode needs tokens"),
        (["olmo2-7b", "--row", 1, "--batch-size", 8], "read slices of token files"),
        (["olmo2-7b", "--row", -1], "row -1 is negative"),
        (["olmo2-7b", "--step", 0], "no step 0; this run has steps 1 to"),
        (["olmo2-7b", "--row", 1, "--store", "/nowhere"], "token files of olmo2-7b are missing"),
        (["pythia", "--step", 1, "--file", "a"], "--file is for runs over token files"),
        (["olmo-7b", "--step", 1], "not replayable here"),
    ],
)
def test_what_cannot_be_answered_is_one_line(capsys, arguments, message):
    code, out, err = order(capsys, *arguments)

    assert code == 2
    assert out == ""
    assert message in " ".join(err.split())


def test_rows_and_tokens_that_do_not_exist_are_named(capsys, folder):
    for arguments, message in (
        (["--row", 40], "no row 40; this run has rows 0 to 39"),
        (["--file", "c.npy"], "no file 'c.npy' among 2 token files"),
        (["--file", "a.npy", "--offset", 160], "its first 160 tokens are"),
    ):
        code, _, err = order(capsys, "olmo2-7b", *arguments, "--store", folder)
        assert code == 2
        assert message in " ".join(err.split())


def test_steps_of_the_1b_that_nobody_knows_are_refused(capsys, folder, monkeypatch):
    small = replace(runs.RUNS["olmo2-7b"], name="olmo2-1b", known_steps=5, note="not published")
    monkeypatch.setitem(runs.RUNS, "olmo2-1b", small)

    code, _, err = order(capsys, "olmo2-1b", "--step", 6, "--store", folder)

    assert code == 2
    assert "after step 5 is not known: not published" in " ".join(err.split())
