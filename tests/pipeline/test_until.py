"""Scoring until an interval is narrow enough, through the real stages of a tiny study."""

import json
from importlib import import_module

import numpy as np
import polars as pl
import pytest

import pythia_profile as pp
from pythia_profile.cli import app
from pythia_profile.cli.app import run
from pythia_profile.did.settings import Estimation
from pythia_profile.errors import NotFoundError, StudyError
from pythia_profile.execute.worker import Worker
from pythia_profile.pipeline.stages import stage_states
from pythia_profile.pipeline.until import score_until
from pythia_profile.study import Sampling, Study, create_study, open_study
from pythia_profile.suites.part_rows import part_of_rows


def in_process(function, units, resources, on_part):
    """Score in this process: workers take seconds to begin."""
    return [function(unit, Worker("cpu", 1, lambda _: None)) for unit in units[:1]]


@pytest.fixture
def study(tiny_suite, tmp_path, monkeypatch):
    monkeypatch.setattr(import_module("pythia_profile.scoring.run"), "map_units", in_process)
    settings = Study(
        suite=str(tiny_suite.root),
        sizes=("xs", "s"),
        sample=Sampling(rows_per_cohort=64, batches_per_cohort=0, never_treated=96),
        estimate=Estimation(draws=20),
    )
    create_study(tmp_path / "study", settings)
    return tmp_path / "study"


def half_width(study) -> float:
    """Half of the widest interval of the mean instantaneous effect, from the study's own table."""
    assert run(app, ["profile", str(study)]) == 0
    lines = pl.read_parquet(study / "profiles.parquet").filter(
        pl.col("cohort").is_null(), pl.col("kind") == "instantaneous"
    )
    return max((lines["upper"] - lines["lower"]) / 2)


def test_it_stops_says_the_rest_goes_on_and_leaves_a_study_like_any_other(
    study, tiny_suite, capsys
):
    assert run(app, ["score", str(study), "--until", "9", "--json"]) == 0
    first = json.loads(capsys.readouterr().out)
    rows = pl.read_parquet(study / "rows.parquet")

    assert (first["share"], first["reached"], first["rows"]) == (0.125, True, len(rows))
    assert first["seconds_left"] > 0
    assert max(first["half_widths"].values()) == pytest.approx(half_width(study))
    assert stage_states(study)["score"] == stage_states(study)["sample"] == "up to date"
    assert open_study(study).estimate.level == first["level_of_looks"] == pytest.approx(0.9875)

    found = score_until(study, max(first["half_widths"].values()) / 1.3)
    again = pl.read_parquet(study / "rows.parquet")
    assert found.share > 0.125
    assert {*rows["row_id"]} < {*again["row_id"]}
    assert "the other" in str(found) or found.share == 1

    last = pp.open_study(study).score_until(1e-9)
    every = pl.read_parquet(study / "rows.parquet")
    assert (last.share, last.reached, last.level) == (1.0, False, 0.95)
    assert str(last).startswith(f"score: all {len(every)} of {len(every)} rows")
    assert stage_states(study)["score"] == "up to date"
    scores = pp.open_study(study).scores.sort("size", "checkpoint", "row_id")
    whole = pp.score(tiny_suite, every).sort("size", "checkpoint", "row_id")
    assert scores["row_id"].equals(whole["row_id"])
    # float32, in batches of other rows
    assert (scores["log_likelihood"] - whole["log_likelihood"]).abs().max() < 1e-5
    assert run(app, ["verify", str(study)]) == 0


def test_what_cannot_be_scored_in_parts_is_refused(study, capsys):
    for width in ("0", "-1", "nan", "inf"):
        assert run(app, ["score", str(study), "--until", width]) == 2
        assert "expected a half-width above 0" in capsys.readouterr().err
    assert run(app, ["score", str(study), "--until", "1", "--shard", "1/2"]) == 2
    assert "--shard" in capsys.readouterr().err
    with pytest.raises(NotFoundError, match="no mean over cohorts 'event_time'"):
        score_until(study, 0.1, of="event_time")
    pp.open_study(study).set(token_table=True)
    with pytest.raises(StudyError, match="token_table"):
        score_until(study, 0.1)


@pytest.mark.slow
def test_a_study_whose_rows_are_all_scored_is_left_as_it_is(study, monkeypatch, capsys):
    monkeypatch.undo()  # worker processes, of which each scores a part
    for stage in ("sample", "score"):
        assert run(app, [stage, str(study)]) == 0
    before = {path: path.read_bytes() for path in study.rglob("*") if path.is_file()}
    capsys.readouterr()

    assert run(app, ["score", str(study), "--until", "0.1"]) == 2

    assert "the rows are scored already" in capsys.readouterr().err
    assert all(path.read_bytes() == content for path, content in before.items())


def test_rows_that_cannot_be_drawn_leave_the_settings_as_they_were(study, capsys):
    pp.open_study(study).set(never_treated=10**6)
    before = (study / "study.toml").read_bytes()

    assert run(app, ["score", str(study), "--until", "0.1"]) != 0

    assert "1,000,000 were asked for" in capsys.readouterr().err
    assert (study / "study.toml").read_bytes() == before


def test_a_part_of_the_rows_is_whole_batches_and_nested(tiny_rows):
    """Every cohort keeps its share, none of its batches is cut, and larger parts hold smaller."""
    checkpoints, parts = [0, 16, 32, 48, 64], {}
    for share in (0.125, 0.25, 0.5, 1.0):
        part = parts[share] = part_of_rows(tiny_rows, checkpoints, share, seed=3)
        batches = part["batch"].drop_nulls().unique().to_list()
        assert tiny_rows["batch"].is_in(batches).sum() == part["batch"].drop_nulls().len()
        for cohort in checkpoints[1:]:
            inside = pl.col("treatment_step").is_between(cohort - 15, cohort)
            whole, kept = (one.filter(inside)["batch"].n_unique() for one in (tiny_rows, part))
            assert kept == np.ceil(share * whole)
        assert part["treatment_step"].null_count() == np.ceil(share * 96)
    ids = [{*part["row_id"]} for part in parts.values()]
    assert ids[0] < ids[1] < ids[2] < ids[3] == {*tiny_rows["row_id"]}
    assert {*part_of_rows(tiny_rows, checkpoints, 0.5, seed=4)["row_id"]} != ids[2]
