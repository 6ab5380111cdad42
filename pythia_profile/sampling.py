"""Which rows a study follows: the suite's order and store -> the `ROWS` table."""

from collections.abc import Sequence

import polars as pl

from data_order import TokenRows
from data_order.sample import sample_rows
from pythia_profile.errors import NotFoundError, StudyError
from pythia_profile.schema import ROWS, conform
from pythia_profile.suites.model import Suite

__all__ = ["open_rows", "sample_suite"]


def sample_suite(
    suite: Suite,
    *,
    checkpoints: Sequence[int] | None = None,
    rows_per_cohort: int = 100,
    batches_per_cohort: int = 10,
    never_treated: int = 2000,
    seed: int = 0,
) -> pl.DataFrame:
    """Draw the rows of a study from a suite's own store.

    Parameters
    ----------
    checkpoints : those to be scored; all of the suite by default. They bound the cohorts.
    rows_per_cohort : treated rows of each cohort.
    batches_per_cohort : batches they come from, the same number of rows of each; 0 draws over all
        rows of the cohort.
    never_treated : rows past the last step, which no step reads.
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
    if batches_per_cohort and rows_per_cohort % batches_per_cohort:
        raise StudyError(
            f"rows_per_cohort: got {rows_per_cohort}, expected a multiple of batches_per_cohort "
            f"({batches_per_cohort})"
        )
    rows = sample_rows(
        open_rows(suite),
        suite.order,
        list(checkpoints or _grid(suite)),
        seed=seed,
        draw="batches" if batches_per_cohort else "iid",
        batches=batches_per_cohort,
        rows_per_batch=rows_per_cohort // max(1, batches_per_cohort),
        per_cohort=rows_per_cohort,
        never=never_treated,
    )
    if suite.single_pass:
        rows = rows.with_columns(earlier_exposure=pl.lit(0.0))
    return conform(rows, ROWS)


def open_rows(suite: Suite) -> TokenRows:
    """Open the store with the suite's rows in training order.

    Raises
    ------
    NotFoundError
        The suite says of no store.
    """
    if suite.store is None:
        raise NotFoundError(f"suite '{suite.name}' names no store of its rows in training order")
    where = suite.root / suite.store if suite.root else suite.store
    return TokenRows.open(where, row_tokens=suite.row_tokens, vocabulary=suite.vocabulary)


def _grid(suite: Suite) -> list[int]:
    """Checkpoints that every size has."""
    common = set.intersection(*(set(size.checkpoints) for size in suite.sizes.values()))
    return sorted(common)
