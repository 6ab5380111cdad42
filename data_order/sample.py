"""The `ROWS` table: which token rows a study follows, and when the trainer read each of them.

In: a store of rows in training order, the run's batch size and steps, the scored checkpoints. Out:
one line per row with its tokens. Never-treated rows have a null treatment step and batch; nothing
else about them, least of all the sign of their id, says that they are.
"""

from dataclasses import dataclass, replace
from typing import Any, Literal, Protocol, get_args

import numpy as np
import numpy.typing as npt
import polars as pl

from data_order.draws import (
    Accept,
    Spans,
    cohort_spans,
    draw_batches,
    draw_iid,
    draw_never,
    draw_published,
    draw_published_never,
    entropy_of,
)
from data_order.errors import OrderError
from data_order.neox.exposure import exposures
from data_order.neox.neox_order import NeoxOrder
from data_order.order import NEVER, TrainingOrder, as_integers

ROWS = pl.Schema(
    {
        "row_id": pl.Int64(),
        "treatment_step": pl.Int64(),
        "batch": pl.Int64(),
        "tokens": pl.List(pl.UInt16),
        "earlier_exposure": pl.Float64(),
    }
)
"""One line per row: its place in the training order, the optimizer step that reads it (null =
never-treated), its batch `row_id // batch_size` (null = never-treated), its tokens, and the share
of its tokens that an earlier step had read before. Token ids above 65,535 make it a column of
UInt32."""

HELD_OUT = 2**40
"""Id of row 0 of a held-out collection; its row i has the id `HELD_OUT + i`. Rows of the training
store keep their own ids, also past the last step, and no store reaches this one: 2**40 rows of
Pythia would be four petabytes."""

DrawKind = Literal["batches", "iid", "published"]
_AT_ONCE = 200_000


class RowSource(Protocol):
    """Rows by number: `TokenRows`, or anything else with a length that gives (n, L) tokens."""

    def __len__(self) -> int: ...

    def __getitem__(self, key: Any, /) -> Any: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Draw:
    """Which rows of each cohort a study follows, and how many that no step reads.

    Attributes
    ----------
    kind : "batches" takes some batches of each cohort and some rows of each of these; "iid" takes
        rows of the cohort whatever their batch; "published" takes the ids of the published study
        of Pythia, whatever the seed, and adds them as the column `published_row_id`, where
        held-out row i is -100 - i.
    batches, rows_per_batch : size of the "batches" draw.
    per_cohort : rows of each cohort in the "iid" draw.
    never : number of never-treated rows.
    seed : whole number, or a generator from which one is taken.
    single_exposure : draw only rows none of whose documents' tokens is read in another row at any
        step of the run; needs the run's index maps. The token that neighbors in the stream share
        is let pass.
    up_to : whether the counts are upper bounds, so that a cohort with fewer rows or batches (one
        between log-spaced checkpoints) gives all it has.
    """

    kind: DrawKind = "batches"
    batches: int = 10
    rows_per_batch: int = 10
    per_cohort: int = 100
    never: int = 2000
    seed: int | np.random.Generator = 0
    single_exposure: bool = False
    up_to: bool = False

    def __post_init__(self) -> None:
        if self.kind not in get_args(DrawKind):
            raise OrderError(f"draw: got {self.kind!r}, expected 'batches', 'iid' or 'published'")
        never = self.never
        if isinstance(never, bool) or not isinstance(never, int | np.integer) or never < 0:
            raise OrderError(f"never: got {never!r}, expected a whole number from 0 on")
        if self.kind == "published" and self.single_exposure:
            raise OrderError("draw 'published' is fixed; single_exposure cannot restrict it")


def sample_rows(
    rows: RowSource,
    order: TrainingOrder,
    checkpoints: npt.ArrayLike,
    draw: Draw | None = None,
    *,
    never_from: RowSource | None = None,
    maps: NeoxOrder | None = None,
) -> pl.DataFrame:
    """Draw the rows of a study: treated rows of every cohort, and never-treated rows.

    A cohort c holds the rows that the steps after the checkpoint before c, up to c, have read.
    Its draw depends on (seed, cohort) only, not on the other cohorts.

    Parameters
    ----------
    rows : the rows in training order.
    order : batch size and steps of the run.
    checkpoints : (C,) scored checkpoint steps, ascending; the first is only a base.
    draw : how many rows of which kind; `Draw()` by default.
    never_from : held-out rows, numbered from `HELD_OUT` in the table; by default the rows of
        `rows` that lie past the last step, with their own ids.
    maps : index maps of the run; with them the table says how much of each row had been read
        before.

    Returns
    -------
    `ROWS` table, ascending by `row_id`.

    Raises
    ------
    OrderError
        A cohort, a batch or the never-treated rows are fewer than asked for, there is no
        checkpoint beside the first, or tokens do not fit the table.

    Examples
    --------
    >>> store = np.arange(5 * 40).reshape(40, 5)
    >>> order = TrainingOrder(batch_size=4, steps=8)
    >>> table = sample_rows(store, order, [0, 4, 8], Draw(kind="iid", per_cohort=3, never=2))
    >>> table["row_id"].to_list()
    [0, 5, 15, 19, 20, 29, 35, 39]
    >>> table["treatment_step"].to_list()
    [1, 2, 4, 5, 6, 8, None, None]
    """
    draw = draw or Draw()
    spans = cohort_spans(order, checkpoints, len(rows))
    entropy = entropy_of(draw.seed)
    accept = _single_exposures(order, maps) if draw.single_exposure else None
    if draw.kind == "iid":
        treated = draw_iid(order, spans, draw.per_cohort, entropy, accept, up_to=draw.up_to)
    elif draw.kind == "batches":
        counts = draw.batches, draw.rows_per_batch
        treated = draw_batches(order, spans, *counts, entropy, accept, up_to=draw.up_to)
    else:
        treated = _published(order, spans, draw.never, never_from)
    table = rows_table(rows, order, treated, maps)
    if never_from is None:
        past = _past_rows(rows, order, draw.never, entropy, accept)
        controls = rows_table(rows, order, past, maps)
    else:
        controls = held_out_table(never_from, replace(draw, seed=entropy))
    widths = [len(part["tokens"][0]) for part in (table, controls) if len(part)]
    if len(set(widths)) > 1:
        raise OrderError(f"held-out rows have {widths[1]} tokens, expected {widths[0]}")
    # Relaxed: only one of the two parts may hold ids that need the wider type.
    whole = pl.concat([table, controls], how="vertical_relaxed")
    if draw.kind == "published":
        whole = whole.with_columns(published_row_id=published_row_id(whole["row_id"].to_numpy()))
    return whole


