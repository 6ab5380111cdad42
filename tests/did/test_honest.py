"""Sensitivity: bounds and biases by linear programs, coverage by simulation, breakdown values."""

import numpy as np
import pytest
from scipy.optimize import linprog
from scipy.stats import norm

from pythia_profile.did import NEVER, aggregate, att_gt
from pythia_profile.did.errors import EmptyFamilyError, OptionError
from pythia_profile.did.inference.event_studies import EventStudy, effect_weights, event_study_of
from pythia_profile.did.inference.honest import breakdowns, sensitivity
from pythia_profile.did.inference.violations import (
    _bias,
    _extrapolations,
    folded_half_length,
    relative_bounds,
    relative_intervals,
    smooth_bounds,
    smooth_intervals,
)
from tests.did.planted import planted


def study(seed=0, before=4, after=3, even=True, scale=0.1):
    rng = np.random.default_rng(seed)
    gaps = np.ones(before + after) if even else rng.uniform(0.5, 2, before + after)
    left, right = -np.cumsum(gaps[:before])[::-1], np.cumsum(gaps[before:])
    root = scale * rng.normal(size=(before + after, before + after + 3))
    return EventStudy(
        before=left,
        after=right,
        steps=np.arange(after, dtype=float),
        estimate=rng.normal(size=before + after),
        covariance=root @ root.T / (before + after),
        df=np.inf,
    )


def slopes(event):
    """Slopes between neighboring places as a matrix on δ at all places but the base."""
    places = np.concatenate([event.before, [0.0], event.after])
    base = len(event.before)
    rows = np.zeros((len(places) - 1, len(places)))
    for k in range(len(places) - 1):
        rows[k, k], rows[k, k + 1] = -1.0, 1.0
        rows[k] /= places[k + 1] - places[k]
    return np.delete(rows, base, axis=1)


def extremes(event, weights, less, than):
    """Smallest and largest l'τ when δ before is the estimate and `less` δ <= `than`."""
    count, pre = len(event.estimate), len(event.before)
    objective = np.concatenate([np.zeros(pre), weights])
    equal = np.eye(count)[:pre]
    found = []
    for sign in (1.0, -1.0):
        result = linprog(
            sign * objective, A_ub=less, b_ub=than, A_eq=equal, b_eq=event.estimate[:pre],
            bounds=(None, None),
        )  # fmt: skip
        if not result.success:
            return np.nan, np.nan
        found.append(objective @ event.estimate - sign * result.fun)
    return found[1], found[0]


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("even", [True, False])
@pytest.mark.parametrize("size", [0.0, 0.5, 2.0])
def test_relative_bounds_are_those_of_the_linear_programs(seed, even, size):
    event = study(seed, even=even)
    weights = np.random.default_rng(seed).normal(size=3)
    slope, pre = slopes(event), len(event.before)

    expected = []
    for place in range(pre):  # the largest slope before treatment, and its sign
        for sign in (1.0, -1.0):
            less = [
                side * row - size * sign * slope[place] for row in slope[pre:] for side in (1, -1)
            ]
            if sign * (slope[place] @ event.estimate) < 0:
                continue
            expected.append(extremes(event, weights, np.array(less), np.zeros(len(less))))
    lower, upper = relative_bounds(event, weights, size)

    assert lower == pytest.approx(min(low for low, _ in expected), abs=1e-7)
    assert upper == pytest.approx(max(high for _, high in expected), abs=1e-7)


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("even", [True, False])
@pytest.mark.parametrize("size", [0.1, 1.0, 5.0])
def test_smooth_bounds_are_those_of_the_linear_program(seed, even, size):
    event = study(seed, even=even)
    weights = np.random.default_rng(seed).normal(size=3)
    change = np.diff(slopes(event), axis=0)

    expected = extremes(
        event, weights, np.vstack([change, -change]), np.full(2 * len(change), size)
    )

    np.testing.assert_allclose(smooth_bounds(event, weights, size), expected, atol=1e-7)


@pytest.mark.parametrize("even", [True, False])
def test_the_largest_bias_of_each_extrapolation_is_that_of_the_linear_program(even):
    event = study(3, before=5, after=4, even=even)
    weights = np.array([0.2, -0.1, 0.5, 0.4])
    change = np.diff(slopes(event), axis=0)
    target = np.concatenate([np.zeros(5), weights])

    estimators = _extrapolations(event, weights)
    for estimator, bias in zip(estimators, _bias(event, estimators), strict=True):
        result = linprog(
            -estimator, A_ub=np.vstack([change, -change]), b_ub=np.ones(2 * len(change)),
            bounds=(None, None),
        )  # fmt: skip
        assert result.success  # unbounded unless linear trends cancel
        assert bias == pytest.approx(-result.fun, abs=1e-7)
        np.testing.assert_allclose(estimator[5:], target[5:])


