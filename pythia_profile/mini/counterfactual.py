"""The true effect of training on a cohort, beside the difference-in-differences estimate of it.

A twin run reads spare rows where the real run read the cohort. For the sampled rows of the cohort
(T) and the never-treated rows (C), at checkpoint c,

    truth(c) = mean_T (Y_c - Y'_c) - mean_C (Y_c - Y'_c)          Y real, Y' twin

where the second difference takes out what the replaced batches did to all rows alike. Subtracting
this from the estimate leaves the estimator applied to the twin, where nobody is treated, so the
error has a standard error of its own.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy.stats import norm

from data_order.order import cohort_of_steps
from pythia_profile.did import att_gt
from pythia_profile.errors import EstimationError, NotFoundError
from pythia_profile.execute.commands import run_workers
from pythia_profile.execute.resources import available_cores
from pythia_profile.mini.build import config_of
from pythia_profile.progress import track
from pythia_profile.store import digest, write_table
from pythia_profile.suites.model import Suite
from pythia_profile.tables import (
    COUNTERFACTUAL,
    COUNTERFACTUAL_SUMMARY,
    NEVER,
    ROWS,
    conform,
)

__all__ = ["audited_cohorts", "compare", "train_twins"]

TWIN = "pythia_profile.mini.twin"


def audited_cohorts(suite: Suite, count: int) -> list[int]:
    """`count` different cohorts spread evenly over the run, without its first quarter.

    There the loss falls fastest and the rows' trends differ most, so that a cell of 96 rows says
    least about the estimator: its error has a standard error of .02 to .05 nats, against .003 to
    .02 later (xs, seeds 1 and 2). Where more are asked for than the rest has, they are spread over
    the whole run.

    Examples
    --------
    >>> [4 + place * 12 // 5 for place in range(5)]  # of 16 cohorts
    [4, 6, 8, 11, 13]
    """
    cohorts = config_of(suite).checkpoints[1:]
    if not 1 <= count <= len(cohorts):
        raise NotFoundError(f"{count} cohorts asked for, the suite has {len(cohorts)}")
    if count <= len(cohorts) - len(cohorts) // 4:
        cohorts = cohorts[len(cohorts) // 4 :]
    return [cohorts[place * len(cohorts) // count] for place in range(count)]


def train_twins(
    suite: Suite,
    size: str,
    cohorts: Sequence[int],
    rows: pl.DataFrame,
    *,
    folder: Path,
    horizon: int = 0,
    workers: int | None = None,
) -> pl.DataFrame:
    """Train a twin run for each cohort and score the cohort's and the never-treated rows in it.

    Parameters
    ----------
    rows : the `ROWS` table.
    horizon : checkpoints after the cohort's own at which a twin is scored before it ends; 0 for all
        that follow.
    folder : where finished twins are kept and found again.

    Returns
    -------
    `SCORES` of the twins, with a column `cohort` that says which one the twin never read.
    """
    config, home = config_of(suite), suite.root
    suite.size(size)
    of_row = _cohorts(rows, config.checkpoints)
    commands, outputs, steps = [], {}, 0
    for cohort in cohorts:
        followed = rows.filter((of_row == cohort) | (of_row == NEVER))
        named = [size, cohort, horizon, followed["row_id"].to_list(), str(home and home.name)]
        key = digest(named)[:16]
        out = folder / size / f"cohort{cohort}" / f"{key}.parquet"
        outputs[cohort] = out
        if not out.exists():
            needed = out.with_name("rows.parquet")
            write_table(followed, needed, ROWS)
            last = last_checkpoint(config.checkpoints, cohort, horizon)
            commands.append([TWIN, str(home), size, str(cohort), str(last), str(needed), str(out)])
            steps += last - max(s for s in config.checkpoints if s < cohort)
    if commands:
        with track(f"training {len(commands)} twins of {size}", steps, "steps") as task:
            run_workers(
                commands,
                workers=workers or available_cores(),
                on_line=lambda line: task.advance(int(line)),
            )
    twins = [
        pl.read_parquet(out).with_columns(cohort=pl.lit(cohort, pl.Int64))
        for cohort, out in outputs.items()
    ]
    return pl.concat(twins).with_columns(
        suite=pl.lit(suite.name), size=pl.lit(size), seed=pl.lit(suite.seed, pl.Int64)
    )


def last_checkpoint(checkpoints: Sequence[int], cohort: int, horizon: int) -> int:
    """Return the checkpoint at which a cohort's twin ends.

    Examples
    --------
    >>> last_checkpoint([0, 32, 64, 96], 32, 1), last_checkpoint([0, 32, 64, 96], 32, 0)
    (64, 96)
    """
    later = [step for step in checkpoints if step >= cohort]
    return later[-1] if not horizon else later[: horizon + 1][-1]


def compare(
    rows: pl.DataFrame,
    scores: pl.DataFrame,
    twins: pl.DataFrame,
    *,
    outcome: str = "log_likelihood",
    level: float = 0.95,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Set the estimate of each audited cell beside the true effect.

    Parameters
    ----------
    rows, scores : the tables of the study.
    twins : from `train_twins`, of one size.
    level : of the pointwise intervals whose coverage is counted.

    Returns
    -------
    The `COUNTERFACTUAL` table, one line a cell, and the `COUNTERFACTUAL_SUMMARY`: bias with its own
    standard error, correlation and coverage over all cells, by cohort and by lag.
    """
    run = twins.select("suite", "size", "seed").row(0, named=True)
    real = scores.filter(pl.col("size") == run["size"])
    checkpoints = real["checkpoint"].unique().sort().to_numpy()
    cells = [
        _twin_cells(cohort, rows, real, twin, checkpoints, outcome)
        for (cohort,), twin in twins.group_by("cohort", maintain_order=True)
    ]
    frames, influences = zip(*cells, strict=True)
    reach = float(norm.ppf(0.5 + level / 2))
    table = pl.concat(frames).with_columns(
        **{name: pl.lit(value) for name, value in run.items()},
        outcome=pl.lit(outcome),
        lower=pl.col("att") - reach * pl.col("se"),
        upper=pl.col("att") + reach * pl.col("se"),
    )
    table = table.with_columns(covered=pl.col("truth").is_between("lower", "upper"))
    return (
        conform(table, COUNTERFACTUAL),
        conform(_summary(table, influences, run, outcome), COUNTERFACTUAL_SUMMARY),
    )


def _twin_cells(
    cohort: int,
    rows: pl.DataFrame,
    real: pl.DataFrame,
    twin: pl.DataFrame,
    checkpoints: npt.NDArray[np.int64],
    outcome: str,
) -> tuple[pl.DataFrame, "Influence"]:
    """Estimate and truth at the cohort's checkpoint and every later one that its twin has."""
    of_row = _cohorts(rows, checkpoints.tolist())
    followed = rows.select("row_id").with_columns(cohort=of_row).sort("row_id")
    followed = followed.filter(pl.col("cohort").is_in([cohort, NEVER]))
    treated = (followed["cohort"] == cohort).to_numpy()
    base = int(checkpoints[checkpoints < cohort].max())
    later = checkpoints[np.isin(checkpoints, twin["checkpoint"].unique().to_numpy())]
    y = _matrix(real, followed, later, outcome)
    y_base = _matrix(real, followed, np.array([base]), outcome)
    y_twin = _matrix(twin, followed, later, outcome)
    label = np.where(treated, cohort, NEVER)
    grid = np.array([base, *later])
    estimate = att_gt(np.hstack([y_base, y]), label, grid)
    error = att_gt(np.hstack([y_base, y_twin]), label, grid)
    truth = _gap(y - y_twin, treated)
    frame = pl.DataFrame(
        {
            "cohort": [cohort] * len(later),
            "checkpoint": later,
            "lag": later - cohort,
            "att": estimate.att[0, 1:],
            "se": estimate.se[0, 1:],
            "truth": truth,
            "error": estimate.att[0, 1:] - truth,
            "error_se": error.se[0, 1:],
        }
    )
    return frame, Influence(later - cohort, y_twin - y_base, treated)


@dataclass(frozen=True, slots=True)
class Influence:
    """What each row adds to the error of one cohort's cells.

    Attributes
    ----------
    lags : (L,) optimizer steps since the cohort.
    change : (n, L) outcome in the twin less outcome at the base; the error is its treated mean
        less its control mean.
    treated : (n,) rows of the cohort; the others are the same never-treated rows for all cohorts.
    """

    lags: npt.NDArray[np.int64]
    change: npt.NDArray[np.float64]
    treated: npt.NDArray[np.bool_]


def _summary(
    table: pl.DataFrame, influences: Sequence[Influence], run: dict[str, object], outcome: str
) -> pl.DataFrame:
    cohorts = table["cohort"].unique(maintain_order=True).to_list()
    lags = table["lag"].unique().sort().to_list()
    slices: list[tuple[str, int | None, pl.Expr]] = [("all", None, pl.lit(True))]
    slices += [("cohort", cohort, pl.col("cohort") == cohort) for cohort in cohorts]
    slices += [("lag", lag, pl.col("lag") == lag) for lag in lags]
    lines = []
    for over, at, chosen in slices:
        cells = table.filter(chosen)
        kept = [
            (part, part.lags == at if over == "lag" else np.full(len(part.lags), True))
            for cohort, part in zip(cohorts, influences, strict=True)
            if over != "cohort" or cohort == at
        ]
        lines.append(
            {
                **run,
                "outcome": outcome,
                "over": over,
                "at": at,
                "cells": len(cells),
                "bias": cells["error"].mean(),
                "bias_se": bias_standard_error(kept),
                "correlation": _correlation(cells),
                "coverage": cells["covered"].cast(pl.Float64).mean(),
            }
        )
    return pl.DataFrame(lines, schema_overrides={"at": pl.Int64, "correlation": pl.Float64})


def bias_standard_error(parts: Sequence[tuple[Influence, npt.NDArray[np.bool_]]]) -> float:
    """Give the mean error over cells of several cohorts its standard error.

    Cells of one cohort share their treated rows, and all cells share the never-treated rows, so
    each row's contributions are summed over cells before the variance is taken.

    Parameters
    ----------
    parts : of each cohort its influence, and which of its lags (L,) count.
    """
    cells = sum(int(kept.sum()) for _, kept in parts)
    variance, controls = 0.0, 0.0
    for part, kept in parts:
        contribution = part.change[:, kept].sum(axis=1) / cells
        variance += contribution[part.treated].var() / part.treated.sum()
        controls = controls + contribution[~part.treated]
    return float(np.sqrt(variance + np.var(controls) / np.size(controls)))


def _gap(
    values: npt.NDArray[np.float64], treated: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float64]:
    gap: npt.NDArray[np.float64] = values[treated].mean(axis=0) - values[~treated].mean(axis=0)
    return gap


def _matrix(
    scores: pl.DataFrame,
    followed: pl.DataFrame,
    checkpoints: npt.NDArray[np.int64],
    outcome: str,
) -> npt.NDArray[np.float64]:
    """(rows, checkpoints) outcomes, both ascending; every cell must be there."""
    wanted = followed.select("row_id").join(
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
            f"scores lack {found.null_count():,} of {len(found):,} cells that the audit compares; "
            "score every checkpoint of the audited size"
        )
    return found.to_numpy().reshape(len(followed), len(checkpoints))


def _cohorts(rows: pl.DataFrame, checkpoints: Sequence[int]) -> pl.Series:
    steps = rows["treatment_step"].fill_null(NEVER).to_numpy()
    return pl.Series("cohort", cohort_of_steps(steps, checkpoints))


def _correlation(cells: pl.DataFrame) -> float | None:
    if len(cells) < 3:
        return None
    return float(np.corrcoef(cells["att"], cells["truth"])[0, 1])
