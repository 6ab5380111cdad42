"""Which step read which row, where each pass over the data has a permutation of its own.

The order of a pass over N rows that stay together q at a time is

    a = arange(N // q);  Generator(PCG64(seed + pass)).shuffle(a)

where each a stands for rows a q … a q + q - 1. `pass` counts from 0 in OLMo's own trainer and from
1 in OLMo-core. World size, workers and threads of the loader do not matter: the set of rows of a
step is fixed. A run is a list of segments, each a stretch of one pass at one batch size: a restart,
a second pass or another batch size begins a new one.

Source: allenai/OLMo at 59a53e3, `olmo/data/iterable_dataset.py`; allenai/OLMo-core at fa6c501,
`src/olmo_core/data/data_loader.py`; compared with both by running them (tests/data_order/shuffled).
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from data_order.errors import OrderError, RowRangeError
from data_order.order import (
    NEVER,
    Rows,
    TrainingOrder,
    as_integers,
    check_positions,
    check_step,
    cohort_of_steps,
    positive,
)
from data_order.shuffled.traced import TracedShuffle

__all__ = ["Segment", "ShuffledOrder", "pass_order"]

_BLOCK = 1 << 24
"""Positions that are looked through at a time: 64 MB of row numbers."""

_MANY, _TRACED = 1 << 26, 1 << 17
"""Units from which on, and places up to which, these are traced one by one: that takes a third of
the time or less, and memory for no permutation."""

_FEW = 1 << 14
"""Rows below which a table of their last bits finds them."""

_TABLE = 1 << 18
"""Entries of this table, a byte each."""


def pass_order(units: int, seed: int) -> npt.NDArray[np.uint32]:
    """Order of a pass: a permutation of `units`, by the sum of the run's seed and the pass.

    In place, by numpy's own shuffle: 4 bytes a unit, no copy.

    Examples
    --------
    >>> pass_order(6, 6198)
    array([3, 0, 2, 1, 4, 5], dtype=uint32)
    """
    if units >= 2**32 - 1:
        raise OrderError(f"{units:,} rows to shuffle, expected fewer than {2**32 - 1:,}")
    order = np.arange(units, dtype=np.uint32)
    np.random.Generator(np.random.PCG64(seed)).shuffle(order)
    return order


@dataclass(frozen=True, slots=True, kw_only=True)
class Segment:
    """A stretch of steps that read on in one pass at one batch size.

    Attributes
    ----------
    steps : how many.
    batch_size : rows of each.
    number : pass, counted as the trainer counts it.
    position : place in the pass's order of the first row that is read.
    """

    steps: int
    batch_size: int
    number: int = 0
    position: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "batch_size"):
            positive(getattr(self, name), name)
        if self.position < 0 or self.number < 0:
            raise OrderError(f"segment: pass {self.number}, position {self.position}; below 0")

    @property
    def end(self) -> int:
        """Place in the pass's order behind the last row that is read."""
        return self.position + self.steps * self.batch_size


