"""Means of the treated and the control rows of every cell.

In: what each cell compares, and the groups' sums. Out: `GroupMeans`, arrays (G, C). Control groups
of a cell are merged into one by adding up their sums, so that their mean, and its variance
(`variance`), is that of the pooled rows, as in Callaway and Sant'Anna (2021).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int

from pythia_profile.did.comparison import Comparison
from pythia_profile.did.moments import Rows, Sums


@dataclass(frozen=True, slots=True, eq=False)
class GroupMeans:
    """Treated or control rows of every cell.

    Attributes
    ----------
    rows : (G, C) rows.
    clusters : (G, C) clusters.
    weight : (G, C) sum of the rows' weights.
    mean : (G, C) weighted mean of Y_c − θ Y_b.
    """

    rows: Int[np.ndarray, "G C"]
    clusters: Int[np.ndarray, "G C"]
    weight: Float[np.ndarray, "G C"]
    mean: Float[np.ndarray, "G C"]


def group_means(comparison: Comparison, sums: Sums) -> tuple[GroupMeans, GroupMeans]:
    """Means of the treated and of the control rows of every cell."""
    treated = _totals(comparison, comparison.own_group, sums.rows, sums.clusters, sums.total)
    pooled = map(comparison.pools, (sums.rows, sums.clusters, sums.total))
    control = comparison.without_own(_totals(comparison, comparison.pool, *pooled), treated)
    return _means(*treated), _means(*control)


def _totals(
    comparison: Comparison,
    at: Int[np.ndarray, "G C"],
    rows: Int[np.ndarray, " P"],
    clusters: Int[np.ndarray, " P"],
    total: Float[np.ndarray, "P C1"],
) -> tuple[Any, ...]:
    """Look up for each cell the sums of group or pool `at`: rows, clusters, weight, Y_c − θ Y_b."""
    c, b = comparison.columns, comparison.base
    return rows[at], clusters[at], total[at, -1], total[at, c] - comparison.theta * total[at, b]


def _means(
    rows: Int[np.ndarray, "G C"],
    clusters: Int[np.ndarray, "G C"],
    weight: Float[np.ndarray, "G C"],
    change: Float[np.ndarray, "G C"],
) -> GroupMeans:
    with np.errstate(divide="ignore", invalid="ignore"):
        return GroupMeans(rows, clusters, weight, change / weight)


def counts(
    comparison: Comparison, sums: Sums, rows: Rows
) -> tuple[Int[np.ndarray, "G C"], Int[np.ndarray, "G C"]]:
    """Treated and control rows of each cell that were scored at its checkpoint; (G, C)."""
    by_group = np.repeat(sums.rows[:, None], comparison.base.shape[1], axis=1)
    if rows.scored is not None:
        known = ~np.isnan(rows.scored)
        by_group = np.stack([known[rows.group(h)].sum(axis=0) for h in rows.groups()])
    treated = by_group[comparison.own_group, comparison.columns]
    pooled = comparison.pools(by_group)[comparison.pool, comparison.columns]
    (control,) = comparison.without_own([pooled], [treated])
    return treated, control
