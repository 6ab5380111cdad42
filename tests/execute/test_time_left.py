"""The time left, against schedules that are played out with times of which it knows nothing."""

import heapq
import json
from pathlib import Path

import numpy as np
import pytest

from pythia_profile.execute.time_left import Part, Schedule, model_cost

PARAMETERS = {"xs": 91_000, "s": 155_000, "m": 281_000, "l": 1_060_000}
SIZES = ("l", "m", "s", "xs")  # the largest first, as the demonstration hands them out


def events(parts, workers, seconds, chunk, rng, start_up=4.0, noise=0.15):
    """Play out: (time, worker, name, amount) of every message, and when the last unit ends."""
    free = [(start_up, worker) for worker in range(workers)]
    heapq.heapify(free)
    told = []
    for part in parts:
        now, worker = heapq.heappop(free)
        told.append((now, worker, part.name, 0))
        for start in range(0, part.amount, chunk):
            amount = min(chunk, part.amount - start)
            now += amount * seconds[part.kind] * max(0.3, 1 + noise * rng.standard_normal())
            told.append((now, worker, part.name, amount))
        heapq.heappush(free, (now, worker))
    return sorted(told), max(now for now, _ in free)


def training():
    return [Part(size, size, 512, model_cost(PARAMETERS[size])) for size in SIZES]


def scoring():
    cost = {size: model_cost(count) for size, count in PARAMETERS.items()}
    return [Part(f"{z} {c}", z, 2560, cost[z]) for z in SIZES for c in range(17)]


def retraining():
    return [Part(str(g), "xs", last) for g, last in enumerate((128, 192, 192, 160, 96))]


WORK = {"training": (training, 4), "scoring": (scoring, 512), "retraining": (retraining, 4)}
MEASURED = {
    "training": {"l": 0.16, "m": 0.062, "s": 0.043, "xs": 0.04},
    "scoring": {"l": 2.1e-3, "m": 7.8e-4, "s": 5.3e-4, "xs": 6.2e-4},
    "retraining": {"xs": 0.045},
}
"""Seconds of one step or row, as the demonstration's records have them (two cores)."""


@pytest.mark.parametrize("workers", [1, 2, 3, 4])
@pytest.mark.parametrize("work", WORK)
@pytest.mark.parametrize("seed", range(3))
def test_from_a_fifth_on_the_time_left_is_right_within_a_factor_of_one_and_a_half(
    work, workers, seed
):
    make, chunk = WORK[work]
    parts, rng = make(), np.random.default_rng(seed)
    told, end = events(parts, workers, MEASURED[work], chunk, rng)
    schedule = Schedule(parts, workers)
    one_chunk, silent = max(MEASURED[work].values()) * chunk, 0

    for now, worker, name, amount in told:
        if amount:
            schedule.advance(name, amount, worker, now)
        else:
            schedule.begin(name, worker, now)
        truth = end - now
        if (
            amount and now >= 0.2 * end and truth > 4 * one_chunk
        ):  # a message tells of a whole chunk
            left = schedule.seconds_left(now)
            silent += left is None  # no unit has told of itself twice
            assert left is None or truth / 1.5 <= left <= truth * 1.5, (now, end)
    assert silent <= workers


RECORDED = json.loads(Path(__file__).with_name("demo_durations.json").read_text())
"""Seconds of each scored checkpoint of a finished demo on two cores, from its records."""


@pytest.mark.parametrize("workers", [1, 2, 4])
@pytest.mark.parametrize("start_up", [5.0, 25.0])
def test_the_recorded_seconds_of_a_demo_are_foreseen_from_a_fifth_on(workers, start_up):
    """Each checkpoint takes what it took; messages come every 64 rows, as the engine's do."""
    parts = scoring()
    seconds = {f"{z} {c}": RECORDED[z][c] / 2560 for z in SIZES for c in range(17)}
    told, free = [], [(start_up, worker) for worker in range(workers)]
    for part in parts:
        now, worker = heapq.heappop(free)
        told.append((now, worker, part.name, 0))
        now += 0.3  # the checkpoint is loaded
        for _ in range(0, part.amount, 64):
            now += 64 * seconds[part.name]
            told.append((now, worker, part.name, 64))
        heapq.heappush(free, (now, worker))
    end = max(now for now, _ in free)

    assert worst(Schedule(parts, workers), sorted(told), end) <= 1.5


def worst(schedule, told, end) -> float:
    """Largest factor between the time left and what was told, from a fifth on to the last 5 s."""
    factors = []
    for now, worker, name, amount in told:
        if amount:
            schedule.advance(name, amount, worker, now)
        else:
            schedule.begin(name, worker, now)
        if amount and now >= 0.2 * end and end - now > 5:
            left, truth = schedule.seconds_left(now), end - now
            factors += [] if left is None else [max(left / truth, truth / left)]
    assert len(factors) > 50
    return max(factors)


def test_rows_alone_would_be_wrong_by_more():
    """The share of rows, as it was told before, is what this is better than."""
    parts, rng = scoring(), np.random.default_rng(0)
    told, end = events(parts, 2, MEASURED["scoring"], 512, rng)
    total, done, worst = sum(part.amount for part in parts), 0, 0.0

    for now, _, _, amount in told:
        done += amount
        if 0.2 * end <= now <= 0.9 * end:
            by_rows = now * (total - done) / done
            worst = max(worst, by_rows / (end - now))

    assert worst > 1.5


def test_units_that_another_process_does_are_not_waited_for():
    schedule = Schedule([Part("a", "k", 10), Part("b", "k", 10)], workers=1)
    schedule.begin("a", 0, 0.0)
    schedule.advance("a", 1, 0, 1.0)
    schedule.advance("a", 2, 0, 3.0)
    schedule.begin("b", 0, 3.0)

    assert schedule.seconds_left(3.0) == pytest.approx(10.0)


def test_nothing_is_said_before_anything_was_measured():
    schedule = Schedule([Part("a", "k", 10)], workers=2)
    schedule.begin("a", 0, 0.0)

    assert schedule.seconds_left(5.0) is None
