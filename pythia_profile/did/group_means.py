"""Treated and control side of every cell: mean of Y_c − θ Y_b, and the variance of that mean.

In: what each cell compares, and the groups' sums. Out: `Side`, arrays (G, C). Control groups of a
cell are merged into one by adding up their sums, so that the variance is that of the pooled rows
around their common mean, as in Callaway and Sant'Anna (2021).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from pythia_profile.did.comparison import Comparison
from pythia_profile.did.moments import Sums

ROUNDING = 64 * np.finfo(np.float64).eps
"""Variances below this share of the outcomes' own second moments are rounding, and are zero."""


@dataclass(frozen=True, slots=True, eq=False)
class Side:
    """Treated or control side of every cell.

    Attributes
    ----------
    rows : (G, C) rows.
    clusters : (G, C) clusters.
    weight : (G, C) sum of the rows' weights.
    mean : (G, C) weighted mean of Y_c − θ Y_b.
    variance : (G, C) variance of that mean.
    """

    rows: Int[np.ndarray, "G C"]
    clusters: Int[np.ndarray, "G C"]
    weight: Float[np.ndarray, "G C"]
    mean: Float[np.ndarray, "G C"]
    variance: Float[np.ndarray, "G C"]


def sides(comparison: Comparison, sums: Sums) -> tuple[Side, Side]:
    """Treated and control side of every cell."""
    own = np.broadcast_to(np.arange(len(comparison.base))[:, None], comparison.base.shape)
    scaled = sums.moment * sums.factor[:, None, None]
    by_group = _terms(comparison, own, sums.rows, sums.clusters, sums.total, scaled)
    pooled = [comparison.pools(part) for part in (sums.rows, sums.clusters, sums.total, scaled)]
    by_pool = _terms(comparison, comparison.pool, *pooled)
    taken_out = [p - np.where(comparison.own, g, 0) for p, g in zip(by_pool, by_group, strict=True)]
    return _side(*by_group), _side(*taken_out)


def _terms(
    comparison: Comparison,
    at: Int[np.ndarray, "G C"],
    rows: Int[np.ndarray, " P"],
    clusters: Int[np.ndarray, " P"],
    total: Float[np.ndarray, "P C1"],
    moment: Float[np.ndarray, "P C1 C1"],
) -> tuple[Any, ...]:
    """Add up over groups `at`: rows, clusters, 1, D, D², D·1, 1·1, and Y_c² + θ² Y_b².

    D = Y_c − θ Y_b; products are of the sums of each cluster.
    """
    theta, b = comparison.theta, comparison.base
    c = np.broadcast_to(np.arange(b.shape[1]), b.shape)
    cc, bb = moment[at, c, c], theta**2 * moment[at, b, b]
    return (
        rows[at],
        clusters[at],
        total[at, -1],
        total[at, c] - theta * total[at, b],
        cc - 2 * theta * moment[at, c, b] + bb,
        moment[at, c, -1] - theta * moment[at, b, -1],
        moment[at, -1, -1],
        cc + bb,
    )


def _side(
    rows: Int[np.ndarray, "G C"],
    clusters: Int[np.ndarray, "G C"],
    weight: Float[np.ndarray, "G C"],
    change: Float[np.ndarray, "G C"],
    square: Float[np.ndarray, "G C"],
    cross: Float[np.ndarray, "G C"],
    ones: Float[np.ndarray, "G C"],
    scale: Float[np.ndarray, "G C"],
) -> Side:
    with np.errstate(divide="ignore", invalid="ignore"):
        mean = change / weight
        variance = square - 2 * mean * cross + mean**2 * ones
        variance = np.where(variance <= ROUNDING * scale, 0.0, variance) / weight**2
    return Side(rows, clusters, weight, mean, variance)
