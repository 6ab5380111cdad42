"""The pieces of documents that a row was packed from.

In: the index maps and the rows asked for. Out: for each row its (document, offset, length) pieces
in the order in which they stand in the row.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from data_order.neox.index_maps import BLOCK, LOOKUPS, Int32, Int64, sample_starts


@dataclass(frozen=True, slots=True, eq=False)
class Pieces:
    """Pieces of n rows, P in all; those of row i are `first[i] : first[i + 1]`.

    Attributes
    ----------
    rows : (n,) rows that were asked for.
    first : (n + 1,) first piece of each row, and P.
    document : (P,) document of the piece.
    offset : (P,) first token of the piece in its document.
    length : (P,) tokens of the piece, at least one; a row's add up to `sequence_length` + 1.
    entry : (P,) which entry of the document list: tells the copies of a document apart.
    """

    rows: Int64
    first: Int64
    document: Int64
    offset: Int64
    length: Int64
    entry: Int64

    def owner(self) -> Int64:
        """Count from 0 which of the rows each piece belongs to: (P,)."""
        return np.repeat(np.arange(len(self.rows)), np.diff(self.first))

    def starts(self) -> Int64:
        """Find the first token of its row that each piece fills: (P,)."""
        before = np.cumsum(self.length) - self.length
        return before - np.repeat(before[self.first[:-1]], np.diff(self.first))

    def frame(self) -> pl.DataFrame:
        """One line per piece: row_id, at, document, offset, length."""
        return pl.DataFrame(
            {
                "row_id": self.rows[self.owner()],
                "start": self.starts(),
                "document": self.document,
                "offset": self.offset,
                "length": self.length,
            }
        )


def pieces_of(
    rows: Int64,
    samples: npt.NDArray[Any],
    length: int,
    sizes: Int32,
    document_index: Int32,
    ends: Int64,
) -> Pieces:
    """Pieces of `samples` (n,), each of `length` + 1 tokens, without the whole sample index.

    Parameters
    ----------
    rows : (n,) what the samples are called in the training order.
    ends : block ends of the document list, from `index_maps.block_ends`.
    """
    known = np.asarray(samples, dtype=np.int64)
    both = np.concatenate([known, known + 1])
    starts = sample_starts(both, length, sizes, document_index, ends)
    (entry, offset), (last_entry, last_offset) = starts[: len(known)].T, starts[len(known) :].T
    # Each sample runs from its own start to the next sample's first token, which it shares.
    counts = last_entry - entry + 1
    owner = np.repeat(np.arange(len(known)), counts)
    step = np.arange(len(owner)) - np.repeat(np.cumsum(counts) - counts, counts)
    entries = entry[owner] + step
    documents = document_index[entries]
    begin = np.where(step == 0, offset[owner], 0)
    end = np.where(entries == last_entry[owner], last_offset[owner] + 1, sizes[documents])
    kept = end > begin  # empty documents in the list hold no token of the row
    first = np.searchsorted(owner[kept], np.arange(len(known) + 1))
    return Pieces(
        rows=rows,
        first=first,
        document=documents[kept].astype(np.int64),
        offset=begin[kept],
        length=(end - begin)[kept],
        entry=entries[kept],
    )


def document_starts(documents: Int64, sizes: Int32) -> Int64:
    """First token of each of `documents` (n,) in the unshuffled store: (n,)."""
    # Starts of a few documents need no running sum over 134 million sizes: ends of blocks do.
    sums = np.add.reduceat(sizes, np.arange(0, len(sizes), BLOCK), dtype=np.int64)
    ends = np.cumsum(sums)
    starts = np.empty(len(documents), np.int64)
    for part in range(0, len(documents), LOOKUPS):
        block, column = np.divmod(documents[part : part + LOOKUPS], BLOCK)
        within = np.minimum(block[:, None] * BLOCK + np.arange(BLOCK), len(sizes) - 1)
        before = np.where(np.arange(BLOCK) < column[:, None], sizes[within], 0)
        begin = np.where(block > 0, ends[block - 1], 0)
        starts[part : part + len(block)] = begin + before.sum(axis=1, dtype=np.int64)
    return starts
