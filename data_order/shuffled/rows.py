"""Token rows in the order in which a shuffled run read them: what `sample_rows` draws from.

Row i is the row at position i of the run; rows that no step reads stand behind the last position
that one does, as they do in a store of Pythia's rows.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from data_order.errors import OrderError
from data_order.order import NEVER, Rows, as_integers
from data_order.shuffled.passes import ShuffledOrder
from data_order.shuffled.repetition import is_masked
from data_order.shuffled.slices import Slices
from data_order.store.shards import ByteSource

__all__ = ["STATES", "ShuffledRows"]

STATES = ("read once", "read again", "masked", "in an idle step", "never read")
"""What can be said of a row. Masked rows, and those read in idle steps only (skipped, at rate 0),
moved no weight: their effect must be 0."""


@dataclass(frozen=True, slots=True, eq=False)
class ShuffledRows:
    """Rows of a run by position.

    Attributes
    ----------
    order : which row each position is.
    slices : where in the files each row lies.
    source : bytes of the files, one after the other.
    filtered : whether the run masked rows with long repetitions.
    idle_steps : steps that moved no weight: skipped ones, and those at rate 0.
    """

    order: ShuffledOrder
    slices: Slices
    source: ByteSource
    filtered: bool = False
    idle_steps: frozenset[int] = frozenset()

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
        reads = self.reads_of(rows)
        idle = np.isin(reads, np.array(sorted(self.idle_steps), dtype=np.int64))
        moved = ((reads != NEVER) & ~idle).sum(axis=1)
        masked = is_masked(tokens) if self.filtered else np.zeros(len(rows), bool)
        names = np.select(
            [(reads == NEVER).all(axis=1), masked, moved == 0, moved > 1],
            ["never read", "masked", "in an idle step", "read again"],
            "read once",
        )
        return [str(name) for name in names]
