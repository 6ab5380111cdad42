"""The true effect of training on a cohort, beside the estimate of it.

A retraining reads spare rows where the real run read the cohort. For the sampled rows of the cohort
(T) and the never-treated rows (C), at checkpoint c,

    truth(c) = mean_T (Y_c - Y'_c) - mean_C (Y_c - Y'_c)          Y real, Y' retrained

where the second difference takes out what the replaced batches did to all rows alike. Subtracting
this from the estimate leaves the estimator applied to the retraining, where nobody is treated: so
the error has a standard error of its own, by the study's own estimator and clusters.

Interference: the estimate assumes that a row's outcome does not depend on which other rows were
read with it. Where the retrainings include those that replace only the cohort's unscored rows (P),

    interference(c) = mean_T (Y_c - Y''_c) - mean_C (Y_c - Y''_c)       Y'' retrained without P

is what the peers of the scored rows did to these beyond what they did to all rows; 0 if there is
none.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy import sparse

from pythia_profile.did.att import AttGt, att_gt
from pythia_profile.did.errors import NoControlError
from pythia_profile.did.estimation import cluster_by, effects
from pythia_profile.did.inference.influence import Part, row_scores
from pythia_profile.did.panels import Panel
from pythia_profile.did.settings import Estimation
from pythia_profile.errors import EstimationError
from pythia_profile.tables import (
    COUNTERFACTUAL,
    COUNTERFACTUAL_SUMMARY,
    NEVER,
    RUN,
    conform,
)

__all__ = ["compare"]

_NULLABLE = {
    **dict.fromkeys(("cohort", "event_time"), pl.Int64),
    **dict.fromkeys(("correlation", "interference", "interference_se"), pl.Float64),
}

Values = npt.NDArray[np.float64]


def compare(
    panel: Panel, att: AttGt, settings: Estimation, retrained: pl.DataFrame
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Set the estimate of each audited cell beside the true effect.

    Parameters
    ----------
    panel, att, settings : the run's outcomes, their effects, and how these were estimated.
    retrained : from `retrain`, of the same run.

    Returns
    -------
    The `COUNTERFACTUAL` table, one line a cell, and the `COUNTERFACTUAL_SUMMARY`: bias with its own
    standard error, correlation and coverage over all cells, by cohort and by event time.

    Raises
    ------
    NoControlError
        The panel has no never-treated rows, which the truth needs whatever the controls.
    EstimationError
        The retrainings lack rows or checkpoints of the panel, or a cohort has no estimate.
    """
    if not (panel.cohort == NEVER).any():
        raise NoControlError(
            "the panel has no never-treated rows, from which the true effect takes what replacing "
            "a cohort did to all rows; add them to the sample"
        )
    if "peers" not in retrained.columns:
        retrained = retrained.with_columns(peers=False)
    frames, placebos, spillovers = [], [], []
    for (cohort,), scores in retrained.group_by("cohort", maintain_order=True):
        frame, placebo = _cohort(int(cohort), panel, att, settings, scores.filter(~pl.col("peers")))
        spillover = _spillover(placebo, panel, settings, scores.filter("peers"))
        frames.append(
            frame.with_columns(
                interference=pl.Series(spillover.effect, dtype=pl.Float64) if spillover else None,
                interference_se=pl.Series(spillover.se, dtype=pl.Float64) if spillover else None,
            )
        )
        placebos.append(placebo)
        spillovers += [spillover] if spillover else []
    named = [pl.lit(value).alias(name) for name, value in zip(RUN, panel.run, strict=True)]
    named.append(pl.lit(panel.outcome).alias("outcome"))
    if not any(len(frame) for frame in frames):
        raise EstimationError("no cell of the retrained cohorts has an estimate; see the att table")
    table = pl.concat(frames).with_columns(
        *named, covered=pl.col("truth").is_between("lower", "upper")
    )
    summary = _summary(table, placebos, spillovers).with_columns(*named)
    return conform(table, COUNTERFACTUAL), conform(summary, COUNTERFACTUAL_SUMMARY)


@dataclass(frozen=True, slots=True)
class Placebo:
    """An estimate from one retraining, of an effect that the left-out rows should not have.

    Attributes
    ----------
    att : effects in the retraining.
    row : index of the left-out cohort in them.
    columns : (L,) indices of the compared checkpoints.
    """

    att: AttGt
    row: int
    columns: npt.NDArray[np.int64]

    @property
    def effect(self) -> Values:
        """(L,) the estimate at the compared checkpoints."""
        found: Values = self.att.att[self.row, self.columns]
        return found

    @property
    def se(self) -> Values:
        """(L,) its standard error."""
        found: Values = self.att.se[self.row, self.columns]
        return found


