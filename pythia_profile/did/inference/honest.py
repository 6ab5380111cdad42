"""How far trends may have been from parallel before an effect is no longer there.

In: effects along event time, before and after treatment, of one cohort or of an aggregate. Out:
intervals for an effect that hold under violations of a stated size, and the breakdown value, the
smallest size at which the interval reaches 0.

The violation δ is the difference that treated rows would have shown without treatment: it is the
whole of the effects before treatment, and an unknown part of those after. With slopes s_t of δ
between neighboring checkpoints,

    relative magnitudes   |s_t| after treatment ≤ M̄ · the largest |s_t| before it
    smoothness            |s_{t+1} − s_t| ≤ M everywhere; M = 0 means a linear trend

Slopes are per checkpoint interval (per median interval where these differ). For relative magnitudes
"before" is a stated window, the last intervals up to the base: with all of them the noisiest slope,
often one from the first steps of training, decides the breakdown value (.018 with 15 intervals in a
study where cohorts with four had 1.59).

Relative magnitudes: for a given largest interval before treatment the bounds are two linear
functions of the effects; the interval is the union, over all intervals and signs, of those that
cover both bounds. One of them is the true one, so the union covers at least as often. Smoothness:
a fixed-length interval around a linear extrapolation of the trend, whose half length accounts for
its largest bias under M. The extrapolation fits a line to the last k checkpoints; k is the one that
makes the interval shortest, which does not depend on the effects.

Source: Rambachan and Roth (2023), "A more credible approach to parallel trends": the restrictions
of sections 2.4.1 and 2.4.3, unions in section 2.3, fixed-length intervals in section 4.1 (there
with the shortest of all linear estimators; with few rows its weights would rest on a covariance
that cannot be estimated. Ours come from a family that does not depend on it, and were 0 to 8 %
longer than the shortest in a range of designs with known covariance).

R's HonestDiD offers for relative magnitudes a conditional and least-favorable hybrid test (C-LF;
Andrews, Roth and Pakes, 2023): inverted on a grid of effects, each with a linear program and
critical values that are conditional on its active constraints. It is shorter: on R's own example
its breakdown value is 1.94 where ours is 1.69. It is not offered here, because it takes the
covariance of all effects before and after as known, and its critical values rest on which
constraints bind: with ten batches a cohort the treated part of that covariance has a rank of nine.
The union of intervals needs variances alone, one bound at a time, with their degrees of freedom,
and errs to the long side.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float
from scipy.special import ndtr, ndtri, stdtrit

from pythia_profile.did.arguments import Short, check_option, numbers
from pythia_profile.did.att import AttGt
from pythia_profile.did.errors import EmptyFamilyError, OptionError
from pythia_profile.did.inference.contrasts import Contrast
from pythia_profile.did.inference.event_studies import (
    Effect,
    EventStudy,
    effect_weights,
    event_study_of,
)
from pythia_profile.did.moments import Step
from pythia_profile.did.threads import one_blas_thread

Restriction = Literal["relative_magnitudes", "smoothness"]
Intervals = Callable[[float], tuple[float, float]]
"""From the size of the violation to lower and upper end."""

WINDOW = 5
"""Intervals before the base that relative magnitudes rest on, unless others are asked for."""

M_BARS = np.array([0.0, 0.5, 1.0, 1.5, 2.0])
SMOOTHNESS_SIZES = np.array([0.0, 0.125, 0.25, 0.5, 1.0])
"""Sizes to show unless others are asked for: M̄, and M in standard errors of the effect."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Sensitivity(Short):
    """Intervals for one effect under violations of parallel trends.

    Attributes
    ----------
    restriction : relative magnitudes, or smoothness.
    bounds : (K,) sizes of the violation: M̄ without unit, or M in units of the outcome.
    lower : (K,) lower end of the interval.
    upper : (K,) upper end.
    identified_lower : (K,) lower bound if the estimates were without error; NaN where the effects
        before treatment themselves violate the restriction.
    identified_upper : (K,) upper bound, likewise.
    breakdown : smallest size at which the interval reaches 0; 0 where it does so already without
        a violation, infinity where none does.
    estimate : the effect under parallel trends.
    se : its standard error.
    level : coverage of each interval.
    window : intervals before the base that it rests on.
    """

    restriction: Restriction
    bounds: Float[np.ndarray, " K"]
    lower: Float[np.ndarray, " K"]
    upper: Float[np.ndarray, " K"]
    identified_lower: Float[np.ndarray, " K"]
    identified_upper: Float[np.ndarray, " K"]
    breakdown: float
    estimate: float
    se: float
    level: float
    window: int

    def __str__(self) -> str:
        if self.breakdown == 0:
            verdict = "hold 0"
        elif self.breakdown == np.inf:
            verdict = "exclude 0 under violations of any size"
        elif self.restriction == "relative_magnitudes":
            verdict = (
                f"exclude 0 under slopes up to {self.breakdown:.3g} times the largest of "
                f"the last {self.window} before treatment"
            )
        else:
            verdict = (
                f"exclude 0 under slopes that change by up to {self.breakdown:.3g} a checkpoint"
            )
        return (
            f"effect {self.estimate:.4g} (se {self.se:.2g}); {self.level:.0%} intervals {verdict}"
        )


