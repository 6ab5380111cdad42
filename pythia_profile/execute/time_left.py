"""How long units of unequal cost still take on some workers.

Rows or steps of a large model take longer than those of a small one, and the last unit runs alone
while other workers are idle, so neither a share of rows nor a mean rate tells the time left. Here
the remaining units are handed out once more, in thought: each to the worker that is free first, at
the seconds that one row or step of its kind has been measured to take. A kind that has not begun
takes as long as the measured one of the most similar cost, in proportion to their costs.

The first message of a unit also holds what precedes its rows: a process that starts, libraries in
first use, weights that are loaded. It is no rate; what it took beyond its rows is added once for
each unit that has not begun. Older measurements count less, so that a machine that others begin or
cease to use is followed within minutes.
"""

import heapq
import math
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Part", "Schedule", "model_cost"]

_OVERHEAD = 200_000
"""Parameters whose operations take as long as what a row costs whatever the model's size: a fit to
the four mini sizes on two cores (1.6, 1.4, 2.0 and 5.4 s for 2,560 rows)."""

_MEMORY_SECONDS = 120.0
"""After so many seconds of work a measurement counts 1/e of a new one."""


def model_cost(parameters: int) -> float:
    """Cost of a row or step of a model, relative to those of other models."""
    return float(parameters + _OVERHEAD)


@dataclass(frozen=True, slots=True)
class Part:
    """One unit of work.

    Attributes
    ----------
    name : by which progress on it is told.
    kind : units of one kind take the same time for each row or step.
    amount : its rows or steps.
    cost : of one of these, relative to other kinds.
    """

    name: str
    kind: str
    amount: int
    cost: float = 1.0


@dataclass(frozen=True, slots=True)
class _Measured:
    """Seconds that an amount of one kind has taken, over a number of messages."""

    seconds: float = 0.0
    amount: float = 0.0
    count: float = 0.0


class Schedule:
    """Units in the order in which they are handed out, how far each is, and what was measured.

    Examples
    --------
    >>> small, large = Part("a", "small", 10), Part("b", "large", 10, cost=3.0)
    >>> schedule = Schedule([large, small], workers=2)
    >>> schedule.begin("b", worker=0, now=0.0)
    >>> schedule.advance("b", 1, worker=0, now=5.0)  # begins in 2 s
    >>> schedule.advance("b", 2, worker=0, now=11.0)  # 3 s each, so a small one takes 1 s
    >>> schedule.seconds_left(11.0)
    21.0
    """

    def __init__(self, parts: Sequence[Part], workers: int) -> None:
        self._parts = {part.name: part for part in parts}
        self._left = {part.name: part.amount for part in parts}
        self._workers = max(1, workers)
        self._at: dict[int, str] = {}
        self._told: dict[int, float] = {}
        self._measured: dict[str, _Measured] = {}
        self._first: dict[str, _Measured] = {}
        self._beginning: set[int] = set()

    def begin(self, name: str, worker: int, now: float) -> None:
        """Note that a worker begins a unit; what it leaves is finished, or somebody else's."""
        if (before := self._at.get(worker)) not in (None, name):
            self._left[str(before)] = 0
        self._at[worker], self._told[worker] = name, now
        self._beginning.add(worker)

    def advance(self, name: str, amount: int, worker: int, now: float) -> None:
        """Note that a worker has done `amount` more of a unit."""
        if name not in self._parts:
            return
        kind = self._parts[name].kind
        if self._at.get(worker) == name:  # else how long it took is not known
            self._measure(kind, amount, now - self._told[worker], worker in self._beginning)
        self._beginning.discard(worker)
        self._left[name] = max(0, self._left[name] - amount)
        self._at[worker], self._told[worker] = name, now

    def _measure(self, kind: str, amount: int, seconds: float, first: bool) -> None:
        held = self._first if first else self._measured
        kept = math.exp(-seconds / (_MEMORY_SECONDS * self._workers))
        before = held.get(kind, _Measured())
        held[kind] = _Measured(
            before.seconds * kept + seconds, before.amount * kept + amount, before.count * kept + 1
        )

    def seconds_left(self, now: float) -> float | None:
        """Seconds until the last unit is finished; None before anything was measured."""
        rates = self._rates()
        if not rates:
            return None
        starts = self._starts(rates)
        running = {name: w for w, name in self._at.items() if self._left.get(name)}
        free = [0.0] * (self._workers - len(running))
        for name, worker in running.items():
            left = self._left[name] * rates[self._parts[name].kind]
            free.append(max(0.0, left - (now - self._told[worker])))
        ends, heap = max(free, default=0.0), sorted(free)
        for name, left in self._left.items():
            if left and name not in running and heap:
                kind = self._parts[name].kind
                end = heapq.heappop(heap) + starts[kind] + left * rates[kind]
                heapq.heappush(heap, end)
                ends = max(ends, end)
        return ends

    def _rates(self) -> dict[str, float]:
        """Seconds of one row or step of each kind."""
        costs = {part.kind: part.cost for part in self._parts.values()}
        # Of units that tell nothing but their end, the first ones do.
        ended = sum(one.count for one in self._first.values()) > 1.5 * self._workers
        held = self._measured or (self._first if ended else {})
        known = {kind: one.seconds / one.amount for kind, one in held.items() if one.seconds > 0}
        if not known:
            return {}
        rates = {}
        for kind, cost in costs.items():
            near = min(known, key=lambda one: abs(math.log(costs[one] / cost)))
            rates[kind] = known.get(kind, known[near] * cost / costs[near])
        return rates

    def _starts(self, rates: dict[str, float]) -> dict[str, float]:
        """Seconds before the rows of a unit of each kind; of one that has not begun, the mean."""
        found = {
            kind: max(0.0, one.seconds - one.amount * rates[kind]) / one.count
            for kind, one in self._first.items()
            if kind in self._measured
        }
        mean = sum(found.values()) / max(1, len(found))
        return {kind: found.get(kind, mean) for kind in rates}
