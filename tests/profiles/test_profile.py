"""Profiles recover planted effects; their standard errors count shared controls."""

import numpy as np
import polars as pl
import pytest

from pythia_profile.did.settings import Estimation
from pythia_profile.profiles.agreement import CELL_SETS, agreement
from pythia_profile.profiles.estimates import estimate
from pythia_profile.profiles.profile import BALANCED, KINDS, profile
from pythia_profile.suites.registry import suite_facts_of


def fading(size, cohort, checkpoint):
    """0.4 at once, 0.2 ten steps later, 0.1 after twenty; a tenth more for each later cohort."""
    return (0.3 + cohort / 100) * 0.5 ** ((checkpoint - cohort) / 10)


def lines_of(table, kind):
    return table.filter(pl.col("kind") == kind).sort("cohort", "event_time", nulls_last=True)


def test_planted_profiles_are_recovered(planted):
    rows, scores = planted(fading, per_cohort=200, never=400, noise=0.05)

    found = profile(rows, scores)

    # noise .05 twice in each difference: 0.07 · sqrt(1/200 + 1/400) = .006 a cell
    close = {"abs": 4 * 0.006}
    assert lines_of(found, "instantaneous")["cohort"].to_list() == [10, 20, 30, None]
    assert lines_of(found, "instantaneous")["att"].to_list() == pytest.approx(
        [0.4, 0.5, 0.6, 0.5], **close
    )
    assert lines_of(found, "persistent")["att"].to_list() == pytest.approx(
        [0.15, 0.25, 0.2], **close
    )
    assert lines_of(found, "residual")["att"].to_list() == pytest.approx(
        [0.1, 0.25, 0.6, 0.95 / 3], **close
    )
    after = lines_of(found, "event_time").filter(pl.col("event_time") >= 0)
    assert after["att"].to_list() == pytest.approx([0.5, 0.225, 0.1], **close)


def test_the_curve_of_constant_cohorts_does_not_change_with_who_is_left(planted):
    """Effects of a cohort never change; of all cohorts, the last one left is the one below 0."""

    def gain(size, cohort, checkpoint):
        return {10: -0.2, 20: 0.5, 30: 0.5, 40: 0.5}[cohort]

    rows, scores = planted(gain, per_cohort=200, never=400, noise=0.05)
    found = profile(rows, scores)

    close = {"abs": 4 * 0.006}  # as above
    every, same = (
        lines_of(found, kind).filter(pl.col("event_time") >= 0)
        for kind in ("event_time", "event_time_balanced")
    )
    assert every["att"].to_list() == pytest.approx([0.8 / 3, 0.15, -0.2], **close)
    assert every["cohorts"].to_list() == [3, 2, 1]
    assert same["att"].to_list() == pytest.approx([0.15, 0.15], **close)
    assert same["cohorts"].to_list() == [2, 2]
    assert lines_of(found, "residual")["cohorts"].to_list() == [1, 1, 1, 3]


def test_a_trend_common_to_all_rows_changes_nothing(planted):
    rows, scores = planted(fading)
    trend = {0: 0.0, 10: 3.0, 20: -7.0, 30: 11.0}
    moved = scores.with_columns(
        pl.col("log_likelihood") + pl.col("checkpoint").replace_strict(trend)
    )

    before, after = profile(rows, scores), profile(rows, moved)

    for column in ("att", "se", "lower", "upper"):
        assert (before[column] - after[column]).abs().max() < 1e-12  # sums of numbers near 10


def test_a_mean_over_cohorts_has_the_standard_error_of_shared_controls(planted):
    """With few controls their noise dominates and does not average out over cohorts."""
    rows, scores = planted(fading, per_cohort=400, never=20, noise=0.2)

    found = profile(rows, scores)

    each = lines_of(found, "instantaneous").filter(pl.col("cohort").is_not_null())["se"]
    mean = lines_of(found, "instantaneous").filter(pl.col("cohort").is_null())["se"].item()
    independent = np.sqrt((each**2).sum()) / 3
    y = (
        scores.join(rows.filter(pl.col("treatment_step").is_null()), on="row_id", how="semi")
        .sort("row_id", "checkpoint")["log_likelihood"]
        .to_numpy()
        .reshape(-1, 4)
    )
    # the mean of three differences from the base telescopes to (last − first)/3 in the controls
    controls = ((y[:, 3] - y[:, 0]) / 3).std() / np.sqrt(20)
    treated = 0.2 * np.sqrt(2) / np.sqrt(400) / np.sqrt(3)
    assert mean == pytest.approx(np.hypot(controls, treated), rel=0.05)
    assert mean < independent


def test_every_kind_stands_for_every_size_and_outcome(planted):
    rows, scores = planted(fading, sizes=("s", "m"))

    found = profile(rows, scores, Estimation(draws=50), outcomes=("log_likelihood", "accuracy"))

    assert set(found["kind"]) == {*KINDS, BALANCED}
    assert found.group_by("size", "outcome").len()["len"].n_unique() == 1
    noise = found.filter((pl.col("outcome") == "accuracy") & (pl.col("kind") == "persistent"))
    assert (noise["att"].abs() / noise["se"]).max() < 4  # the planted accuracy knows no treatment


def test_learning_rates_are_means_over_the_steps_that_read_the_cohort(tiny_rows, tiny_scores):
    suite = suite_facts_of("mini")
    found = profile(tiny_rows, tiny_scores, Estimation(draws=20), suite=suite)

    lines = found.filter((pl.col("kind") == "instantaneous") & (pl.col("size") == "xs"))
    expected = [
        suite.learning_rate("xs", np.arange(g - 15, g + 1)).mean() for g in (16, 32, 48, 64)
    ]
    assert lines["learning_rate"].to_list() == pytest.approx([*expected, None])
    assert found.filter(pl.col("kind") == "event_time")["learning_rate"].null_count() == len(
        found.filter(pl.col("kind") == "event_time")
    )


def test_placebo_tests_reject_a_planted_violation_and_only_that(planted):
    rows, scores = planted(fading, per_cohort=200, never=400)
    early = rows.filter(pl.col("treatment_step") == 30)["row_id"]
    broken = scores.with_columns(
        pl.col("log_likelihood")
        + 0.3 * (pl.col("row_id").is_in(early.implode()) & (pl.col("checkpoint") == 10))
    )

    fine = estimate(rows, scores).placebo
    found = estimate(rows, broken).placebo

    joint = pl.col("test") == "joint"
    assert fine.filter(joint)["p_value"].item() > 0.01
    assert found.filter(joint)["p_value"].item() < 0.01
    cohorts = found.filter(pl.col("test") == "cohort")
    assert dict(zip(cohorts["cohort"], cohorts["p_value"] < 0.01, strict=True)) == {
        20: False,
        30: True,
    }


def test_a_profile_without_never_treated_rows_leaves_out_what_has_no_controls(planted):
    rows, scores = planted(fading, sizes=("s", "m"), per_cohort=50, never=40)
    treated = rows.filter(pl.col("treatment_step").is_not_null())
    scored = scores.filter(pl.col("row_id").is_in(treated["row_id"].implode()))
    settings = Estimation(control="not_yet", clusters="row", draws=50)

    for tables in ((rows, scores), (treated, scored)):
        found = profile(*tables, settings)
        estimated = found.filter(pl.col("att").is_not_null())
        assert set(estimated["kind"]) == {*KINDS, BALANCED} - {
            "residual"
        }  # no controls at the last one
        assert set(agreement(*tables, settings)["kind"]) == set(CELL_SETS) - {"residual"}
