"""Token rows in the order in which a shuffled run read them: what `sample_rows` draws from.

Row i is the row at position i of the run; rows that no step reads stand behind the last position
that one does, as they do in a store of Pythia's rows.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from data_order.errors import OrderError
from data_order.order import NEVER, STATES, Rows, as_integers
from data_order.shuffled.passes import ShuffledOrder
from data_order.shuffled.repetition import is_masked
from data_order.shuffled.slices import Slices
from data_order.store.shards import ByteSource

__all__ = ["ShuffledRows", "states_of_reads"]


@dataclass(frozen=True, slots=True, eq=False)
class ShuffledRows:
    """Rows of a run by position.

    Attributes
    ----------
    order : which row each position is.
    slices : where in the files each row lies.
    source : bytes of the files, one after the other.
    filtered : whether the run masked rows with long repetitions.
    idle_steps, skipped_steps : steps that moved no weight: at rate 0, and skipped ones.
    """

    order: ShuffledOrder
    slices: Slices
    source: ByteSource
    filtered: bool = False
    idle_steps: frozenset[int] = frozenset()
    skipped_steps: frozenset[int] = frozenset()

    def __post_init__(self) -> None:
        if self.order.rows != self.slices.rows:
            raise OrderError(
                f"the files hold {self.slices.rows:,} rows, the order is of {self.order.rows:,}"
            )
        if self.source.length != (total := int(self.slices.sizes.sum())):
            raise OrderError(f"the files have {self.source.length:,} bytes, expected {total:,}")

    def __len__(self) -> int:
        return self.order.positions

    def __getitem__(self, key: Any, /) -> npt.NDArray[np.integer[Any]]:
        """Tokens of the rows at some positions: (n, L), or (L,) for one of them."""
        if isinstance(key, slice):
            key = np.arange(*key.indices(len(self)))
        positions = as_integers(key, "positions")
        if positions.ndim == 0:
            single: npt.NDArray[np.integer[Any]] = self.tokens(self.order.rows_at([key]))[0]
            return single
        return self.tokens(self.order.rows_at(positions))

    def tokens(self, rows: npt.ArrayLike) -> npt.NDArray[np.integer[Any]]:
        """Tokens of rows of the files (n, L), whatever their position."""
        file, token = self.slices.locate(rows)
        begin = np.concatenate([[0], np.cumsum(self.slices.sizes)])[file]
        width = self.slices.width * self.slices.token_bytes
        starts = begin + token * self.slices.token_bytes
        content = self.source.read(starts, np.full(len(starts), width))
        kind = np.dtype(f"<u{self.slices.token_bytes}")
        return content.view(kind).reshape(len(starts), self.slices.width)

    def reads_of(self, rows: Rows) -> Rows:
        """Give the steps that read the tokens of each row, ascending; then NEVER: (n, R).

        Second passes count, and the same place of a file that the list has more than once.
        """
        copies = self.slices.copies(rows)
        different, place = np.unique(np.maximum(copies, 0), return_inverse=True)
        steps = self.order.reads(different)[place.reshape(copies.shape)]
        steps[copies < 0] = NEVER
        found: Rows = np.sort(steps.reshape(len(rows), -1), axis=1)
        return found

    def states(self, positions: npt.ArrayLike) -> list[str]:
        """State of the row at each position (n,), one of `STATES`."""
        rows = self.order.rows_at(positions)
        return self.states_of(rows, self.tokens(rows))

    def states_of(self, rows: Rows, tokens: npt.NDArray[np.integer[Any]]) -> list[str]:
        """State of rows of the files (n,), given their tokens (n, L)."""
        masked = is_masked(tokens) if self.filtered else np.zeros(len(rows), bool)
        return states_of_reads(self.reads_of(rows), masked, self.idle_steps, self.skipped_steps)


def states_of_reads(
    reads: Rows, masked: npt.NDArray[np.bool_], idle: Iterable[int], skipped: Iterable[int]
) -> list[str]:
    """State of each row, one of `STATES`, from the steps that read it.

    Parameters
    ----------
    reads : (n, R) steps that read each row; NEVER where fewer than R did.
    masked : (n,) whether its labels were ignored.
    idle, skipped : steps at rate 0; steps of which the trainer skipped the update.

    Examples
    --------
    >>> reads = np.array([[3, NEVER], [3, 5], [4, NEVER], [NEVER, NEVER]])
    >>> states_of_reads(reads, np.zeros(4, bool), idle=[4], skipped=[5])
    ['read once', 'read once', 'read at rate 0', 'never read']
    """
    read = reads != NEVER
    without = [np.isin(reads, np.array(sorted(steps), np.int64)) for steps in (idle, skipped)]
    moved = (read & ~without[0] & ~without[1]).sum(axis=1)
    once, again, hidden, at_rate_0, in_skipped, never = STATES
    names = np.select(
        [~read.any(axis=1), masked, moved > 1, moved == 1, without[1].any(axis=1)],
        [never, hidden, again, once, in_skipped],
        at_rate_0,
    )
    return [str(name) for name in names]
