"""Gaps: least squares with row effects by brute force, unbiasedness, standard errors, refusals."""

import numpy as np
import pytest

from pythia_profile.did import NEVER, aggregate, att_gt
from pythia_profile.did.errors import MissingOutcomeError
from pythia_profile.did.missing import pseudo_values
from tests.did.planted import planted

ROUNDING = 1e-9  # a pseudo-inverse of a 5 by 5 matrix of counts


def with_gaps(panel, share=0.15, seed=0):
    gaps = np.random.default_rng(seed).uniform(size=panel.y.shape) < share
    gaps[np.arange(0, len(panel.y), 4)] = False  # some complete rows in every group
    return np.where(gaps, np.nan, panel.y)


def checkpoint_effects_by_dummies(y):
    """Least squares of the scored outcomes on one dummy a row and one a checkpoint."""
    row, checkpoint = np.nonzero(~np.isnan(y))
    design = np.zeros((len(row), len(y) + y.shape[1]))
    design[np.arange(len(row)), row] = 1.0
    design[np.arange(len(row)), len(y) + checkpoint] = 1.0
    solution = np.linalg.lstsq(design, y[row, checkpoint], rcond=None)[0][len(y) :]
    return solution - solution[0]


def test_checkpoint_effects_are_least_squares_with_row_effects():
    panel = planted(rows=20, never=30)
    y = with_gaps(panel)

    att = att_gt(y, panel.cohort, panel.checkpoints, missing="available")

    off = checkpoint_effects_by_dummies(y[panel.cohort == NEVER])
    for i, g in enumerate(att.cohorts):
        on = checkpoint_effects_by_dummies(y[panel.cohort == g])
        expected = (on - on[i]) - (off - off[i])  # the base of cohort number i is checkpoint i
        np.testing.assert_allclose(att.att[i], expected, atol=ROUNDING)


def test_plain_differences_use_the_mean_of_what_was_scored():
    panel = planted(rows=20, never=30)
    y = with_gaps(panel)

    att = att_gt(y, panel.cohort, panel.checkpoints, missing="available", estimator="diff")

    off = y[panel.cohort == NEVER]
    n_off = (~np.isnan(off)).sum(axis=0)
    for i, g in enumerate(att.cohorts):
        on = y[panel.cohort == g]
        n_on = (~np.isnan(on)).sum(axis=0)
        np.testing.assert_allclose(
            att.att[i], np.nanmean(on, axis=0) - np.nanmean(off, axis=0), atol=ROUNDING
        )
        se = np.sqrt(np.nanvar(on, axis=0) / n_on + np.nanvar(off, axis=0) / n_off)
        np.testing.assert_allclose(att.se[i], se, atol=ROUNDING)


def test_complete_panels_are_left_as_they_are(small):
    values = pseudo_values(small.y, small.cohort, small.checkpoints)

    np.testing.assert_array_equal(values, small.y)


def test_levels_of_rows_that_come_and_go_do_not_matter():
    panel = planted(rows=20, never=30)
    y = with_gaps(panel)
    levels = 100 * np.random.default_rng(1).normal(size=(len(y), 1))

    plain = att_gt(y, panel.cohort, panel.checkpoints, missing="available")
    moved = att_gt(y + levels, panel.cohort, panel.checkpoints, missing="available")

    np.testing.assert_allclose(moved.att, plain.att, atol=1e-9)
    np.testing.assert_allclose(moved.se, plain.se, atol=1e-9)


def test_standard_errors_with_gaps_are_the_spread_over_panels():
    errors, claimed = [], []
    for seed in range(400):
        panel = planted(seed, rows=30, never=60)
        att = att_gt(
            with_gaps(panel, share=0.3, seed=seed), panel.cohort, panel.checkpoints,
            missing="available",
        )  # fmt: skip
        total = aggregate(att, "overall")
        errors.append([total.estimate[0] - panel.truth[panel.truth > 0].mean(), att.att[1, 3]])
        claimed.append([total.se[0], att.se[1, 3]])
    # Weights of cohorts differ a little from the plain mean of cells; their bias is below .01.
    spread = np.std(errors, axis=0)
    ratio = spread / np.mean(claimed, axis=0)
    assert abs(ratio - 1).max() < 0.15  # 400 panels tell a deviation to 3.5 %; population variances
    # of 30 rows understate by 1.7 %


def test_a_checkpoint_without_any_score_of_a_cohort_is_named():
    panel = planted()
    panel.y[panel.cohort == 20, 3] = np.nan

    with pytest.raises(
        MissingOutcomeError, match=r"cohort 20: none of 14 rows was scored at 1 of 5"
    ):
        att_gt(panel.y, panel.cohort, panel.checkpoints, missing="available")


def test_checkpoints_that_no_row_connects_are_named():
    panel = planted()
    never = np.flatnonzero(panel.cohort == NEVER)
    panel.y[never[:8], 2:] = np.nan
    panel.y[never[8:], :2] = np.nan

    with pytest.raises(MissingOutcomeError, match="the never-treated rows: no row was scored both"):
        att_gt(panel.y, panel.cohort, panel.checkpoints, missing="available")
