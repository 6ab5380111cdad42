"""Whether the rows of a run were assigned to their steps at random, by what is known of a panel.

In: a panel. Out: lines of the table `ASSIGNMENT`: what the rows hold, and the run's outcome at the
first checkpoint, by cohort, by batch and against the step; and of rows behind the last step,
whether their change over the run drifts with their place, as it may only where the order is not
random.
"""

from typing import Any

import numpy as np
import polars as pl

from data_order.assignment import assignment_tests, content_of, holm
from data_order.sample import HELD_OUT
from pythia_profile.did import Panel
from pythia_profile.tables import NEVER

__all__ = ["assignment_lines"]

FIRST = "outcome at the first checkpoint"
UNREAD = "never-read rows, change of the outcome"


def assignment_lines(laid: Panel) -> list[dict[str, Any]]:
    """Lines of `ASSIGNMENT` of one panel, without the columns that name it."""
    if laid.step is None:
        return []
    content: dict[str, Any] = content_of(laid.covariates)
    content[FIRST] = laid.y[:, 0]
    tests = [
        assignment_tests(content, laid.step, laid.cohort, batch=_batches(laid)),
        _unread(laid),
    ]
    found = pl.concat(tests)
    return found.with_columns(p_adjusted=holm(found["p_value"].to_numpy())).to_dicts()


def _batches(laid: Panel) -> np.ndarray | None:
    """Batches of the rows; the steps that read them stand for these where they are not known."""
    return laid.cluster if (laid.cluster != NEVER).any() else None


def _unread(laid: Panel) -> pl.DataFrame:
    """Test whether rows behind the last step drift with their place; held-out text has its own."""
    never = (laid.cohort == NEVER) & (laid.row_id < HELD_OUT)
    change = laid.y[never, -1] - laid.y[never, 0]
    place = laid.row_id[never]
    quarter = np.argsort(np.argsort(place)) * 4 // max(int(never.sum()), 1)
    return assignment_tests({UNREAD: change}, place, quarter, batch=place)
