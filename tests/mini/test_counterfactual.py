"""The audit: its identity, its standard errors by simulation, and a real twin run."""

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from data_order import NEVER
from pythia_profile.did import att_gt
from pythia_profile.errors import EstimationError, NotFoundError
from pythia_profile.mini.counterfactual import (
    Influence,
    audited_cohorts,
    bias_standard_error,
    compare,
    train_twins,
)

# sums of a few hundred float64 numbers of size 1
EXACT = 1e-12


def synthetic(seed, effect=0.3, controls=200):
    """Rows, real scores and twin scores of two cohorts; the effect fades by half at each step."""
    rng = np.random.default_rng(seed)
    cohort = np.concatenate([np.repeat([10, 20], 60), np.full(controls, NEVER)])
    checkpoints = np.array([0, 10, 20, 30])
    shared = rng.normal(0, 0.2, (len(cohort), 4)).cumsum(axis=1)
    level = rng.normal(0, 1, (len(cohort), 1))
    treated = [
        [effect * 0.5 ** ((c - g) // 10) if g <= c else 0.0 for c in checkpoints] for g in cohort
    ]
    real = level + shared + np.array(treated)
    rows = pl.DataFrame(
        {
            "row_id": np.arange(len(cohort)),
            "treatment_step": pl.Series(cohort - 5).set(pl.Series(cohort == NEVER), None),
            "batch": np.arange(len(cohort)),
            "tokens": pl.Series([[1, 2]] * len(cohort), dtype=pl.List(pl.UInt16)),
            "earlier_exposure": 0.0,
        }
    )

    def table(values, steps, of_rows):
        return pl.DataFrame(
            {
                "suite": "t",
                "size": "s",
                "seed": 0,
                "checkpoint": np.tile(steps, len(of_rows)),
                "row_id": np.repeat(of_rows, len(steps)),
                "log_likelihood": values[of_rows][:, np.searchsorted(checkpoints, steps)].ravel(),
            }
        )

    twins = []
    for g in (10, 20):
        of_rows = np.flatnonzero((cohort == g) | (cohort == NEVER))
        without = level + shared + rng.normal(0, 0.02, real.shape) + rng.normal(0, 0.01, 4)
        steps = checkpoints[checkpoints >= g]
        twins.append(table(without, steps, of_rows).with_columns(cohort=pl.lit(g)))
    return rows, table(real, checkpoints, np.arange(len(cohort))), pl.concat(twins)


def test_truth_is_the_planted_effect_and_error_the_difference():
    rows, scores, twins = synthetic(0)

    cells, _ = compare(rows, scores, twins)

    assert cells.select("cohort", "lag").rows() == [
        (10, 0),
        (10, 10),
        (10, 20),
        (20, 0),
        (20, 10),
    ]
    # noise of the twin, .02 a row: its mean over 60 rows stays within four standard errors
    planted = np.array([0.3, 0.15, 0.075, 0.3, 0.15])
    assert np.abs(cells["truth"] - planted).max() < 4 * 0.02 * (1 / 60 + 1 / 200) ** 0.5
    assert (cells["att"] - cells["truth"] - cells["error"]).abs().max() < EXACT


def test_the_error_is_the_estimate_in_the_twin_where_nobody_is_treated():
    rows, scores, twins = synthetic(1)
    cells, _ = compare(rows, scores, twins)
    twin = twins.filter(pl.col("cohort") == 20).sort("row_id", "checkpoint")
    row_id = twin["row_id"].unique().sort()
    base = scores.filter((pl.col("checkpoint") == 10) & pl.col("row_id").is_in(row_id.implode()))
    y = np.column_stack(
        [
            base.sort("row_id")["log_likelihood"],
            twin["log_likelihood"].to_numpy().reshape(-1, 2),
        ]
    )
    cohort = np.where(row_id < 120, 20, NEVER)

    placebo = att_gt(y, cohort, [10, 20, 30])

    of_cohort = cells.filter(pl.col("cohort") == 20)
    assert np.abs(placebo.att[0, 1:] - of_cohort["error"]).max() < EXACT
    assert np.abs(placebo.se[0, 1:] - of_cohort["error_se"]).max() < EXACT


def test_bias_and_coverage_summarize_the_cells():
    rows, scores, twins = synthetic(2)

    cells, summary = compare(rows, scores, twins)

    whole = summary.row(0, named=True)
    assert whole["cells"] == 5
    assert whole["bias"] == pytest.approx(cells["error"].mean())
    assert whole["coverage"] == pytest.approx(cells["covered"].mean())
    lag = summary.filter((pl.col("over") == "lag") & (pl.col("at") == 10)).row(0, named=True)
    assert lag["bias"] == pytest.approx(cells.filter(pl.col("lag") == 10)["error"].mean())
    single = summary.filter((pl.col("over") == "lag") & (pl.col("at") == 20)).row(0, named=True)
    assert single["bias_se"] == pytest.approx(cells.filter(pl.col("lag") == 20)["error_se"].item())


def test_the_standard_error_of_the_bias_is_its_spread_over_repeated_draws_of_rows():
    draws = [compare(*synthetic(seed))[1].row(0, named=True) for seed in range(120)]

    spread = np.std([line["bias"] for line in draws], ddof=1)
    stated = np.mean([line["bias_se"] for line in draws])
    # the spread of 120 draws is itself known to 1/sqrt(240) = 6.5 %; four times that
    assert stated == pytest.approx(spread, rel=0.26)


def test_shared_controls_are_counted_once():
    """One control row moves both cohorts' errors; treating them as independent would halve that."""
    rng = np.random.default_rng(0)
    controls = rng.normal(size=(50, 1))
    flat = np.zeros((50, 1))
    part = Influence(np.array([0]), np.vstack([flat, controls]), np.repeat([True, False], 50))
    both = [(part, np.array([True])), (part, np.array([True]))]

    assert bias_standard_error(both) == pytest.approx(controls.std() / 50**0.5)


def test_a_missing_cell_is_an_error():
    rows, scores, twins = synthetic(3)

    with pytest.raises(EstimationError, match="scores lack 1 of 260 cells"):
        compare(rows, scores.filter((pl.col("row_id") != 0) | (pl.col("checkpoint") != 0)), twins)


def test_cohorts_are_spread_over_the_run(tiny_suite):
    assert audited_cohorts(tiny_suite, 2) == [32, 48]
    assert audited_cohorts(tiny_suite, 4) == [16, 32, 48, 64]
    with pytest.raises(NotFoundError, match="9 cohorts asked for, the suite has 4"):
        audited_cohorts(tiny_suite, 9)


def test_a_twin_run_differs_from_the_real_one_by_the_cohort_only(
    tiny_suite, tiny_rows, tiny_scores, tmp_path
):
    twins = train_twins(tiny_suite, "xs", [32], tiny_rows, folder=tmp_path)

    cells, summary = compare(tiny_rows, tiny_scores, twins)

    assert cells["checkpoint"].to_list() == [32, 48, 64]
    assert summary.row(0, named=True)["cells"] == 3
    at_once = cells.row(0, named=True)
    assert at_once["truth"] > 0
    assert abs(at_once["error"]) < 4 * at_once["error_se"]


def test_a_short_horizon_gives_the_first_checkpoints_of_the_whole_audit(
    tiny_suite, tiny_rows, tiny_scores, tmp_path
):
    whole, short = (
        compare(
            tiny_rows,
            tiny_scores,
            train_twins(tiny_suite, "xs", [16, 64], tiny_rows, folder=tmp_path, horizon=horizon),
        )[0]
        for horizon in (0, 1)
    )

    assert short.select("cohort", "checkpoint").rows() == [(16, 16), (16, 32), (64, 64)]
    assert_frame_equal(short, whole.filter(pl.col("lag") <= 16), rel_tol=0, abs_tol=EXACT)


def test_a_finished_twin_is_not_trained_again(tiny_suite, tiny_rows, tmp_path, monkeypatch):
    first = train_twins(tiny_suite, "xs", [48], tiny_rows, folder=tmp_path)
    monkeypatch.setattr("pythia_profile.mini.counterfactual.run_workers", pytest.fail)

    assert train_twins(tiny_suite, "xs", [48], tiny_rows, folder=tmp_path).equals(first)
