"""ATT(g, c) from two runs that read the same rows in different orders.

In: the panels of runs A and B. Out: `AttGt` of run A. A row that A has read by checkpoint c, and B
has not, has its own counterfactual in B; what else sets the two runs apart is taken off by the rows
that neither has read. With D = Y_A − Y_B of a row at c, less θ times the same at the base,

    ATT(g, c) = mean D of rows of A's cohort g that B has not read by c
              − mean D of rows that neither A nor B has read by c

Both runs' orders are random, so B's order only chooses a random part of each side. A row whose
level is hard to tell does no harm, as it is in both runs: of early cohorts, which have no useful
base, the effect is known far better than by difference-in-differences (`inference/combined` puts
both together); of late cohorts, few rows are still unread in B.

θ is 0 for `diff`, 1 for `did`; for `ancova`, the slope of D at c on D at the base among the
controls. Controls and treated rows have the same expectation of D at the base, so the error of the
slope is of second order, and the slope counts as known.

Source: the plain difference is randomization inference by rows, as in Imbens and Rubin (2015),
chapter 6; the adjustment is Lin (2013).
"""

from dataclasses import dataclass, replace

import numpy as np
from jaxtyping import Bool, Float, Int, Num

from data_order.order import cohort_of_steps
from pythia_profile.did.arguments import check_option, counted
from pythia_profile.did.att import AttGt, Fit, few_clusters
from pythia_profile.did.comparison import Comparison, compare
from pythia_profile.did.errors import NoControlError, NoRowsError, PanelShapeError
from pythia_profile.did.estimation import cluster_by
from pythia_profile.did.group_means import GroupMeans
from pythia_profile.did.known_rows import FEWEST, cell_members, known_means
from pythia_profile.did.moments import RowLabels, Rows, gather, summarize
from pythia_profile.did.panels import Panel
from pythia_profile.did.settings import DEFAULT, Control, Estimation, Estimator
from pythia_profile.did.threads import one_blas_thread
from pythia_profile.tables import NEVER

__all__ = ["Pair", "crossover", "pair"]


@dataclass(frozen=True, slots=True, eq=False)
class Pair:
    """Run A on the rows and checkpoints that it shares with run B, and what B says of them.

    Attributes
    ----------
    panel : of run A, with the cohorts of the common checkpoints.
    other : (U, C) outcomes in run B.
    read : (U,) step of B that reads each row; NEVER where none does.
    """

    panel: Panel
    other: Float[np.ndarray, "U C"]
    read: Int[np.ndarray, " U"]


def pair(one: Panel, other: Panel) -> Pair:
    """Match two runs by row and checkpoint.

    Rows that A had read by the first common checkpoint have no base there, and are dropped. Rows
    that B does not have count as read in B from the start: they serve A's own estimate alone.

    Raises
    ------
    PanelShapeError
        Different outcomes, one and the same order, or fewer than two common checkpoints.
    NoRowsError
        No common rows, or the steps of one run are not known.
    """
    if one.outcome != other.outcome:
        raise PanelShapeError(f"crossover: outcomes '{one.outcome}' and '{other.outcome}'")
    if one.step is None or other.step is None:
        raise NoRowsError("crossover: a panel without treatment steps; lay it out by `did.panel`")
    grid = np.intersect1d(one.checkpoints, other.checkpoints)
    if len(grid) < 2:
        raise PanelShapeError(
            f"crossover: {counted(len(grid), 'common checkpoint')} of {len(one.checkpoints)} and "
            f"{len(other.checkpoints)}, expected two or more; score both runs at the same ones"
        )
    shared, mine, theirs = np.intersect1d(one.row_id, other.row_id, return_indices=True)
    read = np.full(len(one), grid[0])
    read[mine] = other.step[theirs]
    outcomes = np.full((len(one), len(grid)), np.nan)
    outcomes[mine] = other.y[theirs][:, np.isin(other.checkpoints, grid)]
    late = one.step > grid[0]
    if not (late & (read > grid[0])).any():
        raise NoRowsError(
            f"crossover: of {len(one)} and {len(other)} rows {len(shared)} have the same row_id, "
            f"and none of these is read after checkpoint {grid[0]} in both runs; expected the same "
            "rows in both, under the same ids"
        )
    cohort = cohort_of_steps(one.step, grid)
    if (cohort_of_steps(read, grid)[mine] == cohort[mine]).all():
        raise PanelShapeError(
            f"crossover: both runs read all {len(mine)} rows in one order; expected two orders"
        )
    columns = np.isin(one.checkpoints, grid)
    laid = replace(
        one,
        y=one.y[:, columns],
        cohort=cohort,
        checkpoints=grid,
        beside={name: values[:, columns] for name, values in one.beside.items()},
    )
    if not late.all():
        laid = laid.keep(late, f"read by checkpoint {grid[0]}")
    return Pair(laid, outcomes[late], read[late])


