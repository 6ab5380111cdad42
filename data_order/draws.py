"""Which row ids to follow: draws from each cohort, as pure functions of a seed.

Every cohort has a random stream of its own, keyed by (seed, cohort), so that a cohort's rows do
not depend on which other cohorts are drawn, or in which order.
"""

from itertools import pairwise

import numpy as np
import numpy.typing as npt

from data_order.errors import OrderError, RowRangeError
from data_order.order import TrainingOrder, as_integers

Rows = npt.NDArray[np.int64]
Spans = list[tuple[int, int]]


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
    if last * order.batch_size > available:
        raise RowRangeError(
            f"cohort {last} reads rows up to {last * order.batch_size - 1:,}, but the store has "
            f"{available:,} rows"
        )
    return list(pairwise(grid.tolist()))


def draw_iid(order: TrainingOrder, spans: Spans, per_cohort: int, entropy: int) -> Rows:
    """Draw `per_cohort` rows of each cohort at random, all rows alike: (G * per_cohort,).

    Raises
    ------
    OrderError
        A cohort has fewer rows.
    """
    positive(per_cohort, "per_cohort")
    drawn = []
    for base, cohort in spans:
        rows = (cohort - base) * order.batch_size
        enough(per_cohort, rows, f"cohort {cohort}: rows")
        picks = stream(entropy, cohort).choice(rows, per_cohort, replace=False)
        drawn.append(picks + base * order.batch_size)
    return np.concatenate(drawn)


def draw_batches(
    order: TrainingOrder, spans: Spans, batches: int, rows_per_batch: int, entropy: int
) -> Rows:
    """Draw `batches` batches of each cohort, and `rows_per_batch` rows of each of them.

    Fewer batches than `draw_iid` touches, so fewer clusters: standard errors by batch need them.

    Raises
    ------
    OrderError
        A cohort has fewer batches, or a batch fewer rows.
    """
    positive(batches, "batches")
    positive(rows_per_batch, "rows_per_batch")
    enough(rows_per_batch, order.batch_size, "rows of a batch")
    drawn = []
    for base, cohort in spans:
        enough(batches, cohort - base, f"cohort {cohort}: batches")
        rng = stream(entropy, cohort)
        for batch in rng.choice(cohort - base, batches, replace=False) + base:
            picks = rng.choice(order.batch_size, rows_per_batch, replace=False)
            drawn.append(picks + batch * order.batch_size)
    return np.concatenate(drawn)


def draw_never(count: int, available: int, entropy: int, what: str) -> Rows:
    """`count` of the numbers 0 to `available` - 1, ascending.

    Raises
    ------
    OrderError
        There are fewer.
    """
    enough(count, available, what)
    return np.sort(stream(entropy, -1).choice(available, count, replace=False))


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


def stream(entropy: int, cohort: int) -> np.random.Generator:
    """Random stream of one cohort; -1 is the never-treated rows'."""
    return np.random.default_rng(np.random.SeedSequence(entropy, spawn_key=(cohort + 1,)))


def positive(count: int, name: str) -> None:
    """Refuse a `count` that is no whole number above 0."""
    if isinstance(count, bool) or not isinstance(count, int | np.integer) or count < 1:
        raise OrderError(f"{name}: got {count!r}, expected a whole number above 0")


def enough(asked: int, available: int, what: str) -> None:
    """Refuse to draw more than there is."""
    if asked > available:
        raise OrderError(f"{what}: {asked:,} were asked for, but there are {available:,}")
