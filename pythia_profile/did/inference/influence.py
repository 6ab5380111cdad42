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
from pythia_profile.did.group_means import GroupMeans
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
    att, plan = part.att, part.att.fit.comparison
    groups, width = len(att.fit.sums.rows), len(att.checkpoints)
    # Only cells with a weight are turned into weights on rows: an aggregate uses few of them.
    used = np.unique(part.weights.indices)
    weights = part.weights[:, used].tocsc()
    treated, control = (_on_rows(att, means, used) for means in (att.fit.treated, att.fit.control))
    of_cohort = np.searchsorted(used, width * np.arange(len(att.cohorts) + 1))
    pool, within = plan.pool.ravel()[used], plan.own.ravel()[used]
    controls = plan.controls
    # Pools are nested: a cell whose pool starts at group h has h and all later groups as controls.
    # So one running sum, grown as h ascends, is what all cells so far take off group h.
    removed = np.zeros((weights.shape[0], width + 1))
    for h in range(groups):
        total = np.zeros_like(removed)
        if h < len(att.cohorts) and of_cohort[h] < of_cohort[h + 1]:
            mine = slice(of_cohort[h], of_cohort[h + 1])
            # A pool that holds the cell's own cohort counts it among the controls; the second term
            # gives back what `removed` takes off too much.
            own = treated[mine] + control[mine].multiply(within[mine, None])
            total += (weights[:, mine] @ own).toarray()
            total[:, -1] += part.shares[h]
        if h in controls:
            if (joining := np.flatnonzero(pool == h - controls.start)).size:
                removed += (weights[:, joining] @ control[joining]).toarray()
            total -= removed
        if total.any():
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
        weights = mine.toarray()[touched]
        for h in regressions.groups_of(plan, g) if touched.size else []:
            place = rows.group(h)
            total = totals.setdefault(h, np.zeros((place.stop - place.start, mine.shape[0])))
            total[:, touched] += regressions.scores(rows, plan, g, h, weights)
        if part.shares[g].any():
            totals[g] += rows.weight[rows.group(g), None] * part.shares[g]
    yield from sorted(totals.items())


def _on_rows(att: AttGt, means: GroupMeans, cells: Int[np.ndarray, " n"]) -> sparse.csr_array:
    """Weights of cells on the z of their treated, or of their control rows; (n, C + 1)."""
    width = len(att.checkpoints)
    known = att.identified.ravel()[cells]
    divisor = np.where(known, means.weight.ravel()[cells], 1.0)
    theta, mean = att.fit.comparison.theta.ravel()[cells], means.mean.ravel()[cells]
    entries = np.stack([np.ones_like(theta), -theta, -mean], axis=-1) / divisor[:, None]
    entries[~known] = 0.0
    base = np.maximum(att.fit.comparison.base.ravel()[cells], 0)
    columns = np.stack([cells % width, base, np.full_like(base, width)], axis=-1)
    starts = np.arange(0, 3 * len(cells) + 1, 3)
    return sparse.csr_array(
        (entries.ravel(), columns.ravel(), starts), shape=(len(cells), width + 1)
    )
