"""Which row ids to follow: draws from each cohort, as pure functions of a seed.

Every cohort has a random stream of its own, keyed by (seed, cohort), so that a cohort's rows do
not depend on which other cohorts are drawn, or in which order. A draw can be restricted to rows
that a function accepts: candidates are then taken in random order until enough are accepted, which
is a uniform draw from the accepted rows.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import numpy.typing as npt

from data_order.errors import OrderError, RowRangeError
from data_order.order import TrainingOrder, as_integers, positive

Rows = npt.NDArray[np.int64]
Spans = list[tuple[int, int]]

Accept = Callable[[Rows], npt.NDArray[np.bool_]]
"""Tells which of (n,) row ids may be drawn: (n,)."""

PUBLISHED_SEED = 1994
PUBLISHED_NEVER_SEED = 1234
PUBLISHED_STEPS = 1000
PUBLISHED_BATCHES = 10
PUBLISHED_ROWS = 10


@dataclass(frozen=True, slots=True)
class Cell:
    """Rows `low` to `low + rows` - 1, of which `count` are to be drawn.

    Attributes
    ----------
    name : what messages call it.
    key : what its random stream depends on, beside the seed.
    """

    name: str
    key: tuple[int, ...]
    low: int
    rows: int
    count: int


def cohort_spans(order: TrainingOrder, checkpoints: npt.ArrayLike, available: int) -> Spans:
    """List the steps (b, c] of each cohort c, b being the checkpoint before it.

    Rows that were read before the first checkpoint have no base to be compared with and belong to
    no span.

    Parameters
    ----------
    checkpoints : (C,) scored checkpoint steps, strictly ascending, at least two.
    available : rows of the store.

    Raises
    ------
    OrderError
        There is no base and cohort, or the grid is not ascending from 0 on.
    RowRangeError
        A cohort ends after the last step of the run, or its rows are not in the store.

    Examples
    --------
    >>> cohort_spans(TrainingOrder(16, 96), [0, 32, 96], available=1536)
    [(0, 32), (32, 96)]
    """
    grid = as_integers(checkpoints, "checkpoints")
    if grid.ndim != 1 or len(grid) < 2:
        raise OrderError(
            f"checkpoints: got {grid.tolist()}, expected at least two steps: a base and a cohort"
        )
    if grid[0] < 0 or bool((np.diff(grid) <= 0).any()):
        raise OrderError(f"checkpoints: got {grid.tolist()}, expected strictly ascending steps")
    last = int(grid[-1])
    if last > order.steps:
        raise RowRangeError(f"checkpoint {last} is past the run's last step {order.steps}")
    if (read := int(order.rows_before(last))) > available:
        raise RowRangeError(
            f"cohort {last} reads rows up to {read - 1:,}, but the store has {available:,} rows"
        )
    return list(pairwise(grid.tolist()))


def draw_iid(
    order: TrainingOrder,
    spans: Spans,
    per_cohort: int,
    entropy: int,
    accept: Accept | None = None,
    *,
    up_to: bool = False,
) -> Rows:
    """Draw `per_cohort` rows of each cohort at random, all rows alike: (G * per_cohort,).

    Parameters
    ----------
    up_to : whether a cohort with fewer rows gives all of them.

    Raises
    ------
    OrderError
        A cohort has fewer rows, or fewer that are accepted.
    """
    positive(per_cohort, "per_cohort")
    cells = []
    for base, cohort in spans:
        first, end = order.rows_before([base, cohort]).tolist()
        count = min(per_cohort, end - first) if up_to else per_cohort
        cells.append(Cell(f"cohort {cohort}", (cohort,), first, end - first, count))
    return draw_cells(cells, entropy, accept)


def draw_batches(
    order: TrainingOrder,
    spans: Spans,
    batches: int,
    rows_per_batch: int,
    entropy: int,
    accept: Accept | None = None,
    *,
    up_to: bool = False,
) -> Rows:
    """Draw `batches` batches of each cohort, and `rows_per_batch` rows of each of them.

    Fewer batches than `draw_iid` touches, so fewer clusters: standard errors by batch need them.

    Parameters
    ----------
    up_to : whether a cohort with fewer batches gives all of them, and a batch with fewer rows all
        of these.

    Raises
    ------
    OrderError
        A cohort has fewer batches, or a batch fewer rows, or fewer that are accepted.
    """
    positive(batches, "batches")
    positive(rows_per_batch, "rows_per_batch")
    cells = []
    for base, cohort in spans:
        count = min(batches, cohort - base) if up_to else batches
        enough(count, cohort - base, f"cohort {cohort}: batches")
        chosen = stream(entropy, cohort).choice(cohort - base, count, replace=False) + base
        starts, sizes = order.rows_before(chosen), order.batch_sizes(chosen + 1)
        rows = np.minimum(rows_per_batch, sizes) if up_to else np.full(count, rows_per_batch)
        cells += [
            Cell(f"batch {batch}", (cohort, batch), *place)
            for batch, *place in np.stack([chosen, starts, sizes, rows], axis=1).tolist()
        ]
    return draw_cells(cells, entropy, accept)


def draw_never(
    low: int, rows: int, count: int, entropy: int, what: str, accept: Accept | None = None
) -> Rows:
    """Draw `count` of the ids `low` to `low + rows` - 1, ascending.

    Raises
    ------
    OrderError
        There are fewer, or fewer that are accepted.
    """
    cell = Cell(what, (), low, rows, count)
    return np.sort(draw_cells([cell] if count else [], entropy, accept))


def draw_cells(cells: list[Cell], entropy: int, accept: Accept | None) -> Rows:
    """Draw the rows of every cell: (sum of counts,), cell after cell."""
    for cell in cells:
        enough(cell.count, cell.rows, f"{cell.name}: rows")
    taken = [np.empty(0, np.int64) for _ in cells]
    open_cells = list(range(len(cells)))
    # A cell that falls short is drawn anew with more candidates, from the same stream: numpy's
    # choice of more is no continuation of its choice of fewer, but every round treats all accepted
    # rows alike, so the draw stays uniform over them.
    factor = 1 if accept is None else 8
    while open_cells:
        candidates = [_candidates(cells[i], entropy, factor) for i in open_cells]
        if accept is not None:
            candidates = _accepted(candidates, accept)
        still_open = []
        for i, rows in zip(open_cells, candidates, strict=True):
            taken[i] = rows[: cells[i].count]
            if len(rows) < cells[i].count:
                if factor * cells[i].count >= cells[i].rows:
                    enough(cells[i].count, len(rows), f"{cells[i].name}: accepted rows")
                still_open.append(i)
        open_cells, factor = still_open, 4 * factor
    return np.concatenate([np.empty(0, np.int64), *taken])


def draw_published(order: TrainingOrder) -> Rows:
    """Draw the treated rows of the published study of Pythia: 14,300 ids, ascending.

    Of each 1000 batches 10, of each of these 10 rows, from numpy's `RandomState(1994)`, which is
    replaced after every batch by one seeded from it.

    Raises
    ------
    OrderError
        The run is not Pythia's.

    Source: Lesci et al. (2024), the data preparation of the published panel.
    """
    if (order.batch_size, order.steps) != (1024, 143_000):
        raise OrderError(
            f"draw 'published': is of 143,000 steps of 1024 rows, got {order.steps} steps of "
            f"{order.batch_size}"
        )
    rng = np.random.RandomState(PUBLISHED_SEED)
    drawn = []
    for first in range(0, order.steps, PUBLISHED_STEPS):
        batches = rng.choice(PUBLISHED_STEPS, PUBLISHED_BATCHES, replace=False) + first
        for batch in batches.tolist():
            rows = rng.choice(order.batch_size, PUBLISHED_ROWS, replace=False)
            drawn.append(rows + batch * order.batch_size)
            rng = np.random.RandomState(rng.randint(1_000_000))
    return np.sort(np.concatenate(drawn))


def draw_published_never(rows: int, count: int) -> Rows:
    """Draw packed held-out rows as the published study did, ascending; it calls row i -100 - i."""
    enough(count, rows, "held-out rows")
    rng = np.random.RandomState(PUBLISHED_NEVER_SEED)
    return np.sort(rng.choice(rows, count, replace=False))


def entropy_of(seed: int | np.random.Generator) -> int:
    """Return the number that keys a draw's streams: the seed, or one draw of a generator.

    Raises
    ------
    OrderError
        The seed is negative or no whole number.
    """
    if isinstance(seed, np.random.Generator):
        return int(seed.integers(2**63))
    if isinstance(seed, bool) or not isinstance(seed, int | np.integer) or seed < 0:
        raise OrderError(f"seed: got {seed!r}, expected a whole number from 0 on, or a Generator")
    return int(seed)


def stream(entropy: int, *key: int) -> np.random.Generator:
    """Random stream of (cohort), (cohort, batch), or of the never-treated rows: ()."""
    return np.random.default_rng(np.random.SeedSequence(entropy, spawn_key=(len(key), *key)))


def _candidates(cell: Cell, entropy: int, factor: int) -> Rows:
    count = min(cell.rows, factor * cell.count)
    return stream(entropy, *cell.key, 0).choice(cell.rows, count, replace=False) + cell.low


def _accepted(candidates: list[Rows], accept: Accept) -> list[Rows]:
    """Ask about the candidates of all cells at once; keep the accepted ones, in their order."""
    good = accept(np.concatenate(candidates))
    ends = np.cumsum([len(rows) for rows in candidates])
    masks = np.split(good, ends[:-1])
    return [rows[mask] for rows, mask in zip(candidates, masks, strict=True)]


def enough(asked: int, available: int, what: str) -> None:
    """Refuse to draw more than there is."""
    if asked > available:
        raise OrderError(f"{what}: {asked:,} were asked for, but there are {available:,}")
