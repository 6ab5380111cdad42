"""Other estimators of the same panel, to compare with: regressions, and one that is wrong.

In: outcomes, cohorts, checkpoints. Out: estimates in units of the outcome.

    two_by_two    one cell as a panel regression of its four means: must agree exactly
    twfe          one effect for all rows and checkpoints after treatment, with row and checkpoint
                  effects; biased where effects change with the time since the cohort
    event_study   one effect for each event time, likewise; biased where cohorts' effects differ
    naive_double_demeaned
                  what the published study's code calls the simple difference: its base is the mean
                  over all checkpoints, those after treatment included, so each effect is less the
                  cohort's mean effect

Errors are clustered by row or batch; those of Driscoll and Kraay allow for shocks common to all
rows of a checkpoint (Bartlett kernel, 4 (C/100)^(2/9) lags). Estimates and errors are those of
linearmodels' `PanelOLS`, which the tests compare, at a thousandth of its time.

Sources: Goodman-Bacon (2021) and Sun and Abraham (2021) on what the regressions estimate; Driscoll
and Kraay (1998).
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float, Num, Shaped

from pythia_profile.did import arguments as inputs
from pythia_profile.did.arguments import Short
from pythia_profile.did.errors import NoControlError, OptionError
from pythia_profile.did.moments import Step
from pythia_profile.did.threads import one_blas_thread
from pythia_profile.tables import NEVER

LARGEST = 2**26
"""Most numbers that a regression's design may hold (half a GiB)."""

