"""Means over those rows of a cell whose outcome is known there, and every row's influence on them.

In: rows in canonical order, which of them are known at which checkpoint, and what each cell
compares. Out: `KnownMeans`, for inference what `Regressions` is for effects at equal covariates:
effects, variances, and influences one cohort and one group of rows at a time. A row counts in cell
(g, c) where it is known at c and at the base.

    influence of a treated row    w (D − mean_g D)/W_g          D = Y_c − θ Y_b
    influence of a control row   −w (D − mean_C D)/W_C

each side times (n/(n − 1))^½, n its clusters with a known row: late cells have few.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from pythia_profile.did.comparison import Comparison
from pythia_profile.did.moments import Rows
from pythia_profile.did.variance import VarianceComponents

__all__ = ["FEWEST", "KnownMeans", "cell_members", "known_means"]

FEWEST = 8
"""Known clusters below which the variance of a side says too little to be weighed by."""


@dataclass(frozen=True, slots=True, eq=False)
class KnownMeans:
    """Both sides of every cell, over known rows alone.

    Attributes
    ----------
    known : (U, C) rows, in canonical order, that are known at each checkpoint.
    treated, control : (G, C) mean of Y_c − θ Y_b.
    treated_mass, control_mass : (G, C) sum of weights.
    n_treated, n_control : (G, C) rows.
    treated_clusters, control_clusters : (G, C) clusters with a known row.
    fewest : known clusters of each side that an estimate needs.
    """

    known: Bool[np.ndarray, "U C"]
    treated: Float[np.ndarray, "G C"]
    control: Float[np.ndarray, "G C"]
    treated_mass: Float[np.ndarray, "G C"]
    control_mass: Float[np.ndarray, "G C"]
    n_treated: Int[np.ndarray, "G C"]
    n_control: Int[np.ndarray, "G C"]
    treated_clusters: Int[np.ndarray, "G C"]
    control_clusters: Int[np.ndarray, "G C"]
    fewest: int = FEWEST

    @property
    def identified(self) -> Bool[np.ndarray, "G C"]:
        """Cells with enough known clusters on both sides; (G, C)."""
        enough: Bool[np.ndarray, "G C"] = (
            np.minimum(self.treated_clusters, self.control_clusters) >= self.fewest
        )
        return enough

    @property
    def effect(self) -> Float[np.ndarray, "G C"]:
        """ATT(g, c); NaN where a cell has too few known rows."""
        return np.where(self.identified, self.treated - self.control, np.nan)

    def scores(
        self,
        rows: Rows,
        comparison: Comparison,
        g: int,
        h: int,
        weights: Float[np.ndarray, "M C"] | None = None,
    ) -> Float[np.ndarray, "n M"]:
        """Influence of the rows of group `h` on the cells of cohort `g`, or on M sums of these."""
        place = rows.group(h)
        if h == g:
            side = self.treated[g], self.treated_mass[g], self.treated_clusters[g], 1.0
        else:
            side = self.control[g], self.control_mass[g], self.control_clusters[g], -1.0
        mean, mass, clusters, sign = side
        counts = self.identified[g] & ((h == g) | comparison.uses(g, h))
        factor = np.sqrt(clusters / np.maximum(clusters - 1, 1)) / np.where(mass > 0, mass, 1.0)
        base = _base(comparison, g)
        y = rows.y[place]
        change = y - comparison.theta[g] * y[:, base, None] - np.where(counts, mean, 0.0)
        change *= np.where(counts, sign * factor, 0.0) * _members(self.known[place], base)
        change *= rows.weight[place, None]
        influence: Float[np.ndarray, "n M"] = change if weights is None else change @ weights.T
        return influence

    def groups_of(self, comparison: Comparison, g: int) -> list[int]:
        """Return the groups whose rows have influence on the cells of cohort `g`."""
        return [h for h in range(comparison.groups) if h == g or comparison.uses(g, h).any()]

    def components(self, rows: Rows, comparison: Comparison) -> VarianceComponents:
        """Variance of each cell by the side it comes from, with its degrees of freedom."""
        variance = np.zeros((2, *comparison.base.shape))
        for g in range(len(comparison.base)):
            for h in self.groups_of(comparison, g):
                scores = rows.by_cluster(self.scores(rows, comparison, g, h), h)
                variance[int(h != g), g] += np.einsum("kc,kc->c", scores, scores)
        freedom = (np.maximum(n - 1.0, 1.0) for n in (self.treated_clusters, self.control_clusters))
        treated_df, control_df = freedom
        return VarianceComponents(variance[0], treated_df, variance[1], control_df)


def known_means(
    rows: Rows, known: Bool[np.ndarray, "U C"], comparison: Comparison, fewest: int = FEWEST
) -> KnownMeans:
    """Average over the known rows of each cell; `known` in the canonical order of the rows."""
    cells = comparison.base.shape
    sides = []
    for g in range(cells[0]):
        base = _base(comparison, g)
        change = rows.y - comparison.theta[g] * rows.y[:, base, None]
        for member in cell_members(rows, known, comparison, g):
            weight = member * rows.weight[:, None]
            mass = weight.sum(axis=0)
            with np.errstate(invalid="ignore"):
                mean = (weight * change).sum(axis=0) / np.where(mass > 0, mass, np.nan)
            present = np.add.reduceat(member, rows.cluster_starts[:-1], axis=0) > 0
            sides.append((mean, mass, member.sum(axis=0), present.sum(axis=0)))
    mean, mass, count, clusters = (
        np.stack(values).reshape(cells[0], 2, cells[1]) for values in zip(*sides, strict=True)
    )
    return KnownMeans(
        known,
        *(mean[:, 0], mean[:, 1]),
        *(mass[:, 0], mass[:, 1]),
        *(count[:, 0], count[:, 1]),
        *(clusters[:, 0], clusters[:, 1]),
        fewest,
    )


def cell_members(
    rows: Rows, known: Bool[np.ndarray, "U C"], comparison: Comparison, g: int
) -> tuple[Bool[np.ndarray, "U C"], Bool[np.ndarray, "U C"]]:
    """Treated and control rows of the cells of cohort `g`."""
    group = np.repeat(np.arange(len(rows.labels)), np.diff(rows.group_starts))
    serves = np.stack([comparison.uses(g, h) for h in rows.groups()])[group]
    counts = _members(known, _base(comparison, g))
    return counts & (group == g)[:, None], counts & serves


def _members(known: Bool[np.ndarray, "n C"], base: int) -> Bool[np.ndarray, "n C"]:
    """Rows that are known at each checkpoint and at the base."""
    both: Bool[np.ndarray, "n C"] = known & known[:, base, None]
    return both


def _base(comparison: Comparison, g: int) -> int:
    return max(int(comparison.base[g, -1]), 0)
