"""Orders that go through files one after the other, each shuffled by itself: Amber.

A process that begins at file s seeds numpy with `seed + s` and draws one permutation a file from
then on; only whole batches of a file are read. Which file a row is in, and so which checkpoint is
the first that has read it, needs no seed; its step in the file needs to know where the process that
read it had begun. Where that is not published, each of s = 0, ..., c is possible for file c.

Source: LLM360/amber-train at 64bc595, `main.py` and `main_utils.py`; equal by running its loader
(tests/data_order/golden/make_filed_order.py).
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from data_order.errors import OrderError, RowRangeError
from data_order.order import (
    NEVER,
    Rows,
    TrainingOrder,
    as_integers,
    check_positions,
    cohort_of_steps,
    positive,
)

__all__ = ["FileOrder"]


@dataclass(slots=True, eq=False)
class FileOrder:
    """Which rows of which file each optimizer step reads.

    Row r is row r % file_rows of file r // file_rows.

    Attributes
    ----------
    files, file_rows : number of files, rows of each.
    batch_size : rows of a step; the last rows of a file's permutation fill no batch and are never
        read.
    seed : of a process that begins at file 0; one more for each file that it begins later.
    starts : files at which a process began, ascending; the first is 0.

    Examples
    --------
    >>> order = FileOrder(files=3, file_rows=10, batch_size=4, seed=11111, starts=(0, 2))
    >>> order.steps, order.rows_of(1), order.rows_of(5)
    (6, array([3, 2, 8, 0]), array([23, 20, 26, 22]))
    >>> order.step_of([3, 26]), order.first_steps(2)
    (array([1, 5]), 5)
    """

    files: int
    file_rows: int
    batch_size: int
    seed: int = 11111
    starts: tuple[int, ...] = (0,)
    _rng: np.random.RandomState | None = field(default=None, repr=False)
    _drawn: tuple[int, int] = field(default=(-1, -1), repr=False)
    _last: npt.NDArray[Any] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        for name in ("files", "file_rows", "batch_size"):
            positive(getattr(self, name), name)
        if self.batch_size > self.file_rows:
            raise OrderError(f"a batch of {self.batch_size:,} rows, and {self.file_rows:,} a file")
        starts = list(self.starts)
        if starts[:1] != [0] or starts != sorted({*starts}) or starts[-1] >= self.files:
            raise OrderError(
                f"starts: got {starts}, expected ascending files from 0 to {self.files - 1}"
            )

    @property
    def file_steps(self) -> int:
        """Optimizer steps of a file."""
        return self.file_rows // self.batch_size

    @property
    def steps(self) -> int:
        """Optimizer steps of the run."""
        return self.files * self.file_steps

    @property
    def rows(self) -> int:
        """Rows of all files."""
        return self.files * self.file_rows

    @property
    def read_rows(self) -> int:
        """Rows that some step reads."""
        return self.steps * self.batch_size

    @property
    def training(self) -> TrainingOrder:
        """The run by position: position p is read by step p // batch_size + 1."""
        return TrainingOrder(self.batch_size, self.steps)

    def first_steps(self, file: int) -> int:
        """Return the first step that reads a file."""
        return file * self.file_steps + 1

    def permutation(self, file: int, start: int | None = None) -> npt.NDArray[np.int64]:
        """Order of a file's rows (file_rows,), if the process that read it began at `start`.

        Permutations follow each other in one stream of random numbers, so that of file c costs
        c - start + 1 draws, and the next one a single draw.
        """
        if not 0 <= file < self.files:
            raise RowRangeError(f"no file {file}; this run has files 0 to {self.files - 1}")
        begun = max(s for s in self.starts if s <= file) if start is None else start
        if not 0 <= begun <= file:
            raise RowRangeError(f"file {file} was read by no process that began at {begun}")
        if self._rng is None or self._drawn[0] != begun or self._drawn[1] > file:
            self._rng, self._drawn = np.random.RandomState(self.seed + begun), (begun, begun - 1)
        while self._drawn[1] < file:
            self._last = self._rng.permutation(self.file_rows)
            self._drawn = begun, self._drawn[1] + 1
        return np.asarray(self._last, np.int64)

    def rows_of(self, step: int) -> Rows:
        """Rows that update `step` (1-based) reads, in the order of the permutation: (B,).

        Raises
        ------
        RowRangeError
            The run has no such step.
        """
        return self.rows_at(np.arange(self.batch_size) + self.training.first_row_of(step))

    def rows_at(self, positions: npt.ArrayLike) -> Rows:
        """Row at each place of the reading order (n,); from `read_rows` on those never read.

        Raises
        ------
        RowRangeError
            The order has no such position.
        """
        wanted = as_integers(positions, "positions")
        check_positions(wanted, self.rows)
        whole = self.file_steps * self.batch_size
        left = max(1, self.file_rows - whole)
        past = wanted >= self.read_rows
        file = np.where(past, (wanted - self.read_rows) // left, wanted // whole)
        place = np.where(past, whole + (wanted - self.read_rows) % left, wanted % whole)
        found = np.empty(len(wanted), np.int64)
        for number in np.unique(file).tolist():
            mine = file == number
            found[mine] = number * self.file_rows + self.permutation(number)[place[mine]]
        return found

    def step_of(self, rows: npt.ArrayLike) -> Rows:
        """Treatment step of each row (n,); NEVER where its file's last batch did not reach it."""
        ids = self._known(rows)
        file, local = np.divmod(ids, self.file_rows)
        found = np.empty(len(ids), np.int64)
        for number in np.unique(file).tolist():
            mine = file == number
            found[mine] = self._steps_in(number, self.permutation(number), local[mine])
        return found

    def candidates(self, file: int, rows: npt.ArrayLike) -> Rows:
        """Step of rows of a file (n,) for each file at which its process may have begun: (c+1, n).

        Parameters
        ----------
        rows : (n,) rows of that file, counted from its own row 0.
        """
        local = as_integers(rows, "rows")
        if local.size and (int(local.min()) < 0 or int(local.max()) >= self.file_rows):
            raise RowRangeError(f"a file has rows 0 to {self.file_rows - 1:,}")
        return np.stack(
            [
                self._steps_in(file, self.permutation(file, start), local)
                for start in range(file + 1)
            ]
        )

    def cohort_of(self, rows: npt.ArrayLike, checkpoints: npt.ArrayLike) -> Rows:
        """First of the `checkpoints` (C,) that has read each row (n,); NEVER where none has."""
        return cohort_of_steps(self.step_of(rows), checkpoints)

    def _steps_in(self, file: int, permutation: Rows, local: Rows) -> Rows:
        place = np.empty(self.file_rows, np.int64)
        place[permutation] = np.arange(self.file_rows)
        within = place[local] // self.batch_size
        return np.where(within < self.file_steps, self.first_steps(file) + within, NEVER)

    def _known(self, rows: npt.ArrayLike) -> Rows:
        ids = as_integers(rows, "rows")
        if ids.size and (int(ids.min()) < 0 or int(ids.max()) >= self.rows):
            raise RowRangeError(f"no row {int(ids.max()):,}; rows are 0 to {self.rows - 1:,}")
        return ids