SINGULAR = 1e12
"""Condition number of the effects' correlations beyond which they cannot be told apart."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class AlternativeEstimate(Short):
    """Effects by a regression with row and checkpoint effects.

    Attributes
    ----------
    labels : (K,) event time of each effect; None for the one effect of `twfe`.
    estimate : (K,) in units of the outcome.
    clustered : (K,) standard error clustered by row, or by the clusters given.
    driscoll_kraay : (K,) standard error that allows for common shocks to a checkpoint.
    """

    labels: tuple[float | None, ...]
    estimate: Float[np.ndarray, " K"]
    clustered: Float[np.ndarray, " K"]
    driscoll_kraay: Float[np.ndarray, " K"]


def twfe(
    y: Shaped[npt.ArrayLike, "U C"],
    cohort: Shaped[npt.ArrayLike, " U"],
    checkpoints: Shaped[npt.ArrayLike, " C"],
    *,
    clusters: Shaped[npt.ArrayLike, " U"] | None = None,
) -> AlternativeEstimate:
    """Two-way fixed effects: Y_ic = α_i + δ_c + β 1{c ≥ g} + error."""
    outcomes, labels, grid = _panel(y, cohort, checkpoints)
    treated = grid >= np.unique(labels)[:, None]
    return _fit(outcomes, labels, {None: treated}, _clusters(clusters, outcomes))


def event_study(
    y: Shaped[npt.ArrayLike, "U C"],
    cohort: Shaped[npt.ArrayLike, " U"],
    checkpoints: Shaped[npt.ArrayLike, " C"],
    *,
    clusters: Shaped[npt.ArrayLike, " U"] | None = None,
) -> AlternativeEstimate:
    """Two-way fixed effects with one effect for each event time but the last before treatment.

    Event times count checkpoints from the first one that has read the row, so −1 is the base of
    every cohort; `labels` gives them so.

    Raises
    ------
    NoControlError
        No row is never-treated: event times and checkpoints are then collinear.
    """
    outcomes, labels, grid = _panel(y, cohort, checkpoints)
    if not (labels == NEVER).any():
        raise NoControlError(
            f"event study: all {len(labels)} rows are treated; add never-treated ones or use att_gt"
        )
    cohorts = np.unique(labels)
    since = np.arange(len(grid)) - np.searchsorted(grid, cohorts)[:, None]
    treated = (cohorts != NEVER)[:, None]
    times = [e for e in np.unique(since[treated[:, 0]]) if e != -1]
    _check_size(since.size, len(times))
    effects = {float(e): (since == e) & treated for e in times}
    return _fit(outcomes, labels, effects, _clusters(clusters, outcomes))


def two_by_two(
    y: Shaped[npt.ArrayLike, "U C"],
    cohort: Shaped[npt.ArrayLike, " U"],
    checkpoints: Shaped[npt.ArrayLike, " C"],
    g: Step,
    c: Step,
    *,
    clusters: Shaped[npt.ArrayLike, " U"] | None = None,
) -> AlternativeEstimate:
    """One cell as a regression on its rows at two checkpoints, c and the last before g.

    Absorbed effects are not counted as parameters: the clustered standard error is then the root of
    the sum over clusters, without small-sample factors, as in `att_gt(small_sample=False)`.
    """
    outcomes, labels, grid = _panel(y, cohort, checkpoints)
    column, base = np.flatnonzero(grid == c), np.searchsorted(grid, g) - 1
    if not column.size or base < 0 or column[0] == base:
        raise OptionError(f"two_by_two: no checkpoint {c:g} to compare with the last before {g:g}")
    rows = (labels == g) | (labels == NEVER)
    pair = np.sort([base, column[0]])
    effect = np.zeros((2, 2), bool)
    effect[0, int(column[0] > base)] = True  # the cohort comes before the never-treated rows
    named = _clusters(clusters, outcomes)[rows]
    return _fit(outcomes[rows][:, pair], labels[rows], {c - g: effect}, named)


def naive_double_demeaned(
    y: Shaped[npt.ArrayLike, "U C"],
    cohort: Shaped[npt.ArrayLike, " U"],
    checkpoints: Shaped[npt.ArrayLike, " C"],
) -> Float[np.ndarray, "G C"]:
    """Treated less never-treated means after removing row and checkpoint means; (G, C).

    Not an estimate of ATT(g, c): with parallel trends it is ATT(g, c) less its mean over all
    checkpoints. Kept to reproduce published numbers.

    Source: `scripts/compute_attgt.py` of the published study's code.
    """
    outcomes, labels, _ = _panel(y, cohort, checkpoints)
    if not (labels == NEVER).any():
        raise NoControlError(f"all {len(labels)} rows are treated; add never-treated rows")
    demeaned = outcomes - outcomes.mean(axis=1, keepdims=True)
    cohorts = np.unique(labels)[:-1]
    never = demeaned[labels == NEVER].mean(axis=0)
    return np.stack([demeaned[labels == g].mean(axis=0) - never for g in cohorts])


def _panel(
    y: Any, cohort: Any, checkpoints: Any
) -> tuple[Float[np.ndarray, "U C"], Num[np.ndarray, " U"], Num[np.ndarray, " C"]]:
    grid = inputs.ascending(checkpoints)
    outcomes = inputs.outcomes(y)
    inputs.check_outcomes(outcomes, gaps=False)
    return outcomes, inputs.labels(cohort, outcomes, grid), grid


def _clusters(clusters: Any, y: Float[np.ndarray, "U C"]) -> Num[np.ndarray, " U"]:
    """Cluster of each row; rows without one are numbered behind the others."""
    given = inputs.per_row(clusters, y, "clusters", np.int64)
    rows = np.arange(len(y))
    if given is None:
        return rows
    names, number = np.unique(given, return_inverse=True)
    return np.where(given == NEVER, len(names) + rows, number)


def _check_size(cells: int, effects: int) -> None:
    if (size := cells * effects) > LARGEST:
        raise OptionError(
            f"regression: {cells} cells and {effects} effects need {size * 8 / 2**30:.1f} "
            f"GiB, expected {LARGEST * 8 / 2**30:.1f} at most; take fewer cohorts or checkpoints"
        )


@one_blas_thread
def _fit(
    y: Float[np.ndarray, "U C"],
    cohort: Num[np.ndarray, " U"],
    effects: dict[Any, Bool[np.ndarray, "H C"]],
    clusters: Num[np.ndarray, " U"],
) -> AlternativeEstimate:
    """Least squares with row and checkpoint effects on a balanced panel.

    The regressors of all rows of a cohort are alike, so they are demeaned once a cohort, and the
    whole design is never laid out: 286 event times of 16,300 rows would be 5 GB.

    Parameters
    ----------
    effects : by label, the regressor of each cohort (H of them, ascending) at each checkpoint.
    """
    _, group, count = np.unique(cohort, return_inverse=True, return_counts=True)
    x = np.stack([*effects.values()], axis=-1).astype(np.float64)  # (H, C, K)
    share = count / count.sum()
    x -= x.mean(axis=1, keepdims=True)
    x -= np.einsum("h,hck->ck", share, x)  # the mean over checkpoints is 0 already
    residual = y - y.mean(axis=1, keepdims=True)
    residual -= residual.mean(axis=0)
    order = np.argsort(group, kind="stable")
    starts = np.append(0, np.cumsum(count))
    total = np.add.reduceat(residual[order], starts[:-1], axis=0)
    design = (x * np.sqrt(count)[:, None, None]).reshape(-1, x.shape[-1])
    gram = design.T @ design
    length = np.sqrt(np.diag(gram))
    if not length.all() or np.linalg.cond(gram / np.outer(length, length)) > SINGULAR:
        raise OptionError(
            f"regression: {x.shape[-1]} effects cannot be told apart from row and checkpoint "
            "effects; take more cohorts or checkpoints"
        )
    bread = np.linalg.inv(gram)
    beta = bread @ np.einsum("hck,hc->k", x, total)
    residual -= (x @ beta)[group]
    scores = np.empty((len(y), x.shape[-1]))
    for h, start in enumerate(starts[:-1]):
        mine = order[start : starts[h + 1]]
        scores[mine] = residual[mine] @ x[h]
    by_cluster = np.zeros((clusters.max() + 1, x.shape[-1]))
    np.add.at(by_cluster, clusters, scores)
    left = np.add.reduceat(residual[order], starts[:-1], axis=0)
    by_time = np.einsum("hck,hc->ck", x, left)
    return AlternativeEstimate(
        labels=tuple(effects),
        estimate=beta,
        clustered=_errors(bread, by_cluster.T @ by_cluster),
        driscoll_kraay=_errors(bread, _bartlett(by_time)),
    )


def _bartlett(scores: Float[np.ndarray, "C K"]) -> Float[np.ndarray, "K K"]:
    """Long-run sum of squares of the scores of checkpoints, with the usual number of lags."""
    lags = int(np.floor(4 * (len(scores) / 100) ** (2 / 9)))
    total: Float[np.ndarray, "K K"] = scores.T @ scores
    for lag in range(1, min(lags, len(scores) - 1) + 1):
        product = scores[lag:].T @ scores[:-lag]
        total += (1 - lag / (lags + 1)) * (product + product.T)
    return total


def _errors(
    bread: Float[np.ndarray, "K K"], meat: Float[np.ndarray, "K K"]
) -> Float[np.ndarray, " K"]:
    variance = np.einsum("ij,jk,ki->i", bread, meat, bread, optimize=True)
    errors: Float[np.ndarray, " K"] = np.sqrt(np.maximum(variance, 0.0))
    return errors
