"""Faulty checkpoints: what each checkpoint says before treatment, and what rests on it.

In: `AttGt`. Out: for each checkpoint the mean effect on cohorts that are read later, and the
change of the overall effect when the checkpoint is left out. Published checkpoints do hold the
weights of other steps; such a checkpoint shows rows as memorized before they were read, and shifts
all effects of the cohort that has it as its base.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Num
from scipy import sparse
from scipy.special import ndtr

from pythia_profile.did.arguments import Short
from pythia_profile.did.att import AttGt
from pythia_profile.did.comparison import Comparison, compare
from pythia_profile.did.errors import NoControlError
from pythia_profile.did.inference.aggregates import aggregate
from pythia_profile.did.inference.contrasts import contrast
from pythia_profile.did.inference.pretrends import holm
from pythia_profile.did.moments import Step

OUTLIER = 5.0
"""A suspect's placebo effect lies this many deviations from the median of all checkpoints."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class LeaveOneOut(Short):
    """How much rests on each single checkpoint.

    Attributes
    ----------
    checkpoints : (C,) ascending.
    placebo : (C,) effect at the checkpoint less the mean effect at the other checkpoints before
        treatment, averaged over the cohorts read later; near 0 unless the checkpoint is faulty or
        trends are not parallel. NaN where no cohort is read later.
    placebo_se : (C,) its standard error.
    placebo_p : (C,) p-value, adjusted for all checkpoints (Holm).
    change : (C,) what the overall effect changes by when the checkpoint is left out. Without the
        first, cohorts that have no other base are left out of both, so that the same are compared.
    share : (C,) the change in standard errors of the overall effect.
    suspects : checkpoints whose placebo rejects at .01 and stands out among all, in ascending
        order. Weights of a later step show so; those of an earlier step have read none of the later
        cohorts, and show in `change`.
    """

    checkpoints: Num[np.ndarray, " C"]
    placebo: Float[np.ndarray, " C"]
    placebo_se: Float[np.ndarray, " C"]
    placebo_p: Float[np.ndarray, " C"]
    change: Float[np.ndarray, " C"]
    share: Float[np.ndarray, " C"]
    suspects: tuple[Step, ...]

    def __str__(self) -> str:
        named = ", ".join(f"{c:g}" for c in self.suspects) or "none"
        if np.isnan(self.share).all():
            return f"checkpoints: suspects {named}; the overall effect has no variance"
        worst = int(np.nanargmax(np.abs(self.share)))
        return (
            f"checkpoints: suspects {named}; leaving out {self.checkpoints[worst]:g} changes the "
            f"overall effect most, by {self.change[worst]:+.4g} ({self.share[worst]:+.2f} standard "
            "errors)"
        )


def leave_one_out(att: AttGt) -> LeaveOneOut:
    """Mean placebo effect at each checkpoint, and the influence of each on the overall effect.

    Raises
    ------
    EmptyFamilyError
        No cell is after treatment.
    """
    overall = aggregate(att, "overall")
    placebo, se = _placebo_by_checkpoint(att)
    whole = _overall(att, np.ones(len(att.checkpoints), bool), np.ones(len(att.cohorts), bool))
    change = np.array([_change_without(att, k, whole) for k in range(len(att.checkpoints))])
    with np.errstate(divide="ignore", invalid="ignore"):
        p = 2 * ndtr(-np.abs(placebo / np.where(se > 0, se, np.nan)))
        share = change / np.where(overall.se[0] > 0, overall.se[0], np.nan)
    tested = np.isfinite(p)
    adjusted = np.full_like(p, np.nan)
    adjusted[tested] = holm(p[tested])
    center = np.nanmedian(placebo) if tested.any() else 0.0
    scale = 1.4826 * np.nanmedian(np.abs(placebo - center)) if tested.any() else np.inf
    suspect = (adjusted < 0.01) & (np.abs(placebo - center) > OUTLIER * scale)
    return LeaveOneOut(
        checkpoints=att.checkpoints,
        placebo=placebo,
        placebo_se=se,
        placebo_p=adjusted,
        change=change,
        share=share,
        suspects=tuple(att.checkpoints[suspect].tolist()),
    )


