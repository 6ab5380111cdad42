"""Exact counts of token sequences in a corpus, and by which step each had been read.

A suffix array of the rows, sorted by as many tokens as will be asked for: the doubling of Manber
and Myers (1993), each round one vectorized sort, and a binary search for all queries at once.
Sequences that cross the end of a row do not count.
"""

from dataclasses import dataclass
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from pythia_profile.labs.recall.recall_errors import RecallError

__all__ = ["SuffixArray"]

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class SuffixArray:
    """Places of a corpus, sorted by the tokens that begin there.

    Attributes
    ----------
    tokens : (N + depth,) the rows one after the other, each with a 0 behind it; ids plus 1.
    order : (N,) places, by the first `depth` tokens from each.
    depth : longest sequence that can be counted.
    row_tokens : tokens of a row.
    """

    tokens: Ids
    order: Ids
    depth: int
    row_tokens: int

    @classmethod
    def of(cls, rows: npt.NDArray[np.integer[Any]], depth: int) -> Self:
        """Sort the places of `rows` (n, T) by the `depth` tokens that begin there.

        About 90 bytes a token while sorting, log2(depth) sorts of all places.
        """
        if rows.ndim != 2 or not rows.size or not 1 <= depth <= rows.shape[1]:
            raise RecallError(
                f"rows {rows.shape} and depth {depth}: expected rows of equal length, and a depth "
                "from 1 to that length"
            )
        ended = np.zeros((len(rows), rows.shape[1] + 1), np.int64)
        ended[:, :-1] = rows.astype(np.int64) + 1
        tokens = ended.ravel()
        rank, width = tokens, 1
        while width < depth:
            # rank of the first 2w tokens: by that of the first w, then of the w behind them
            behind = np.zeros_like(rank)
            behind[:-width] = rank[width:]
            _, rank = np.unique(rank * (int(rank.max()) + 1) + behind, return_inverse=True)
            width *= 2
        order = np.argsort(rank, kind="stable")
        padded = np.concatenate([tokens, np.zeros(depth, np.int64)])
        return cls(padded, order, depth, rows.shape[1])

    def spans(self, queries: npt.NDArray[np.integer[Any]]) -> tuple[Ids, Ids]:
        """First place in `order`, and the one behind the last, of each query (m, L)."""
        asked = np.atleast_2d(queries).astype(np.int64) + 1
        if not 1 <= asked.shape[1] <= self.depth:
            raise RecallError(
                f"queries of {asked.shape[1]} tokens; this index was sorted by {self.depth}"
            )
        return self._first(asked, 0), self._first(asked, 1)

    def count(self, queries: npt.NDArray[np.integer[Any]]) -> Ids:
        """How often each query (m, L) occurs in the corpus; (m,).

        Examples
        --------
        >>> corpus = SuffixArray.of(np.array([[1, 2, 1, 2], [2, 1, 2, 3]]), depth=3)
        >>> corpus.count(np.array([[1, 2], [2, 3], [3, 1]])).tolist()
        [3, 1, 0]
        """
        first, last = self.spans(queries)
        return last - first

    def count_by_step(
        self,
        queries: npt.NDArray[np.integer[Any]],
        steps: npt.NDArray[np.integer[Any]],
        checkpoints: npt.ArrayLike,
    ) -> Ids:
        """How often each query had been read at each checkpoint; (m, C).

        Parameters
        ----------
        steps : (n,) optimizer step that reads each row; rows that no step reads are no part of
            the corpus.
        checkpoints : (C,) steps; what is read by the step itself counts.
        """
        asked = np.asarray(checkpoints, np.int64)
        found = np.zeros((len(queries), len(asked)), np.int64)
        for number, (first, last) in enumerate(zip(*self.spans(queries), strict=True)):
            rows = self.order[first:last] // (self.row_tokens + 1)
            found[number] = np.searchsorted(np.sort(steps[rows]), asked, side="right")
        return found

    def _first(self, asked: Ids, after: int) -> Ids:
        """First place whose tokens are not below each query, or, with `after` 1, above it."""
        low = np.zeros(len(asked), np.int64)
        high = np.full(len(asked), len(self.order))
        offsets = np.arange(asked.shape[1])
        while (open_ := low < high).any():
            middle = (low + high) // 2
            place = self.order[np.minimum(middle, len(self.order) - 1)]
            apart = self.tokens[place[:, None] + offsets] - asked
            # sign of the first difference decides; 0 where all tokens are those of the query
            first = apart[np.arange(len(asked)), (apart != 0).argmax(axis=1)]
            below = open_ & (first < after)
            low = np.where(below, middle + 1, low)
            high = np.where(open_ & ~below, middle, high)
        return low
