"""Rows gathered into groups: all that ATT(g, c) and its inference need to know about the outcomes.

A group is a treatment cohort, or the never-treated rows. In: outcomes, cohorts, clusters. Out: rows
in a canonical order, and for each group the sums from which everything else follows.

    U rows, C checkpoints, G cohorts, H groups (the cohorts, then never-treated if there are any)

Each row is the vector z_i = w_i (y_i1, …, y_iC, 1). Any effect is a sum over groups of l_h · Σz_i
for some weights l_h (C + 1,), whose last entry subtracts the mean. Hence, with clusters k,

    estimate     Σ_h l_h · total_h,            total_h  = Σ_i z_i
    variance     Σ_h l_hᵀ moment_h l_h,        moment_h = Σ_k (Σ_{i∈k} z_i)(Σ_{i∈k} z_i)ᵀ
    bootstrap    Σ_h l_h · Σ_k ε_k Σ_{i∈k} z_i

so no array of rows × cohorts × checkpoints is ever built.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Num

from pythia_profile.did.covariates import Covariates
from pythia_profile.did.errors import (
    ClusterError,
    DuplicateError,
)
from pythia_profile.tables import NEVER

Step = int | float | np.integer | np.floating
"""A cohort, a checkpoint or the steps between them."""

ROUNDING = 64 * np.finfo(np.float64).eps
"""Variances below this share of the outcomes' own second moments are rounding, and are zero."""


@dataclass(frozen=True, slots=True, eq=False)
class RowLabels:
    """What is known of each row beside its outcomes and cohort; None where it was not given.

    Attributes
    ----------
    clusters : (U,) cluster of each row; a row with NEVER is its own cluster.
    weights : (U,) positive sampling weights.
    units : (U,) ids, which name the rows' random multipliers and match them across panels.
    covariates : what rows are compared at equal values of.
    second : (U,) step from which a row's outcomes no longer count, as its text is read again; NEVER
        for none.
    """

    clusters: Int[np.ndarray, " U"] | None = None
    weights: Float[np.ndarray, " U"] | None = None
    units: Int[np.ndarray, " U"] | None = None
    covariates: Covariates | None = None
    second: Int[np.ndarray, " U"] | None = None

    def keep(self, rows: Bool[np.ndarray, " U"]) -> "RowLabels":
        """Return those of some rows."""
        given = [
            None if values is None else values[rows]
            for values in (self.clusters, self.weights, self.units, self.second)
        ]
        kept = None if self.covariates is None else self.covariates.keep(rows)
        return RowLabels(given[0], given[1], given[2], kept, given[3])


@dataclass(frozen=True, slots=True, eq=False)
class Sums:
    """Sufficient statistics of each group.

    Attributes
    ----------
    labels : (H,) cohort of each group, ascending; NEVER, the last, for never-treated rows.
    rows : (H,) rows of each group.
    clusters : (H,) clusters of each group; rows where rows are not clustered.
    total : (H, C + 1) sum of z over the group's rows; the last entry is the sum of weights.
    moment : (H, C + 1, C + 1) sum over clusters of the outer square of the cluster's sum of z.
    factor : (H,) by which the group's variance is multiplied, clusters/(clusters − 1) or 1.
    """

    labels: Num[np.ndarray, " H"]
    rows: Int[np.ndarray, " H"]
    clusters: Int[np.ndarray, " H"]
    total: Float[np.ndarray, "H C1"]
    moment: Float[np.ndarray, "H C1 C1"]
    factor: Float[np.ndarray, " H"]


