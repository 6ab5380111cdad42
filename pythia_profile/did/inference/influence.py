"""Effects as weights on the rows: estimates, variances and influence functions become one thing.

In: weights over the cells of a panel. Out: for each group h the weights l_h on its rows' vectors
z = w (y, 1), such that the K effects are Σ_h l_h · Σz, their covariance is
Σ_h l_h moment_h l_hᵀ, and the influence of a row is l_h · z.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy import sparse

from pythia_profile.did.ancova import slope_scores
from pythia_profile.did.att import AttGt
from pythia_profile.did.known_rows import KnownMeans
from pythia_profile.did.moments import Rows
from pythia_profile.did.regression import Regressions


@dataclass(frozen=True, slots=True, eq=False)
class Part:
    """Weights over the cells of one panel.

    Attributes
    ----------
    att : the panel's effects.
    weights : (K, G·C) sparse weights over its cells, row by row.
    shares : (G, K) what a row of a cohort adds by changing the cohort's share; zero where shares
        are fixed by design.
    """

    att: AttGt
    weights: sparse.csr_array
    shares: Float[np.ndarray, "G K"]


def linear_forms(part: Part) -> Iterator[tuple[int, Float[np.ndarray, "K C1"]]]:
    """Weights l_h (K, C + 1) of each group on its rows' z; groups without any are left out.

    An effect is Σ_h l_h · total_h. A group's own cells put weight on it, and the cells whose pool
    holds it take weight off. The last entry of each l_h makes its influence average to 0.
    """
    plan, groups = part.att.fit.comparison, len(part.att.fit.sums.rows)
    # Few cells have a weight, and each puts three numbers on rows: at its checkpoint, at its base,
    # and on the 1 of z. Groups that neither hold such a cell nor control one are passed over.
    given = part.weights.tocoo()
    entries = given.row, given.col, given.data
    cohort = given.col // len(part.att.checkpoints)
    order = np.argsort(cohort, kind="stable")
    bounds = np.searchsorted(cohort[order], np.arange(len(part.att.cohorts) + 1))
    within, pool = plan.own.ravel()[given.col], plan.pool.ravel()[given.col]
    controls = plan.controls
    joining = {int(p) + controls.start for p in np.unique(pool)} if len(controls) else set()
    # Pools are nested: a cell whose pool starts at group h has h and all later groups as controls.
    # So one running sum, grown as h ascends, is what all cells so far take off group h.
    removed: Float[np.ndarray, "K C1"] | None = None
    for h in range(groups):
        total: Float[np.ndarray, "K C1"] | None = None
        if h < len(bounds) - 1 and bounds[h] < bounds[h + 1]:
            mine = order[bounds[h] : bounds[h + 1]]
            total = _on_rows(part, "treated", entries, mine)
            # A pool that holds the cell's own cohort counts it among the controls; this gives back
            # what `removed` takes off too much.
            if (inside := mine[within[mine]]).size:
                total += _on_rows(part, "control", entries, inside)
            total[:, -1] += part.shares[h]
        if h in controls:
            if h in joining:
                more = _on_rows(
                    part, "control", entries, np.flatnonzero(pool == h - controls.start)
                )
                removed = more if removed is None else removed + more
            if removed is not None:
                total = -removed if total is None else total - removed
        if total is not None and total.any():
            yield h, total


def quadratic_forms(
    part: Part,
) -> Iterator[tuple[int, Float[np.ndarray, "C1 C1"], Float[np.ndarray, "K C1"]]]:
    """Moments of each group, and the weights l_h with which they make up the variance."""
    sums = part.att.fit.sums
    for h, form in linear_forms(part):
        yield h, sums.moment[h] * sums.factor[h], form


def row_scores(part: Part) -> Iterator[tuple[int, Float[np.ndarray, "n K"]]]:
    """For each group, what each of its rows contributes to the errors of the contrasts."""
    att, fit, rows = part.att, part.att.fit, part.att.fit.rows
    width = len(att.checkpoints)
    if fit.regressions is not None:
        yield from _regression_scores(part, rows, fit.regressions)
        return
    for h, form in linear_forms(part):
        scores = rows.z(h) @ form.T
        if fit.slopes is not None:
            for g in range(len(att.cohorts)):
                if fit.comparison.uses(g, h).any():
                    mine = part.weights[:, g * width : (g + 1) * width]
                    moved = slope_scores(fit.comparison, fit.slopes, rows, fit.control, g, h)
                    scores += (mine @ moved.T).T
        yield h, scores


def _regression_scores(
    part: Part, rows: Rows, regressions: Regressions | KnownMeans
) -> Iterator[tuple[int, Float[np.ndarray, "n K"]]]:
    """`row_scores` of effects at equal covariates."""
    plan, width = part.att.fit.comparison, len(part.att.checkpoints)
    members, totals = part.weights.tocsc(), dict[int, Float[np.ndarray, "n K"]]()
    for g in range(len(part.att.cohorts)):
        mine = members[:, g * width : (g + 1) * width]
        touched = np.unique(mine.indices)
        # On an even grid a cohort's cells lie at adjoining labels: a slice of these needs no copy.
        adjoin = touched.size and touched[-1] - touched[0] == len(touched) - 1
        into = slice(touched[0], touched[-1] + 1) if adjoin else touched
        weights = mine.toarray()[touched]
        for h in regressions.groups_of(plan, g) if touched.size else []:
            place = rows.group(h)
            total = totals.setdefault(h, np.zeros((place.stop - place.start, mine.shape[0])))
            total[:, into] += regressions.scores(rows, plan, g, h, weights)
        if part.shares[g].any():
            totals[g] += rows.weight[rows.group(g), None] * part.shares[g]
    yield from sorted(totals.items())


def _on_rows(
    part: Part, side: str, entries: tuple[np.ndarray, ...], chosen: Int[np.ndarray, " n"]
) -> Float[np.ndarray, "K C1"]:
    """Weights of the contrasts on the z of treated or control rows, from the chosen entries.

    Parameters
    ----------
    entries : contrast, cell and weight of every cell that has one.
    """
    att, means = part.att, getattr(part.att.fit, side)
    contrast, cell, weight = (values[chosen] for values in entries)
    known, width = att.identified.ravel()[cell], len(att.checkpoints) + 1
    weight = np.where(known, weight, 0.0) / np.where(known, means.weight.ravel()[cell], 1.0)
    theta, mean = att.fit.comparison.theta.ravel()[cell], means.mean.ravel()[cell]
    base = np.maximum(att.fit.comparison.base.ravel()[cell], 0)
    columns = np.stack([cell % (width - 1), base, np.full_like(base, width - 1)])
    values = np.stack([weight, -theta * weight, np.where(known, -mean, 0.0) * weight])
    size = part.weights.shape[0] * width
    total = np.bincount((contrast * width + columns).ravel(), values.ravel(), minlength=size)
    return total.reshape(-1, width)
