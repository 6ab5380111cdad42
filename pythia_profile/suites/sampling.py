"""Which rows a study follows: a suite's order and store -> the `ROWS` table."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import numpy as np
import polars as pl
from pydantic import Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from data_order import NeoxOrder, TokenRows, TrainingOrder
from data_order.errors import OrderError
from data_order.sample import HELD_OUT, Draw, RowSource, held_out_table
from data_order.sample import sample_rows as draw_rows
from data_order.shuffled.repetition import is_masked
from data_order.shuffled.rows import ShuffledRows
from data_order.shuffled.runs import ShuffledRun
from pythia_profile.errors import NotFoundError, StudyError
from pythia_profile.settings import Settings
from pythia_profile.suites.beside import check_maps, held_out_rows, index_maps
from pythia_profile.suites.model import Suite
from pythia_profile.tables import NEVER, ROWS, conform

__all__ = ["Sampling", "open_rows", "sample_rows"]

log = logging.getLogger(__name__)

_MOST = 2**31
_LATER = (
    *("published", "held_out", "held_out_tokenizer"),
    *("single_exposure", "documents", "document_split"),
)
"""Settings that older studies do not have."""


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
    published: bool = Field(
        False,
        description="whether to draw the rows of the published study of Pythia (its seeds 1994 and "
        "1234, whatever the seed here), with its row ids as the column published_row_id",
    )
    held_out: str = Field(
        "",
        description="text that the run never read, from which control rows are drawn: a store of "
        "rows or a file of documents (.jsonl), relative to the study's folder or absolute; empty "
        "draws them from the suite's rows past the last step",
    )
    held_out_tokenizer: str = Field(
        "",
        description="tokenizer.json for a held_out file of documents; empty takes the suite's",
    )
    single_exposure: bool = Field(
        False,
        description="whether to draw only rows of whose text no other row that was read holds any",
    )
    documents: str = Field(
        "",
        description="the .idx of the documents that the run shuffled, relative to the study's "
        "folder or absolute; with the suite's data seed it says how much of each row had been read "
        "before; empty where that is known, or need not be",
    )
    document_split: str = Field(
        "",
        description="document split of that run, 969,30,1 for instance; empty where it read all "
        "documents",
    )

    @model_validator(mode="after")
    def _fits_together(self) -> Self:
        if self.published and (self.rows_per_cohort, self.batches_per_cohort) != (100, 10):
            raise ValueError(
                f"published: its draw is 100 rows from 10 batches of each 1,000 steps, got "
                f"rows_per_cohort {self.rows_per_cohort}, batches_per_cohort "
                f"{self.batches_per_cohort}; leave them at 100 and 10"
            )
        if self.published and self.single_exposure:
            raise ValueError("single_exposure: got true, but the published draw is fixed")
        if self.published and self.never_treated and not self.held_out:
            raise ValueError(
                "held_out: missing, expected the text from which the published draw takes its "
                "never-treated rows, or never_treated = 0"
            )
        if self.held_out and not self.never_treated:
            raise ValueError("held_out: got text, but never_treated = 0 draws no row of it")
        if self.held_out_tokenizer and ".jsonl" not in Path(self.held_out).suffixes:
            raise ValueError(
                f"held_out_tokenizer: got '{self.held_out_tokenizer}', but held_out is no .jsonl "
                "file of documents"
            )
        if self.document_split and not self.documents:
            raise ValueError(
                f"document_split: got '{self.document_split}', but no documents that were split"
            )
        return self

    @model_serializer(mode="wrap")
    def _without_what_is_unset(self, plain: SerializerFunctionWrapHandler) -> dict[str, Any]:
        # A study that does not use the later settings keeps the key that it had before them.
        unset = {name for name in _LATER if not getattr(self, name)}
        return {name: value for name, value in plain(self).items() if name not in unset}

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
    suite: Suite,
    settings: Sampling | None = None,
    *,
    checkpoints: Sequence[int] | None = None,
    near: Path | None = None,
) -> pl.DataFrame:
    """Draw the rows of a study from a suite's own store, and controls from there or held-out text.

    Where a store ends with the run, as Pythia's does, never-treated rows are rows that steps after
    the last of `checkpoints` read: none of these checkpoints has read them.

    Parameters
    ----------
    settings : how many rows, of what, by which seed; by default what the suite proposes.
    checkpoints : those to be scored; all of the suite by default. They bound the cohorts.
    near : folder against which relative paths of the settings are read.

    Returns
    -------
    The `ROWS` table. `earlier_exposure` is what the index maps say where `documents` are given,
    else 0 where the suite's run passes over its text once, null where that is not known; of a suite
    over token files, 1 where the same place of the same file had been read before; 0 for held-out
    rows wherever it is known for the others.

    Raises
    ------
    OrderError
        The never-treated rows are fewer than asked for. A cohort that is gives all it has, and
        the log says so.
    StudyError
        A setting does not fit the suite.
    """
    chosen = settings or Sampling.of(suite)
    steps = list(checkpoints or _grid(suite))
    maps = _maps(suite, chosen, near)
    held_out = _held_out(suite, chosen, near)
    store = open_rows(suite, last=max(steps, default=0))
    draw = _draw_of(chosen, single=chosen.single_exposure and maps is not None)
    if isinstance(store, ShuffledRows):
        own = draw if held_out is None else replace(draw, never=0)
        rows = _drawn_once(store, steps, own, chosen)
        if held_out is not None:
            controls = held_out_table(held_out, store.order.training, draw)
            controls = controls.with_columns(earlier_exposure=pl.lit(0.0))
            rows = pl.concat([rows, controls], how="vertical_relaxed")
    else:
        past = 0 if held_out is not None else chosen.never_treated
        window = _window(suite.order, len(store), steps, past)
        rows = draw_rows(store, window, steps, draw, never_from=held_out, maps=maps)
    if maps is not None:
        inside = rows.filter(pl.col("row_id") < HELD_OUT)
        ids, tokens = inside["row_id"].to_numpy(), np.array(inside["tokens"].to_list())
        check_maps(maps, (near or Path()) / chosen.documents, ids, tokens)
        rows = rows.with_columns(pl.col("earlier_exposure").fill_null(0.0))
    for note in _short_cohorts(rows, steps, chosen.rows_per_cohort):
        log.warning("%s", note)
    if suite.single_pass and maps is None and not isinstance(store, ShuffledRows):
        rows = rows.with_columns(earlier_exposure=pl.lit(0.0))
    return conform(rows, ROWS)


def _draw_of(chosen: Sampling, *, single: bool) -> Draw:
    batches = chosen.batches_per_cohort
    return Draw(
        kind="published" if chosen.published else "batches" if batches else "iid",
        batches=batches,
        rows_per_batch=chosen.rows_per_cohort // max(1, batches),
        per_cohort=chosen.rows_per_cohort,
        never=chosen.never_treated,
        seed=chosen.seed,
        single_exposure=single,
        up_to=True,
    )


def _maps(suite: Suite, chosen: Sampling, near: Path | None) -> NeoxOrder | None:
    """Index maps of the run, where the study names its documents.

    Raises
    ------
    StudyError
        They are needed and not named, or named and of no use.
    """
    listed = isinstance(suite.order, ShuffledRun)
    if chosen.documents and listed:
        raise StudyError(
            f"sample.documents: suite '{suite.name}' read token files, whose list says what had "
            "been read before; leave it empty"
        )
    if chosen.documents:
        return index_maps(suite, chosen.documents, chosen.document_split, near or Path())
    if chosen.single_exposure and not (suite.single_pass or listed):
        raise StudyError(
            f"sample.single_exposure: which text suite '{suite.name}' read twice is not known; "
            "name the .idx of its documents in sample.documents"
        )
    return None


def _held_out(suite: Suite, chosen: Sampling, near: Path | None = None) -> RowSource | None:
    """Open the held-out rows that a study draws its controls from; None where it names none."""
    if not chosen.held_out:
        return None
    return held_out_rows(suite, chosen.held_out, chosen.held_out_tokenizer, near or Path())


def _drawn_once(
    store: ShuffledRows, steps: list[int], draw: Draw, settings: Sampling
) -> pl.DataFrame:
    """Draw rows of token files, of which the list may hold some more than once.

    Never-treated rows have no copy that a step has read: as many more are drawn as are dropped.
    `earlier_exposure` is 1 where a copy had been read before, else 0. Rows that a filter masked
    are dropped on both sides, and those that were read only in steps that moved no weight: they
    are no treatment, and masked text is unlike other text. Under single exposure, rows of which
    another copy was read are dropped, too.

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
    kept = np.random.default_rng([settings.seed, 1]).permutation(np.flatnonzero(sound))[:wanted]
    idle = np.isin(own, np.array(sorted(store.idle_steps), dtype=np.int64))
    chosen = ~never & ~masked & ~idle
    if dropped := int((~chosen & ~never).sum()):
        log.info("%s treated rows moved no weight (masked, or at rate 0): left out", f"{dropped:,}")
    if settings.single_exposure:
        chosen &= (reads != NEVER).sum(axis=1) <= 1
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
