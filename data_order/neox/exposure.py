"""Which tokens of a row had been read before, by which rows, and when.

A token is a position in a document: (document, offset). A row *reads* the L + 1 tokens it holds, as
input or as target. A token of row r has been read before step s if a row other than r holds it and
is read by an update earlier than s. Two ways lead there:

- the document recurs. Runs of several epochs shuffle all copies of all documents together, and a
  copy is cut and packed differently from the next, so rows never look alike: only documents and
  offsets tell. These are `repeated` tokens.
- the neighbor in the stream shares a token. The last token of a sample (only a target) is the
  first token of the next one (only an input).

Nothing here needs tokens: the index maps say it all. Cost at Pythia's size: one pass over the
document list and one over the shuffle index, whatever the number of rows.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from data_order.errors import OrderError
from data_order.neox.index_maps import Int64, stream_starts
from data_order.neox.neox_order import NeoxOrder
from data_order.neox.pieces import Pieces
from data_order.order import NEVER, TrainingOrder, as_integers

_CHUNK = 1 << 22
_CELLS = 1 << 23


@dataclass(frozen=True, slots=True, eq=False)
class Exposures:
    """Earlier reads of the tokens of n rows.

    Attributes
    ----------
    rows : (n,) rows that were asked for.
    before : (n,) only updates before this one count.
    tokens : (n,) tokens of the row that another row had read before; each counts once.
    repeated : (n,) those of them that were read in another copy of their document.
    row_tokens : tokens of a row, L + 1.
    reads : one line per run of tokens and earlier row: `row_id`, `start` (first token in the row),
        `tokens` (how many), `document`, `offset`, `by_row`, `by_step`, and `repeated` (false for
        a token shared with the neighbor in the stream). Ascending by row, step, start.
    """

    rows: Int64
    before: Int64
    tokens: Int64
    repeated: Int64
    row_tokens: int
    reads: pl.DataFrame

    @property
    def share(self) -> npt.NDArray[np.float64]:
        """Share of each row's tokens that had been read before: (n,), 0 to 1."""
        return self.tokens / self.row_tokens

    def read_again(self, after: npt.ArrayLike, share: float = 0.5) -> Int64:
        """Step by which a share of each row's tokens had been read again in other copies: (n,).

        Parameters
        ----------
        after : (n,) steps; only later reads count. `before` has to lie behind them all.
        share : of the row's tokens, each counted at its first such read.

        Returns
        -------
        Steps; NEVER where so many tokens are not read again.
        """
        later, needed = as_integers(after, "after"), max(1, int(np.ceil(share * self.row_tokens)))
        order = np.argsort(self.rows, kind="stable")
        owner = order[np.searchsorted(self.rows[order], self.reads["row_id"].to_numpy())]
        used = self.reads["repeated"].to_numpy() & (self.reads["by_step"].to_numpy() > later[owner])
        owner, reads = owner[used], self.reads.filter(pl.Series(used))
        start, tokens, step = (reads[name].to_numpy() for name in ("start", "tokens", "by_step"))
        found = np.full(len(self.rows), NEVER, np.int64)
        ends = np.flatnonzero(np.append(np.diff(owner) != 0, True)) + 1  # reads of a row adjoin
        for begin, end in zip([0, *ends[:-1]], ends if len(owner) else (), strict=False):
            first = np.full(self.row_tokens, NEVER, np.int64)
            for at in range(end - 1, begin - 1, -1):  # steps ascend: the earliest is written last
                first[start[at] : start[at] + tokens[at]] = step[at]
            found[owner[begin]] = np.partition(first, needed - 1)[needed - 1]
        return found

    def frame(self) -> pl.DataFrame:
        """One line per row: row_id, before, tokens, repeated, earlier_exposure (share).

        `before` is null where the whole run counts.
        """
        return pl.DataFrame(
            {
                "row_id": self.rows,
                "before": pl.Series(self.before).replace(NEVER, None),
                "tokens": self.tokens,
                "repeated": self.repeated,
                "earlier_exposure": self.share,
            }
        )