def _placebo_by_checkpoint(att: AttGt) -> tuple[Float[np.ndarray, " C"], Float[np.ndarray, " C"]]:
    """Mean over the cohorts read later: effect at the checkpoint less that at the others before.

    Cells are compared with one another and not with the base, since a faulty base would shift all
    of a cohort's cells; with the varying base they are changes from one checkpoint to the next, and
    taken as they are.
    """
    cells = att.placebo.copy()
    if att.settings.base == "universal":
        cells |= att.identified & (np.arange(cells.shape[1]) == att.fit.comparison.base)
        cells &= cells.sum(axis=1, keepdims=True) > 1
    mean, se = np.full((2, len(att.checkpoints)), np.nan)
    row, column = np.nonzero(cells)
    if column.size:
        mass = att.fit.treated.weight[cells]
        share = mass / np.bincount(column, weights=mass)[column]
        found, number = np.unique(column, return_inverse=True)
        each = sparse.csr_array((share, (number, np.arange(len(share)))))
        centered = att.settings.base == "universal"
        weights = each @ _deviations(row, column, cells.shape[1], centered)
        weights.resize((len(found), cells.size))
        got = contrast(att, weights, found.tolist(), "placebo")
        mean[found], se[found] = got.estimate, got.se
    return mean, se


def _deviations(
    row: Int[np.ndarray, " n"], column: Int[np.ndarray, " n"], width: int, centered: bool
) -> sparse.csr_array:
    """Weights over cells of each listed one less the mean of its cohort's other ones."""
    flat, n = row * width + column, len(row)
    single = sparse.csr_array((np.ones(n), (np.arange(n), flat)), shape=(n, (row[-1] + 1) * width))
    if not centered:
        return single
    count = np.bincount(row)[row]
    cohort = sparse.csr_array((np.ones(n), (row, np.arange(n))))
    total = (cohort @ single)[row]
    scale = sparse.diags_array(1.0 / (count - 1))
    return sparse.csr_array(single - scale @ (total - single))


def _change_without(att: AttGt, left_out: int, whole: float) -> float:
    """Overall effect without a checkpoint, less that with it of the cohorts that still have a base.

    A cohort that goes with its base would otherwise change the mean, whatever its checkpoint holds.
    """
    kept = np.arange(len(att.checkpoints)) != left_out
    based = np.searchsorted(att.checkpoints[kept], att.cohorts) > att.settings.anticipation
    same = whole if based.all() else _overall(att, np.ones_like(kept), based)
    return _overall(att, kept, based) - same


def _overall(att: AttGt, kept: Bool[np.ndarray, " C"], based: Bool[np.ndarray, " G"]) -> float:
    """Overall effect of some cohorts on some checkpoints; NaN where nothing is left to compare.

    Without the adjustment of ancova, whose slopes would have to be estimated anew each time.
    """
    if not based.any():
        return np.nan
    grid = att.checkpoints[kept]
    groups = len(att.fit.sums.rows)
    members = np.append(based, np.ones(groups - len(based), bool))
    total = att.fit.sums.total[members][:, np.append(kept, True)]
    try:
        plan = compare(
            att.cohorts[based],
            grid,
            never=groups > len(based),
            settings=att.settings,
        )
    except NoControlError:
        return np.nan
    effect, mass = _means(plan, total)
    cells = plan.post & np.isfinite(effect)
    return float(np.average(effect[cells], weights=mass[cells])) if cells.any() else np.nan


def _means(
    plan: Comparison, total: Float[np.ndarray, "H C1"]
) -> tuple[Float[np.ndarray, "G C"], Float[np.ndarray, "G C"]]:
    """Effects from totals alone, and the weight of each cell's cohort."""
    c, b = plan.columns, plan.base

    def change(sums: Float[np.ndarray, "P C1"], at: Int[np.ndarray, "G C"]) -> list[np.ndarray]:
        return [sums[at, c] - plan.theta * sums[at, b], sums[at, -1]]

    treated = change(total, plan.own_group)
    control = plan.without_own(change(plan.pools(total), plan.pool), treated)
    with np.errstate(divide="ignore", invalid="ignore"):
        return treated[0] / treated[1] - control[0] / control[1], treated[1]
