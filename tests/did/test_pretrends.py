"""Placebo tests: their size where trends are parallel, their power where they are not."""

import numpy as np
import pytest
from scipy.stats import kstest

from pythia_profile.did import NEVER, att_gt, contrast, placebo
from pythia_profile.did.errors import DegenerateError, EmptyFamilyError
from pythia_profile.did.inference.pretrends import holm
from tests.did.planted import planted


def placebo_of(seed, drift=0.0, **settings):
    panel = planted(seed, cohorts=(20, 30, 40), rows=40, never=80, **settings)
    y = panel.y + drift * (panel.cohort == 30)[:, None] * np.array([1, 0, 0, 0, 0])
    return placebo(att_gt(y, panel.cohort, panel.checkpoints), draws=299, seed=seed)


@pytest.mark.slow
def test_p_values_are_uniform_where_trends_are_parallel():
    results = [placebo_of(seed) for seed in range(200)]

    # 200 p-values: Kolmogorov-Smirnov rejects uniformity once in 1,000 such runs.
    assert kstest([r.p_value for r in results], "uniform").pvalue > 1e-3
    assert kstest([r.cohort_p[1] for r in results], "uniform").pvalue > 1e-3
    assert kstest([r.wald_p for r in results], "uniform").pvalue > 1e-3


def test_a_drift_before_treatment_is_found_and_its_cohort_named():
    result = placebo_of(3, drift=0.5)

    assert result.p_value < 0.01
    assert result.wald_p < 1e-6
    assert result.cohorts.tolist() == [20, 30, 40]
    assert (result.cohort_p_adjusted < 0.05).tolist() == [False, True, False]
    assert "1 of 3 cohorts reject at .05" in str(result)


def test_the_wald_test_is_the_quadratic_form_of_the_cohorts_means():
    panel = planted(cohorts=(20, 30))
    att = att_gt(panel.y, panel.cohort, panel.checkpoints)
    means = np.array([att.att[0, 0], att.att[1, :2].mean()])
    never = panel.y[panel.cohort > 100]

    changes = [
        panel.y[panel.cohort == 20][:, 0] - panel.y[panel.cohort == 20][:, 1],
        panel.y[panel.cohort == 30][:, :2].mean(axis=1) - panel.y[panel.cohort == 30][:, 2],
    ]
    off = np.stack([never[:, 0] - never[:, 1], never[:, :2].mean(axis=1) - never[:, 2]])
    shared = np.cov(off, bias=True) / len(never)

    result = placebo(att, draws=50)
    assert result.wald_df == 2
    # On the normal scale, and with one variance a row for both cohorts: close to the plain form.
    covariance = np.diag([d.var(ddof=1) / len(d) for d in changes]) + shared
    plain = means @ np.linalg.solve(covariance, means)
    assert result.wald == pytest.approx(plain, rel=0.5)
    many = planted(cohorts=(20, 30), rows=4000, never=4000)
    att = att_gt(many.y, many.cohort, many.checkpoints)
    chosen = np.zeros((2, *att.att.shape))
    chosen[0, 0, 0], chosen[1, 1, :2] = 1.0, 0.5
    found = contrast(att, chosen)
    plain = found.estimate @ np.linalg.solve(found.covariance(), found.estimate)
    assert placebo(att, draws=50).wald == pytest.approx(plain, rel=0.1)


@pytest.mark.slow
@pytest.mark.parametrize("batches", [3, 6])
def test_the_wald_test_keeps_its_size_with_few_batches(batches):
    """Plain chi-square of the same means rejects .28 of true hypotheses with six batches."""
    p, rows, cohorts, grid = [], 4, 8, 10 * np.arange(11)
    cohort = np.append(np.repeat(grid[3:], batches * rows), np.full(200, NEVER))
    batch = np.append(np.repeat(np.arange(cohorts * batches), rows), np.full(200, NEVER))
    for seed in range(250):
        rng = np.random.default_rng(seed)
        y = 0.1 * rng.normal(size=(len(cohort), len(grid))).cumsum(axis=1)
        shocks = 0.05 * rng.normal(size=(cohorts * batches, len(grid))).cumsum(axis=1)
        y[:-200] += shocks[batch[:-200]]
        p.append(placebo(att_gt(y, cohort, grid, clusters=batch), draws=10).wald_p)

    # .05 and .06 of 250: four standard errors of .014 above .05.
    assert np.mean(np.array(p) < 0.05) < 0.106


def test_holm_adjusts_like_its_definition():
    p = np.random.default_rng(0).uniform(size=9)

    by_hand = [
        min(1.0, max((9 - rank) * p[j] for rank, j in enumerate(np.argsort(p)) if p[j] <= p[i]))
        for i in range(9)
    ]
    np.testing.assert_allclose(holm(p), by_hand)


def test_no_checkpoint_before_any_base_is_its_own_error():
    panel = planted(cohorts=(10,))

    with pytest.raises(EmptyFamilyError, match="none of 1 cohorts has a scored checkpoint before"):
        placebo(att_gt(panel.y, panel.cohort, panel.checkpoints))


def test_no_variance_is_its_own_error():
    panel = planted(noise=0.0)

    with pytest.raises(DegenerateError, match="all 3 cells have zero variance"):
        placebo(att_gt(panel.y, panel.cohort, panel.checkpoints))


def test_a_cohort_in_which_a_rare_outcome_never_happens_leaves_a_p_value():
    """Whole matches of a small model: no treated row of a cohort varies, a few controls do."""
    rng = np.random.default_rng(3)
    cohort = np.repeat([20, 30, NEVER], 100)
    y = (rng.random((300, 4)) < 0.05).astype(float)
    y[cohort == 30] = 0.0

    found = placebo(att_gt(y, cohort, [0, 10, 20, 30]), draws=200)

    assert 0 <= found.wald_p <= 1
    assert 0 <= found.p_value <= 1
    assert found.wald_df == len(found.cohorts) == 2