def exposures(
    order: NeoxOrder,
    rows: object,
    before: npt.ArrayLike | None = None,
    training: TrainingOrder | None = None,
) -> Exposures:
    """Count the tokens of each row that other rows had read before, and name those rows.

    Parameters
    ----------
    order : the index maps.
    rows : row, slice or (n,) rows of the training order.
    before : optimizer step, or (n,) steps; reads by this step and later ones do not count. By
        default each row's own treatment step, and the whole run for rows that no step reads.
    training : batch size and steps of the run; by default the order's own.

    Raises
    ------
    RowRangeError
        A row does not exist.
    OrderError
        Batch size and steps are not known, or `before` does not match the rows.

    Examples
    --------
    Two copies of a document of 5 tokens and of one of 3, in rows of 4 + 1 tokens:

    >>> from data_order import Layout, NeoxOrder
    >>> run = TrainingOrder(batch_size=1, steps=3)
    >>> layout = Layout(seed=2, samples=3, sequence_length=4)
    >>> order = NeoxOrder.from_sizes([5, 3], layout, run)
    >>> exposures(order, [0, 1, 2]).tokens
    array([0, 1, 5])
    """
    run = training or order.training
    if run is None:
        raise OrderError(
            "exposures: batch size and steps of the run are not known; "
            "pass training=TrainingOrder(batch_size, steps)"
        )
    found = order.pieces(rows)
    limit = _limits(found.rows, before, run)
    reads = _reads(order, found)
    steps = run.step_of(reads["by_row"])
    owner = reads["owner"]
    earlier = (steps < limit[owner]) & (reads["by_row"] != found.rows[owner])
    kept = {name: column[earlier] for name, column in reads.items()}
    again = {name: column[kept["repeated"]] for name, column in kept.items()}
    return Exposures(
        rows=found.rows,
        before=limit,
        tokens=_covered(kept, len(found.rows), order.row_tokens),
        repeated=_covered(again, len(found.rows), order.row_tokens),
        row_tokens=order.row_tokens,
        reads=_frame(found.rows, kept, steps[earlier]),
    )


def indices_of(
    values: npt.NDArray[Any], index: npt.NDArray[Any], below: int
) -> npt.NDArray[np.int64]:
    """Find where `index` holds one of `values`, ascending; all are of 0 to `below` - 1."""
    # A bitmap, not np.isin: one pass without sorting, and 134 MB at the deduplicated Pile's size.
    wanted = np.zeros(below, bool)
    wanted[values] = True
    return np.concatenate(
        [
            np.flatnonzero(wanted[index[start : start + _CHUNK]]) + start
            for start in range(0, len(index), _CHUNK)
        ]
    )


def _limits(rows: Int64, before: npt.ArrayLike | None, run: TrainingOrder) -> Int64:
    if before is None:
        return run.step_of(rows)
    steps = as_integers(before, "before")
    if steps.shape not in ((), (1,), rows.shape):
        raise OrderError(
            f"before: got {steps.shape[0] if steps.ndim else 0} steps, expected one, or one for "
            f"each of {len(rows)} rows"
        )
    if steps.size and int(steps.min()) < 1:
        raise OrderError(f"before: got step {int(steps.min())}, expected 1 or later")
    return np.broadcast_to(steps, rows.shape).copy()