def rows_table(
    rows: RowSource,
    order: TrainingOrder,
    row_ids: npt.ArrayLike,
    maps: NeoxOrder | None = None,
) -> pl.DataFrame:
    """`ROWS` table of given rows of the training store, ascending by id.

    Parameters
    ----------
    row_ids : (n,) rows, none of them twice; those past the last step are never-treated.
    maps : index maps of the run, to say how much of each row had been read before.

    Raises
    ------
    RowRangeError
        A row does not exist.
    OrderError
        A row is duplicated, or its tokens do not fit 32 unsigned bits.
    """
    ids = np.sort(as_integers(row_ids, "row ids").reshape(-1))
    twice = ids[1:][ids[1:] == ids[:-1]]
    if len(twice):
        raise OrderError(
            f"row ids: {len(np.unique(twice))} rows are duplicated, the first is {int(twice[0])}; "
            "expected each row once"
        )
    table = _table(ids, order.step_of(ids), rows[ids])
    if maps is None:
        return table
    return table.with_columns(earlier_exposure=exposures(maps, ids, training=order).share)


def published_row_id(row_ids: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Ids that the published study gives to rows (n,): its held-out row i is -100 - i.

    Examples
    --------
    >>> published_row_id([7, HELD_OUT, HELD_OUT + 3])
    array([   7, -100, -103])
    """
    ids = as_integers(row_ids, "row ids")
    return np.where(ids >= HELD_OUT, -100 - (ids - HELD_OUT), ids)


def _published(
    order: TrainingOrder, spans: Spans, never: int, never_from: RowSource | None
) -> npt.NDArray[np.int64]:
    if never_from is None and never:
        raise OrderError(
            "draw 'published' takes its never-treated rows from packed held-out text; pass it as "
            "never_from, or never=0"
        )
    drawn = draw_published(order)
    first, last = order.rows_before([spans[0][0], spans[-1][1]]).tolist()
    within: npt.NDArray[np.int64] = drawn[(drawn >= first) & (drawn < last)]
    return within


def _single_exposures(order: TrainingOrder, maps: NeoxOrder | None) -> Accept:
    if maps is None:
        raise OrderError("single_exposure needs the run's index maps; pass maps=NeoxOrder...")

    def accept(row_ids: npt.NDArray[np.int64]) -> npt.NDArray[np.bool_]:
        parts = [
            exposures(maps, row_ids[start : start + _AT_ONCE], order.steps + 1, order).repeated == 0
            for start in range(0, len(row_ids), _AT_ONCE)
        ]
        return np.concatenate(parts)

    return accept


def _past_rows(
    rows: RowSource, order: TrainingOrder, count: int, entropy: int, accept: Accept | None
) -> npt.NDArray[np.int64]:
    past = max(0, len(rows) - order.rows)
    what = f"never-treated, past the last step {order.steps} (or pass never_from)"
    return draw_never(order.rows, past, count, entropy, what, accept)


def held_out_table(never_from: RowSource, draw: Draw) -> pl.DataFrame:
    """`ROWS` table of the never-treated rows of `sample_rows` alone, from held-out rows.

    Raises
    ------
    OrderError
        There are fewer than asked for.
    """
    entropy = entropy_of(draw.seed)
    if draw.kind == "published":
        places = draw_published_never(len(never_from), draw.never)
    else:
        places = draw_never(0, len(never_from), draw.never, entropy, "held-out")
    never = np.full(len(places), NEVER)
    return _table(places + HELD_OUT, never, never_from[places])


def _table(
    ids: npt.NDArray[np.int64],
    steps: npt.NDArray[np.int64],
    tokens: npt.NDArray[Any],
) -> pl.DataFrame:
    tokens = np.asarray(tokens)
    if tokens.size and (int(tokens.max()) > 2**32 - 1 or int(tokens.min()) < 0):
        raise OrderError(
            f"tokens: {int(tokens.min())} to {int(tokens.max())} do not fit the table's 32 "
            "unsigned bits"
        )
    width = tokens.shape[-1]
    wide = bool(tokens.size and int(tokens.max()) > 65_535)
    content = np.ascontiguousarray(tokens, dtype=np.uint32 if wide else np.uint16)
    kind = pl.Array(pl.UInt32 if wide else pl.UInt16, width)
    treated = pl.col("treatment_step") != NEVER
    return pl.DataFrame(
        {
            "row_id": ids,
            "treatment_step": steps,
            "batch": steps - 1,
            "tokens": pl.Series(content, dtype=kind).arr.to_list(),
            "earlier_exposure": pl.Series([None] * len(ids), dtype=pl.Float64),
        },
    ).with_columns(
        batch=pl.when(treated).then("batch"), treatment_step=pl.when(treated).then("treatment_step")
    )
