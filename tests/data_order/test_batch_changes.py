"""Runs whose batch size changes: rows, steps and draws against a plain loop over the steps."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_order import TrainingOrder
from data_order.errors import OrderError, RowRangeError
from data_order.order import NEVER
from data_order.sample import Draw, sample_rows
from data_order.view import view_rows

STEPS = 12
ramps = st.lists(
    st.tuples(st.integers(1, STEPS - 1), st.integers(1, 9)), max_size=4, unique_by=lambda c: c[0]
).map(lambda changes: tuple(sorted(changes)))


def batches_by_loop(first, changes):
    """Rows of each step, one step after the other."""
    size, begin, found = first, 0, []
    for step in range(STEPS):
        size = dict(changes).get(step, size)
        found.append(list(range(begin, begin + size)))
        begin += size
    return found


@given(first=st.integers(1, 9), changes=ramps)
def test_rows_and_steps_are_those_of_a_loop_over_the_steps(first, changes):
    order, expected = TrainingOrder(first, STEPS, changes), batches_by_loop(first, changes)

    steps = range(1, STEPS + 1)
    assert [order.rows_of(step).tolist() for step in steps] == expected
    assert order.batch_sizes([*steps]).tolist() == [len(batch) for batch in expected]
    assert order.rows == sum(map(len, expected))
    by_row = [step for step, batch in enumerate(expected, 1) for _ in batch]
    assert order.step_of(np.arange(order.rows)).tolist() == by_row
    assert order.step_of([order.rows])[0] == NEVER
    half = order.until(5)
    assert (half.rows, half.steps) == (sum(map(len, expected[:5])), 5)
    assert half.step_of(np.arange(half.rows)).tolist() == by_row[: half.rows]


@pytest.mark.parametrize("kind", ["iid", "batches"])
def test_a_sample_of_a_ramp_holds_every_row_of_a_cohort_alike(kind):
    changes = ((4, 8), (8, 3))
    order, expected = TrainingOrder(2, STEPS, changes), batches_by_loop(2, changes)
    store = np.arange(order.rows + 20)[:, None] * np.ones((1, 3), int)
    draw = Draw(kind=kind, per_cohort=6, batches=3, rows_per_batch=2, never=5)

    counts = np.zeros(order.rows)
    for seed in range(300):
        own = Draw(**{**{f: getattr(draw, f) for f in draw.__slots__}, "seed": seed})
        table = sample_rows(store, order, [0, 4, 10], own)
        treated = table.drop_nulls("treatment_step")
        for row, step, batch in treated.select("row_id", "treatment_step", "batch").rows():
            assert row in expected[step - 1]
            assert batch == step - 1
            counts[row] += 1
        cohorts = np.where(treated["treatment_step"] <= 4, 4, 10)
        assert [(cohorts == c).sum() for c in (4, 10)] == [6, 6]
    if kind == "iid":  # all rows of a cohort alike, whatever their batch: 8 rows, then 38
        shares = counts / 300
        for rows, share in ((slice(0, 8), 6 / 8), (slice(8, 46), 6 / 38)):
            # five standard errors of a share in 300 draws
            error = 5 * np.sqrt(share * (1 - share) / 300)
            assert np.abs(shares[rows] - share).max() < error
    assert not counts[46:].any()


def test_a_view_of_a_row_names_its_place_in_its_own_batch():
    (view,) = view_rows(TrainingOrder(2, STEPS, ((4, 8),)), [17])

    # steps 1 to 4 read 8 rows, step 5 rows 8 to 15, step 6 rows 16 to 23
    assert (view.step, view.batch, view.position) == (6, 5, 1)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (((3, 4), (3, 5)), r"after steps \[3, 3\]; expected ascending steps between 0 and 12"),
        (((0, 4),), "expected ascending"),
        (((12, 4),), "expected ascending"),
        (((3, 0),), "batch size: got 0"),
    ],
)
def test_changes_that_cannot_be_are_named(changes, message):
    with pytest.raises(OrderError, match=message):
        TrainingOrder(2, STEPS, changes)


def test_a_store_that_ends_before_the_last_cohort_is_named():
    with pytest.raises(RowRangeError, match="cohort 12 reads rows up to 71"):
        sample_rows(np.zeros((60, 3), int), TrainingOrder(2, STEPS, ((4, 8),)), [0, 12], Draw())
