"""How effects decay: laws fitted to event-time curves, with intervals by draws of their errors.

In: the estimate of a run. Out: lines of the table `DECAY`. A curve is the mean effect by event time
of one constant set of cohorts, so that its shape is forgetting and not composition; early and late
cohorts of that set have curves of their own. The laws, with e the event time and s its first step,

    constant       a
    power          a (1 + e/s)^-b [+ p]
    exponential    a exp(-e/r) [+ p]

are linear in a and p, so for each value of b or r on a grid they are fitted in one go, for the
estimate and for all draws. Errors of a curve's points are correlated: the fit is by generalized
least squares with their covariance. Where no law fits within it, the points get an error of their
own beside it, as large as makes the best law fit.

AICc chooses: chi-square + 2k + 2k (k + 1)/(n - k - 1), k parameters, n points. Intervals are
percentiles of the fits to the fitted curve plus drawn errors, reflected about the estimate.

Sources: Hurvich and Tsai (1989) for AICc; Wixted and Ebbesen (1991) for laws of forgetting.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.special import chdtrc

from pythia_profile.did import Contrast, aggregate
from pythia_profile.did.errors import EmptyFamilyError
from pythia_profile.profiles.estimates import RunEstimate

__all__ = ["LAWS", "Curve", "Law", "decay", "fit", "fits"]

LAWS = ("constant", "power", "exponential", "power_plateau", "exponential_plateau")
QUANTITIES = ("initial", "level", "half_life", "levels_off", "retained", "rate")
_GRID = 120
_FEWEST = 4
_SHARE = 1e-9
_FINE = 1e-4
"""Relative step at which the nonlinear parameter is as good as known."""
_DRAWS = 400
"""Most draws of an interval: its ends are then known to a fifth of the standard error."""
_DONE = 0.9
"""Share of the fall after which a curve has levelled off."""


@dataclass(frozen=True, slots=True, eq=False)
class Curve:
    """Mean effect by event time.

    Attributes
    ----------
    times : (n,) event times in optimizer steps, from 0 on, ascending.
    effect : (n,) unit of the outcome.
    noise : (n, n) covariance of its errors.
    """

    times: Float[np.ndarray, " n"]
    effect: Float[np.ndarray, " n"]
    noise: Float[np.ndarray, "n n"]


@dataclass(frozen=True, slots=True, eq=False)
class Law:
    """One law, fitted.

    Attributes
    ----------
    law : its name, of `LAWS`.
    chi_square : weighted sum of squares of what it leaves.
    aicc : lower is better; infinity where there are too few points.
    p_value : of a chi-square as large, were the law true and the errors as known.
    values : initial, level, half_life, levels_off, retained, rate; see the table `DECAY`.
    lower, upper : ends of their intervals.
    curve : (n,) fitted effects.
    """

    law: str
    chi_square: float
    aicc: float
    p_value: float
    values: dict[str, float]
    lower: dict[str, float]
    upper: dict[str, float]
    curve: Float[np.ndarray, " n"]


def decay(one: RunEstimate, level: float, seed: int) -> Iterator[dict[str, Any]]:
    """Lines of `DECAY` of one run: each law, for the constant set of cohorts and its halves."""
    for subset, cohorts, curve in _curves(one):
        found = fits(curve, level=level, seed=seed)
        told = curve.effect[0] > 2 * np.sqrt(max(float(curve.noise[0, 0]), 0.0))
        best = min(found, key=lambda law: law.aicc)
        fell = best.law != "constant"
        for law in found:
            ends = {
                f"{name}{end}": values[name]
                for name in QUANTITIES
                for end, values in (("", law.values), ("_lower", law.lower), ("_upper", law.upper))
            }
            yield {
                **one.names,
                "subset": subset,
                "law": law.law,
                "chosen": bool(told and law is best),
                "cohorts": cohorts,
                "points": len(curve.times),
                "horizon": int(curve.times[-1]),
                "aicc": law.aicc,
                "p_value": law.p_value,
                **{name: None if np.isnan(value) else value for name, value in ends.items()},
                "verdict": "noise" if not told else ("fitted" if fell else "constant"),
            }


def _curves(one: RunEstimate) -> Iterator[tuple[str, int, Curve]]:
    """Curves of the cohorts that are followed for half of the longest time, and of their halves."""
    att = one.att
    followed = np.where(att.post, att.event_time, -1).max(axis=1)
    if not att.post.any():
        return
    horizon = followed.max() / 2
    eligible = att.cohorts[followed >= horizon]
    horizon = followed[followed >= horizon].min()
    half = len(eligible) // 2
    subsets = {"constant": eligible, "early": eligible[:half], "late": eligible[half:]}
    for subset, cohorts in subsets.items():
        if len(cohorts) < 1 + (subset != "constant"):
            continue
        try:
            found = aggregate(att, "event_time", cohorts=cohorts.tolist(), balance=int(horizon))
        except EmptyFamilyError:
            continue
        after = found.only([label for label in found.labels if label >= 0])
        if len(after) >= _FEWEST:
            yield subset, len(cohorts), _curve(after)


def _curve(found: Contrast) -> Curve:
    return Curve(np.array(found.labels, dtype=np.float64), found.estimate, found.covariance())


def fits(curve: Curve, *, level: float = 0.95, seed: int = 0) -> list[Law]:
    """Fit every law that the number of points allows.

    Examples
    --------
    >>> times = np.arange(0.0, 10)
    >>> found = fits(Curve(times, 0.1 + 0.2 * np.exp(-times / 2), 1e-8 * np.eye(10)))
    >>> best = min(found, key=lambda law: law.aicc)
    >>> best.law, round(best.values["half_life"], 2), round(best.values["level"], 3)
    ('exponential_plateau', 1.39, 0.1)
    """
    usable = [law for law in LAWS if len(curve.times) > _size(law) + 1]
    # Noise that is 0 up to rounding cannot be inverted: points are known to a millionth at most.
    least = (1e-6 * float(np.abs(curve.effect).max()) or 1.0) ** 2
    curve = Curve(curve.times, curve.effect, curve.noise + least * np.eye(len(curve.times)))
    noise = curve.noise + _own_error(curve, usable[-2:]) * np.eye(len(curve.times))
    widened = Curve(curve.times, curve.effect, noise)
    return [fit(widened, law, level=level, seed=seed) for law in usable]


def _own_error(curve: Curve, laws: list[str]) -> float:
    """Variance beside the known one with which the best law's chi-square is its expectation."""
    n = len(curve.times)

    def excess(extra: float) -> float:
        white = _root(curve.noise + extra * np.eye(n))
        return min(_least(curve, law, white) - (n - _size(law)) for law in laws)

    if excess(0.0) <= 0:
        return 0.0
    most = float(curve.effect.var()) + float(np.diag(curve.noise).mean())
    tried = most * np.geomspace(1e-8, 1, 49)
    low, high = -1, len(tried) - 1
    while high - low > 1:  # excess falls as the error grows: bisection
        middle = (low + high) // 2
        low, high = (middle, high) if excess(tried[middle]) > 0 else (low, middle)
    return float(tried[high])


