"""Rows read twice: a planted second effect is cut, kept or dropped as the settings say."""

import numpy as np
import polars as pl
import pytest

from pythia_profile.did import NEVER, aggregate, effects, panel
from pythia_profile.did.errors import CovariateError
from pythia_profile.did.settings import Estimation
from pythia_profile.errors import TableError
from tests.did.planted import brute_cell

CHECKPOINTS = np.array([0, 10, 20, 30, 40])
FIRST, SECOND = 0.5, 2.0
"""Planted effects of the first and of the second reading."""


def study(second, per_cohort=60, never=80, noise=0.1, seed=0):
    """Rows of three cohorts; every third row of a cohort is read again at step `second`."""
    rng = np.random.default_rng(seed)
    step = np.concatenate([np.repeat([5, 15, 25], per_cohort), np.full(never, NEVER)])
    again = np.full(len(step), NEVER)
    again[(np.arange(len(step)) % 3 == 0) & (step < second)] = second
    y = rng.normal(-3, 1, (len(step), 1)) + 0.02 * CHECKPOINTS
    y = y + noise * rng.normal(size=(len(step), len(CHECKPOINTS)))
    y += FIRST * (step[:, None] <= CHECKPOINTS) + SECOND * (again[:, None] <= CHECKPOINTS)
    ids = np.arange(len(step))
    rows = pl.DataFrame(
        {
            "row_id": ids,
            "treatment_step": pl.Series(step).replace(NEVER, None),
            "second_step": pl.Series(again).replace(NEVER, None),
            "earlier_exposure": np.where(ids % 10 == 1, 0.7, 0.0),
        }
    )
    scores = pl.DataFrame(
        {
            "row_id": np.repeat(ids, len(CHECKPOINTS)),
            "checkpoint": np.tile(CHECKPOINTS, len(ids)),
            "log_likelihood": y.ravel(),
        }
    ).with_columns(suite=pl.lit("mine"), size=pl.lit("s"), seed=pl.lit(0))
    return rows, scores, y, step, again


def estimated(rows, scores, **settings):
    chosen = Estimation(**settings)
    return effects(panel(rows, scores, chosen), chosen)


def test_a_planted_second_effect_is_cut_by_default():
    rows, scores, *_ = study(second=28)

    att = estimated(rows, scores)

    post = att.post
    # noise .1 of differences among 20 or more rows of a cell: five standard errors
    assert abs(att.att[post] - FIRST).max() < 5 * att.se[post].max()
    kept = estimated(rows, scores, second_reading="keep")
    late = kept.post & (kept.checkpoints >= 28)
    np.testing.assert_allclose(kept.att[late], FIRST + SECOND / 3, atol=5 * kept.se[late].max())
    np.testing.assert_array_equal(att.n_treated[:, -1], 40)
    np.testing.assert_array_equal(kept.n_treated[:, -1], 60)
    assert "60 of 260 rows are read a second time by checkpoint 40: cells from then on" in str(att)


def test_dropped_rows_are_those_read_again_and_those_read_before():
    rows, scores, y, step, again = study(second=28)
    cohort = np.where(step == NEVER, NEVER, -(-step // 10) * 10)

    att = estimated(rows, scores, second_reading="drop")

    chosen = (again == NEVER) & (np.arange(len(step)) % 10 != 1)
    for i, g in enumerate(att.cohorts):
        for k, c in enumerate(CHECKPOINTS):
            effect, se, *_ = brute_cell(y[chosen], cohort[chosen], CHECKPOINTS, g, c)
            assert att.att[i, k] == pytest.approx(effect, abs=1e-12)
            assert att.se[i, k] == pytest.approx(se, abs=1e-12)
    said = "\n".join(estimated(rows, scores).notes)
    assert "26 of 260 rows hold text that had been read before" in said


def test_without_second_readings_the_rules_are_the_same():
    rows, scores, *_ = study(second=99)
    plain = rows.drop("second_step")

    for rule in ("cut", "keep"):
        one = estimated(rows.with_columns(second_step=None), scores, second_reading=rule)
        np.testing.assert_array_equal(one.att, estimated(plain, scores).att)


def test_a_cohort_that_is_read_again_as_a_whole_ends_there():
    """The second epoch reads the first cohort's rows at step 35, one after the other."""
    rows, scores, *_ = study(second=99)
    whole = rows.with_columns(second_step=pl.when(pl.col("treatment_step") == 5).then(35))

    att = estimated(whole, scores)

    full = estimated(rows, scores)
    assert np.isnan(att.att[0, -1])
    assert att.n_treated[0, -1] == 0
    np.testing.assert_allclose(att.att[:, :-1], full.att[:, :-1], atol=1e-12)
    np.testing.assert_allclose(att.att[1:], full.att[1:], atol=1e-12)
    assert aggregate(att, "residual").labels == (20, 30, None)
    assert "1 of 15 cells have no rows, no controls or no base" in str(att)


def test_a_control_whose_text_is_read_after_all_stops_to_be_one():
    rows, scores, y, step, _ = study(second=99)
    never = np.flatnonzero(step == NEVER)[:30]
    late = y.copy()
    late[never] += SECOND * (CHECKPOINTS >= 22)
    scores = scores.with_columns(log_likelihood=pl.Series(late.ravel()))
    read = rows.with_columns(second_step=pl.when(pl.col("row_id").is_in(never.tolist())).then(22))

    att = estimated(read, scores)

    post = att.post
    assert abs(att.att[post] - FIRST).max() < 5 * att.se[post].max()
    assert att.n_control[0].tolist() == [80, 80, 80, 50, 50]


@pytest.mark.parametrize("estimator", ["did", "diff", "ancova"])
def test_cut_cells_are_those_of_a_row_that_was_not_scored(estimator):
    """Some of a cohort's rows stay: then a cut is a gap."""
    rows, scores, y, _, again = study(second=28)
    gappy = scores.with_columns(
        log_likelihood=pl.Series(np.where(again[:, None] <= CHECKPOINTS, np.nan, y).ravel())
    )

    cut = estimated(rows, scores, estimator=estimator)

    plain = rows.drop("second_step")
    known = estimated(plain, gappy, estimator=estimator, missing="available")
    np.testing.assert_allclose(cut.att, known.att, atol=1e-12)
    np.testing.assert_allclose(cut.se, known.se, atol=1e-12)


def test_a_second_step_before_the_first_is_refused_and_covariates_ask_for_whole_rows():
    rows, scores, *_ = study(second=28)

    with pytest.raises(TableError, match=r"60 rows have a second_step .* first row 0 \(3, 5\)"):
        panel(rows.with_columns(pl.col("second_step") - 25), scores)
    with pytest.raises(TableError, match="'second_step' is String, expected whole numbers"):
        panel(rows.cast({"second_step": pl.String}), scores)
    with pytest.raises(CovariateError, match="second_reading='drop'"):
        estimated(rows, scores, covariates=("base",))