@dataclass(slots=True, eq=False)
class ShuffledOrder:
    """Which rows each optimizer step reads, in the order of permutations.

    Memory: 4 bytes for each of N // q units, and 1 byte more while positions are looked up; of many
    units, where few places or rows are asked for, some 200 MB: they are traced through the shuffle.

    Attributes
    ----------
    rows : N, rows of a pass; those that a list of files holds twice count twice.
    seed : of the run; None for rows in the order in which they lie (identity).
    segments : what the steps read, in order.
    together : q, rows that stay together.

    Examples
    --------
    >>> order = ShuffledOrder.run(10, seed=6198, batch_size=4, steps=3)
    >>> order.rows_of(1), order.rows_of(3)
    (array([2, 4, 7, 3]), array([6, 4, 1, 8]))
    >>> order.reads([2, 4]).tolist()[1], order.times_read([2, 4])
    ([1, 3], array([1, 2]))
    """

    rows: int
    seed: int | None
    segments: tuple[Segment, ...]
    together: int = 1
    _kept: tuple[int, npt.NDArray[np.uint32]] | None = field(default=None, repr=False)
    _traced: dict[int, TracedShuffle] = field(default_factory=dict, repr=False)

    def __post_init__(self) -> None:
        positive(self.rows, "rows")
        positive(self.together, "together")
        if not self.segments:
            raise OrderError("an order needs a segment, got none")
        for segment in self.segments:
            if segment.end > self.shuffled_rows:
                raise OrderError(
                    f"a segment of pass {segment.number} reads positions {segment.position:,} to "
                    f"{segment.end - 1:,}, a pass has {self.shuffled_rows:,}"
                )

    @staticmethod
    def run(
        rows: int,
        seed: int | None,
        batch_size: int,
        steps: int,
        *,
        first_pass: int = 0,
        together: int = 1,
        changes: Sequence[tuple[int, int]] = (),
    ) -> "ShuffledOrder":
        """Lay out a run that reads whole batches only, pass after pass.

        Parameters
        ----------
        first_pass : number of the first pass, 0 in OLMo's own trainer, 1 in OLMo-core.
        changes : (steps done, batch size from then on), ascending; the pass goes on where it was.
        """
        positive(batch_size, "batch_size")
        positive(steps, "steps")
        marks = [(0, batch_size), *changes, (steps, batch_size)]
        if any(later <= earlier for (earlier, _), (later, _) in pairwise(marks)):
            raise OrderError(
                f"batch sizes change after steps {[step for step, _ in changes]}; expected "
                f"ascending steps between 0 and {steps}"
            )
        available = rows // together * together
        number, position, segments = first_pass, 0, []
        for (done, size), (until, _) in pairwise(marks):
            missing = until - done
            while missing:
                whole = min(missing, (available - position) // size)
                if whole:
                    segments.append(
                        Segment(steps=whole, batch_size=size, number=number, position=position)
                    )
                    position, missing = position + whole * size, missing - whole
                elif position == 0:
                    raise OrderError(f"a batch of {size:,} rows, and {available:,} rows to read")
                if missing and available - position < size:
                    number, position = number + 1, 0
        return ShuffledOrder(rows, seed, tuple(segments), together)

    @property
    def shuffled_rows(self) -> int:
        """Rows that the permutation holds: all but those of a last group that is not full."""
        return self.rows // self.together * self.together

    @property
    def steps(self) -> int:
        """Optimizer steps of the run."""
        return sum(segment.steps for segment in self.segments)

    @property
    def read_rows(self) -> int:
        """Rows read over the whole run, second readings counted again."""
        return sum(segment.steps * segment.batch_size for segment in self.segments)

    @property
    def training(self) -> TrainingOrder:
        """The run by position: which step reads the row at each place of the reading order."""
        sizes = np.array([segment.batch_size for segment in self.segments])
        done = np.cumsum([0, *(segment.steps for segment in self.segments)])
        new = np.flatnonzero(np.diff(sizes)) + 1
        changes = zip(done[new].tolist(), sizes[new].tolist(), strict=True)
        return TrainingOrder(int(sizes[0]), int(done[-1]), tuple(changes))

    def rows_of(self, step: int) -> Rows:
        """Rows that update `step` (1-based) reads, in the order of the permutation: (B,).

        Raises
        ------
        RowRangeError
            The run has no such step.
        """
        check_step(step, self.steps)
        for first, segment in self._by_step():
            if step < first + segment.steps:
                place = segment.position + (step - first) * segment.batch_size
                positions = np.arange(place, place + segment.batch_size)
                return self._at(segment.number, positions)
        raise AssertionError

    @property
    def positions(self) -> int:
        """Positions of the run's reading order, and after them one for each row never read."""
        return self.read_rows + self.never_read_rows

    def rows_at(self, positions: npt.ArrayLike) -> Rows:
        """Row at each place of the reading order of the run (n,).

        The places from `read_rows` on are those of rows that no step reads.

        Raises
        ------
        RowRangeError
            The order has no such position.
        """
        wanted = as_integers(positions, "positions")
        check_positions(wanted, self.positions)
        found, begin = np.empty(len(wanted), np.int64), 0
        for segment in self.segments:
            stop = begin + segment.end - segment.position
            mine = (wanted >= begin) & (wanted < stop)
            if mine.any():
                found[mine] = self._at(segment.number, segment.position + wanted[mine] - begin)
            begin = stop
        if (never := wanted >= begin).any():
            found[never] = self._never_read(wanted[never] - begin)
        return found

    @property
    def never_read_rows(self) -> int:
        """How many rows no step reads; those of a last group that is not full aside."""
        if self._one_pass:
            return int(self._gaps()[:, 1].sum())
        return len(self._never())

    def reads(self, rows: npt.ArrayLike) -> Rows:
        """Give the steps that read each row, a column a pass; NEVER where a pass did not: (n, P).

        Raises
        ------
        RowRangeError
            There is no such row.
        """
        ids = as_integers(rows, "rows")
        if ids.size and (int(ids.min()) < 0 or int(ids.max()) >= self.rows):
            raise RowRangeError(f"no row {int(ids.max()):,}; rows are 0 to {self.rows - 1:,}")
        numbers = list(dict.fromkeys(segment.number for segment in self.segments))
        found = np.full((len(ids), len(numbers)), NEVER)
        for column, number in enumerate(numbers):
            places = self._places(number, ids)
            for first, segment in self._by_step():
                if segment.number == number:
                    # no row is at two places of a pass, so no segment writes over another
                    inside = (places >= segment.position) & (places < segment.end)
                    done = (places[inside] - segment.position) // segment.batch_size
                    found[inside, column] = first + done
        return found

    def step_of(self, rows: npt.ArrayLike) -> Rows:
        """First step that reads each row (n,); NEVER where none does."""
        first: Rows = self.reads(rows).min(axis=1)
        return first

    def times_read(self, rows: npt.ArrayLike) -> Rows:
        """How many steps read each row (n,)."""
        times: Rows = (self.reads(rows) != NEVER).sum(axis=1)
        return times

    def cohort_of(self, rows: npt.ArrayLike, checkpoints: npt.ArrayLike) -> Rows:
        """First of the `checkpoints` (C,) that has read each row (n,); NEVER where none has."""
        return cohort_of_steps(self.step_of(rows), checkpoints)

    @property
    def _one_pass(self) -> bool:
        return len({segment.number for segment in self.segments}) == 1

    def _gaps(self) -> Rows:
        """Places of the first pass that no segment of it reads: first place and length, (k, 2)."""
        number = self.segments[0].number
        parts = sorted((s.position, s.end) for s in self.segments if s.number == number)
        starts = [0, *(end for _, end in parts)]
        stops = [*(begin for begin, _ in parts), self.shuffled_rows]
        gaps = [(a, b - a) for a, b in zip(starts, stops, strict=True) if b > a]
        return np.array(gaps, dtype=np.int64).reshape(-1, 2)

    def _never(self) -> Rows:
        """Rows that no step reads, of a run of several passes, in the order of the first."""
        gaps = self._gaps()
        places = np.concatenate([np.arange(a, a + n) for a, n in gaps.tolist()] or [gaps[:0, 0]])
        rows = self._at(self.segments[0].number, places)
        never: Rows = rows[self.times_read(rows) == 0]
        return never

    def _never_read(self, numbers: Rows) -> Rows:
        """Rows at some places (n,) among those that no step reads."""
        if not self._one_pass:
            return self._never()[numbers]
        gaps = self._gaps()
        ends = np.cumsum(gaps[:, 1])
        gap = np.searchsorted(ends, numbers, side="right")
        places = gaps[gap, 0] + numbers - (ends - gaps[:, 1])[gap]
        return self._at(self.segments[0].number, places)

    def _by_step(self) -> Iterator[tuple[int, Segment]]:
        """Each segment with its first step."""
        first = 1
        for segment in self.segments:
            yield first, segment
            first += segment.steps

    def _units(self, number: int) -> npt.NDArray[np.uint32] | None:
        """Order of a pass; None for the identity. One pass is kept at a time."""
        if self.seed is None:
            return None
        if self._kept is None or self._kept[0] != number:
            self._kept = None  # frees the other pass before this one is drawn
            self._kept = number, pass_order(self.rows // self.together, self.seed + number)
        return self._kept[1]

    def _tracing(self, number: int, count: int) -> TracedShuffle | None:
        """Shuffle of a pass to follow `count` units through; None where it is drawn as a whole."""
        units, whole = (
            self.rows // self.together,
            self._kept is not None and self._kept[0] == number,
        )
        if self.seed is None or whole or units < _MANY or count > _TRACED:
            return None
        return self._traced.setdefault(number, TracedShuffle(units, self.seed + number))

    def _at(self, number: int, places: Rows) -> Rows:
        """Rows at some places of a pass."""
        group, within = np.divmod(places, self.together)
        if (traced := self._tracing(number, len(group))) is not None:
            return traced.units_at(group) * self.together + within
        units = self._units(number)
        return places if units is None else units[group].astype(np.int64) * self.together + within

    def _places(self, number: int, rows: Rows) -> Rows:
        """Place of each row in a pass; NEVER for rows that its permutation does not hold."""
        group, within = np.divmod(rows, self.together)
        places = np.full(len(rows), NEVER)
        if (traced := self._tracing(number, len(group))) is not None:
            held = group < self.rows // self.together
            places[held] = traced.places_of(group[held]) * self.together + within[held]
            return places
        units = self._units(number)
        if units is None:
            return np.where(rows < self.shuffled_rows, rows, NEVER)
        # One look through the permutation instead of its inverse, which would take four bytes a
        # unit more and a random write for each. Few rows are marked by their last bits alone, in a
        # table that stays in the processor's cache; what shares these bits is sorted out after it.
        few = len(group) < _FEW
        bits = np.uint32(_TABLE - 1) if few else np.uint32(2**32 - 1)
        marked = np.zeros(_TABLE if few else len(units) + 1, bool)
        marked[(group & bits) if few else np.minimum(group, len(units))] = True
        hits = [
            begin + np.flatnonzero(marked[units[begin : begin + _BLOCK] & bits])
            for begin in range(0, len(units), _BLOCK)
        ]
        at = np.concatenate(hits)
        at = at[np.isin(units[at], group)] if few else at
        found = units[at].astype(np.int64)
        by_unit = np.argsort(found)
        held = group < len(units)
        home = at[by_unit[np.searchsorted(found, group[held], sorter=by_unit)]]
        places[held] = home * self.together + within[held]
        return places