@one_blas_thread
def sensitivity(
    target: AttGt | Contrast | EventStudy,
    *,
    cohort: Step | None = None,
    effect: Effect = "average",
    restriction: Restriction = "relative_magnitudes",
    bounds: Sequence[float] | None = None,
    window: int | None = WINDOW,
    level: float = 0.95,
) -> Sensitivity:
    """Intervals for an effect under violations of parallel trends, and the breakdown value.

    Parameters
    ----------
    target : `AttGt`, or a `Contrast` over event times, with the universal base; or the `EventStudy`
        of one, which several effects and restrictions then share.
    cohort : of `AttGt`, the cohort whose path is meant; without one, its aggregate over event
        times.
    effect : `average` over the checkpoints from the cohort on, the `first`, the `last`, an event
        time, or (Q,) weights over them.
    bounds : sizes of the violation to give intervals for; unless given, M̄ of 0, 0.5, …, 2, or M of
        0, 1/8, 1/4, 1/2 and 1 standard error of the effect.
    window : for relative magnitudes, how many intervals before the base are taken; None for all.

    Raises
    ------
    EmptyFamilyError
        No effect before or after the base.
    OptionError
        An unknown restriction, effect, cohort or level, or a bound below 0.

    Examples
    --------
    >>> from pythia_profile.did import NEVER, aggregate, att_gt
    >>> rng = np.random.default_rng(0)
    >>> cohort = np.repeat([20, 30, NEVER], 200)
    >>> y = rng.normal(size=(600, 5), scale=0.1) + (cohort[:, None] <= np.arange(0, 50, 10))
    >>> curve = aggregate(att_gt(y, cohort, np.arange(0, 50, 10)), "event_time")
    >>> result = sensitivity(curve, bounds=[0, 1])
    >>> bool(result.lower[1] < result.lower[0] < 1 < result.upper[0] < result.upper[1])
    True
    """
    check_option(restriction, Restriction, "restriction")
    if not 0 < level < 1:
        raise OptionError(f"level: got {level!r}, expected a number between 0 and 1")
    if window is not None and (isinstance(window, bool) or window < 1):
        raise OptionError(f"window: got {window!r}, expected checkpoints from 1 on, or None")
    study = target if isinstance(target, EventStudy) else event_study_of(target, cohort)
    if restriction == "relative_magnitudes":
        study = study.near_base(window)
    weights = effect_weights(study, effect)
    after = slice(len(study.before), None)
    se = float(np.sqrt(weights @ study.covariance[after, after] @ weights))
    usual = M_BARS if restriction == "relative_magnitudes" else se * SMOOTHNESS_SIZES
    sizes = usual if bounds is None else numbers(bounds, "bounds")
    if sizes.ndim != 1 or not (sizes >= 0).all():
        raise OptionError(f"bounds: got {sizes.tolist()}, expected numbers from 0 on")
    make, identified = _METHODS[restriction]
    interval = make(study, weights, level)
    ends = np.array([interval(m) for m in sizes]).reshape(-1, 2)
    known = np.array([identified(study, weights, m) for m in sizes]).reshape(-1, 2)
    return Sensitivity(
        restriction=restriction,
        bounds=sizes,
        lower=ends[:, 0],
        upper=ends[:, 1],
        identified_lower=known[:, 0],
        identified_upper=known[:, 1],
        breakdown=breakdown(interval, 1.0 if restriction == "relative_magnitudes" else se),
        estimate=float(weights @ study.estimate[after]),
        se=se,
        level=level,
        window=len(study.before),
    )


