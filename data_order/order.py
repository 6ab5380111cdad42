"""Training order: optimizer step <-> token rows <-> cohorts, in integer arithmetic only.

Row r (0-based place in the training order) is in batch r // batch_size, and update
g = r // batch_size + 1 reads it. Checkpoint c holds the weights after c updates, so the first
checkpoint that has read row r is the first c >= g.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from data_order.errors import OrderError, RowRangeError

NEVER: int = int(np.iinfo(np.int64).max)
"""Treatment step, batch or cohort of a row that no step reads (null in tables)."""

STATES = (
    "read once",
    "read again",
    "masked",
    "read at rate 0",
    "in a skipped step",
    "never read",
)
"""What can be said of a row."""

PLACEBO_STATES = frozenset({"masked", "read at rate 0", "in a skipped step"})
"""States of rows that were read and moved no weight, so that their effect must be 0."""

Rows = npt.NDArray[np.int64]


def as_integers(values: npt.ArrayLike, what: str) -> npt.NDArray[np.int64]:
    """Return `values` as int64, whatever integer type they came in; never round.

    Raises
    ------
    OrderError
        `values` are not integers, or do not fit in 64 signed bits.
    """
    try:
        array: npt.NDArray[Any] = np.asarray(values)
    except ValueError as error:
        raise OrderError(f"{what}: got lists of different lengths, expected integers") from error
    if array.size == 0:
        return array.astype(np.int64)
    if array.dtype.kind not in "iu":
        raise OrderError(f"{what}: got {array.dtype} values, expected integers")
    if array.dtype.kind == "u" and int(array.max()) > NEVER:
        raise OrderError(f"{what}: {int(array.max())} does not fit in 64 signed bits")
    return array.astype(np.int64)


def positive(count: object, name: str) -> None:
    """Refuse a `count` that is no whole number above 0.

    Raises
    ------
    OrderError
        It is not.
    """
    if isinstance(count, bool) or not isinstance(count, int | np.integer) or count < 1:
        raise OrderError(f"{name}: got {count!r}, expected a whole number above 0")


def check_step(step: int, steps: int) -> None:
    """Refuse a step that a run of `steps` does not have.

    Raises
    ------
    RowRangeError
        It has not.
    """
    if not 1 <= step <= steps:
        raise RowRangeError(f"no step {step}; this run has steps 1 to {steps}")


def check_positions(positions: Rows, count: int) -> None:
    """Refuse places of a reading order that are not 0 to `count` - 1.

    Raises
    ------
    RowRangeError
        One is not.
    """
    if positions.size and (int(positions.min()) < 0 or int(positions.max()) >= count):
        raise RowRangeError(
            f"positions {int(positions.min()):,} to {int(positions.max()):,}; this order has 0 to "
            f"{count - 1:,}"
        )


@dataclass(frozen=True, slots=True)
class TrainingOrder:
    """Which rows each optimizer step reads.

    Attributes
    ----------
    batch_size : rows per optimizer step (Pythia: 1024); of the first steps, where it changes.
    steps : optimizer steps of the whole run (Pythia: 143,000).
    changes : (steps done, batch size from then on), ascending; none for one batch size.

    Examples
    --------
    >>> pythia = TrainingOrder(batch_size=1024, steps=143_000)
    >>> pythia.step_of([0, 1023, 1024])
    array([1, 1, 2])
    >>> pythia.cohort_of([0, 1_023_999, 1_024_000], checkpoints=[0, 1000, 2000])
    array([1000, 1000, 2000])
    >>> ramped = TrainingOrder(batch_size=2, steps=5, changes=((2, 4),))
    >>> ramped.rows, ramped.step_of([3, 4, 8]), ramped.rows_of(3)
    (16, array([2, 3, 4]), array([4, 5, 6, 7]))
    """

    batch_size: int
    steps: int
    changes: tuple[tuple[int, int], ...] = ()

    def __post_init__(self) -> None:
        for name in ("batch_size", "steps"):
            positive(getattr(self, name), name)
        marks = [0, *(done for done, _ in self.changes), self.steps]
        if any(later <= earlier for earlier, later in pairwise(marks)):
            raise OrderError(
                f"batch sizes change after steps {marks[1:-1]}; expected ascending steps between 0 "
                f"and {self.steps}"
            )
        for _, size in self.changes:
            positive(size, "batch size")

    @property
    def rows(self) -> int:
        """Number of rows that some step reads; rows from here on are never-treated."""
        return int(self.rows_before(self.steps))

    def rows_before(self, steps: npt.ArrayLike) -> Rows:
        """Count the rows that the first so many updates (n,) read: (n,)."""
        done = np.asarray(steps, dtype=np.int64)
        marks, sizes, first = self._parts()
        at = np.searchsorted(marks, done, side="right") - 1
        counted: Rows = first[at] + (done - marks[at]) * sizes[at]
        return counted

    def batch_sizes(self, steps: npt.ArrayLike) -> Rows:
        """Rows of each update (n,), 1-based: (n,)."""
        marks, sizes, _ = self._parts()
        found: Rows = sizes[np.searchsorted(marks, np.asarray(steps, dtype=np.int64)) - 1]
        return found

    def until(self, last: int) -> "TrainingOrder":
        """Return the run's first `last` steps."""
        return TrainingOrder(
            self.batch_size, last, tuple(one for one in self.changes if one[0] < last)
        )

    def _parts(self) -> tuple[Rows, Rows, Rows]:
        """Of each stretch of one batch size: steps before it, rows of a batch, rows before it."""
        marks = np.array([0, *(done for done, _ in self.changes)], dtype=np.int64)
        sizes = np.array([self.batch_size, *(size for _, size in self.changes)], dtype=np.int64)
        first = np.concatenate([[0], np.cumsum(sizes[:-1] * np.diff(marks))]).astype(np.int64)
        return marks, sizes, first

    def step_of(self, rows: npt.ArrayLike) -> Rows:
        """Treatment step g of each row, `rows // batch_size + 1`; NEVER past the last step.

        Where the batch size changes, rows are counted from the start of the stretch they are in.

        Parameters
        ----------
        rows : (n,) 0-based rows of the training order, any integer type.

        Returns
        -------
        (n,) int64 optimizer steps, 1-based.

        Raises
        ------
        RowRangeError
            A row is negative.
        """
        ids = as_integers(rows, "rows")
        if ids.size and int(ids.min()) < 0:
            raise RowRangeError(f"row {int(ids.min())} is negative; rows count from 0")
        if not self.changes:
            return np.where(ids < self.rows, ids // self.batch_size + 1, NEVER)
        marks, sizes, first = self._parts()
        at = np.searchsorted(first, ids, side="right") - 1
        steps = marks[at] + (ids - first[at]) // sizes[at] + 1
        return np.where(ids < self.rows, steps, NEVER)

    def rows_of(self, step: int) -> Rows:
        """Rows that update `step` (1-based) reads, as many as its batch has: int64, ascending.

        Raises
        ------
        RowRangeError
            The run has no such step.
        """
        return np.arange(self.first_row_of(step), int(self.rows_before(step)), dtype=np.int64)

    def first_row_of(self, step: int) -> int:
        """Return the first of the rows that update `step` (1-based) reads.

        Raises
        ------
        RowRangeError
            The run has no such step.
        """
        check_step(step, self.steps)
        return int(self.rows_before(step - 1))

    def cohort_of(self, rows: npt.ArrayLike, checkpoints: npt.ArrayLike) -> Rows:
        """First checkpoint that has read each row; NEVER where none of them has.

        Parameters
        ----------
        rows : (n,) 0-based rows of the training order.
        checkpoints : (C,) scored checkpoint steps, strictly ascending.

        Returns
        -------
        (n,) int64 cohorts, each one of `checkpoints` or NEVER.
        """
        return cohort_of_steps(self.step_of(rows), checkpoints)


def cohort_of_steps(steps: npt.ArrayLike, checkpoints: npt.ArrayLike) -> Rows:
    """First of the `checkpoints` (C,) that is not before each of `steps` (n,), else NEVER.

    Raises
    ------
    OrderError
        The checkpoints are not strictly ascending.

    Examples
    --------
    >>> cohort_of_steps([1, 32, 33], checkpoints=[0, 32, 64])
    array([32, 32, 64])
    """
    grid = as_integers(checkpoints, "checkpoints")
    if grid.ndim != 1 or (np.diff(grid) <= 0).any():
        raise OrderError(f"checkpoints: got {grid.tolist()}, expected strictly ascending steps")
    first = np.searchsorted(grid, as_integers(steps, "steps"))
    return np.append(grid, NEVER)[first]
