"""Step, batch and cohort of a row, checked against a loop that reads batch after batch."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from data_order import NEVER, OrderError, ProfileError, TrainingOrder


def steps_by_reading(batch_size: int, steps: int) -> dict[int, int]:
    """Row -> update that reads it, by letting a trainer read rows one batch after the other."""
    reads, row = {}, 0
    for update in range(1, steps + 1):
        for _ in range(batch_size):
            reads[row] = update
            row += 1
    return reads


@given(st.integers(1, 9), st.integers(1, 12))
def test_step_is_the_update_whose_batch_holds_the_row(batch_size, steps):
    reads = steps_by_reading(batch_size, steps)
    order = TrainingOrder(batch_size, steps)

    assert dict(enumerate(order.step_of(np.arange(batch_size * steps)).tolist())) == reads
    for update in range(1, steps + 1):
        assert order.rows_of(update).tolist() == [r for r, g in reads.items() if g == update]


def test_first_and_last_row_of_a_batch_share_its_step():
    pythia = TrainingOrder(1024, 143_000)
    first, last = 1024 * 999, 1024 * 1000 - 1

    assert pythia.step_of([first, last, last + 1]).tolist() == [1000, 1000, 1001]
    assert pythia.cohort_of([first, last, last + 1], [0, 1000, 2000]).tolist() == [1000, 1000, 2000]


def test_row_zero_is_read_by_the_first_update_and_is_not_a_control():
    assert TrainingOrder(1024, 143_000).step_of(np.uint32([0])).tolist() == [1]


def test_v0_models_read_twice_the_rows_in_half_the_steps():
    v0, v1 = TrainingOrder(2048, 71_500), TrainingOrder(1024, 143_000)

    assert v0.rows == v1.rows
    assert v0.step_of([2047, 2048]).tolist() == [1, 2]


def test_rows_past_the_last_step_are_never_treated():
    order = TrainingOrder(4, 3)

    assert order.step_of([11, 12, 10**12]).tolist() == [3, NEVER, NEVER]
    assert order.cohort_of([11, 12], [0, 2]).tolist() == [NEVER, NEVER]


@pytest.mark.parametrize("dtype", [np.int8, np.uint8, np.int16, np.int32, np.uint64])
def test_every_integer_type_is_accepted_and_nothing_overflows(dtype):
    top = np.iinfo(dtype).max if dtype != np.uint64 else 10**15
    order = TrainingOrder(1, 10**16)

    assert order.step_of(np.array([top], dtype)).tolist() == [int(top) + 1]


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        (lambda o: o.step_of([0.5]), "rows: got float64 values, expected integers"),
        (lambda o: o.step_of([-1]), "row -1 is negative"),
        (lambda o: o.rows_of(0), "no step 0; this run has steps 1 to 3"),
        (lambda o: o.rows_of(4), "no step 4; this run has steps 1 to 3"),
        (lambda o: o.cohort_of([0], [0, 5, 5]), "strictly ascending"),
        (lambda _: TrainingOrder(0, 3), "batch_size: got 0"),
        (lambda _: TrainingOrder(3, True), "steps: got True, expected a whole number above 0"),
    ],
)
def test_bad_input_is_named(bad, message):
    with pytest.raises(OrderError, match=message) as caught:
        bad(TrainingOrder(4, 3))
    assert isinstance(caught.value, ProfileError)
