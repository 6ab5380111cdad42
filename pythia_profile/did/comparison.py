"""What each cell (g, c) compares: its base checkpoint and its control rows.

In: cohorts, checkpoints and the user's choices. Out: for each cell the index of its base checkpoint
and of its pool of controls. A pool is a run of groups in ascending order of treatment, so that the
sums of all pools are one cumulative sum.

    control = "never"     never-treated rows
              "not_yet"   rows of other cohorts that are untreated at c and at the base
              "both"      the union; R's did, csdid, differences and diff-diff call this one
                          "not yet treated"

For c ≥ g, and everywhere with the universal base, "not_yet" means cohort > max(c, own cohort). With
the varying base a cell before treatment also uses cohorts treated between c and its own cohort, as
R's did and the others do.

Source: Callaway and Sant'Anna (2021), section 2; `compute.att_gt` of R's did 2.1 for the bases.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int, Num

from pythia_profile.did.errors import (
    EarlyCohortError,
    NoControlError,
    NoTreatedError,
)
from pythia_profile.did.settings import Control, Estimation, Estimator


@dataclass(frozen=True, slots=True, eq=False)
class Comparison:
    """The two by two differences behind a grid of cells.

    Attributes
    ----------
    base : (G, C) index of the base checkpoint; −1 where there is none.
    pool : (G, C) index of the pool of controls among the pools.
    own : (G, C) whether the pool holds the cell's own cohort, which is then taken out.
    theta : (G, C) coefficient of the base outcome: 1 for did, 0 for diff, a slope for ancova.
    post : (G, C) whether c ≥ g.
    placebo : (G, C) whether the cell is before treatment and anticipation, and not the base itself.
    control : which rows serve as controls.
    groups : number H of groups: the cohorts, then the never-treated rows if there are any.
    """

    base: Int[np.ndarray, "G C"]
    pool: Int[np.ndarray, "G C"]
    own: Bool[np.ndarray, "G C"]
    theta: Float[np.ndarray, "G C"]
    post: Bool[np.ndarray, "G C"]
    placebo: Bool[np.ndarray, "G C"]
    control: Control
    groups: int

    @property
    def columns(self) -> Int[np.ndarray, "G C"]:
        """Index of each cell's own checkpoint; (G, C)."""
        return np.broadcast_to(np.arange(self.base.shape[1]), self.base.shape)

    @property
    def own_group(self) -> Int[np.ndarray, "G C"]:
        """Index of each cell's own cohort among the groups; (G, C)."""
        return np.broadcast_to(np.arange(len(self.base))[:, None], self.base.shape)

    @property
    def controls(self) -> range:
        """Groups that serve as controls; pool p starts at the p-th of them."""
        cohorts = len(self.base)
        if self.control == "never":
            return range(cohorts, self.groups)
        return range(cohorts if self.control == "not_yet" else self.groups)

    def uses(self, g: int, h: int) -> Bool[np.ndarray, " C"]:
        """Cells of cohort `g` that have group `h` among their controls."""
        if h not in self.controls or h == g:
            return np.zeros(self.base.shape[1], bool)
        if self.control == "never":
            return np.ones(self.base.shape[1], bool)
        cells: Bool[np.ndarray, " C"] = self.pool[g] <= h
        return cells

    def pools(self, groups: Num[np.ndarray, "H ..."]) -> Num[np.ndarray, "P ..."]:
        """Turn sums of each group into sums of each pool, along the first axis."""
        cohorts = len(self.base)
        if self.control == "never":
            return groups[cohorts:]
        later = groups[:cohorts] if self.control == "not_yet" else groups
        empty = np.zeros_like(groups[:1])
        # Pools are nested (all groups from some cohort on), so one cumulative sum gives them all.
        return np.concatenate([np.cumsum(later[::-1], axis=0)[::-1], empty])

    def without_own(
        self, pooled: Sequence[np.ndarray], treated: Sequence[np.ndarray]
    ) -> list[np.ndarray]:
        """Take the cell's own cohort out of the sums over its pool, where the pool holds it."""
        return [p - np.where(self.own, t, 0) for p, t in zip(pooled, treated, strict=True)]


def compare(
    cohorts: Num[np.ndarray, " G"],
    checkpoints: Num[np.ndarray, " C"],
    never: bool,
    settings: Estimation,
) -> Comparison:
    """Lay out the comparisons of all cells.

    Parameters
    ----------
    cohorts : (G,) treated cohorts, ascending, on the checkpoint grid or between its points.
    checkpoints : (C,) ascending.
    never : whether there are never-treated rows.
    """
    control, base, estimator = settings.control, settings.base, settings.estimator
    last_before = np.searchsorted(checkpoints, cohorts) - 1 - settings.anticipation
    _check_cohorts(cohorts, checkpoints, last_before, estimator)
    _check_controls(cohorts, last_before, never, control)

    at = np.arange(len(checkpoints))
    shape = (len(cohorts), len(at))
    post = checkpoints >= cohorts[:, None]
    fixed = np.broadcast_to(last_before[:, None], shape)
    bases = fixed.copy() if base == "universal" else np.where(post, fixed, at - 1)
    if estimator == "diff":
        placebo = at <= fixed
    else:
        placebo = at < fixed if base == "universal" else (at <= fixed) & (bases >= 0)
    if control == "never":
        pool, own = np.zeros(shape, np.int64), np.zeros(shape, bool)
    else:
        # A row is untreated at c and at the base if its own base is not before either: the first
        # such cohort, and all that follow it, are the pool.
        pool = np.searchsorted(last_before, np.maximum(at, bases))
        own = pool <= np.arange(len(cohorts))[:, None]
    theta = np.full(shape, 0.0 if estimator == "diff" else 1.0)
    groups = len(cohorts) + never
    return Comparison(bases, pool, own, theta, post, placebo, control, groups)


def _check_cohorts(
    cohorts: Num[np.ndarray, " G"],
    checkpoints: Num[np.ndarray, " C"],
    last_before: Int[np.ndarray, " G"],
    estimator: Estimator,
) -> None:
    if not cohorts.size:
        raise NoTreatedError("all rows are never-treated; add rows that the trainer has read")
    if (early := cohorts[last_before < 0]).size and estimator != "diff":
        names = ", ".join(f"{g:g}" for g in early[:5]) + (", …" if early.size > 5 else "")
        raise EarlyCohortError(
            f"{early.size} of {cohorts.size} cohorts have no checkpoint to compare with before "
            f"them ({names}; the first checkpoint is {checkpoints[0]:g}); score an earlier "
            "checkpoint or drop these cohorts; never-treated rows have the cohort NEVER"
        )


def _check_controls(
    cohorts: Num[np.ndarray, " G"],
    last_before: Int[np.ndarray, " G"],
    never: bool,
    control: Control,
) -> None:
    if control == "never" and not never:
        raise NoControlError(
            f"control='never': all rows are treated ({cohorts.size} cohorts, 0 never-treated "
            "rows); add held-out rows to the sample, or choose control='not_yet'"
        )
    later = bool((last_before > last_before[0]).any())
    if not (later or (never and control != "not_yet")):
        raise NoControlError(
            f"control='{control}': the {cohorts.size} cohorts ({cohorts[0]:g} to {cohorts[-1]:g}) "
            "are all read between the same two checkpoints, so none is a control for another; add "
            "held-out rows or later cohorts"
        )