@pytest.mark.parametrize("bias", [0.0, 0.3, 2.0, 30.0])
def test_half_length_covers_a_biased_estimate(bias):
    half = folded_half_length(np.array([bias]), np.array([0.7]), 0.9)[0]

    inside = norm.cdf((half - bias) / 0.7) - norm.cdf((-half - bias) / 0.7)
    assert inside == pytest.approx(0.9, abs=1e-9)


def coverage(intervals, event, violation, weights, size, repeats=2000):
    """Share of simulated intervals that hold the true effect, here 0."""
    rng = np.random.default_rng(5)
    root = np.linalg.cholesky(event.covariance)
    held = 0
    for _ in range(repeats):
        drawn = EventStudy(
            event.before, event.after, event.steps,
            violation + root @ rng.normal(size=len(violation)), event.covariance, np.inf,
        )  # fmt: skip
        lower, upper = intervals(drawn, weights, 0.95)(size)
        held += lower <= 0 <= upper
    return held / repeats


SLACK = 0.015  # three standard errors of a share of .95 among 2,000


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("size", [0.5, 1.0, 2.0])
@pytest.mark.parametrize("trend", [0.0, 0.05, 0.5])
def test_relative_intervals_cover_under_the_worst_violation(sign, size, trend):
    event = study(1, before=5, after=3)
    weights = np.full(3, 1 / 3)
    before = np.array([0.0, 1.0, 0.2, 0.5, 0.1]) * trend  # largest slope: 1 · trend
    after = sign * size * trend * event.after
    violation = np.concatenate([before - before[-1], after])
    violation[:5] -= 0.0 if trend == 0 else violation[4] + 0.1 * trend

    assert coverage(relative_intervals, event, violation, weights, size) >= 0.95 - SLACK


@pytest.mark.parametrize("sign", [1, -1])
@pytest.mark.parametrize("size", [0.0, 0.02, 0.3])
def test_smooth_intervals_cover_under_the_worst_violation(sign, size):
    event = study(2, before=6, after=3)
    weights = np.array([0.0, 0.0, 1.0])
    linear = np.concatenate([event.before, event.after]) * 0.7
    places = np.concatenate([event.before, event.after])
    curved = sign * size * places**2 / 2  # second difference: size, on both sides

    share = coverage(smooth_intervals, event, linear + curved, weights, size)

    assert share >= 0.95 - SLACK
    if size == 0:
        assert share <= 0.95 + SLACK


def test_intervals_on_panels_cover_under_a_drift_within_bounds():
    held = 0
    for seed in range(150):
        panel = planted(seed, cohorts=(30, 40), checkpoints=range(0, 70, 10), rows=60, never=100)
        drift = 0.02 * (panel.checkpoints - 30) / 10  # parallel trends fail, by a constant slope
        panel.y += (panel.cohort != NEVER)[:, None] * drift
        att = att_gt(panel.y, panel.cohort, panel.checkpoints)
        event = event_study_of(att, 30)
        weights = effect_weights(event, "average")
        lower, upper = smooth_intervals(event, weights, 0.95)(0.0)
        held += lower <= panel.truth[0, 3:].mean() <= upper
    assert held / 150 >= 0.95 - 3 * np.sqrt(0.95 * 0.05 / 150)


def parallel(seed=0, rows=80):
    panel = planted(seed, cohorts=(30, 40), checkpoints=range(0, 70, 10), rows=rows, never=200)
    return panel, att_gt(panel.y, panel.cohort, panel.checkpoints)


def test_without_violation_the_interval_is_the_usual_one():
    _, att = parallel()
    curve = aggregate(att, "event_time")

    got = sensitivity(curve, effect=10, bounds=[0.0])

    place = curve.labels.index(10)
    lower, upper = curve.interval()
    assert got.estimate == pytest.approx(curve.estimate[place])
    assert got.se == pytest.approx(curve.se[place])
    # Degrees of freedom are the smallest along the curve: a little wider at most.
    assert got.lower[0] == pytest.approx(lower[place], abs=0.02 * curve.se[place])
    assert got.upper[0] == pytest.approx(upper[place], abs=0.02 * curve.se[place])


@pytest.mark.parametrize("restriction", ["relative_magnitudes", "smoothness"])
def test_the_breakdown_value_is_where_the_interval_reaches_zero(restriction):
    _, att = parallel()
    curve = aggregate(att, "event_time")

    found = sensitivity(curve, restriction=restriction).breakdown
    around = sensitivity(curve, restriction=restriction, bounds=[0.999 * found, 1.001 * found])

    assert 0 < found < np.inf
    assert around.lower[0] > 0 >= around.lower[1]
    assert "exclude 0 under slopes" in str(around)


def test_without_a_cohort_the_aggregate_over_event_times_is_meant():
    _, att = parallel()

    assert sensitivity(att).breakdown == sensitivity(aggregate(att, "event_time")).breakdown


