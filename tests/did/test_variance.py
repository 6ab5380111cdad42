"""Degrees of freedom: Welch's for one effect, with one ratio of variances for a family."""

import numpy as np
import pytest
from scipy.stats import t as student

from pythia_profile.did.variance import VarianceComponents


def spread(treated, control, treated_df=9.0, control_df=399.0):
    treated = np.asarray(treated, dtype=float)
    return VarianceComponents(
        treated,
        np.full(treated.shape, treated_df),
        np.broadcast_to(np.asarray(control, dtype=float), treated.shape),
        np.full(treated.shape, control_df),
    )


def test_one_effect_has_welchs_degrees_of_freedom():
    got = spread([0.03], [0.01]).df()

    assert got[0] == pytest.approx(0.04**2 / (0.03**2 / 9 + 0.01**2 / 399))


def test_a_family_of_one_is_one_effect():
    one = spread([0.03], [0.01])

    assert one.pooled_df(np.array([True]))[0] == pytest.approx(one.df()[0])


def test_a_variance_that_came_out_small_does_not_gain_degrees_of_freedom():
    family = spread([0.03, 0.03, 0.03, 0.002], 0.01)

    pooled = family.pooled_df(np.ones(4, bool))

    assert family.df()[3] > 100
    assert np.ptp(pooled) == pytest.approx(0.0, abs=1e-9)
    assert 9 < pooled[3] < 20


def test_sides_without_variance_or_clusters_are_no_obstacle():
    family = VarianceComponents(
        np.array([0.03, 0.0, 0.03]),
        np.array([9.0, 9.0, 9.0]),
        np.array([0.01, 0.0, 0.0]),
        np.array([399.0, -1.0, np.inf]),
    )

    assert family.df().tolist() == pytest.approx(
        [0.04**2 / (0.03**2 / 9 + 0.01**2 / 399), np.inf, 9]
    )
    assert np.isfinite(family.pooled_df(np.array([True, False, True]))).tolist() == [True] * 3


def test_the_largest_of_many_errors_keeps_its_level_with_pooled_degrees_of_freedom_only():
    """300 cells, ten clusters against 400 rows; critical value of 300 independent normal errors."""
    rng = np.random.default_rng(0)
    cells, panels = 300, 2000
    tail = (1 - 0.95 ** (1 / cells)) / 2
    error = rng.normal(size=(panels, cells)) * np.sqrt(0.03 + 0.01)
    family = spread(0.03 * rng.chisquare(9, (panels, cells)) / 9, 0.01)
    se = np.sqrt(family.treated + family.control)

    def coverage(df):
        return (np.abs(error) <= student.isf(tail, df) * se).all(axis=1).mean()

    pooled = np.stack([
        spread(family.treated[p], 0.01).pooled_df(np.ones(cells, bool)) for p in range(panels)
    ])  # fmt: skip
    assert coverage(family.df()) < 0.9
    assert 0.94 < coverage(pooled) < 0.99  # Student's t is a little too wide for a sum of two
