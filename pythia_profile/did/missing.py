"""Outcomes that are missing for some rows at some checkpoints, without dropping the rows.

In: outcomes with NaN where a row was not scored. Out: a complete matrix of pseudo-values, whose
means over a group are the group's checkpoint effects, and whose deviations from them are the rows'
influence on these effects. Nothing is interpolated: a row says nothing about a checkpoint at which
it was not scored, and everything downstream (standard errors, bands, aggregates) follows.

For difference-in-differences, the checkpoint effects δ of a group are least squares with row
effects, Y_ic = α_i + δ_c: rows that differ in level may come and go without moving δ. With M_i the
projection that removes the row's mean over its scored checkpoints,

    Q δ = Σ_i M_i Y_i,    Q = Σ_i M_i,    influence of row i = n Q⁺ M_i (Y_i − δ).

Regression on the base outcome needs levels too: to these pseudo-values it adds the row effects α_i
by least squares, so that rows stay paired with themselves. For the plain difference at c there are
no row effects: δ_c is the mean over scored rows. All are unbiased where a row's being scored does
not depend on its outcomes.
"""

import numpy as np
from jaxtyping import Bool, Float, Num

from pythia_profile.did.errors import MissingOutcomeError
from pythia_profile.did.moments import Step
from pythia_profile.did.settings import Estimator
from pythia_profile.tables import NEVER


def pseudo_values(
    y: Float[np.ndarray, "U C"],
    cohort: Num[np.ndarray, " U"],
    checkpoints: Num[np.ndarray, " C"],
    weights: Float[np.ndarray, " U"] | None = None,
    estimator: Estimator = "did",
    may_end: bool = False,
) -> Float[np.ndarray, "U C"]:
    """Complete `y` (U, C), NaN where a row was not scored, by pseudo-values of the same mean.

    Groups without gaps stay as they are.

    Parameters
    ----------
    estimator : `diff` needs means of levels alone, `did` changes alone, and `ancova` both.
    may_end : whether all rows of a cohort may lack the last checkpoints, at which they are then 0
        and no estimate.

    Raises
    ------
    MissingOutcomeError
        A cohort was not scored at all at some checkpoint, or its scored checkpoints fall into parts
        that no row connects.

    Examples
    --------
    The second row lies 5 above the first, and was not scored at the last checkpoint:

    >>> y = np.array([[0.0, 1.0, 3.0], [5.0, 6.0, np.nan]])
    >>> pseudo_values(y, np.array([10, 10]), np.array([0, 10, 20])).mean(axis=0).round(6)
    array([-1.333333, -0.333333,  1.666667])
    """
    complete = y.copy()
    mass = np.ones(len(y)) if weights is None else weights
    gaps = np.isnan(y)
    for g in np.unique(cohort[gaps.any(axis=1)]):
        rows = cohort == g
        any_row = np.flatnonzero(~gaps[rows].all(axis=0))
        ends = may_end and g != NEVER and any_row.size
        last = int(any_row[-1]) + 1 if ends else len(checkpoints)
        scored = ~gaps[rows][:, :last]
        _check_coverage(scored, g, checkpoints[:last])
        outcomes = np.where(scored, y[rows][:, :last], 0.0)
        part = np.zeros((len(scored), len(checkpoints)))
        if estimator == "diff":
            part[:, :last] = _means(outcomes, scored, mass[rows])
        else:
            levels = estimator == "ancova"
            part[:, :last] = _least_squares(outcomes, scored, mass[rows], levels=levels)
        complete[rows] = part
    return complete


def _means(
    y: Float[np.ndarray, "n C"], scored: Bool[np.ndarray, "n C"], weight: Float[np.ndarray, " n"]
) -> Float[np.ndarray, "n C"]:
    mass = weight @ scored
    mean = weight @ y / mass
    pseudo: Float[np.ndarray, "n C"] = mean + scored * (y - mean) * (weight.sum() / mass)
    return pseudo


def _least_squares(
    y: Float[np.ndarray, "n C"],
    scored: Bool[np.ndarray, "n C"],
    weight: Float[np.ndarray, " n"],
    *,
    levels: bool,
) -> Float[np.ndarray, "n C"]:
    count = np.maximum(scored.sum(axis=1, keepdims=True), 1)
    demeaned = scored * (y - y.sum(axis=1, keepdims=True) / count)
    cross = np.diag(weight @ scored) - (scored * (weight[:, None] / count)).T @ scored
    # Row effects leave the level of δ free, so Q has one eigenvalue 0; the pseudo-inverse takes the
    # solution of mean 0, and effects, which are differences of checkpoints, do not depend on it.
    inverse = np.linalg.pinv(cross, rcond=1e-10, hermitian=True)
    effect = inverse @ (weight @ demeaned)
    rest = demeaned - scored * (effect - (scored @ effect)[:, None] / count)
    influence = weight.sum() * (rest @ inverse)
    pseudo: Float[np.ndarray, "n C"] = effect + influence
    if levels:
        # A row's level is its mean over what was scored, each outcome less its checkpoint's effect;
        # as these effects are estimated, so is the mean level, by what their errors add to it.
        level = y.sum(axis=1, keepdims=True) / count - (scored @ effect)[:, None] / count
        share = weight @ (scored / count) / weight.sum()
        pseudo += level - (influence @ share)[:, None]
    return pseudo


def _check_coverage(
    scored: Bool[np.ndarray, "n C"], cohort: Step, checkpoints: Num[np.ndarray, " C"]
) -> None:
    name = "the never-treated rows" if cohort == NEVER else f"cohort {cohort:g}"
    if (empty := np.flatnonzero(scored.sum(axis=0) == 0)).size:
        raise MissingOutcomeError(
            f"{name}: none of {len(scored)} rows was scored at {empty.size} of {len(checkpoints)} "
            f"checkpoints, first {checkpoints[empty[0]]:g}; drop the checkpoint or the cohort"
        )
    # Checkpoints are connected where a row was scored at both: grow the part of the first.
    reached = np.zeros(scored.shape[1], bool)
    reached[0] = True
    while True:
        further = reached | scored[(scored & reached).any(axis=1)].any(axis=0)
        if (further == reached).all():
            break
        reached = further
    if not reached.all():
        raise MissingOutcomeError(
            f"{name}: no row was scored both at checkpoint {checkpoints[0]:g} and, through other "
            f"rows, at {checkpoints[np.argmin(reached)]:g}; changes between them are unknown; drop "
            "one of the two parts"
        )