@dataclass(frozen=True, slots=True, eq=False)
class Rows:
    """Rows in canonical order: by group, then cluster, then unit.

    Attributes
    ----------
    y : (U, C) outcomes less a constant for each checkpoint, their mean over all rows, and less
        `level`.
    level : (U,) the row's mean over checkpoints, where effects do not depend on it: the variance of
        small changes of large numbers is then exact; else 0.
    weight : (U,) weight of each row, 1 unless given.
    labels : (H,) cohort of each group, ascending.
    group_starts : (H + 1,) first row of each group, and U.
    cluster_starts : (K + 1,) first row of each cluster, and U.
    cluster_id : (K,) id of each cluster: its label, or its row's id where it is a single row's own.
    cluster_stream : (K,) 1 where the id is a label, 0 where it is a row's; with the id it names the
        cluster's random multipliers.
    unit : (U,) id of each row.
    named : whether these ids were given, and so mean the same row in another panel.
    input_index : (U,) index of each row in the input.
    scored : (U, C) the outcomes that were scored, NaN where a row was not, less the same constants;
        None where all were, and `y` holds them.
    """

    y: Float[np.ndarray, "U C"]
    level: Float[np.ndarray, " U"]
    weight: Float[np.ndarray, " U"]
    labels: Num[np.ndarray, " H"]
    group_starts: Int[np.ndarray, " H1"]
    cluster_starts: Int[np.ndarray, " K1"]
    cluster_id: Int[np.ndarray, " K"]
    cluster_stream: Int[np.ndarray, " K"]
    unit: Int[np.ndarray, " U"]
    named: bool
    input_index: Int[np.ndarray, " U"]
    scored: Float[np.ndarray, "U C"] | None = None

    def __len__(self) -> int:
        return len(self.y)

    def group(self, h: int) -> slice:
        """Rows of group `h`."""
        return slice(int(self.group_starts[h]), int(self.group_starts[h + 1]))

    def clusters_of(self, h: int) -> slice:
        """Clusters of group `h`."""
        first, last = np.searchsorted(self.cluster_starts, self.group_starts[h : h + 2])
        return slice(int(first), int(last))

    def z(self, h: int) -> Float[np.ndarray, "n C1"]:
        """Return the vectors w (y, 1) of the rows of group `h`."""
        rows = self.group(h)
        augmented = np.empty((rows.stop - rows.start, self.y.shape[1] + 1))
        augmented[:, :-1] = self.y[rows]
        augmented[:, -1] = 1.0
        augmented *= self.weight[rows, None]
        return augmented

    def cluster_sums(self, h: int) -> Float[np.ndarray, "k C1"]:
        """Return the sums of w (y, 1) over each cluster of group `h`."""
        return self.by_cluster(self.z(h), h)

    def by_cluster(self, values: Float[np.ndarray, "n m"], h: int) -> Float[np.ndarray, "k m"]:
        """Sum values of the rows of group `h` over each of its clusters."""
        clusters = self.clusters_of(h)
        if clusters.stop - clusters.start == len(values):
            return values
        starts = self.cluster_starts[clusters] - self.group_starts[h]
        return np.add.reduceat(values, starts, axis=0)

    def groups(self) -> Iterator[int]:
        """Iterate over the groups' numbers, 0 … H − 1."""
        return iter(range(len(self.labels)))


