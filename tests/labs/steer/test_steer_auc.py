"""Areas under the curve beside scipy's, and intervals that cover as often as they say."""

import numpy as np
import pytest
from scipy.stats import mannwhitneyu, norm

from pythia_profile.labs.steer.steer_auc import auc_gain, auc_interval, null_interval
from pythia_profile.labs.steer.steer_settings import SteerError

DRAWS = 500


def test_the_area_is_mann_whitneys_with_ties():
    rng = np.random.default_rng(0)
    one, two = rng.integers(6, size=30) + 1, rng.integers(6, size=40)

    found, lower, upper = auc_interval(one, two)
    assert found == pytest.approx(mannwhitneyu(one, two).statistic / 1200)
    assert lower < found < upper
    # turned round, everything is mirrored at one half; bisection ends within 2e-12
    mirrored = auc_interval(two, one)
    assert mirrored == pytest.approx((1 - found, 1 - upper, 1 - lower))


@pytest.mark.parametrize("truth", [0.5, 0.8, 0.95])
def test_intervals_cover_the_truth_with_few_rows(truth):
    """Normal scores whose means differ so that a random pair is in order with that probability."""
    rng = np.random.default_rng(1)
    apart = np.sqrt(2) * norm.ppf(truth)
    inside = 0
    for _ in range(DRAWS):
        _, lower, upper = auc_interval(apart + rng.normal(size=16), rng.normal(size=16))
        inside += lower <= truth <= upper
    # .95 with a standard error of .01; the method is known to be a little cautious near 1
    assert 0.92 < inside / DRAWS < 0.995


def test_intervals_of_a_gain_cover_it_where_both_scores_share_noise():
    rng, inside = np.random.default_rng(2), 0
    for _ in range(DRAWS):
        shared = rng.normal(size=(2, 60))
        scores = [shared + rng.normal(size=(2, 60)) for _ in range(2)]
        _, lower, upper = auc_gain(*((one[0] + 1, one[1]) for one in scores))
        inside += lower <= 0 <= upper
    # .95 with a standard error of .01
    assert 0.92 < inside / DRAWS < 0.98


def test_the_gain_is_the_difference_of_the_areas():
    rng = np.random.default_rng(3)
    first, second = ((rng.normal(size=20) + 1, rng.normal(size=30)) for _ in range(2))

    gain, _, _ = auc_gain(first, second)
    assert gain == pytest.approx(auc_interval(*first)[0] - auc_interval(*second)[0])


def test_one_more_area_falls_into_the_null_interval_as_often_as_it_says():
    rng = np.random.default_rng(4)
    inside = 0
    for _ in range(DRAWS):
        values = 0.5 + 0.05 * rng.normal(size=6)
        _, lower, upper = null_interval(values[:5])
        inside += lower <= values[5] <= upper
    assert 0.92 < inside / DRAWS < 0.98


def test_scores_that_are_missing_are_refused():
    with pytest.raises(SteerError, match="scores of 0 and 2 rows"):
        auc_interval([], [1.0, 2.0])
    with pytest.raises(SteerError, match="expected finite ones"):
        auc_interval([np.nan], [1.0])
