"""Blends of data sets: which row of which data set each row of the training order is.

GPT-NeoX and Megatron-LM read several data sets by weight: row i comes from the data set that lags
furthest behind its share of the rows before it, and is the next row of that data set's own order.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from data_order.errors import OrderError
from data_order.sample import RowSource
from data_order.store.selection import selected

_MOST_SETS = 255


@dataclass(frozen=True, slots=True, eq=False)
class Blend:
    """Rows of several data sets in the order of their training.

    Attributes
    ----------
    sets : rows of each data set, in its own training order.
    set_of : (N,) data set of each row.
    row_of : (N,) which row of its data set it is.
    """

    sets: tuple[RowSource, ...]
    set_of: npt.NDArray[np.uint8]
    row_of: npt.NDArray[np.int64]

    @classmethod
    def of(cls, sets: Sequence[RowSource], weights: Sequence[float], rows: int) -> "Blend":
        """Blend `rows` rows by weight; some seconds for a million rows.

        Raises
        ------
        OrderError
            The weights do not match, or a data set has fewer rows than its share.
        """
        if len(sets) != len(weights):
            raise OrderError(f"blend: {len(sets)} data sets but {len(weights)} weights")
        set_of, row_of = blended(weights, rows)
        for number, source in enumerate(sets):
            needed = int(np.count_nonzero(set_of == number))
            if needed > len(source):
                raise OrderError(
                    f"blend: data set {number} has {len(source):,} rows, {needed:,} are needed"
                )
        return cls(tuple(sets), set_of, row_of)

    def __len__(self) -> int:
        return len(self.set_of)

    def __getitem__(self, key: object) -> npt.NDArray[Any]:
        """Row(s) `key`: (L + 1,) for one, (n, L + 1) for several."""
        asked = selected(key, len(self), "row")
        flat = asked.reshape(-1)
        parts, owners = [], []
        for number in np.unique(self.set_of[flat]):
            mine = np.flatnonzero(self.set_of[flat] == number)
            parts.append(np.asarray(self.sets[number][self.row_of[flat[mine]]]))
            owners.append(mine)
        if not parts:
            return np.empty((*asked.shape, 0), np.uint16)
        # Rows come set by set; the inverse of where they belong puts them back in order.
        together = np.concatenate(parts)[np.argsort(np.concatenate(owners))]
        return together.reshape(*asked.shape, together.shape[-1])


def blended(
    weights: Sequence[float], rows: int
) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.int64]]:
    """Choose the data set of each of `rows` rows, and which of its rows it is: (N,) both.

    Examples
    --------
    >>> blended([3, 1], rows=6)[0].tolist()
    [0, 1, 0, 0, 0, 1]
    """
    shares = np.asarray(weights, np.float64)
    if shares.ndim != 1 or not 0 < len(shares) < _MOST_SETS or not (shares > 0).all():
        raise OrderError(f"blend: got weights {list(weights)}, expected 1 to 254 above 0")
    if not np.isfinite(shares.sum()):
        raise OrderError(f"blend: got weights {list(weights)}, expected finite ones")
    share = (shares / shares.sum()).tolist()
    taken = [0] * len(share)
    set_of, row_of = np.empty(rows, np.uint8), np.empty(rows, np.int64)
    # One row after the other: what is chosen depends on all that was chosen before. The first of
    # equally far ones is taken, and row 0 is chosen as row 1 would be.
    for row in range(rows):
        behind = [part * max(row, 1) - count for part, count in zip(share, taken, strict=True)]
        chosen = behind.index(max(behind))
        set_of[row], row_of[row] = chosen, taken[chosen]
        taken[chosen] += 1
    return set_of, row_of