def breakdowns(
    att: AttGt,
    *,
    effect: Effect = "average",
    restriction: Restriction = "relative_magnitudes",
    window: int | None = WINDOW,
    level: float = 0.95,
) -> Float[np.ndarray, " G"]:
    """Breakdown value of each cohort's path; (G,), NaN where a path has no effect on one side."""
    values = np.full(len(att.cohorts), np.nan)
    for i, g in enumerate(att.cohorts):
        try:
            found = sensitivity(
                att,
                cohort=g,
                effect=effect,
                restriction=restriction,
                bounds=(),
                window=window,
                level=level,
            )
        except EmptyFamilyError:
            continue
        values[i] = found.breakdown
    return values


def relative_intervals(
    study: EventStudy, weights: Float[np.ndarray, " Q"], level: float
) -> Intervals:
    """Intervals for the effect when slopes after treatment are at most M̄ times those before.

    For slope number j the bounds are a ± M̄ · reach · s_j, both linear in the effects, so each end
    needs one sided coverage (1 + level)/2.
    """
    slopes, target = _slopes_before(study), _on_all(study, weights)
    # The worst violation bends every interval after the base the way that moves the effect most, so
    # it is the largest slope times the sum of what one unit of slope in each interval adds.
    reach = np.abs(_pull(study, weights)).sum()
    moves = reach * np.concatenate([slopes, -slopes])
    center, move = target @ study.estimate, moves @ study.estimate
    variance = target @ study.covariance @ target
    joint = moves @ study.covariance @ target
    spread = ((moves @ study.covariance) * moves).sum(axis=1)
    quantile = float(stdtrit(study.df, (1 + level) / 2))

    def interval(size: float) -> tuple[float, float]:
        bounds = center + size * move
        half = quantile * np.sqrt(np.maximum(variance + 2 * size * joint + size**2 * spread, 0.0))
        return float((bounds - half).min()), float((bounds + half).max())

    return interval


def relative_bounds(
    study: EventStudy, weights: Float[np.ndarray, " Q"], size: float
) -> tuple[float, float]:
    """Bounds on the effect under relative magnitudes, the estimates taken as exact."""
    center = float(_on_all(study, weights) @ study.estimate)
    largest = float(np.abs(_slopes_before(study) @ study.estimate).max())
    reach = size * largest * float(np.abs(_pull(study, weights)).sum())
    return center - reach, center + reach


def smooth_intervals(
    study: EventStudy, weights: Float[np.ndarray, " Q"], level: float
) -> Intervals:
    """Shortest fixed-length intervals around linear extrapolations, slopes changing by up to M."""
    estimators = _extrapolations(study, weights)
    bias = _bias(study, estimators)
    variance = ((estimators @ study.covariance) * estimators).sum(axis=1)
    inflation = float(stdtrit(study.df, (1 + level) / 2) / ndtri((1 + level) / 2))
    se = inflation * np.sqrt(np.maximum(variance, 0.0))
    centers = estimators @ study.estimate

    def interval(size: float) -> tuple[float, float]:
        half = folded_half_length(size * bias, se, level)
        best = int(np.argmin(half))
        return float(centers[best] - half[best]), float(centers[best] + half[best])

    return interval


def smooth_bounds(
    study: EventStudy, weights: Float[np.ndarray, " Q"], size: float
) -> tuple[float, float]:
    """Bounds on the effect under smoothness, the estimates taken as exact.

    NaN where slopes before treatment change by more than `size` already.
    """
    slopes = _slopes_before(study) @ study.estimate
    if (np.abs(np.diff(slopes)) > size * (1 + 1e-12)).any():
        return np.nan, np.nan
    pull = _pull(study, weights)
    center = float(_on_all(study, weights) @ study.estimate - slopes[-1] * pull.sum())
    reach = size * float(np.abs(np.cumsum(pull[::-1])).sum())
    return center - reach, center + reach