def test_intervals_grow_with_the_size_of_the_violation():
    _, att = parallel()

    for restriction, bounds in (
        ("relative_magnitudes", None),
        ("smoothness", None),
        ("smoothness", [0, 0.01]),
    ):
        got = sensitivity(att, cohort=40, restriction=restriction, bounds=bounds)
        assert (np.diff(got.upper - got.lower) > 0).all()
        assert (got.lower <= np.nan_to_num(got.identified_lower, nan=np.inf)).all()


def test_each_path_has_its_breakdown_value():
    _, att = parallel()

    values = breakdowns(att)

    for i, g in enumerate(att.cohorts):
        assert values[i] == sensitivity(att, cohort=g, bounds=()).breakdown
    first = att_gt(*_early())
    assert np.isnan(breakdowns(first)[0])  # cohort 10 has nothing before its base


def _early():
    panel = planted()
    return panel.y, panel.cohort, panel.checkpoints


def test_an_effect_that_is_not_there_breaks_down_at_once():
    panel = planted(noise=1.0, cohorts=(30,), checkpoints=range(0, 60, 10))
    panel.y -= np.where(panel.cohort[:, None] == 30, panel.truth[0], 0.0)

    att = att_gt(panel.y, panel.cohort, panel.checkpoints)

    assert sensitivity(att, cohort=30).breakdown == 0.0


def test_effects_are_chosen_by_name_event_time_or_weights():
    _, att = parallel()
    event = event_study_of(att, 40)

    assert effect_weights(event, "first").tolist() == [1, 0, 0]
    assert effect_weights(event, "last").tolist() == [0, 0, 1]
    assert effect_weights(event, 10).tolist() == [0, 1, 0]
    np.testing.assert_allclose(effect_weights(event, "average"), 1 / 3)
    assert effect_weights(event, [0.5, 0, 0.5]).tolist() == [0.5, 0, 0.5]
    np.testing.assert_allclose(event.before, [-3, -2, -1])
    np.testing.assert_allclose(event.after, [1, 2, 3])


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda a: sensitivity(a, cohort=35), OptionError, "got 35, expected one of 30, 40"),
        (
            lambda a: sensitivity(a, cohort=30, restriction="flat"),
            OptionError,
            "one of relative",
        ),
        (lambda a: sensitivity(a, cohort=30, bounds=[-1]), OptionError, "numbers from 0 on"),
        (lambda a: sensitivity(a, cohort=30, level=2), OptionError, "between 0 and 1"),
        (lambda a: sensitivity(a, cohort=30, effect="mean"), OptionError, "expected average"),
        (lambda a: sensitivity(a, cohort=30, effect=7), OptionError, "no event time 7"),
        (lambda a: sensitivity(a, cohort=30, effect=[1.0]), OptionError, r"shape \(1,\)"),
        (
            lambda a: sensitivity(aggregate(a, "cohort")),
            OptionError,
            "got cohort, expected an aggr",
        ),
    ],
)
def test_bad_input_is_its_own_error(call, error, message):
    _, att = parallel()

    with pytest.raises(error, match=message):
        call(att)


def test_bases_that_effects_do_not_share_are_refused():
    panel = planted()
    varying = att_gt(panel.y, panel.cohort, panel.checkpoints, base="varying")
    uneven = att_gt(panel.y, np.where(panel.cohort == 20, 17, panel.cohort), panel.checkpoints)

    with pytest.raises(OptionError, match="expected the universal base"):
        sensitivity(varying, cohort=20)
    with pytest.raises(OptionError, match=r"base at 2 event times \(-10, -7\)"):
        sensitivity(aggregate(uneven, "event_time"))
    with pytest.raises(EmptyFamilyError, match="0 effects before and 4 after"):
        sensitivity(uneven, cohort=10)


def test_one_noisy_checkpoint_long_before_treatment_does_not_decide_the_breakdown():
    """Fifteen intervals before the base; the first outcome is twenty times as noisy."""
    rng = np.random.default_rng(0)
    grid = 10 * np.arange(20)
    cohort = np.repeat([160, NEVER], [200, 400])
    noise = np.where(np.arange(20) == 0, 2.0, 0.1)
    y = noise * rng.normal(size=(600, 20)) + 0.3 * (cohort[:, None] <= grid)
    att = att_gt(y, cohort, grid)

    near, all_before = (sensitivity(att, cohort=160, window=w) for w in (5, None))

    assert (near.window, all_before.window) == (5, 15)
    assert all_before.breakdown < 1 < near.breakdown
    assert "times the largest of the last 5 before treatment" in str(near)
    assert breakdowns(att, window=5)[0] == near.breakdown == breakdowns(att)[0]
    few = sensitivity(att_gt(y[:, 12:], cohort, grid[12:]), cohort=160, window=None)
    assert few.window == 3


def test_a_window_is_a_number_of_checkpoints():
    _, att = parallel()

    with pytest.raises(OptionError, match="window: got 0, expected checkpoints from 1 on"):
        sensitivity(att, window=0)
