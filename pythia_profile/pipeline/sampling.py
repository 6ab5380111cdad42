"""Which rows a study follows: the suite's order and store -> the `ROWS` table."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from data_order import TokenRows, TrainingOrder
from data_order.sample import Draw
from data_order.sample import sample_rows as draw_rows
from pythia_profile.errors import NotFoundError, StudyError
from pythia_profile.suites.model import Suite
from pythia_profile.tables import ROWS, conform

__all__ = ["open_rows", "sample_rows"]


def sample_rows(
    suite: Suite,
    *,
    checkpoints: Sequence[int] | None = None,
    rows_per_cohort: int | None = None,
    batches_per_cohort: int | None = None,
    never_treated: int | None = None,
    seed: int = 0,
) -> pl.DataFrame:
    """Draw the rows of a study from a suite's own store.

    Parameters
    ----------
    checkpoints : those to be scored; all of the suite by default. They bound the cohorts.
    rows_per_cohort : treated rows of each cohort; what the suite proposes, or 100.
    batches_per_cohort : batches they come from, the same number of rows of each; 0 draws over all
        rows of the cohort. What the suite proposes, or 10.
    never_treated : rows past the last step, which no step reads; what the suite proposes, or 2000.
        Where a store ends with the run, as Pythia's does, they are rows that steps after the last
        of `checkpoints` read: none of these checkpoints has read them.
    seed : of the draw.

    Returns
    -------
    The `ROWS` table. `earlier_exposure` is 0 where the suite's run passes over its text once, null
    where that is not known.

    Raises
    ------
    StudyError
        The rows of a cohort cannot be shared out over its batches.
    OrderError
        A cohort or the never-treated rows are fewer than asked for.
    """
    per_cohort = _chosen(rows_per_cohort, suite, "rows_per_cohort", 100)
    batches = _chosen(batches_per_cohort, suite, "batches_per_cohort", 10)
    if batches and per_cohort % batches:
        raise StudyError(
            f"rows_per_cohort: got {per_cohort}, expected a multiple of batches_per_cohort "
            f"({batches})"
        )
    store, steps = open_rows(suite), list(checkpoints or _grid(suite))
    never = _chosen(never_treated, suite, "never_treated", 2000)
    draw = Draw(
        kind="batches" if batches else "iid",
        batches=batches,
        rows_per_batch=per_cohort // max(1, batches),
        per_cohort=per_cohort,
        never=never,
        seed=seed,
    )
    rows = draw_rows(store, _window(suite.order, len(store), steps, never), steps, draw)
    if suite.single_pass:
        rows = rows.with_columns(earlier_exposure=pl.lit(0.0))
    return conform(rows, ROWS)


def _chosen(asked: int | None, suite: Suite, name: str, usual: int) -> int:
    proposed = suite.study_defaults.get(name)
    known = (asked, proposed if isinstance(proposed, int) else None, usual)
    return next(value for value in known if value is not None)


def open_rows(suite: Suite) -> TokenRows:
    """Open the store with the suite's rows in training order.

    Raises
    ------
    NotFoundError
        The suite says of no store.
    """
    if suite.store is None:
        raise NotFoundError(f"suite '{suite.name}' names no store of its rows in training order")
    here = suite.root is not None and not suite.store.startswith("hf://")
    where = (suite.root or Path()) / suite.store if here else suite.store
    return TokenRows.open(where, row_tokens=suite.row_tokens, vocabulary=suite.vocabulary)


def _window(order: TrainingOrder, rows: int, checkpoints: list[int], never: int) -> TrainingOrder:
    """Return the part of the run that a study looks at, so that rows are left that it did not read.

    All of it where enough rows lie past the last step; else it ends at the last checkpoint.
    """
    last = max(checkpoints, default=0)
    if rows - order.rows >= never or not 0 < last < order.steps:
        return order
    return TrainingOrder(order.batch_size, last)


def _grid(suite: Suite) -> list[int]:
    """Checkpoints that every size has, and with which a study begins."""
    common = set.intersection(*(set(suite.usual_checkpoints(size)) for size in suite.sizes))
    return sorted(common)
