"""How well scores tell two groups of rows apart, with intervals that hold for few rows, too."""

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.stats import norm, rankdata
from scipy.stats import t as student

from pythia_profile.labs.steer.steer_settings import SteerError

__all__ = ["auc_gain", "auc_interval", "null_interval"]

Interval = tuple[float, float, float]
Scores = npt.NDArray[np.float64]
_HAIR = 1e-9


def auc_interval(inside: npt.ArrayLike, outside: npt.ArrayLike, level: float = 0.95) -> Interval:
    """Share of pairs in the right order, ties a half, and its interval.

    Parameters
    ----------
    inside, outside : (m,), (n,) scores; the higher, the likelier inside.

    Raises
    ------
    SteerError
        A group is empty, or a score is not finite.

    Examples
    --------
    Eight against eight, all in the right order: the interval does not end at 1 by itself.

    >>> [round(one, 2) for one in auc_interval(range(8, 16), range(8))]
    [1.0, 0.76, 1.0]

    Source: Newcombe (2006), Statistics in Medicine 25, method 5: the AUCs that a normal test with
    Hanley and McNeil's variance does not refuse, with both groups at their mean size.
    """
    one, two = _groups(inside, outside)
    auc = float(_placements(one, two).mean())
    extra = (len(one) + len(two)) / 2 - 1
    z = float(norm.ppf((1 + level) / 2))

    def apart(truth: float) -> float:
        inner = 1 + extra * ((1 - truth) / (2 - truth) + truth / (1 + truth))
        return (auc - truth) ** 2 - z**2 * truth * (1 - truth) * inner / (len(one) * len(two))

    # a hair inside: at 0 and 1 themselves the variance is 0, a root that says nothing
    lower = brentq(apart, 0.0, min(auc, 1 - _HAIR)) if auc > 0 else 0.0
    upper = brentq(apart, max(auc, _HAIR), 1.0) if auc < 1 else 1.0
    return auc, float(lower), float(upper)


def auc_gain(
    first: tuple[npt.ArrayLike, npt.ArrayLike],
    second: tuple[npt.ArrayLike, npt.ArrayLike],
    level: float = 0.95,
) -> Interval:
    """AUC of the first scores less that of the second, of the same rows, and its interval.

    Parameters
    ----------
    first, second : (inside, outside) each; rows in the same order in both.

    Source: DeLong, DeLong and Clarke-Pearson (1988), Biometrics 44.
    """
    (a_in, a_out), (b_in, b_out) = (_groups(*one) for one in (first, second))
    by_inside = _placements(a_in, a_out) - _placements(b_in, b_out)
    by_outside = _placements(-a_out, -a_in) - _placements(-b_out, -b_in)
    gain = float(by_inside.mean())
    variance = by_inside.var(ddof=1) / len(by_inside) + by_outside.var(ddof=1) / len(by_outside)
    half = float(norm.ppf((1 + level) / 2) * np.sqrt(variance))
    return gain, gain - half, gain + half


def null_interval(aucs: npt.ArrayLike, level: float = 0.95) -> Interval:
    """Mean AUC under permuted labels, and where one more such AUC would fall.

    Examples
    --------
    >>> [round(one, 2) for one in null_interval([0.48, 0.5, 0.52])]
    [0.5, 0.4, 0.6]
    """
    values = np.asarray(aucs, dtype=np.float64)
    mean = float(values.mean())
    if len(values) < 2:
        return mean, 0.0, 1.0
    half = student.ppf((1 + level) / 2, len(values) - 1) * values.std(ddof=1)
    half = float(half * np.sqrt(1 + 1 / len(values)))
    return mean, max(0.0, mean - half), min(1.0, mean + half)


def _placements(inside: Scores, outside: Scores) -> Scores:
    """Of each inside score the share of outside ones below it, ties a half; (m,)."""
    together = rankdata(np.concatenate([inside, outside]))[: len(inside)]
    found: Scores = (together - rankdata(inside)) / len(outside)
    return found


def _groups(inside: npt.ArrayLike, outside: npt.ArrayLike) -> tuple[Scores, Scores]:
    one, two = np.asarray(inside, np.float64), np.asarray(outside, np.float64)
    if not one.size or not two.size or not np.isfinite([one.sum(), two.sum()]).all():
        raise SteerError(
            f"scores of {one.size} and {two.size} rows: expected finite ones of both groups"
        )
    return one, two
