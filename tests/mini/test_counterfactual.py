"""The audit: its identity, its standard errors by simulation, and a real retraining."""

import numpy as np
import polars as pl
import pytest
from polars.testing import assert_frame_equal

from data_order import NEVER
from pythia_profile.did import att_gt
from pythia_profile.did.errors import NoControlError
from pythia_profile.did.estimation import effects
from pythia_profile.did.panels import panel
from pythia_profile.did.settings import Estimation
from pythia_profile.errors import EstimationError, NotFoundError
from pythia_profile.mini.counterfactual import Placebo, compare, standard_error_of_mean
from pythia_profile.mini.retraining import audited_cohorts, retrain
from pythia_profile.mini.settings import Audit

pytestmark = pytest.mark.slow

# sums of a few hundred float64 numbers of size 1
EXACT = 1e-12


def compared(rows, scores, retrained, settings=Estimation()):  # noqa: B008  frozen
    laid = panel(rows, scores)
    return compare(laid, effects(laid, settings), settings, retrained)


def synthetic(seed, effect=0.3, controls=200):
    """Rows, real scores and retrained scores of two cohorts; the effect halves at each step."""
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

    retrained = []
    for g in (10, 20):
        of_rows = np.flatnonzero((cohort == g) | (cohort == NEVER))
        without = level + shared + rng.normal(0, 0.02, real.shape) + rng.normal(0, 0.01, 4)
        steps = checkpoints[checkpoints >= g]
        retrained.append(table(without, steps, of_rows).with_columns(cohort=pl.lit(g)))
    return rows, table(real, checkpoints, np.arange(len(cohort))), pl.concat(retrained)


def test_truth_is_the_planted_effect_and_error_the_difference():
    rows, scores, retrained = synthetic(0)

    cells, _ = compared(rows, scores, retrained)

    assert cells.select("cohort", "event_time").rows() == [
        (10, 0),
        (10, 10),
        (10, 20),
        (20, 0),
        (20, 10),
    ]
    # noise of the retraining, .02 a row: its mean over 60 rows stays within four standard errors
    planted = np.array([0.3, 0.15, 0.075, 0.3, 0.15])
    assert np.abs(cells["truth"] - planted).max() < 4 * 0.02 * (1 / 60 + 1 / 200) ** 0.5
    assert (cells["att"] - cells["truth"] - cells["error"]).abs().max() < EXACT


def test_the_error_is_the_estimate_in_the_retraining_where_nobody_is_treated():
    rows, scores, retrained = synthetic(1)
    cells, _ = compared(rows, scores, retrained)
    other = retrained.filter(pl.col("cohort") == 20).sort("row_id", "checkpoint")
    row_id = other["row_id"].unique().sort()
    base = scores.filter((pl.col("checkpoint") == 10) & pl.col("row_id").is_in(row_id.implode()))
    y = np.column_stack(
        [
            base.sort("row_id")["log_likelihood"],
            other["log_likelihood"].to_numpy().reshape(-1, 2),
        ]
    )
    cohort = np.where(row_id < 120, 20, NEVER)

    placebo = att_gt(y, cohort, [10, 20, 30])

    of_cohort = cells.filter(pl.col("cohort") == 20)
    assert np.abs(placebo.att[0, 1:] - of_cohort["error"]).max() < EXACT
    assert np.abs(placebo.se[0, 1:] - of_cohort["error_se"]).max() < EXACT


def test_bias_and_coverage_summarize_the_cells():
    rows, scores, retrained = synthetic(2)

    cells, summary = compared(rows, scores, retrained)

    whole = summary.row(0, named=True)
    assert whole["cells"] == 5
    assert whole["bias"] == pytest.approx(cells["error"].mean())
    assert whole["coverage"] == pytest.approx(cells["covered"].mean())
    lag = summary.filter(by="event_time", event_time=10).row(0, named=True)
    assert lag["bias"] == pytest.approx(cells.filter(pl.col("event_time") == 10)["error"].mean())
    single = summary.filter(by="event_time", event_time=20).row(0, named=True)
    assert single["bias_se"] == pytest.approx(cells.filter(event_time=20)["error_se"].item())


