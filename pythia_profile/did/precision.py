"""What batches and base outcomes do to the precision of effects.

In: `AttGt`. Out: for each cell,

    reliability   ρ of Y_c and Y_b: difference-in-differences has about 2 (1 − ρ) times the variance
                  of the plain difference, so below .5 it costs precision
    batch_icc     share of the variance of changes that rows of one batch have in common

and sentences about both.
"""

import numpy as np
from jaxtyping import Float, Int

from pythia_profile.did.arguments import per_row
from pythia_profile.did.att import AttGt
from pythia_profile.did.cross_products import Pairs, cross_products
from pythia_profile.did.settings import ClusterBy

LOW_RHO = 0.5
"""Below this correlation with the base, the plain difference has the smaller variance."""

NOTABLE_ICC = 0.02
"""With ten rows a batch, unclustered standard errors are then 8 % too small: (1 + 9 × .02)^-½."""


def reliability(att: AttGt) -> Float[np.ndarray, "G C"]:
    """Correlation ρ of Y_c and Y_b within the treated and the control rows of each cell; (G, C).

    NaN where one of the two does not vary, and where a cell has no base or no controls.
    """
    plan = att.fit.comparison
    sums = cross_products(plan, att.fit.rows)
    c, b = plan.columns, np.maximum(plan.base, 0)

    def within(pairs: Pairs) -> Float[np.ndarray, "3 G C"]:
        """Return the sums around the means of Y_c Y_b, Y_c² and Y_b²."""
        one, other, n = pairs.first, pairs.second, pairs.weight
        squares = pairs.first_square - one * one / n, pairs.second_square - other * other / n
        return np.stack([pairs.product - one * other / n, *squares])

    with np.errstate(divide="ignore", invalid="ignore"):
        cross, square_c, square_b = within(sums.treated(c, b)) + within(sums.controls(c, b))
        rho = cross / np.sqrt(square_c * square_b)
    clipped: Float[np.ndarray, "G C"] = np.clip(rho, -1.0, 1.0)
    clipped[~att.identified] = np.nan
    return clipped


def batch_icc(att: AttGt, clusters: Int[np.ndarray, " U"]) -> Float[np.ndarray, "G C"]:
    """Intraclass correlation of changes Y_c − θ Y_b within clusters, for each cell; (G, C).

    One-way analysis of variance of each cohort, with clusters of unequal size; 0 means that rows of
    a batch are no more alike than others, and slightly negative values are chance. NaN where all
    clusters have one row, or all rows one cluster.

    Parameters
    ----------
    clusters : (U,) cluster of each row, in the order of the rows given to `att_gt`.
    """
    plan, rows = att.fit.comparison, att.fit.rows
    labels = per_row(clusters, rows.y, "clusters", np.int64)[rows.input_index]
    icc = np.full(att.att.shape, np.nan)
    for g in range(len(icc)):
        mine = rows.group(g)
        _, number, size = np.unique(labels[mine], return_inverse=True, return_counts=True)
        n, k = len(number), len(size)
        if not 1 < k < n:
            continue
        y = rows.y[mine]
        change = y - plan.theta[g] * y[:, np.maximum(plan.base[g], 0)]
        means = np.stack([np.bincount(number, column) / size for column in change.T], axis=1)
        between = (size[:, None] * (means - change.mean(axis=0)) ** 2).sum(axis=0) / (k - 1)
        within = ((change - means[number]) ** 2).sum(axis=0) / (n - k)
        typical = (n - (size**2).sum() / n) / (k - 1)
        with np.errstate(divide="ignore", invalid="ignore"):
            icc[g] = (between - within) / (between + (typical - 1) * within)
    icc[~att.identified] = np.nan
    return icc


_ICC = "intraclass correlation of changes within batches: "
_RHO = "correlation of outcomes with their base: "


def is_fact(note: str) -> bool:
    """Whether a note only states a number, and asks nothing of a reader."""
    return note.startswith((_ICC, _RHO)) and ";" not in note


def precision_notes(att: AttGt, batch: Int[np.ndarray, " U"], clusters: ClusterBy) -> list[str]:
    """Sentences on the batches (U,) of the rows, in their input order, and on the base.

    Parameters
    ----------
    clusters : as it was chosen; `auto` has looked at the batches, and needs no advice.
    """
    cells = att.post & (att.se > 0)
    if not cells.any():
        return []
    notes = []
    icc = batch_icc(att, batch)[cells]
    if np.isfinite(icc).any():
        share = float(np.nanmean(icc))
        note = f"{_ICC}{share:.3f}"
        if clusters == "row" and share > NOTABLE_ICC:
            note += "; if rows were drawn batch by batch, choose clusters='batch'"
        notes.append(note)
    rho = float(np.nanmedian(reliability(att)[cells]))
    note = f"{_RHO}{rho:.3f} (median over cells)"
    if rho < LOW_RHO:
        note += "; with rows assigned to steps at random, 'diff' and 'ancova' are more precise"
    return [*notes, note]