def _cohort(
    cohort: int, panel: Panel, att: AttGt, settings: Estimation, scores: pl.DataFrame
) -> tuple[pl.DataFrame, Placebo]:
    """Compare the cells of one cohort."""
    later = scores["checkpoint"].unique().sort().to_numpy()
    if cohort not in att.cohorts or not np.isin(later, panel.checkpoints).all():
        raise EstimationError(
            f"cohort {cohort} was retrained until checkpoint {later[-1]}, of which the study's "
            "effects lack a part; score every checkpoint of the audited size"
        )
    row = int(np.searchsorted(att.cohorts, cohort))
    columns = np.searchsorted(panel.checkpoints, later)
    # without controls not yet read, late cells have no estimate to compare
    estimated = att.identified[row, columns]
    later, columns = later[estimated], columns[estimated]
    own, never = panel.cohort == cohort, panel.cohort == NEVER
    compared = np.flatnonzero(own | never)
    real = panel.y[np.ix_(compared, columns)]
    without = _matrix(scores, panel.row_id[compared], later, panel.outcome)
    change, weight = real - without, panel.weight[compared]
    of_cohort = own[compared]
    common = _mean(change[~of_cohort], weight[~of_cohort])
    truth = _mean(change[of_cohort], weight[of_cohort]) - common
    placebo = _placebo(cohort, panel, settings, compared, columns, real - change, common)
    estimate = att.att[row, columns]
    lower, upper = (side[row, columns] for side in att.interval(settings.level))
    frame = pl.DataFrame(
        {
            "cohort": np.full(len(later), cohort),
            "checkpoint": later,
            "event_time": later - cohort,
            "att": estimate,
            "se": att.se[row, columns],
            "lower": lower,
            "upper": upper,
            "truth": truth,
            "error": estimate - truth,
            "error_se": placebo.se,
        }
    )
    return frame, placebo


def _placebo(
    cohort: int,
    panel: Panel,
    settings: Estimation,
    compared: npt.NDArray[np.int64],
    columns: npt.NDArray[np.int64],
    without: Values,
    common: Values,
) -> Placebo:
    """Estimate the left-out cohort's effects from retrained outcomes.

    Rows of later cohorts were not scored again; as controls they are moved by what the replacement
    did to the never-treated rows.
    """
    y = panel.y.copy()
    y[:, columns] -= common
    y[np.ix_(compared, columns)] = without
    laid = replace(panel, y=y)
    if settings.control == "never":
        kept = np.isin(np.arange(len(panel)), compared)
        laid = laid.keep(kept, f"not compared with cohort {cohort}")
    att = effects(laid, settings)
    return Placebo(att, int(np.searchsorted(att.cohorts, cohort)), columns)


def _spillover(
    placebo: Placebo, panel: Panel, settings: Estimation, scores: pl.DataFrame
) -> Placebo | None:
    """Estimate what the unscored rows of a cohort did to its scored ones; None if not retrained."""
    if not len(scores):
        return None
    cohort = placebo.att.cohorts[placebo.row]
    later = panel.checkpoints[placebo.columns]
    compared = np.flatnonzero((panel.cohort == cohort) | (panel.cohort == NEVER))
    cells = np.ix_(compared, placebo.columns)
    # the change between the runs is the outcome: its difference from the base, where both runs are
    # one, is itself
    y = np.zeros_like(panel.y)
    y[cells] = panel.y[cells] - _matrix(scores, panel.row_id[compared], later, panel.outcome)
    by, _ = cluster_by(settings.clusters, panel)
    att = att_gt(
        y[compared],
        panel.cohort[compared],
        panel.checkpoints,
        clusters=panel.cluster[compared] if by == "batch" else None,
        weights=panel.weight[compared],
        units=panel.row_id[compared],
        missing="available" if np.isnan(y[compared]).any() else "error",
    )
    return Placebo(att, 0, placebo.columns)


