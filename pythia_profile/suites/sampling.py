"""Which rows a study follows: a suite's order and store -> the `ROWS` table."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl

from data_order import NeoxOrder, TokenRows, TrainingOrder
from data_order.sample import HELD_OUT, Draw, RowSource, held_out_table, rows_table
from data_order.sample import sample_rows as draw_rows
from data_order.shuffled.filed_runs import FiledRun
from data_order.shuffled.rows import ShuffledRows
from data_order.shuffled.runs import ShuffledRun
from pythia_profile.errors import NotFoundError, StudyError
from pythia_profile.suites.beside import check_maps, held_out_rows, index_maps
from pythia_profile.suites.draw_settings import Sampling
from pythia_profile.suites.listed_rows import drawn_of_files
from pythia_profile.suites.model import Suite
from pythia_profile.suites.part_rows import part_of_rows
from pythia_profile.suites.placebo_rows import (
    check_skipped,
    idle_rows,
    steps_at_rate_0,
    with_states,
)
from pythia_profile.suites.registry import as_suite, is_known, suite_facts_of, suite_there
from pythia_profile.suites.rows_read_again import read_again, with_twins
from pythia_profile.suites.unreplayable import why_unknown
from pythia_profile.tables import NEVER, ROWS, conform

__all__ = ["Sampling", "open_rows", "sample_rows"]

log = logging.getLogger(__name__)


def sample_rows(
    suite: Suite | str | Path,
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
    suite : or its name, or its folder; of a suite that is made here, no model is trained for this.
    settings : how many rows, of what, by which seed; what is left open is what the suite proposes.
    checkpoints : those to be scored; all of the suite by default. They bound the cohorts.
    near : folder against which relative paths of the settings are read.

    Returns
    -------
    The `ROWS` table. `earlier_exposure` is what the index maps say where `documents` are given,
    else 0 where the suite's run passes over its text once, null where that is not known; of a suite
    over token files, 1 where the same place of the same file had been read before; 0 for held-out
    rows wherever it is known for the others. A column `second_step` is there where rows are known
    to be read again: the first step after a row's own that reads its text a second time (of index
    maps, by which half of its tokens had been read again).

    Raises
    ------
    OrderError
        The never-treated rows are fewer than asked for. A cohort that is gives all it has, and
        the log says so.
    StudyError
        A setting does not fit the suite.
    """
    suite = _with_rows(suite)
    chosen = Sampling.of(suite, settings)
    if chosen.store:
        suite = replace(suite, store=str(((near or Path()) / chosen.store).resolve()))
    steps = list(checkpoints or _grid(suite))
    check_skipped(suite, chosen.skipped_steps)
    idle = steps_at_rate_0(suite, max(steps, default=0))
    maps = _maps(suite, chosen, near)
    held_out = _held_out(suite, chosen, near)
    store = open_rows(suite, last=max(steps, default=0))
    draw = _draw_of(chosen, single=chosen.single_exposure and maps is not None)
    if isinstance(store, ShuffledRows):
        own = draw if held_out is None else replace(draw, never=0)
        skipped = store.skipped_steps.union(chosen.skipped_steps)
        rows = drawn_of_files(replace(store, skipped_steps=skipped), steps, own, chosen)
        if held_out is not None:
            controls = held_out_table(held_out, draw)
            controls = controls.with_columns(
                earlier_exposure=pl.lit(0.0), state=pl.lit("never read"), placebo=pl.lit(False)
            )
            rows = pl.concat([rows, controls], how="diagonal_relaxed").select(rows.columns)
    else:
        past = 0 if held_out is not None else chosen.never_treated
        window = _window(suite.order, len(store), steps, past)
        rows = draw_rows(store, window, steps, draw, never_from=held_out, maps=maps)
        if chosen.skipped_steps and not chosen.placebo:
            steps_of = pl.col("treatment_step").fill_null(NEVER)
            rows = rows.filter(~steps_of.is_in(list(chosen.skipped_steps)))
        if chosen.placebo:
            still = np.union1d(idle, np.array(chosen.skipped_steps, np.int64))
            found = idle_rows(window, steps, still, chosen.placebo, chosen.seed)
            others = np.setdiff1d(found, rows["row_id"].to_numpy())
            more = rows_table(store, window, others, maps)
            rows = pl.concat([rows, more], how="diagonal_relaxed").sort("row_id")
    if maps is not None:
        inside = rows.filter(pl.col("row_id") < HELD_OUT)
        ids, tokens = inside["row_id"].to_numpy(), np.array(inside["tokens"].to_list())
        check_maps(maps, (near or Path()) / chosen.documents, ids, tokens)
        rows = rows.with_columns(pl.col("earlier_exposure").fill_null(0.0))
        rows = rows.join(read_again(maps, suite.order, inside), on="row_id", how="left")
    for note in _short_cohorts(rows, steps, chosen.rows_per_cohort):
        log.warning("%s", note)
    if suite.single_pass and maps is None and not isinstance(store, ShuffledRows):
        rows = rows.with_columns(earlier_exposure=pl.lit(0.0))
    if chosen.placebo and not isinstance(store, ShuffledRows):
        rows = with_states(rows, idle, chosen.skipped_steps)
    if isinstance(suite.order, FiledRun) and not suite.order.batch_known:
        rows = rows.with_columns(batch=pl.lit(None, pl.Int64))
    if chosen.placebo:
        log.info("%s placebo rows, whose effect must be 0", f"{rows['placebo'].sum():,}")
    if chosen.share < 1:
        rows = part_of_rows(rows, steps, chosen.share, chosen.seed)
    return conform(rows if suite.single_pass else with_twins(rows), ROWS)