def test_the_standard_error_of_the_bias_is_its_spread_over_repeated_draws_of_rows():
    draws = [compared(*synthetic(seed))[1].row(0, named=True) for seed in range(120)]

    spread = np.std([line["bias"] for line in draws], ddof=1)
    stated = np.mean([line["bias_se"] for line in draws])
    # the spread of 120 draws is itself known to 1/sqrt(240) = 6.5 %; four times that
    assert stated == pytest.approx(spread, rel=0.26)


def test_shared_controls_are_counted_once():
    """One control row moves both cohorts' errors; treating them as independent would halve that."""
    rng = np.random.default_rng(0)
    controls = rng.normal(size=50)
    y = np.column_stack([np.zeros(100), np.r_[np.zeros(50), controls]])
    placebos = [
        Placebo(
            att_gt(y, [10] * 50 + [NEVER] * 50, [0, 10], units=np.r_[first : first + 50, 500:550]),
            row=0,
            columns=np.array([1]),
        )
        for first in (0, 100)
    ]
    both = [(placebo, np.array([True])) for placebo in placebos]

    assert standard_error_of_mean(both) == pytest.approx(controls.std() / 50**0.5)


@pytest.mark.parametrize("estimator", ["did", "diff", "ancova"])
@pytest.mark.parametrize("clusters", ["row", "batch"])
def test_the_check_is_of_the_studys_own_estimator_and_clusters(estimator, clusters):
    rows, scores, retrained = synthetic(4)
    settings = Estimation(estimator=estimator, clusters=clusters, level=0.9)
    batches = rows.with_columns(batch=pl.col("row_id") // 5)

    cells, summary = compared(batches, scores, retrained, settings)

    stated = effects(panel(batches, scores), settings)
    lower, upper = stated.interval(0.9)
    for number, cell in enumerate(cells.iter_rows(named=True)):
        where = int(cell["cohort"] == 20), cell["checkpoint"] // 10
        for name, grid in (
            ("att", stated.att),
            ("se", stated.se),
            ("lower", lower),
            ("upper", upper),
        ):
            assert cell[name] == pytest.approx(grid[where], abs=EXACT), (number, name)
    alone = summary.filter(by="event_time", event_time=20).row(0, named=True)
    of_cell = cells.filter(pl.col("event_time") == 20).row(0, named=True)
    assert alone["bias_se"] == pytest.approx(of_cell["error_se"])


def test_batches_with_shocks_have_larger_errors_of_the_error():
    rows, scores, retrained = synthetic(5)
    batches = rows.with_columns(batch=pl.col("row_id") // 6)
    shock = np.random.default_rng(1).normal(0, 0.3, 1 + rows["row_id"].max() // 6)
    of_row = shock[retrained["row_id"].to_numpy() // 6]
    moved = retrained.with_columns(log_likelihood=retrained["log_likelihood"] + of_row)

    by_row, by_batch = (
        compared(batches, scores, moved, Estimation(clusters=by))[1].row(0, named=True)
        for by in ("row", "batch")
    )

    assert by_row["bias"] == pytest.approx(by_batch["bias"])
    assert by_batch["bias_se"] > 1.5 * by_row["bias_se"]


def test_controls_not_yet_read_are_moved_by_what_the_replacement_did_to_all():
    rows, scores, retrained = synthetic(6)
    everywhere = retrained.with_columns(pl.col("log_likelihood") + 5.0)

    for control in ("never", "not_yet", "both"):
        settings = Estimation(control=control)
        plain, shifted = (compared(rows, scores, r, settings)[0] for r in (retrained, everywhere))
        assert_frame_equal(plain, shifted, rel_tol=0, abs_tol=1e-9)
        first = plain.row(0, named=True)
        assert abs(first["error"]) < 4 * first["error_se"]


def test_what_a_retraining_lacks_is_an_error():
    rows, scores, retrained = synthetic(3)

    with pytest.raises(EstimationError, match="the retrainings lack 1 of 780 cells"):
        compared(rows, scores, retrained[1:])
    with pytest.raises(EstimationError, match="cohort 10 was retrained until checkpoint 30"):
        compared(rows, scores.filter(pl.col("checkpoint") < 30), retrained)
    treated = rows.filter(pl.col("treatment_step").is_not_null())
    with pytest.raises(NoControlError, match="no never-treated rows"):
        compared(treated, scores, retrained, Estimation(control="not_yet"))


def test_cohorts_are_spread_over_the_run(tiny_suite):
    assert audited_cohorts(tiny_suite, 2) == [32, 48]
    assert audited_cohorts(tiny_suite, 4) == [16, 32, 48, 64]
    with pytest.raises(NotFoundError, match="9 cohorts asked for, the suite has 4"):
        audited_cohorts(tiny_suite, 9)


def xs(scores):
    return scores.filter(pl.col("size") == "xs")


def test_a_retraining_differs_from_the_real_run_by_the_cohort_only(
    tiny_suite, tiny_rows, tiny_scores, tmp_path
):
    retrained = retrain(tiny_suite, Audit(size="xs", cohorts=1), tiny_rows, folder=tmp_path)

    cells, summary = compared(tiny_rows, xs(tiny_scores), retrained)

    assert cells["checkpoint"].to_list() == [32, 48, 64]
    assert summary.row(0, named=True)["cells"] == 3
    at_once = cells.row(0, named=True)
    assert at_once["truth"] > 0
    assert abs(at_once["error"]) < 4 * at_once["error_se"]


def test_a_short_horizon_gives_the_first_checkpoints_of_the_whole_audit(
    tiny_suite, tiny_rows, tiny_scores, tmp_path
):
    whole, short = (
        compared(
            tiny_rows,
            xs(tiny_scores),
            retrain(
                tiny_suite,
                Audit(size="xs", cohorts=2, horizon=horizon),
                tiny_rows,
                folder=tmp_path,
            ),
        )[0]
        for horizon in (0, 1)
    )

    assert short.select("cohort", "checkpoint").rows() == [(32, 32), (32, 48), (48, 48), (48, 64)]
    assert_frame_equal(short, whole.filter(pl.col("event_time") <= 16), rel_tol=0, abs_tol=EXACT)


def test_a_finished_retraining_is_not_repeated(tiny_suite, tiny_rows, tmp_path, monkeypatch):
    audit = Audit(size="xs", cohorts=1)
    first = retrain(tiny_suite, audit, tiny_rows, folder=tmp_path)
    monkeypatch.setattr("pythia_profile.mini.retraining.map_units", pytest.fail)

    assert retrain(tiny_suite, audit, tiny_rows, folder=tmp_path).equals(first)


def test_peers_that_move_the_scored_rows_are_found():
    rows, scores, retrained = synthetic(7)
    without = retrained.with_columns(peers=False)
    treated = pl.col("row_id") < 120
    # without its peers, a scored row keeps its own effect and lacks what they gave it: .04
    alone = (
        scores.join(retrained.select("row_id", "checkpoint", "cohort"), on=["row_id", "checkpoint"])
        .with_columns(
            log_likelihood=pl.col("log_likelihood")
            - pl.when(treated).then(0.54).otherwise(0.5)
            + pl.Series(np.random.default_rng(0).normal(0, 0.01, len(retrained))),
            peers=True,
        )
        .select(without.columns)
    )

    cells, summary = compared(rows, scores, pl.concat([without, alone]))

    assert (cells["interference"] - 0.04).abs().max() < 5 * cells["interference_se"].max() < 0.02
    whole = summary.row(0, named=True)
    assert whole["interference"] == pytest.approx(cells["interference"].mean())
    one = summary.filter(by="event_time", event_time=20).row(0, named=True)
    assert one["interference_se"] == pytest.approx(cells["interference_se"][2])
    plain = compared(rows, scores, retrained)
    assert plain[0]["interference"].null_count() == len(plain[0])
    assert (
        plain[0]
        .drop("interference", "interference_se")
        .equals(cells.drop("interference", "interference_se"))
    )


def test_only_the_unscored_rows_are_replaced_to_measure_interference(
    tiny_suite, tiny_rows, tiny_scores, tmp_path
):
    audit = Audit(size="xs", cohorts=1, interference=True)

    retrained = retrain(tiny_suite, audit, tiny_rows, folder=tmp_path)
    cells, _ = compared(tiny_rows, xs(tiny_scores), retrained)

    assert retrained.group_by("peers").len()["len"].n_unique() == 1
    at_once = cells.row(0, named=True)
    assert at_once["truth"] > 3 * at_once["se"] / 2
    # the scored rows were read in the second retraining: their own effect is not in it
    assert abs(at_once["interference"]) < 4 * at_once["interference_se"]
    assert at_once["interference_se"] < at_once["se"]
