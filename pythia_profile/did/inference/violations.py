"""Intervals and bounds for an effect when trends were not parallel; `honest` says by what rules.

In: effects along event time with their covariance, and weights on those after the base. Out: for
each restriction a function from the size of the violation to an interval, and the breakdown value
of such a function.
"""

from collections.abc import Callable

import numpy as np
from jaxtyping import Float
from scipy.special import ndtr, ndtri, stdtrit

from pythia_profile.did.inference.event_studies import EventStudy

__all__ = [
    "Intervals",
    "breakdown",
    "folded_half_length",
    "relative_bounds",
    "relative_intervals",
    "smooth_bounds",
    "smooth_intervals",
]

Intervals = Callable[[float], tuple[float, float]]
"""From the size of the violation to lower and upper end."""


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