def _least(curve: Curve, law: str, root: Float[np.ndarray, "n n"]) -> float:
    """Least chi-square over the grid alone."""
    white = root @ curve.effect
    return float((white**2).sum() - _explained(curve, law, root, white[:, None]).max())


def _explained(
    curve: Curve, law: str, root: Float[np.ndarray, "n n"], white: Float[np.ndarray, "n B"]
) -> Float[np.ndarray, "m B"]:
    """Weighted sum of squares that the law explains, for each value of the grid."""
    shape = _shape(law, curve.times, _grid(law, curve.times)) @ root.T
    explained: Float[np.ndarray, "m B"] = np.zeros((len(shape), white.shape[1]))
    if "plateau" in law:
        ones = root.sum(axis=1) / np.linalg.norm(root.sum(axis=1))
        shape = shape - np.outer(shape @ ones, ones)
        explained += (ones @ white) ** 2
    square = (shape**2).sum(axis=1, keepdims=True)
    explained += (shape @ white) ** 2 / square
    return explained


def fit(curve: Curve, law: str, *, level: float = 0.95, seed: int = 0) -> Law:
    """Fit one law, with intervals by draws."""
    n, k = len(curve.times), _size(law)
    root = _root(curve.noise)
    theta, weights, chi_square = _fit(curve, law, root, curve.effect[:, None])
    curve_fit = weights[0, 0] * _shape(law, curve.times, theta)[0]
    if "plateau" in law:
        curve_fit = curve_fit + weights[1, 0]
    draws = np.random.default_rng(seed).standard_normal((n, _DRAWS))
    values, vectors = np.linalg.eigh(curve.noise)
    errors = vectors @ (np.sqrt(np.maximum(values, 0))[:, None] * draws)
    drawn = _fit(curve, law, root, curve_fit[:, None] + errors)
    point = _values(law, curve.times, theta, weights)
    spread = _values(law, curve.times, drawn[0], drawn[1])
    tail = 50 * (1 - level)
    lower, upper = {}, {}
    for name in QUANTITIES:
        lower[name], upper[name] = _ends(name, float(point[name][0]), spread[name], tail)
    correction = 2 * k * (k + 1) / (n - k - 1) if n > k + 1 else np.inf
    return Law(
        law=law,
        chi_square=float(chi_square[0]),
        aicc=float(chi_square[0]) + 2 * k + correction,
        p_value=float(chdtrc(n - k, chi_square[0])),
        values={name: float(point[name][0]) for name in QUANTITIES},
        lower=lower,
        upper=upper,
        curve=curve_fit,
    )