def _summary(
    table: pl.DataFrame, placebos: Sequence[Placebo], spillovers: Sequence[Placebo]
) -> pl.DataFrame:
    times = table["event_time"].unique().sort().to_list()
    slices: list[tuple[str, int | None, pl.Expr]] = [("all", None, pl.lit(True))]
    slices += [
        ("cohort", cohort, pl.col("cohort") == cohort)
        for cohort in table["cohort"].unique(maintain_order=True)
    ]
    slices += [("event_time", time, pl.col("event_time") == time) for time in times]
    lines = []
    for by, at, chosen in slices:
        cells = table.filter(chosen)
        lines.append(
            {
                "by": by,
                "cohort": at if by == "cohort" else None,
                "event_time": at if by == "event_time" else None,
                "cells": len(cells),
                "bias": cells["error"].mean(),
                "bias_se": standard_error_of_mean([_in(cells, one) for one in placebos]),
                "correlation": _correlation(cells),
                "coverage": cells["covered"].cast(pl.Float64).mean(),
                "interference": cells["interference"].mean(),
                "interference_se": standard_error_of_mean([_in(cells, one) for one in spillovers])
                if spillovers
                else None,
            }
        )
    return pl.DataFrame(lines, schema_overrides=_NULLABLE)


def _in(cells: pl.DataFrame, placebo: Placebo) -> tuple[Placebo, npt.NDArray[np.bool_]]:
    """Pair placebo estimates with which of their cells (L,) are among some lines of the table."""
    cohort = int(placebo.att.cohorts[placebo.row])
    mine = cells.filter(pl.col("cohort") == cohort)["checkpoint"].to_numpy()
    return placebo, np.isin(placebo.att.checkpoints[placebo.columns], mine)


def standard_error_of_mean(parts: Sequence[tuple[Placebo, npt.NDArray[np.bool_]]]) -> float:
    """Give the mean of placebo estimates over cells of several cohorts its standard error.

    Cells of one cohort share their treated rows, and all cells share the control rows, so each
    cluster's contributions are summed over cells before they are squared.

    Parameters
    ----------
    parts : of each cohort its placebo estimates, and which of its cells (L,) count.
    """
    cells = sum(int(chosen.sum()) for _, chosen in parts)
    names, values = [], []
    for placebo, chosen in parts:
        att = placebo.att
        rows = att.fit.rows
        grid = np.zeros(att.att.shape)
        grid[placebo.row, placebo.columns[chosen]] = 1 / cells
        weights = sparse.csr_array(grid.reshape(1, -1))
        for h, scores in row_scores(Part(att, weights, np.zeros((len(att.cohorts), 1)))):
            clusters = rows.clusters_of(h)
            # a cluster's label and a row's id may be equal numbers: the stream tells them apart
            names.append(np.c_[rows.cluster_stream[clusters], rows.cluster_id[clusters]])
            values.append(rows.by_cluster(scores, h)[:, 0] * np.sqrt(att.fit.sums.factor[h]))
    if not names:
        return 0.0
    _, cluster = np.unique(np.concatenate(names), axis=0, return_inverse=True)
    summed = np.bincount(cluster.ravel(), np.concatenate(values))
    return float(np.sqrt((summed**2).sum()))


def _mean(values: Values, weight: Values) -> Values:
    """Weighted mean over rows of (n, L) values, rows without a value left out."""
    known = np.isfinite(values)
    total: Values = (np.where(known, values, 0.0) * weight[:, None]).sum(axis=0)
    mean: Values = total / (known * weight[:, None]).sum(axis=0)
    return mean


def _matrix(
    scores: pl.DataFrame,
    rows: npt.NDArray[np.int64],
    checkpoints: npt.NDArray[np.int64],
    outcome: str,
) -> Values:
    """(rows, checkpoints) outcomes, both ascending; every cell must have a score."""
    wanted = pl.DataFrame({"row_id": rows}).join(
        pl.DataFrame({"checkpoint": checkpoints}), how="cross", maintain_order="left_right"
    )
    found = wanted.join(
        scores.select("row_id", "checkpoint", outcome),
        on=["row_id", "checkpoint"],
        how="left",
        maintain_order="left",
    )[outcome]
    if found.null_count():
        raise EstimationError(
            f"the retrainings lack {found.null_count():,} of {len(found):,} cells of the panel's "
            "rows; train them again for this sample"
        )
    return found.to_numpy().reshape(len(rows), len(checkpoints))


def _correlation(cells: pl.DataFrame) -> float | None:
    if len(cells) < 3:
        return None
    return float(np.corrcoef(cells["att"], cells["truth"])[0, 1])
