"""Rows of a study from a run over token files: states, copies and placebo rows of each draw."""

import logging
from dataclasses import replace

import numpy as np
import numpy.typing as npt
import polars as pl

from data_order.draws import cohort_spans, draw_iid, entropy_of
from data_order.errors import OrderError
from data_order.sample import Draw, rows_table
from data_order.sample import sample_rows as draw_rows
from data_order.shuffled.repetition import is_masked
from data_order.shuffled.rows import ShuffledRows, states_of_reads
from pythia_profile.suites.draw_settings import Sampling
from pythia_profile.suites.placebo_rows import idle_rows, marked
from pythia_profile.tables import NEVER

__all__ = ["drawn_of_files"]

log = logging.getLogger(__name__)


def drawn_of_files(
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
        masked = _masked(store, tokens)
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
    still = np.array(sorted(store.idle_steps | store.skipped_steps), dtype=np.int64)
    idle = np.isin(own, still)
    chosen = ~never & ~masked & ~idle
    if (dropped := int((~chosen & ~never).sum())) and not settings.placebo:
        log.info("%s treated rows moved no weight (masked, or at rate 0): left out", f"{dropped:,}")
    if settings.single_exposure:
        chosen &= (reads != NEVER).sum(axis=1) <= 1
    chosen[kept] = True
    drawn = _stated(store, rows, reads, masked)
    if not settings.placebo:
        return drawn.filter(pl.Series(chosen)).drop("placebo")
    treated = drawn.filter(pl.Series(~never))
    more = _looked_through(store, steps, still, settings)
    # relaxed: only one of the parts may hold ids that need the wider type
    both = pl.concat([treated, more.select(drawn.columns)], how="vertical_relaxed")
    placebo = both.filter("placebo").unique("row_id")
    kept_rows = drawn.filter(pl.Series(chosen)).with_columns(placebo=pl.lit(False))
    return pl.concat([kept_rows, placebo], how="vertical_relaxed").sort("row_id")


def _looked_through(
    store: ShuffledRows, steps: list[int], still: npt.NDArray[np.int64], settings: Sampling
) -> pl.DataFrame:
    """Draw further rows of each cohort, among which there may be placebo rows."""
    window, most = store.order.training, settings.placebo
    ids = idle_rows(window, steps, still, most, settings.seed)
    if store.filtered:
        seed = np.random.default_rng([settings.seed, 3])
        spans = cohort_spans(window, steps, len(store))
        ids = np.union1d(ids, draw_iid(window, spans, most, entropy_of(seed), up_to=True))
    rows = rows_table(store, window, ids)
    reads = store.reads_of(store.order.rows_at(ids))
    tokens = rows["tokens"].explode().to_numpy().reshape(len(rows), -1)
    return _stated(store, rows, reads, _masked(store, tokens))


def _masked(store: ShuffledRows, tokens: npt.NDArray[np.integer]) -> npt.NDArray[np.bool_]:
    return is_masked(tokens) if store.filtered else np.zeros(len(tokens), bool)


def _stated(
    store: ShuffledRows,
    rows: pl.DataFrame,
    reads: npt.NDArray[np.int64],
    masked: npt.NDArray[np.bool_],
) -> pl.DataFrame:
    """Return rows with what the list of files tells: earlier exposure, state, placebo."""
    own = rows["treatment_step"].fill_null(NEVER).to_numpy()
    states = states_of_reads(reads, masked, store.idle_steps, store.skipped_steps)
    exposed = (reads[:, 0] < own).astype(np.float64)
    still = np.array(sorted(store.idle_steps | store.skipped_steps), dtype=np.int64)
    later = (reads > own[:, None]) & ~np.isin(reads, still)  # a step that moves no weight is none
    second = pl.Series(np.where(later, reads, NEVER).min(axis=1)).replace(NEVER, None)
    known = rows.with_columns(earlier_exposure=exposed, second_step=second)
    return marked(known.with_columns(state=pl.Series(states)))
