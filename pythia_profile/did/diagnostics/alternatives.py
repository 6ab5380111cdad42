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

The regressions are linearmodels' `PanelOLS`, with errors clustered by row or batch, and those of
Driscoll and Kraay, which allow for shocks common to all rows of a checkpoint.

Sources: Goodman-Bacon (2021) and Sun and Abraham (2021) on what the regressions estimate; Driscoll
and Kraay (1998).
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float, Num, Shaped

from pythia_profile.did import arguments as inputs
from pythia_profile.did.errors import NoControlError, OptionError
from pythia_profile.did.moments import Step
from pythia_profile.did.threads import one_blas_thread
from pythia_profile.tables import NEVER

if TYPE_CHECKING:
    import pandas as pd

LARGEST = 2**28
"""Most numbers that a regression's design may hold (2 GiB)."""

DENSE = 2**24
"""Most numbers of the dummies of checkpoints; beyond, linearmodels is to do without them."""


@dataclass(frozen=True, slots=True, eq=False)
class AlternativeEstimate:
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
    treated = (grid >= labels[:, None]).astype(np.float64)
    return _fit(outcomes, {None: treated}, grid, _clusters(clusters, outcomes))


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
    since = np.arange(len(grid)) - np.searchsorted(grid, labels)[:, None]
    treated = (labels != NEVER)[:, None]
    times = [e for e in np.unique(since[treated[:, 0]]) if e != -1]
    _check_size(outcomes.size, len(times))
    dummies = {float(e): ((since == e) & treated).astype(np.float64) for e in times}
    return _fit(outcomes, dummies, grid, _clusters(clusters, outcomes))


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
    effect = np.zeros((int(rows.sum()), 2))
    effect[labels[rows] == g, int(column[0] > base)] = 1.0
    named = _clusters(clusters, outcomes)
    return _fit(outcomes[rows][:, pair], {c - g: effect}, grid[pair], named[rows])


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


def _check_size(outcomes: int, effects: int) -> None:
    if (size := outcomes * (effects + 1)) > LARGEST:
        raise OptionError(
            f"regression: {outcomes} outcomes and {effects} effects need {size * 8 / 2**30:.0f} "
            f"GiB, expected {LARGEST * 8 / 2**30:.0f} at most; take fewer rows or checkpoints"
        )


@one_blas_thread
def _fit(
    y: Float[np.ndarray, "U C"],
    dummies: dict[Any, Bool[np.ndarray, "U C"] | Float[np.ndarray, "U C"]],
    grid: Num[np.ndarray, " C"],
    clusters: Num[np.ndarray, " U"],
) -> AlternativeEstimate:
    import pandas as pd
    from linearmodels.panel import PanelOLS

    _check_size(y.size, len(dummies))
    index = pd.MultiIndex.from_product([np.arange(len(y)), np.arange(len(grid))])
    outcome = pd.Series(y.ravel(), index=index, name="y")
    names = [f"x{k}" for k in range(len(dummies))]
    columns = {name: x.ravel() for name, x in zip(names, dummies.values(), strict=True)}
    model = PanelOLS(
        outcome, pd.DataFrame(columns, index=index), entity_effects=True, time_effects=True
    )
    plain: dict[str, Any] = {
        "auto_df": False,
        "count_effects": False,
        "debiased": False,
        "low_memory": y.size * min(y.shape) > DENSE,
    }
    by_cluster = pd.DataFrame({"cluster": np.repeat(clusters, len(grid))}, index=index)
    clustered = model.fit(cov_type="clustered", clusters=by_cluster, **plain)
    common = model.fit(cov_type="driscoll-kraay", **plain)
    return AlternativeEstimate(
        labels=tuple(dummies),
        estimate=_ordered(clustered.params, names),
        clustered=_ordered(clustered.std_errors, names),
        driscoll_kraay=_ordered(common.std_errors, names),
    )


def _ordered(values: "pd.Series[float]", names: list[str]) -> Float[np.ndarray, " K"]:
    return np.asarray(values[names], dtype=np.float64)