def gather(
    y: Float[np.ndarray, "U C"],
    cohort: Num[np.ndarray, " U"],
    given: RowLabels,
    *,
    levels: bool,
    center: Float[np.ndarray, " C"] | None = None,
    scored: Float[np.ndarray, "U C"] | None = None,
) -> Rows:
    """Put the rows into canonical order, so that their order in the input changes nothing.

    Where no `units` are given, a row's id is its position among the rows of all groups sorted by
    outcome, checkpoint after checkpoint: invariant under permutation of rows, trends common to all
    rows, and new names for cohorts. The `center` (C,) is taken off all rows, their mean unless it
    is given; it changes no effect. Where `levels` of rows do not matter either, they are taken off.
    `scored` are the outcomes with their gaps, where `y` holds pseudo-values instead.
    """
    clusters, weights, units = given.clusters, given.weights, given.units
    labels, group = np.unique(cohort, return_inverse=True)
    unit = _content_rank(y, group, clusters) if units is None else _distinct(units)
    labelled = np.zeros(len(y), bool) if clusters is None else clusters != NEVER
    cluster = unit if clusters is None else np.where(labelled, clusters, unit)
    _check_nesting(labels, group[labelled], cluster[labelled])
    order = np.lexsort((unit, cluster, labelled, group))
    keys = np.stack([group[order], labelled[order], cluster[order]])
    starts = np.append(0, 1 + np.flatnonzero((np.diff(keys) != 0).any(axis=0)))
    sizes = np.bincount(group, minlength=len(labels))
    sorted_y = y[order]
    # What all rows, or all checkpoints of a row, share changes no effect; without it squares of
    # outcomes near −3 do not drown the variance of changes near .01.
    sorted_y -= sorted_y.mean(axis=0) if center is None else center
    level = np.zeros(len(y)) if levels else sorted_y.mean(axis=1)
    sorted_y -= level[:, None]
    return Rows(
        y=sorted_y,
        level=level,
        weight=np.ones(len(y)) if weights is None else weights[order],
        labels=labels,
        group_starts=np.append(0, np.cumsum(sizes)),
        cluster_starts=np.append(starts, len(y)),
        cluster_id=keys[2, starts],
        cluster_stream=keys[1, starts],
        unit=unit[order],
        named=units is not None,
        input_index=order,
        scored=None if scored is None else scored[order] - np.nanmean(scored, axis=0),
    )


def summarize(rows: Rows) -> Sums:
    """Sum the rows of each group: the sufficient statistics of every effect."""
    width = rows.y.shape[1] + 1
    groups = len(rows.labels)
    total = np.empty((groups, width))
    moment = np.empty((groups, width, width))
    clusters = np.empty(groups, np.int64)
    for h in rows.groups():
        sums = rows.cluster_sums(h)
        clusters[h] = len(sums)
        total[h] = sums.sum(axis=0)
        moment[h] = sums.T @ sums
    counts = np.diff(rows.group_starts)
    return Sums(rows.labels, counts, clusters, total, moment, np.ones(groups))


def _content_rank(
    y: Float[np.ndarray, "U C"],
    group: Int[np.ndarray, " U"],
    clusters: Int[np.ndarray, " U"] | None,
) -> Int[np.ndarray, " U"]:
    rank = group
    keys = [*y.T] if clusters is None else [*y.T, clusters]
    for key in keys:
        order = np.lexsort((key, rank))
        step = (np.diff(rank[order]) != 0) | (np.diff(key[order]) != 0)
        rank = np.empty_like(rank)
        rank[order] = np.append(0, np.cumsum(step))
        if step.all():
            return rank
    position = np.empty_like(rank)
    position[np.argsort(rank, kind="stable")] = np.arange(len(rank))
    return position


def _distinct(units: Int[np.ndarray, " U"]) -> Int[np.ndarray, " U"]:
    ids, counts = np.unique(units, return_counts=True)
    if (twice := ids[counts > 1]).size:
        raise DuplicateError(
            f"units: {twice.size} of {ids.size} ids are duplicated, first {twice[0]}; "
            "expected one line for each row"
        )
    return units


def _check_nesting(
    labels: Num[np.ndarray, " H"], group: Int[np.ndarray, " n"], cluster: Int[np.ndarray, " n"]
) -> None:
    names, number = np.unique(cluster, return_inverse=True)
    lowest, highest = np.full(len(names), len(labels)), np.full(len(names), -1)
    np.minimum.at(lowest, number, group)
    np.maximum.at(highest, number, group)
    if (wrong := np.flatnonzero(lowest < highest)).size:
        first = wrong[0]
        low, high = (label(labels[at]) for at in (lowest[first], highest[first]))
        raise ClusterError(
            f"clusters: {wrong.size} of {len(names)} hold rows of several cohorts, first cluster "
            f"{names[first]} (cohorts {low} and {high}); treatment must be constant within a "
            "cluster"
        )


def label(cohort: Step) -> str:
    """Name a group in messages."""
    return "never-treated" if cohort == NEVER else f"{cohort:g}"
