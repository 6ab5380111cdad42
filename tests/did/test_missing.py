"""Gaps: least squares with row effects by brute force, unbiasedness, standard errors, refusals."""

import numpy as np
import pytest

from pythia_profile.did import NEVER, aggregate, att_gt, bands
from pythia_profile.did.errors import MissingOutcomeError
from pythia_profile.did.missing import pseudo_values
from pythia_profile.did.precision import reliability
from tests.did.planted import planted

ROUNDING = 1e-9  # a pseudo-inverse of a 5 by 5 matrix of counts


def with_gaps(panel, share=0.15, seed=0):
    gaps = np.random.default_rng(seed).uniform(size=panel.y.shape) < share
    gaps[np.arange(0, len(panel.y), 4)] = False  # some complete rows in every group
    return np.where(gaps, np.nan, panel.y)


def checkpoint_effects_by_dummies(y, levels=False):
    """Least squares of the scored outcomes on one dummy a row and one a checkpoint.

    With levels: mean row effect plus checkpoint effects; else effects since the first checkpoint.
    """
    row, checkpoint = np.nonzero(~np.isnan(y))
    design = np.zeros((len(row), len(y) + y.shape[1]))
    design[np.arange(len(row)), row] = 1.0
    design[np.arange(len(row)), len(y) + checkpoint] = 1.0
    solution = np.linalg.lstsq(design, y[row, checkpoint], rcond=None)[0]
    rows, effects = solution[: len(y)], solution[len(y) :]
    return rows.mean() + effects if levels else effects - effects[0]


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


@pytest.mark.slow
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


def slope_of_pairs(x, y):
    known = ~np.isnan(x) & ~np.isnan(y)
    return np.polyfit(x[known], y[known], 1)[0]


def test_ancova_keeps_levels_and_takes_slopes_from_rows_scored_at_both_checkpoints():
    panel = planted(rows=20, never=30)
    y = with_gaps(panel)

    att = att_gt(y, panel.cohort, panel.checkpoints, missing="available", estimator="ancova")

    off = y[panel.cohort == NEVER]
    mean_off = checkpoint_effects_by_dummies(off, levels=True)
    for i, g in enumerate(att.cohorts):
        mean_on = checkpoint_effects_by_dummies(y[panel.cohort == g], levels=True)
        for k in range(y.shape[1]):
            theta = 1.0 if k == i else slope_of_pairs(off[:, i], off[:, k])
            expected = (mean_on[k] - theta * mean_on[i]) - (mean_off[k] - theta * mean_off[i])
            assert att.att[i, k] == pytest.approx(expected, abs=ROUNDING)


@pytest.mark.parametrize("cohort", [NEVER, 20])
def test_one_missing_score_moves_ancova_by_less_than_its_standard_error(cohort):
    panel = planted(rows=40, never=60)
    y = panel.y.copy()
    y[np.flatnonzero(panel.cohort == cohort)[3], 2] = np.nan

    whole, some = (
        att_gt(v, panel.cohort, panel.checkpoints, estimator="ancova", missing="available")
        for v in (panel.y, y)
    )

    cells = whole.se > 0
    assert abs((some.att - whole.att)[cells] / whole.se[cells]).max() < 0.5
    assert abs(some.se[cells] / whole.se[cells] - 1).max() < 0.1
    drawn = bands(some, 400).sigma[some.post]  # the draws carry the slopes' errors too
    np.testing.assert_allclose(drawn, some.se[some.post], rtol=0.25)


def test_errors_of_ancova_with_gaps_are_the_spread_over_panels():
    errors, claimed = [], []
    for seed in range(300):
        panel = planted(seed, rows=30, never=60)
        y = with_gaps(panel, share=0.2, seed=seed)
        att = att_gt(y, panel.cohort, panel.checkpoints, missing="available", estimator="ancova")
        errors.append((att.att - panel.truth)[[0, 1, 2], [2, 3, 4]])
        claimed.append(att.se[[0, 1, 2], [2, 3, 4]])
    ratio = np.std(errors, axis=0) / np.mean(claimed, axis=0)
    assert abs(ratio - 1).max() < 0.2  # 300 panels tell a deviation to 4 %
    assert abs(np.mean(errors, axis=0) / np.std(errors, axis=0)).max() < 4 / 300**0.5


@pytest.mark.parametrize("estimator", ["did", "ancova", "diff"])
def test_correlations_with_the_base_are_those_of_rows_scored_at_both(estimator):
    panel = planted(rows=20, never=30)
    y = with_gaps(panel)

    att = att_gt(y, panel.cohort, panel.checkpoints, missing="available", estimator=estimator)

    def deviations(rows):
        pair = rows[~np.isnan(rows).any(axis=1)]
        return pair - pair.mean(axis=0)

    for i, g in enumerate(att.cohorts):
        for k in range(y.shape[1]):
            sides = (y[panel.cohort == label][:, [i, k]] for label in (g, NEVER))
            b, c = np.concatenate([deviations(rows) for rows in sides]).T
            assert reliability(att)[i, k] == pytest.approx((b @ c) / np.sqrt((b @ b) * (c @ c)))


@pytest.mark.parametrize("control", ["never", "both"])
def test_rows_are_counted_where_they_were_scored(control):
    panel = planted(rows=20, never=30)
    y = with_gaps(panel)

    att = att_gt(y, panel.cohort, panel.checkpoints, missing="available", control=control)

    scored = ~np.isnan(y)
    for i, g in enumerate(att.cohorts):
        for k, c in enumerate(panel.checkpoints):
            assert att.n_treated[i, k] == scored[panel.cohort == g, k].sum()
            last = max(c, panel.checkpoints[i])
            later = (panel.cohort > last) & (panel.cohort != g)
            used = later if control == "both" else panel.cohort == NEVER
            assert att.n_control[i, k] == scored[used, k].sum()
