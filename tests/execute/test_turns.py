"""The rule by which workers share units: played out over a full study, and with errors."""

import threading
from contextlib import ExitStack

import pytest

from pythia_profile.execute.turns import dearest_first, shares, take_turns
from tests.bench.bench_scheduler import full_study, played


@pytest.mark.parametrize("workers", [1, 16, 64])
@pytest.mark.parametrize("divided", [False, True])
def test_a_full_study_takes_little_more_than_the_ideal_though_workers_are_lost(workers, divided):
    wall, fetched, lost = played(full_study(), workers, seed=1, divided=divided)

    assert lost >= 1
    assert 1 <= wall <= 1.15
    assert 1 <= fetched <= 1.05


def test_the_played_clock_agrees_with_a_hand_computation():
    """Two workers, nobody lost: dear units first, of which the second worker takes every other."""
    units = [unit for unit in full_study() if unit.size == "12b"][:4]

    wall, fetched, lost = played(units, 2, life=1e12)

    one = units[0]
    assert (fetched, lost) == (1.0, 0)
    # the first fetch is waited for, the second happens meanwhile
    assert wall == pytest.approx((one.bytes / 50e6 + 2 * one.seconds) / (2 * one.seconds))


def test_every_unit_is_done_once_by_threads_that_claim_ahead():
    lock, taken, done = threading.Lock(), set(), []

    def claimed(unit):
        with lock:
            if unit in taken:
                return None
            taken.add(unit)
        return ExitStack()

    def do(unit, claim_next):
        assert claim_next() == claim_next()  # it claims once
        done.append(unit)

    threads = [threading.Thread(target=take_turns, args=(range(500), claimed, do)) for _ in "abcd"]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sorted(done) == list(range(500))


def test_an_error_lets_go_of_the_unit_and_of_the_one_claimed_ahead():
    held = set()

    def claimed(unit):
        stack = ExitStack()
        held.add(unit)
        stack.callback(held.discard, unit)
        return stack

    def fail(unit, claim_next):
        claim_next()
        raise ValueError

    with pytest.raises(ValueError, match=r"^$"):
        take_turns([1, 2, 3], claimed, fail)
    assert held == set()


def test_shares_are_disjoint_whole_and_about_equal():
    units = full_study()

    parts = shares(units, 7, lambda unit: unit.seconds)
    costs = [sum(unit.seconds for unit in part) for part in parts]

    assert sorted((u.size, u.step) for part in parts for u in part) == sorted(
        (u.size, u.step) for u in units
    )
    assert max(costs) - min(costs) < max(unit.seconds for unit in units)


def test_dear_units_come_first_and_equal_ones_from_the_last_on():
    assert dearest_first([3, 1, 3.0, 2], float) == (3.0, 3, 2, 1)