def _size(law: str) -> int:
    return {"constant": 1, "power": 2, "exponential": 2}.get(law, 3)


def _root(noise: Float[np.ndarray, "n n"]) -> Float[np.ndarray, "n n"]:
    """Return W with WᵀW the inverse of the noise; what varies by rounding only is given some."""
    values, vectors = np.linalg.eigh(noise)
    floor = _SHARE * max(float(values[-1]), np.finfo(float).tiny)
    whitening: Float[np.ndarray, "n n"] = (vectors / np.sqrt(np.maximum(values, floor))).T
    return whitening


def _grid(law: str, times: Float[np.ndarray, " n"]) -> Float[np.ndarray, " m"]:
    """Values of b, or of r in steps, wide enough for any curve that these times can show."""
    if law == "constant":
        return np.zeros(1)
    if law.startswith("power"):
        return np.geomspace(0.01, 12, _GRID)
    return np.geomspace(times[1] / 8, 50 * times[-1], _GRID)


def _shape(
    law: str, times: Float[np.ndarray, " n"], theta: Float[np.ndarray, " m"]
) -> Float[np.ndarray, "m n"]:
    """Return what falls from 1, for each value of the nonlinear parameter."""
    if law == "constant":
        return np.ones((len(theta), len(times)))
    if law.startswith("power"):
        shape: Float[np.ndarray, "m n"] = (1 + times / times[1]) ** -theta[:, None]
        return shape
    falling: Float[np.ndarray, "m n"] = np.exp(-times / theta[:, None])
    return falling


def _solved(
    law: str,
    times: Float[np.ndarray, " n"],
    theta: Float[np.ndarray, " B"],
    root: Float[np.ndarray, "n n"],
    white: Float[np.ndarray, "n B"],
) -> tuple[Float[np.ndarray, "q B"], Float[np.ndarray, " B"]]:
    """Linear parameters and chi-square of each curve at its own nonlinear parameter."""
    shape = _shape(law, times, theta) @ root.T
    if "plateau" not in law:
        weight = (shape * white.T).sum(axis=1) / (shape**2).sum(axis=1)
        return weight[None], ((white.T - weight[:, None] * shape) ** 2).sum(axis=1)
    # Two regressors: take the constant's part out of both sides, then it is one.
    ones = root.sum(axis=1)
    length = ones @ ones
    along = shape @ ones / length
    rest = shape - along[:, None] * ones
    level = white.T @ ones / length
    left = white.T - level[:, None] * ones
    height = (rest * left).sum(axis=1) / (rest**2).sum(axis=1)
    weights = np.stack([height, level - height * along])
    return weights, ((left - height[:, None] * rest) ** 2).sum(axis=1)


