"""How near to the ideal the scheduling of a full study comes: 8 sizes, 154 checkpoints each.

Run with `pytest -m bench -s tests/bench/bench_scheduler.py`. Nothing is scored: workers go through
the real rule (`execute.turns`: the order of units, claims one ahead, shares of machines that do not
see each other) on a clock that is played out, with the costs that `plan` takes. Workers die at
random and begin again elsewhere with an empty disk; a unit's committed chunks stay.

    fetch     bytes of the weights at `BANDWIDTH` of each worker, while the unit before is scored
    load      the same bytes at the device's rate, then operations at its share of the peak
    ideal     all loading and scoring divided by the workers, or the longest unit with its fetch

`tests/execute/test_turns.py` plays a part of it.
"""

import heapq
import random
import threading
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass, field

import pytest

from pythia_profile.execute.turns import dearest_first, shares, take_turns
from pythia_profile.pipeline.devices import device_named
from pythia_profile.pipeline.planning import BANDWIDTH
from pythia_profile.suites.registry import suite_facts_of
from tests.bench.machine import machine

CHECKPOINTS, TOKENS, CHUNKS = 154, 33.6e6, 16
LIFE, RESTART = 100 * 3600.0, 600.0
"""Mean seconds until a worker is lost, and until another one stands in for it."""


@dataclass(frozen=True)
class Checkpoint:
    size: str
    step: int
    bytes: float
    seconds: float


def full_study(device="a100", dtype="bfloat16") -> list[Checkpoint]:
    """Units as `units_of` lists them: by size, smallest first, and step."""
    suite, place = suite_facts_of("pythia-deduped"), device_named(device)
    units = []
    for size in suite.sizes.values():
        if size.name not in ("70m", "160m", "410m", "1b", "1.4b", "2.8b", "6.9b", "12b"):
            continue
        stored = 2.0 * size.parameters
        rate = place.rate(size.parameters, dtype)
        seconds = stored / place.loading + 2 * size.parameters * TOKENS / rate
        units += [Checkpoint(size.name, step, stored, seconds) for step in range(CHECKPOINTS)]
    return units


class Clock:
    """Time that passes when every thread waits for it; one thread runs at a time."""

    def __init__(self):
        self.now, self._order = 0.0, 0
        self._waiting: list[tuple[float, int, threading.Event]] = []

    def play(self, actions: list[Callable[[], None]]) -> None:
        ended: list[BaseException | None] = []
        everybody = threading.Event()

        def run(action, turn):
            turn.wait()
            error = None
            try:
                action()
            except BaseException as caught:
                error = caught
            ended.append(error)
            if len(ended) == len(actions):
                everybody.set()
            else:
                self._hand_on()

        for action in actions:
            turn = threading.Event()
            self._push(0.0, turn)
            threading.Thread(target=run, args=(action, turn), daemon=True).start()
        self._hand_on()
        assert everybody.wait(300)
        for error in filter(None, ended):
            raise error

    def sleep(self, seconds: float) -> None:
        turn = threading.Event()
        self._push(self.now + seconds, turn)
        self._hand_on()
        turn.wait()

    def _push(self, at: float, turn: threading.Event) -> None:
        self._order += 1
        heapq.heappush(self._waiting, (at, self._order, turn))

    def _hand_on(self) -> None:
        self.now, _, turn = heapq.heappop(self._waiting)
        turn.set()


class LostError(Exception):
    """The worker's machine is gone."""


@dataclass
class Study:
    """What is done of a study, who is at what, and what was fetched."""

    clock: Clock
    rng: random.Random
    life: float
    done: set = field(default_factory=set)
    leases: set = field(default_factory=set)
    chunks: dict = field(default_factory=dict)
    fetched: float = 0.0
    lost: int = 0

    def claimed(self, unit: Checkpoint) -> ExitStack | None:
        """As scoring does with the lease of a unit: it ends with its process."""
        if unit in self.done or unit in self.leases:
            return None
        self.leases.add(unit)
        held = ExitStack()
        held.callback(self.leases.discard, unit)
        return held


class Worker:
    """Scores units by the clock, and is lost at random moments."""

    def __init__(self, study: Study, units: tuple[Checkpoint, ...]):
        self.study, self.units = study, units

    def run(self) -> None:
        study = self.study
        while True:
            self.end = study.clock.now + study.rng.expovariate(1 / study.life)
            self.ahead: tuple[Checkpoint, float] | None = None
            try:
                take_turns(self.units, study.claimed, self.score)
                return
            except LostError:
                study.lost += 1
                if self.ahead is not None:  # bytes that were fetched for nothing
                    study.fetched += self.bytes_by_now(*self.ahead)
                study.clock.sleep(RESTART)

    def score(self, unit: Checkpoint, claim_next) -> None:
        study, (ahead, self.ahead) = self.study, (self.ahead, None)
        begun = ahead[1] if ahead is not None and ahead[0] == unit else study.clock.now
        self.ahead = unit, begun
        self.sleep(max(0.0, begun + unit.bytes / BANDWIDTH - study.clock.now))
        study.fetched += unit.bytes
        following = claim_next()
        self.ahead = None if following is None else (following, study.clock.now)
        while study.chunks.get(unit, 0) < CHUNKS:
            self.sleep(unit.seconds / CHUNKS)
            study.chunks[unit] = study.chunks.get(unit, 0) + 1
        study.done.add(unit)

    def sleep(self, seconds: float) -> None:
        if self.study.clock.now + seconds > self.end:
            self.study.clock.sleep(max(0.0, self.end - self.study.clock.now))
            raise LostError
        self.study.clock.sleep(seconds)

    def bytes_by_now(self, unit: Checkpoint, begun: float) -> float:
        return min(unit.bytes, (self.study.clock.now - begun) * BANDWIDTH)


def played(units, workers, *, seed=0, life=LIFE, divided=False) -> tuple[float, float, int]:
    """Wall time by ideal, bytes fetched by needed, and workers lost."""
    clock = Clock()
    study = Study(clock, random.Random(seed), life)
    parts = shares(units, workers, lambda u: u.seconds) if divided else [units] * workers
    lists = [dearest_first(part, lambda u: u.seconds) for part in parts]
    clock.play([Worker(study, part).run for part in lists])
    assert study.done == {*units}
    longest = max(unit.seconds + unit.bytes / BANDWIDTH for unit in units)
    ideal = max(sum(unit.seconds for unit in units) / workers, longest)
    return clock.now / ideal, study.fetched / sum(unit.bytes for unit in units), study.lost


@pytest.mark.bench
def test_wall_time_and_bytes_against_the_ideal():
    units = full_study()
    hours = sum(unit.seconds for unit in units) / 3600
    print(f"\n{machine()}; {len(units)} units, {hours:.0f} hours of one a100 in bfloat16, 3 seeds")
    print("workers  lost  wall / ideal  bytes / needed  by --shard: wall / ideal  bytes / needed")
    for workers in (1, 2, 4, 8, 16, 32, 64):
        found = [played(units, workers, seed=seed) for seed in range(3)]
        parts = [played(units, workers, seed=seed, divided=True) for seed in range(3)]
        wall, share, lost = (max(values) for values in zip(*found, strict=True))
        wall_parts, share_parts, _ = (max(values) for values in zip(*parts, strict=True))
        print(
            f"{workers:7} {lost:5} {wall:13.3f} {share:15.3f} "
            f"{wall_parts:25.3f} {share_parts:15.3f}"
        )
        assert wall <= 1.15
        assert max(share, share_parts) <= 1.05
