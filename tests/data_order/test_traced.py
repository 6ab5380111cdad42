"""Places of a shuffle that is not carried out: equal to numpy's own shuffle, both ways."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from data_order.shuffled import passes
from data_order.shuffled.passes import ShuffledOrder
from data_order.shuffled.traced import TracedShuffle


def shuffled(units, seed):
    order = np.arange(units, dtype=np.uint32)
    np.random.Generator(np.random.PCG64(seed)).shuffle(order)
    return order


@example(units=1, seed=0, chosen=[0])
@settings(max_examples=40, deadline=None)
@given(
    units=st.integers(1, 1500),
    seed=st.integers(0, 2**63),
    chosen=st.lists(st.integers(0, 10**6), max_size=40),
)
def test_every_place_and_unit_is_where_the_shuffle_puts_it(units, seed, chosen):
    order = shuffled(units, seed)
    some = [number % units for number in chosen]

    assert TracedShuffle(units, seed).units_at(some).tolist() == order[some].tolist()
    places = TracedShuffle(units, seed).places_of(order[some])
    assert places.tolist() == some


@pytest.mark.parametrize("units", [65_536, 65_537, 262_144, 700_001, 2_500_000])
def test_large_shuffles_too_across_blocks_kept_states_and_powers_of_two(units):
    order = shuffled(units, 6198)
    edges = [0, 1, units // 2, units - 2, units - 1, 2**15, 2**16 - 1]
    some = np.r_[edges, np.random.default_rng(0).integers(0, units, 500)]
    traced = TracedShuffle(units, 6198)

    assert np.array_equal(traced.units_at(some), order[some])
    assert np.array_equal(TracedShuffle(units, 6198).places_of(order[some]), some)
    # what is known of a place is known of its unit
    assert np.array_equal(traced.places_of(order[some]), some)


@pytest.mark.parametrize("together", [1, 2])
def test_an_order_is_the_same_whether_traced_or_drawn_as_a_whole(monkeypatch, together):
    facts = {"rows": 5001, "seed": 7, "batch_size": 64, "steps": 100, "together": together}
    whole = ShuffledOrder.run(**facts, first_pass=1)
    rows, places = np.r_[0:5001:7, 5000], np.r_[0:6400:11]

    monkeypatch.setattr(passes, "_MANY", 1)
    traced = ShuffledOrder.run(**facts, first_pass=1)

    assert np.array_equal(traced.reads(rows), whole.reads(rows))
    assert np.array_equal(traced.rows_at(places), whole.rows_at(places))
    assert np.array_equal(traced.rows_of(90), whole.rows_of(90))
    never = np.arange(traced.read_rows, traced.positions)
    assert np.array_equal(traced.rows_at(never), whole.rows_at(never))