def _reads(order: NeoxOrder, found: Pieces) -> dict[str, npt.NDArray[Any]]:
    """Every (run of tokens, row that holds it), the row's own included.

    Columns: `owner` number of the asked row, `start` first token in it, `tokens`, `document`,
    `offset`, `by_row`, `repeated` (another copy of the document).
    """
    piece, entry, begin = _copies(order, found)
    # Sample k covers stream positions k L to k L + L, both included: a position that is a multiple
    # of L lies in two samples, so `first` is found from the position before.
    low = begin + found.offset[piece]
    high = low + found.length[piece]
    length = order.sequence_length
    first = np.maximum(-(-low // length) - 1, 0)
    last = np.minimum((high - 1) // length, len(order) - 1)
    # A ragged repeat: copy i of a piece meets samples first[i] to last[i].
    counts = np.maximum(last - first + 1, 0)
    copy = np.repeat(np.arange(len(piece)), counts)
    sample = first[copy] + np.arange(len(copy)) - np.repeat(np.cumsum(counts) - counts, counts)
    start = np.maximum(low[copy], sample * length)
    skipped = start - low[copy]
    piece = piece[copy]
    return {
        "owner": found.owner()[piece],
        "start": found.starts()[piece] + skipped,
        "tokens": np.minimum(high[copy], sample * length + length + 1) - start,
        "document": found.document[piece],
        "offset": found.offset[piece] + skipped,
        "by_row": _rows_of_samples(order, sample),
        "repeated": entry[copy] != found.entry[piece],
    }


def _copies(order: NeoxOrder, found: Pieces) -> tuple[Int64, Int64, Int64]:
    """Each piece with each copy of its document: piece, entry of the copy, its stream position."""
    entries = indices_of(found.document, order.document_index, len(order.sizes))
    begins = stream_starts(entries, order.sizes, order.document_index, order.ends)
    # Sort the found entries by document once; each piece then takes its run of copies from there.
    documents = order.document_index[entries]
    by_document = np.argsort(documents, kind="stable")
    documents = documents[by_document]
    first = np.searchsorted(documents, found.document, side="left")
    counts = np.searchsorted(documents, found.document, side="right") - first
    piece = np.repeat(np.arange(len(found.document)), counts)
    within = np.arange(len(piece)) - np.repeat(np.cumsum(counts) - counts, counts)
    chosen = by_document[first[piece] + within]
    return piece, entries[chosen], begins[chosen]


def _rows_of_samples(order: NeoxOrder, samples: Int64) -> Int64:
    """Row of the training order that each sample is: the inverse of the shuffle, where asked."""
    rows = indices_of(samples, order.shuffle_index, len(order))
    known = order.shuffle_index[rows].astype(np.int64)
    ascending = np.argsort(known)
    return rows[ascending][np.searchsorted(known[ascending], samples)]


def _covered(reads: dict[str, npt.NDArray[Any]], rows: int, row_tokens: int) -> Int64:
    """Distinct tokens of each row that the runs `start : start + tokens` cover: (rows,)."""
    owner, begin, stop = reads["owner"], reads["start"], reads["start"] + reads["tokens"]
    counts = np.zeros(rows, np.int64)
    # +1 where a run begins, -1 behind its end: positive running sums are covered. In blocks of
    # rows, so that no array of all rows times all tokens is made.
    step = max(1, _CELLS // (row_tokens + 1))
    for start in range(0, rows, step):
        inside = (owner >= start) & (owner < start + step)
        edges = np.zeros((min(step, rows - start), row_tokens + 1), np.int32)
        np.add.at(edges, (owner[inside] - start, begin[inside]), 1)
        np.add.at(edges, (owner[inside] - start, stop[inside]), -1)
        counts[start : start + step] = (np.cumsum(edges, axis=1, dtype=np.int32) > 0).sum(axis=1)
    return counts


def _frame(rows: Int64, reads: dict[str, npt.NDArray[Any]], steps: Int64) -> pl.DataFrame:
    return pl.DataFrame(
        {
            "row_id": rows[reads["owner"]],
            "start": reads["start"],
            "tokens": reads["tokens"],
            "document": reads["document"],
            "offset": reads["offset"],
            "by_row": reads["by_row"],
            "by_step": steps,
            "repeated": reads["repeated"],
        }
    ).sort("row_id", "by_step", "start", "by_row")