def folded_half_length(
    bias: Float[np.ndarray, " n"], se: Float[np.ndarray, " n"], level: float
) -> Float[np.ndarray, " n"]:
    """Half length h with P(|N(bias, se²)| ≤ h) = level; bias ≥ 0.

    Examples
    --------
    >>> folded_half_length(np.array([0.0, 1.0]), np.array([1.0, 0.0]), 0.95).round(3).tolist()
    [1.96, 1.0]
    """
    # Newton's method from below: beyond the bias, coverage is concave in the half length, so every
    # step stops short of the root, and twelve reach it to the last digits.
    found = bias + max(ndtri(level), 0.0) * se
    with np.errstate(divide="ignore", invalid="ignore"):
        for _ in range(12):
            high, low = (found - bias) / se, (found + bias) / se
            missing = level - (ndtr(high) - ndtr(-low))
            density = (np.exp(-(high**2) / 2) + np.exp(-(low**2) / 2)) / np.sqrt(2 * np.pi)
            step = missing * se / density
            found = np.maximum(found + step, bias)
            if not (np.abs(step) > 1e-15 * found).any():
                break
    half: Float[np.ndarray, " n"] = np.where(se > 0, found, bias)
    return half


def breakdown(interval: Intervals, scale: float) -> float:
    """Smallest size at which the interval holds 0: first in steps of a quarter, then halving."""

    def holds(size: float) -> bool:
        lower, upper = interval(size)
        return lower <= 0 <= upper

    if holds(0.0):
        return 0.0
    low, high = 0.0, scale / 1024
    while not holds(high):
        low, high = high, 1.25 * high
        if high > 2.0**40 * scale:
            return np.inf
    while high - low > 1e-6 * high:
        middle = (low + high) / 2
        low, high = (low, middle) if holds(middle) else (middle, high)
    return high


def _on_all(study: EventStudy, weights: Float[np.ndarray, " Q"]) -> Float[np.ndarray, " T"]:
    """Weights on the effects before and after."""
    return np.concatenate([np.zeros(len(study.before)), weights])


def _slopes_before(study: EventStudy) -> Float[np.ndarray, "P T"]:
    """Slopes between neighboring checkpoints up to the base, as weights on the effects."""
    points = len(study.before)
    value = np.eye(points + 1)[:, :points]  # the base, last, is 0
    width = np.diff(np.append(study.before, 0.0))
    slopes = np.zeros((points, points + len(study.after)))
    slopes[:, :points] = np.diff(value, axis=0) / width[:, None]
    return slopes


def _pull(study: EventStudy, weights: Float[np.ndarray, " Q"]) -> Float[np.ndarray, " Q"]:
    """Return what a unit of slope in each interval after the base adds to the violation."""
    width = np.diff(np.append(0.0, study.after))
    pull: Float[np.ndarray, " Q"] = width * np.cumsum(weights[::-1])[::-1]
    return pull


def _extrapolations(
    study: EventStudy, weights: Float[np.ndarray, " Q"]
) -> Float[np.ndarray, "n T"]:
    """Effect less a line through the last k checkpoints, as weights on the effects; k = 1 … P.

    Each line once through the base, and once fitted with the base as one of its points.
    """
    points, target = len(study.before), _on_all(study, weights)
    total, moment = weights.sum(), weights @ study.after
    found = []
    for k in range(1, points + 1):
        x = study.before[-k:]
        through_base = moment * x / (x @ x)
        mean = x.sum() / (k + 1)
        spread = x @ x - (k + 1) * mean**2
        fitted = total / (k + 1) + (moment - total * mean) * (x - mean) / spread
        for line in (through_base, fitted):
            estimator = target.copy()
            estimator[points - k : points] -= line
            found.append(estimator)
    return np.array(found)


def _bias(study: EventStudy, estimators: Float[np.ndarray, "n T"]) -> Float[np.ndarray, " n"]:
    """Largest bias of each estimator when slopes change by up to 1 at each checkpoint."""
    points = len(study.before)
    width = np.diff(np.append(study.before, 0.0))
    # Summing by parts twice: from weights on effects to weights on slopes to weights on changes of
    # slope, whose absolute sum is the largest bias when each change is at most 1.
    before = -width * np.cumsum(estimators[:, :points], axis=1)
    after = [_pull(study, weights) for weights in estimators[:, points:]]
    by_slope = np.concatenate([before, np.array(after)], axis=1)
    bias: Float[np.ndarray, " n"] = np.abs(np.cumsum(by_slope[:, ::-1], axis=1)[:, :-1]).sum(axis=1)
    return bias


_METHODS = {
    "relative_magnitudes": (relative_intervals, relative_bounds),
    "smoothness": (smooth_intervals, smooth_bounds),
}