@one_blas_thread
def crossover(
    one: Panel | Pair,
    other: Panel | None = None,
    settings: Estimation = DEFAULT,
    *,
    estimator: Estimator = "ancova",
    fewest: int = FEWEST,
) -> AttGt:
    """Estimate ATT(g, c) of run `one` with run `other` as the counterfactual of each row.

    Rows of both panels are matched by `row_id`. Clusters are those of `one`, whose batches are
    treated; controls are all rows that neither run has read, never-treated or not yet. Cells with
    fewer than `fewest` rows (or clusters) that `other` has not read have no estimate.

    Parameters
    ----------
    one, other : panels of the two runs; or the pair that `pair` made of them.
    settings : anticipation and clusters as in `effects`; control, estimator and covariates are not
        used here.
    estimator : see the head of this module.
    fewest : 2 or more; a variance of few says little, so combinations need some.

    Raises
    ------
    PanelShapeError, NoRowsError
        The runs cannot be matched; see `pair`.
    NoControlError
        No row is unread in both runs at any checkpoint.
    """
    check_option(estimator, Estimator, "estimator")
    if isinstance(one, Pair):
        both = one
    elif other is None:
        raise NoRowsError("crossover: one run alone; expected two panels, or a pair")
    else:
        both = pair(one, other)
    laid = both.panel
    by, chosen = cluster_by(settings.clusters, laid)
    labels = RowLabels(laid.cluster if by == "batch" else None, laid.weight, laid.row_id)
    known = (both.read[:, None] > laid.checkpoints) & ~np.isnan(laid.y) & ~np.isnan(both.other)
    gap = np.where(known, laid.y - both.other, 0.0)
    rows = gather(gap, laid.cohort, labels, levels=True, center=np.zeros(len(laid.checkpoints)))
    control: Control = "both" if (laid.cohort == NEVER).any() else "not_yet"
    fixed = settings.replace(control=control, base="universal", estimator=estimator, covariates=())
    att = _effects(rows, known[rows.input_index], laid.checkpoints, fixed, fewest)
    if not att.identified.any():
        raise NoControlError(
            f"crossover: no checkpoint has rows that {both.panel.run} has read and the other run "
            "has not, beside rows that neither has; sample more rows of early cohorts"
        )
    return replace(att, notes=(*laid.notes, *chosen, *att.notes))


def _effects(
    rows: Rows,
    known: Bool[np.ndarray, "U C"],
    checkpoints: Num[np.ndarray, " C"],
    settings: Estimation,
    fewest: int,
) -> AttGt:
    sums = summarize(rows)
    cohorts = sums.labels[sums.labels != NEVER]
    never = len(cohorts) < len(sums.labels)
    comparison = compare(cohorts, checkpoints, never=never, settings=settings)
    if settings.estimator == "ancova":
        comparison = replace(comparison, theta=_slopes(rows, known, comparison))
    means = known_means(rows, known, comparison, fewest)
    variance = means.components(rows, comparison)
    shape = comparison.base.shape
    # Aggregates weigh a cohort by all of its rows, as those of the run alone do.
    whole = np.broadcast_to(sums.total[: len(cohorts), -1:], shape)
    treated = GroupMeans(means.n_treated, means.treated_clusters, whole, means.treated)
    control = GroupMeans(means.n_control, means.control_clusters, means.control_mass, means.control)
    att = AttGt(
        cohorts=cohorts,
        checkpoints=checkpoints,
        att=means.effect,
        se=np.where(means.identified, np.sqrt(variance.treated + variance.control), np.nan),
        n_treated=means.n_treated,
        n_control=means.n_control,
        fit=Fit(settings, comparison, sums, treated, control, variance, None, rows, means),
    )
    without = int((comparison.post & ~means.identified).sum())
    note = f"{without} of {int(comparison.post.sum())} cells from the cohort on have too few rows "
    found = (f"{note}that the other run has not read, and no estimate",) if without else ()
    return replace(att, notes=(*found, *few_clusters(att)))


def _slopes(
    rows: Rows, known: Bool[np.ndarray, "U C"], comparison: Comparison
) -> Float[np.ndarray, "G C"]:
    """Slope of D at c on D at the base among each cell's controls; 0 where that does not vary."""
    theta = np.zeros(comparison.base.shape)
    for g, base in enumerate(comparison.base[:, -1]):
        control = cell_members(rows, known, comparison, g)[1]
        b = max(int(base), 0)
        weight = control * rows.weight[:, None]
        mass = np.maximum(weight.sum(axis=0), 1e-300)
        at_base, y = rows.y[:, b, None], rows.y
        mean_b, mean_c = (weight * at_base).sum(axis=0) / mass, (weight * y).sum(axis=0) / mass
        square = (weight * (at_base - mean_b) ** 2).sum(axis=0)
        cross = (weight * (at_base - mean_b) * (y - mean_c)).sum(axis=0)
        theta[g] = np.where(square > 0, cross / np.where(square > 0, square, 1.0), 0.0)
        theta[g, b] = 1.0
    return theta
