"""The verbs `power` and `check` on a tiny study: tables, JSON, errors of one line."""

import json

import pytest

from pythia_profile.cli import app
from pythia_profile.cli.app import run
from pythia_profile.study import new_study
from pythia_profile.tables import CHECKS

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def scored(tiny_suite, tmp_path_factory):
    folder = tmp_path_factory.mktemp("pilot") / "study"
    words = ["--suite", str(tiny_suite.root), "--sizes", "xs,s", "--set", "draws=50"]
    assert run(app, ["init", str(folder), *words]) == 0
    for verb in ("sample", "score"):
        assert run(app, [verb, str(folder)]) == 0
    return folder


def test_power_prints_designs_and_the_best_split(scored, capsys):
    capsys.readouterr()
    words = ["--batches", "4,8", "--rows", "2", "--controls", "50", "--family", "1,16"]

    assert run(app, ["power", str(scored), *words]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert len(lines[0].split("  ")) >= 7
    assert [line.split()[:3] for line in lines[1:3]] == [["4", "2", "50"], ["8", "2", "50"]]
    assert lines[3].startswith("best split of ")


def test_power_as_json_holds_the_same_and_more(scored, capsys):
    capsys.readouterr()
    words = ["--size", "s", "--target", "mean", "--batches", "4", "--rows", "2", "--json"]

    assert run(app, ["power", str(scored), *words]) == 0

    found = json.loads(capsys.readouterr().out)
    assert [line["controls"] for line in found["designs"]] == [500, 2000]
    assert found["variances"]["within"] > 0
    assert set(found["best"]) == {"batches", "rows", "controls", "se", "mde"}


def test_the_split_of_a_large_budget_keeps_to_the_rows_of_the_suite(scored, tiny_config, capsys):
    capsys.readouterr()

    assert run(app, ["power", str(scored), "--budget", "1e8", "--json"]) == 0

    best = json.loads(capsys.readouterr().out)["best"]
    assert best["rows"] == tiny_config.batch_size
    assert best["batches"] == tiny_config.interval
    assert best["controls"] == tiny_config.never_treated
    words = ["--budget", "1e8", "--most-rows", "3", "--most-controls", "90", "--json"]
    assert run(app, ["power", str(scored), *words]) == 0
    best = json.loads(capsys.readouterr().out)["best"]
    assert (best["rows"], best["controls"]) == (3, 90)
    assert run(app, ["power", str(scored), "--budget", "1e8", "--tokens", "16", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["best"]["rows"] > tiny_config.batch_size


def test_power_without_a_study_trains_and_scores_a_pilot_once(tiny_suite, monkeypatch, capsys):
    cache = tiny_suite.root.parent
    monkeypatch.setattr("pythia_profile.mini.build.cache_folder", lambda: cache)
    chosen = {"rows_per_cohort": 24, "batches_per_cohort": 0, "never_treated": 96}
    tiny = new_study(str(tiny_suite.root), ("xs", "s"), chosen)
    monkeypatch.setattr("pythia_profile.study.demo_study", lambda: tiny)
    capsys.readouterr()

    assert run(app, ["power", "--rows", "2"]) == 0
    made = (cache / "pilot/rows.parquet").stat().st_mtime_ns
    assert run(app, ["power", "--rows", "2"]) == 0

    assert (cache / "pilot/rows.parquet").stat().st_mtime_ns == made
    said = capsys.readouterr().out
    assert said.count("best split of") == 2


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["nowhere"], 2, "no study in 'nowhere'"),
        (["--batches", "few"], 2, "--batches: got 'few'"),
        (["--effect", "calendar"], 2, "effect: got 'calendar'"),
        (["--size", "xl"], 2, "no size in the pilot 'xl'"),
    ],
)
def test_power_says_what_is_wrong_in_one_line(scored, capsys, words, code, message):
    place = [] if words == ["nowhere"] else [str(scored)]
    capsys.readouterr()

    assert run(app, ["power", *place, *words]) == code

    assert message in capsys.readouterr().err


def test_check_says_and_writes_what_the_effects_rest_on(scored, capsys):
    capsys.readouterr()

    assert run(app, ["check", str(scored)]) == 0

    said = capsys.readouterr().out
    for words in (
        "checkpoints that stand out before reading:",
        "own event studies",
        "outcome before treatment",
        "two-way fixed effects",
    ):
        assert words in said
    assert "s minus xs: instantaneous" in said
    assert all((scored / f"{table.name}.parquet").exists() for table in CHECKS)


def test_check_as_json_is_the_tables(scored, capsys):
    capsys.readouterr()

    assert run(app, ["check", str(scored), "--json"]) == 0

    found = json.loads(capsys.readouterr().out)
    assert list(found) == [table.name for table in CHECKS]
    assert {line["size"] for line in found["leave_one_out"]} == {"xs", "s"}
