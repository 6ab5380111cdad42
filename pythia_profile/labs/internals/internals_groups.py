"""Groups of rows that can be compared: memorized rows, matched others, rows that were never read.

In: token rows (n, T) and what a model recalls of them. Out: pairs of rows alike in length, in how
frequent their tokens are and in entropy; how alike they are; and differences with intervals.
"""

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.optimize import linear_sum_assignment
from scipy.stats import t as student

from pythia_profile.errors import EstimationError
from pythia_profile.training.languages import Rows

__all__ = ["COVARIATES", "balance", "covariates", "differences", "matched", "mean_interval"]

Values = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]

COVARIATES = ("length", "log_frequency", "entropy")
"""Tokens of a row; mean log frequency of its tokens in the corpus; nats of its tokens' own law."""


def covariates(rows: Rows, frequency: npt.ArrayLike) -> Values:
    """Covariates of each row, in the order of `COVARIATES`; (n, 3).

    Parameters
    ----------
    frequency : (V,) how often each token occurs in the corpus, or in a sample of it; one is added.

    Examples
    --------
    >>> covariates(np.array([[0, 1, 0, 1]]), [3, 0]).round(3).tolist()
    [[4.0, -0.916, 0.693]]
    """
    counts = np.asarray(frequency, np.float64) + 1
    log_share = np.log(counts / counts.sum())
    length = rows.shape[1]
    # how often the token at each place occurs in its row: entropy is the mean of -log share
    own = (rows[:, :, None] == rows[:, None, :]).sum(axis=2)
    entropy = -np.log(own / length).mean(axis=1)
    return np.column_stack(
        [np.full(len(rows), float(length)), log_share[rows].mean(axis=1), entropy]
    )


def matched(treated: Values, pool: Values) -> tuple[Places, Places]:
    """Pair rows with the most similar rows of a pool, each used once, at the least total distance.

    Distance is squared, over covariates in standard deviations of both groups together. Where the
    pool is smaller than the group, the group's rows that match worst have no partner.

    Parameters
    ----------
    treated, pool : (n, k) and (m, k) covariates.

    Returns
    -------
    Places in `treated` and in `pool`, (min(n, m),) each.

    Examples
    --------
    >>> matched(np.array([[0.0], [5.0]]), np.array([[5.5], [0.1], [9.0]]))
    (array([0, 1]), array([1, 0]))
    """
    if not (len(treated) and len(pool)):
        raise EstimationError(
            f"got {len(treated)} and {len(pool)} rows, expected 1 of each or more"
        )
    scale = np.concatenate([treated, pool]).std(axis=0)
    scale[scale == 0] = 1
    apart = treated[:, None] / scale - pool[None] / scale
    own, other = linear_sum_assignment((apart**2).sum(axis=2))
    return own, other


def balance(treated: Values, pool: Values, chosen: Values) -> pl.DataFrame:
    """Say how alike two groups are before and after matching, a line a covariate.

    Parameters
    ----------
    treated, pool, chosen : (n, k), (m, k) and (n', k) covariates; `chosen` are the pool's partners.

    Returns
    -------
    covariate; means of the three; `smd_before` and `smd_after`, differences of means in standard
    deviations √((s² + s²)/2) of the two groups before matching. Below .1 is often called balanced.
    """
    scale = np.sqrt((treated.var(axis=0) + pool.var(axis=0)) / 2)
    means = [group.mean(axis=0) for group in (treated, pool, chosen)]
    with np.errstate(divide="ignore", invalid="ignore"):
        before, after = ((means[0] - mean) / scale for mean in means[1:])
    same = scale == 0  # of rows of one length
    return pl.DataFrame(
        {
            "covariate": COVARIATES,
            "mean": means[0],
            "mean_pool": means[1],
            "mean_matched": means[2],
            "smd_before": np.where(same, 0.0, before),
            "smd_after": np.where(same, 0.0, after),
        }
    )


def mean_interval(values: Values, level: float = 0.95) -> tuple[Values, Values, Values]:
    """Mean over the rows (axis 0) with Student's interval; NaN limits for a single row."""
    mean, n = values.mean(axis=0), len(values)
    if n < 2:
        return mean, np.full_like(mean, np.nan), np.full_like(mean, np.nan)
    half = student.ppf((1 + level) / 2, n - 1) * values.std(axis=0, ddof=1) / np.sqrt(n)
    return mean, mean - half, mean + half


def differences(
    first: Values, second: Values, *, paired: bool, level: float = 0.95
) -> tuple[Values, Values, Values]:
    """Difference of means over the rows (axis 0) with its interval, by pairs or as by Welch.

    Examples
    --------
    >>> found = differences(np.array([2.0, 4.0]), np.array([1.0, 3.0]), paired=True)
    >>> [float(value) for value in found]
    [1.0, 1.0, 1.0]
    """
    if paired:
        return mean_interval(first - second, level)
    found = first.mean(axis=0) - second.mean(axis=0)
    if min(len(first), len(second)) < 2:
        return found, np.full_like(found, np.nan), np.full_like(found, np.nan)
    parts = [group.var(axis=0, ddof=1) / len(group) for group in (first, second)]
    variance = parts[0] + parts[1]
    with np.errstate(divide="ignore", invalid="ignore"):
        freedom = variance**2 / (
            parts[0] ** 2 / (len(first) - 1) + parts[1] ** 2 / (len(second) - 1)
        )
    half = student.ppf((1 + level) / 2, np.nan_to_num(freedom, nan=1.0)) * np.sqrt(variance)
    return found, found - half, found + half