def _with_rows(suite: Suite | str | Path) -> Suite:
    """Return a suite as far as its rows: which sizes are on this machine does not matter."""
    if not isinstance(suite, str) or not is_known(suite):
        return as_suite(suite)
    return replace(suite_there(suite), sizes=suite_facts_of(suite).sizes)


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
    here = suite.root is not None and not (suite.store or "hf://").startswith("hf://")
    where = str((suite.root or Path()) / suite.store) if here and suite.store else suite.store
    if isinstance(suite.order, FiledRun):
        return suite.order.open(where or "hub", vocabulary=suite.vocabulary)
    if isinstance(suite.order, ShuffledRun):
        store = suite.order.open(where or "hub", steps=last)
        parts = store.order.segments
        once = sum(part.steps for part in parts if part.number == parts[0].number)
        if once < store.order.steps:
            raise StudyError(
                f"suite '{suite.name}' reads its rows a second time after step {once:,}, the study "
                f"goes to checkpoint {last:,}; end it at step {once:,} at the latest"
            )
        return store
    if where is None and (why := why_unknown(suite.name)):
        raise NotFoundError(f"suite '{suite.name}': {why}")
    if where is None:
        raise NotFoundError(
            f"suite '{suite.name}' names no store of its rows in training order; write one with "
            "`pythia-profile rows` from the documents, and name it in sample.store"
        )
    return TokenRows.open(where, row_tokens=suite.row_tokens, vocabulary=suite.vocabulary)


def _window(order: TrainingOrder, rows: int, checkpoints: list[int], never: int) -> TrainingOrder:
    """Return the part of the run that a study looks at, so that rows are left that it did not read.

    All of it where enough rows lie past the last step; else it ends at the last checkpoint.
    """
    last = max(checkpoints, default=0)
    if rows - order.rows >= never or not 0 < last < order.steps:
        return order
    return order.until(last)


def _grid(suite: Suite) -> list[int]:
    """Checkpoints that every size has, and with which a study begins."""
    common = set.intersection(*(set(suite.usual_checkpoints(size)) for size in suite.sizes))
    return sorted(common)
