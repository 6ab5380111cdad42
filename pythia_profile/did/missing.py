"""Outcomes that are missing for some rows at some checkpoints, without dropping the rows.

In: outcomes with NaN where a row was not scored. Out: a complete matrix of pseudo-values, whose
means over a group are the group's checkpoint effects, and whose deviations from them are the rows'
influence on these effects. Nothing is interpolated: a row says nothing about a checkpoint at which
it was not scored, and everything downstream (standard errors, bands, aggregates) follows.

For difference-in-differences, the checkpoint effects δ of a group are least squares with row
effects, Y_ic = α_i + δ_c: rows that differ in level may come and go without moving δ. With M_i the
projection that removes the row's mean over its scored checkpoints,

    Q δ = Σ_i M_i Y_i,    Q = Σ_i M_i,    influence of row i = n Q⁺ M_i (Y_i − δ).

For the plain difference at c there are no row effects: δ_c is the mean over scored rows. Both are
unbiased where a row's being scored does not depend on its changes. Numbers of rows are those of the
whole group.
"""

import numpy as np
from jaxtyping import Bool, Float, Num

from pythia_profile.did.errors import MissingOutcomeError
from pythia_profile.did.moments import RowLabels, Step
from pythia_profile.did.settings import Estimation
from pythia_profile.tables import NEVER


def settle_missing(
    y: Float[np.ndarray, "U C"],
    cohort: Num[np.ndarray, " U"],
    checkpoints: Num[np.ndarray, " C"],
    given: RowLabels,
    settings: Estimation,
) -> tuple[Float[np.ndarray, "U C"], Num[np.ndarray, " U"], RowLabels, tuple[str, ...]]:
    """Return rows without gaps, by the rule of the settings, and a note on what was dropped."""
    gaps = np.isnan(y)
    if not gaps.any():
        return y, cohort, given, ()
    if settings.missing == "balanced":
        whole = ~gaps.any(axis=1)
        note = f"{(~whole).sum()} of {len(y)} rows dropped: not scored at every checkpoint"
        return y[whole], cohort[whole], given.keep(whole), (note,)
    levels = settings.estimator == "diff"
    y = pseudo_values(y, cohort, checkpoints, weights=given.weights, levels=levels)
    return y, cohort, given, ()


def pseudo_values(
    y: Float[np.ndarray, "U C"],
    cohort: Num[np.ndarray, " U"],
    checkpoints: Num[np.ndarray, " C"],
    *,
    weights: Float[np.ndarray, " U"] | None = None,
    levels: bool = False,
) -> Float[np.ndarray, "U C"]:
    """Complete `y` (U, C), NaN where a row was not scored, by pseudo-values of the same mean.

    Groups without gaps stay as they are.

    Parameters
    ----------
    levels : keep levels (for the plain difference) instead of removing row effects.

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
        scored = ~gaps[rows]
        _check_coverage(scored, g, checkpoints)
        effects = _means if levels else _least_squares
        complete[rows] = effects(np.where(scored, y[rows], 0.0), scored, mass[rows])
    return complete


def _means(
    y: Float[np.ndarray, "n C"], scored: Bool[np.ndarray, "n C"], weight: Float[np.ndarray, " n"]
) -> Float[np.ndarray, "n C"]:
    mass = weight @ scored
    mean = weight @ y / mass
    pseudo: Float[np.ndarray, "n C"] = mean + scored * (y - mean) * (weight.sum() / mass)
    return pseudo


def _least_squares(
    y: Float[np.ndarray, "n C"], scored: Bool[np.ndarray, "n C"], weight: Float[np.ndarray, " n"]
) -> Float[np.ndarray, "n C"]:
    count = np.maximum(scored.sum(axis=1, keepdims=True), 1)
    demeaned = scored * (y - y.sum(axis=1, keepdims=True) / count)
    cross = np.diag(weight @ scored) - (scored * (weight[:, None] / count)).T @ scored
    # Row effects leave the level of δ free, so Q has one eigenvalue 0; the pseudo-inverse takes the
    # solution of mean 0, and effects, which are differences of checkpoints, do not depend on it.
    inverse = np.linalg.pinv(cross, rcond=1e-10, hermitian=True)
    effect = inverse @ (weight @ demeaned)
    rest = demeaned - scored * (effect - (scored @ effect)[:, None] / count)
    pseudo: Float[np.ndarray, "n C"] = effect + weight.sum() * (rest @ inverse)
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
