"""Which rows a study follows: a suite's order and store -> the `ROWS` table."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Self

import numpy as np
import polars as pl
from pydantic import Field, model_validator

from data_order import TokenRows, TrainingOrder
from data_order.errors import OrderError
from data_order.sample import Draw, RowSource
from data_order.sample import sample_rows as draw_rows
from data_order.shuffled.repetition import is_masked
from data_order.shuffled.rows import ShuffledRows
from data_order.shuffled.runs import ShuffledRun
from pythia_profile.errors import NotFoundError, StudyError
from pythia_profile.settings import Settings
from pythia_profile.suites.model import Suite
from pythia_profile.tables import NEVER, ROWS, conform

__all__ = ["Sampling", "open_rows", "sample_rows"]

log = logging.getLogger(__name__)

_MOST = 2**31


class Sampling(Settings):
    """Which rows are drawn; `study.toml` has them as `sample`.

    Examples
    --------
    >>> Sampling(rows_per_cohort=25)
    Traceback (most recent call last):
        ...
    pythia_profile.errors.SettingsError: rows_per_cohort: got 25, expected a multiple of
    batches_per_cohort (10)
    """

    rows_per_cohort: int = Field(
        100, ge=1, lt=_MOST, description="treated rows drawn for each cohort, or all it has"
    )
    batches_per_cohort: int = Field(
        10,
        ge=0,
        lt=_MOST,
        description="batches they are drawn from, the same number of rows of each; 0 draws over "
        "all rows of the cohort",
    )
    never_treated: int = Field(
        2000,
        ge=0,
        lt=_MOST,
        description="control rows, past the last step that a scored checkpoint has read",
    )
    seed: int = Field(0, ge=0, lt=2**63, description="seed of the draw")

    @model_validator(mode="after")
    def _shared_out(self) -> Self:
        if self.batches_per_cohort and self.rows_per_cohort % self.batches_per_cohort:
            raise ValueError(
                f"rows_per_cohort: got {self.rows_per_cohort}, expected a multiple of "
                f"batches_per_cohort ({self.batches_per_cohort})"
            )
        return self

    @classmethod
    def of(cls, suite: Suite) -> Self:
        """Return what a suite proposes, and the defaults elsewhere."""
        proposed = suite.study_defaults.items()
        return cls(**{name: value for name, value in proposed if name in cls.model_fields})


def sample_rows(
    suite: Suite, settings: Sampling | None = None, *, checkpoints: Sequence[int] | None = None
) -> pl.DataFrame:
    """Draw the rows of a study from a suite's own store.

    Where a store ends with the run, as Pythia's does, never-treated rows are rows that steps after
    the last of `checkpoints` read: none of these checkpoints has read them.

    Parameters
    ----------
    settings : how many rows, of what, by which seed; by default what the suite proposes.
    checkpoints : those to be scored; all of the suite by default. They bound the cohorts.

    Returns
    -------
    The `ROWS` table. `earlier_exposure` is 0 where the suite's run passes over its text once, null
    where that is not known; of a suite over token files, 1 where the same place of the same file
    had been read before.

    Raises
    ------
    OrderError
        The never-treated rows are fewer than asked for. A cohort that is gives all it has, and
        the log says so.
    """
    chosen = settings or Sampling.of(suite)
    steps = list(checkpoints or _grid(suite))
    store = open_rows(suite, last=max(steps, default=0))
    batches = chosen.batches_per_cohort
    draw = Draw(
        kind="batches" if batches else "iid",
        batches=batches,
        rows_per_batch=chosen.rows_per_cohort // max(1, batches),
        per_cohort=chosen.rows_per_cohort,
        never=chosen.never_treated,
        seed=chosen.seed,
        up_to=True,
    )
    if isinstance(store, ShuffledRows):
        rows = _drawn_once(store, steps, draw, chosen.seed)
    else:
        window = _window(suite.order, len(store), steps, chosen.never_treated)
        rows = draw_rows(store, window, steps, draw)
    for note in _short_cohorts(rows, steps, chosen.rows_per_cohort):
        log.warning("%s", note)
    if suite.single_pass and not isinstance(store, ShuffledRows):
        rows = rows.with_columns(earlier_exposure=pl.lit(0.0))
    return conform(rows, ROWS)


def _drawn_once(store: ShuffledRows, steps: list[int], draw: Draw, seed: int) -> pl.DataFrame:
    """Draw rows of token files, of which the list may hold some more than once.

    Never-treated rows have no copy that a step has read: as many more are drawn as are dropped.
    `earlier_exposure` is 1 where a copy had been read before, else 0. Rows that a filter masked
    are dropped on both sides, and those that were read only in steps that moved no weight: they
    are no treatment, and masked text is unlike other text.

    Raises
    ------
    OrderError
        There are not so many.
    """
    window, wanted = store.order.training, draw.never
    asked, available = wanted, len(store) - window.rows
    while True:
        rows = draw_rows(store, window, steps, replace(draw, never=asked))
        reads = store.reads_of(store.order.rows_at(rows["row_id"].to_numpy()))
        own = rows["treatment_step"].fill_null(NEVER).to_numpy()
        tokens = rows["tokens"].explode().to_numpy().reshape(len(rows), -1)
        masked = is_masked(tokens) if store.filtered else np.zeros(len(rows), bool)
        never, earliest = own == NEVER, reads[:, 0]
        sound = never & (earliest == NEVER) & ~masked
        if (missing := wanted - int(sound.sum())) <= 0:
            break
        if asked == available:
            raise OrderError(
                f"never-treated: {wanted:,} were asked for, but there are {wanted - missing:,} "
                "rows of which no copy was read"
            )
        asked = min(available, asked + max(64, 2 * missing))
    kept = np.random.default_rng([seed, 1]).permutation(np.flatnonzero(sound))[:wanted]
    idle = np.isin(own, np.array(sorted(store.idle_steps), dtype=np.int64))
    chosen = ~never & ~masked & ~idle
    if dropped := int((~chosen & ~never).sum()):
        log.info("%s treated rows moved no weight (masked, or at rate 0): left out", f"{dropped:,}")
    chosen[kept] = True
    exposed = (earliest < own).astype(np.float64)
    return rows.with_columns(earlier_exposure=exposed).filter(pl.Series(chosen))


def _short_cohorts(rows: pl.DataFrame, steps: list[int], asked: int) -> list[str]:
    """Name the cohorts that have fewer rows than were asked for."""
    read = rows["treatment_step"].drop_nulls()
    cohort = pl.Series(steps).gather(pl.Series(steps).search_sorted(read))
    counts = cohort.value_counts().sort("").rows()
    short = [f"{step} ({count:,})" for step, count in counts if count < asked]
    shown = ", ".join(short[:8]) + (" …" if len(short) > 8 else "")
    return [f"{len(short)} cohorts have fewer than {asked:,} rows: {shown}"] if short else []


def open_rows(suite: Suite, *, last: int = 0) -> RowSource:
    """Open the store with the suite's rows in training order.

    Parameters
    ----------
    last : of a suite that read token files, the last step that a study looks at: rows that no step
        up to it has read stand behind the others.

    Raises
    ------
    NotFoundError
        The suite names no store.
    StudyError
        Rows are read a second time before `last`, so that none of them is never-treated.
    """
    if isinstance(suite.order, ShuffledRun):
        store = suite.order.open(suite.store or "hub", steps=last)
        once = store.order.segments[0].steps
        if len(store.order.segments) > 1:
            raise StudyError(
                f"suite '{suite.name}' reads its rows a second time after step {once:,}, the study "
                f"goes to checkpoint {last:,}; end it at step {once:,} at the latest"
            )
        return store
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
