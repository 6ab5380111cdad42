"""Placebo rows: rows that were read and moved no weight, so that their effect must be 0.

They are masked (the run's filter ignored their labels), or a step read them whose rate was 0 or
whose update the trainer skipped. An effect on them is an error of the order, of the checkpoints or
of the design.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import polars as pl

from data_order.draws import cohort_spans
from data_order.order import NEVER, PLACEBO_STATES, TrainingOrder
from data_order.shuffled.rows import states_of_reads
from pythia_profile.errors import StudyError
from pythia_profile.suites.model import Suite

__all__ = ["check_skipped", "idle_rows", "marked", "steps_at_rate_0", "with_states"]

Integers = npt.NDArray[np.int64]


def steps_at_rate_0(suite: Suite, last: int) -> Integers:
    """List updates up to `last` whose rate is 0 at every size; none where rates are not known."""
    updates = np.arange(1, min(last, suite.steps) + 1)
    known = [name for name, size in suite.sizes.items() if size.peak_lr]
    if not known:
        return updates[:0]
    return updates[np.all([suite.learning_rate(name, updates) == 0 for name in known], axis=0)]


def check_skipped(suite: Suite, steps: Sequence[int]) -> None:
    """Refuse skipped steps that the run does not have.

    Raises
    ------
    StudyError
        It has not.
    """
    if wrong := [step for step in steps if not 1 <= step <= suite.steps]:
        raise StudyError(
            f"sample.skipped_steps: got {wrong[0]}, the run of suite '{suite.name}' has steps 1 to "
            f"{suite.steps:,}"
        )


def idle_rows(
    order: TrainingOrder, checkpoints: Sequence[int], idle: Integers, most: int, seed: int
) -> Integers:
    """Draw up to `most` rows of each cohort from the steps that moved no weight: ids, ascending.

    Examples
    --------
    >>> idle_rows(TrainingOrder(4, 10), [0, 5, 10], np.array([2, 9]), most=9, seed=0)
    array([ 4,  5,  6,  7, 32, 33, 34, 35])
    """
    found = [np.empty(0, np.int64)]
    for base, cohort in cohort_spans(order, checkpoints, order.rows):
        steps = idle[(idle > base) & (idle <= cohort)]
        # the draw of a cohort depends on no other cohort, as that of treated rows
        rng = np.random.default_rng([seed, 2, cohort])
        starts, sizes = order.rows_before(steps - 1), order.batch_sizes(steps)
        rows = np.arange(sizes.sum()) + np.repeat(starts - (np.cumsum(sizes) - sizes), sizes)
        found.append(rows[rng.permutation(len(rows))[:most]])
    return np.sort(np.concatenate(found))


def with_states(rows: pl.DataFrame, idle: Integers, skipped: Sequence[int]) -> pl.DataFrame:
    """Return rows with their state; null where it is not known whether text was read before.

    The column `placebo` says of which the effect must be 0.
    """
    steps = rows["treatment_step"].fill_null(NEVER).to_numpy()
    states = states_of_reads(steps[:, None], np.zeros(len(rows), bool), idle.tolist(), skipped)
    named = rows.with_columns(state=pl.Series(states))
    once, before = pl.col("state") == "read once", pl.col("earlier_exposure")
    state = (
        pl.when(once & before.is_null())
        .then(None)
        .when(once & (before > 0))
        .then(pl.lit("read again"))
        .otherwise("state")
    )
    return marked(named.with_columns(state=state))


def marked(rows: pl.DataFrame) -> pl.DataFrame:
    """Return rows with the column `placebo`, which follows from `state`."""
    placebo = pl.col("state").is_in(list(PLACEBO_STATES)).fill_null(value=False)
    return rows.with_columns(placebo=placebo)