def _fit(
    curve: Curve, law: str, root: Float[np.ndarray, "n n"], effects: Float[np.ndarray, "n B"]
) -> tuple[Float[np.ndarray, " B"], Float[np.ndarray, "q B"], Float[np.ndarray, " B"]]:
    """Nonlinear parameter, linear parameters and chi-square of each of B curves.

    For each value of the one nonlinear parameter the rest is linear least squares; parabolas
    through the best value and its neighbors, closer each time, go between the values of the grid.
    """
    grid, white = _grid(law, curve.times), root @ effects
    left = (white**2).sum(axis=0) - _explained(curve, law, root, white)
    theta = grid[left.argmin(axis=0)]
    step = grid[1] / grid[0] if len(grid) > 1 else 1.0
    while step > 1 + _FINE:
        tried = [theta / step, theta, theta * step]
        low, middle, high = (_solved(law, curve.times, at, root, white)[1] for at in tried)
        bend = low - 2 * middle + high
        shift = np.where(bend > 0, 0.5 * (low - high) / np.where(bend > 0, bend, 1.0), 0.0)
        theta = np.clip(theta * step ** np.clip(shift, -1, 1), grid[0], grid[-1])
        step **= 0.2
    return theta, *_solved(law, curve.times, theta, root, white)


def _values(
    law: str,
    times: Float[np.ndarray, " n"],
    theta: Float[np.ndarray, " B"],
    weights: Float[np.ndarray, "q B"],
) -> dict[str, Float[np.ndarray, " B"]]:
    """Return what a reader asks of a law; see `DECAY`."""
    nothing, never = np.full(len(theta), np.nan), np.full(len(theta), np.inf)
    height = weights[0]
    plateau = weights[1] if len(weights) > 1 else np.zeros_like(height)
    initial = height + plateau
    if law == "constant":
        return {
            "initial": initial,
            "level": initial,
            "half_life": never,
            "levels_off": np.zeros(len(theta)),
            "retained": np.ones(len(theta)),
            "rate": nothing,
        }
    if law.startswith("power"):
        with np.errstate(over="ignore"):
            half, done = (times[1] * (share ** (-1 / theta) - 1) for share in (0.5, 1 - _DONE))
        left, rate = (1 + times[-1] / times[1]) ** -theta, theta
    else:
        half, done = (-theta * np.log(share) for share in (0.5, 1 - _DONE))
        left, rate = np.exp(-times[-1] / theta), 1 / theta
    with np.errstate(divide="ignore", invalid="ignore"):
        retained = (height * left + plateau) / initial
    return {
        "initial": initial,
        "level": plateau,
        "half_life": half,
        "levels_off": done,
        "retained": retained,
        "rate": rate,
    }


def _ends(
    name: str, point: float, drawn: Float[np.ndarray, " B"], tail: float
) -> tuple[float, float]:
    """Interval of one number: percentiles reflected about it, of logarithms where it is a time.

    Reflected, since draws of a curved function of the estimate are off to the side on which the
    estimate itself is off.
    """
    known = drawn[np.isfinite(drawn)]
    if not np.isfinite(point) or len(known) < len(drawn) / 2:
        return np.nan, np.nan
    times = name in ("half_life", "levels_off", "rate") and point > 0
    known = np.log(np.maximum(known, np.finfo(float).tiny)) if times else known
    center = np.log(point) if times else point
    low, high = np.percentile(known, [tail, 100 - tail])
    lower, upper = 2 * center - high, 2 * center - low
    return (float(np.exp(lower)), float(np.exp(upper))) if times else (lower, upper)
