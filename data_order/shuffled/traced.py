"""A few places of numpy's shuffle of very many units, without the array that is shuffled.

`Generator.shuffle` swaps a[i] with a[j] for i = n - 1, ..., 1, each j drawn from 0 to i: 32 bits
at a time, masked to the bits of i, and drawn again while above i. The sequence of pairs (i, j) is
cheap to draw in blocks; a billion swaps at random places of four gigabytes are not. So a unit is
followed through the pairs, from its own place on, and a place back through them, from the last:

    unit at q    i = q moves it to j;  j = q moves it to i, where it stays
    place p      holds what stood at j when i = p, and that came from i where a pair before had
                 the same j, and so on

Source: numpy 1.26 to 2.4, `numpy/random/_generator.pyx` (`_shuffle_raw`) and
`src/distributions/distributions.c` (`random_interval`); equal to `shuffle` itself (tests).
"""

from bisect import insort
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["TracedShuffle"]

Numbers = npt.NDArray[np.int64]
Words = npt.NDArray[np.uint32]

_BLOCK = 1 << 18
"""Random words that are looked at together; they stay in the processor's cache."""
_SHARE = 6
"""A block holds at most 2**-6 of the places that are left, so that few words of it depend on how
many before them were taken."""
_KEPT = 64
"""Blocks from one kept state of the generator to the next."""
_BITS = 1 << 21
"""Entries of the table that finds followed places by their last bits."""
_MERGED = 256


@dataclass(slots=True)
class _Words:
    """The 32-bit words that a PCG64 gives one after the other."""

    generator: np.random.PCG64
    left: Words = field(default_factory=lambda: np.empty(0, np.uint32))

    def take(self, count: int) -> Words:
        """Return the next words; those that are not used go back by `give_back`."""
        if (missing := count - len(self.left)) > 0:
            raw = self.generator.random_raw(missing // 2 + 1)
            # the low half of each 64 bits comes first
            words = raw.astype("<u8", copy=False).view("<u4")
            self.left = np.concatenate([self.left, words])
        taken, self.left = self.left[:count], self.left[count:]
        return taken

    def give_back(self, words: Words) -> None:
        """Put words back, to be taken next."""
        self.left = np.concatenate([words, self.left])


@dataclass(slots=True, eq=False)
class TracedShuffle:
    """Places and units of `shuffle(arange(units))` by a generator with some seed.

    Attributes
    ----------
    units : how many are shuffled.
    seed : of PCG64.

    Examples
    --------
    >>> order = np.arange(5000, dtype=np.uint32)
    >>> np.random.Generator(np.random.PCG64(7)).shuffle(order)
    >>> traced = TracedShuffle(5000, 7)
    >>> traced.units_at([3, 4999]).tolist() == order[[3, 4999]].tolist()
    True
    >>> traced.places_of(order[[3, 4999]]).tolist()
    [3, 4999]
    """

    units: int
    seed: int
    _unit_at: dict[int, int] = field(default_factory=dict, repr=False)
    _place_of: dict[int, int] = field(default_factory=dict, repr=False)
    _states: list[tuple[int, Any, Words]] = field(default_factory=list, repr=False)

    def places_of(self, units: npt.ArrayLike) -> Numbers:
        """Look up the place at which each unit (n,) ends."""
        wanted = np.asarray(units, np.int64)
        if new := [unit for unit in np.unique(wanted).tolist() if unit not in self._place_of]:
            self._learn(zip(self._forward(new), new, strict=True))
        return np.array([self._place_of[unit] for unit in wanted.tolist()], np.int64)

    def units_at(self, places: npt.ArrayLike) -> Numbers:
        """Look up the unit that ends at each place (n,)."""
        wanted = np.asarray(places, np.int64)
        if new := [place for place in np.unique(wanted).tolist() if place not in self._unit_at]:
            self._learn(zip(new, self._backward(new), strict=True))
        return np.array([self._unit_at[place] for place in wanted.tolist()], np.int64)

    def _learn(self, pairs: Iterable[tuple[int, int]]) -> None:
        for place, unit in pairs:
            self._unit_at[place] = unit
            self._place_of[unit] = place

    def _blocks(self, top: int, words: _Words, stop: int) -> Iterator[tuple[int, Words]]:
        """Partners j of i = top, top - 1, ..., stop in blocks, each with its first i."""
        while top >= stop:
            low = max(stop, 1 << (top.bit_length() - 1))  # from here on the mask is another
            count = max(1, min(_BLOCK, top >> _SHARE, 2 * (top - low + 1) + 8))
            drawn = words.take(count)
            partners, used = _accepted(drawn, top, low)
            words.give_back(drawn[used:])
            if len(partners):
                yield top, partners
            top -= len(partners)

    def _walk(self) -> Iterator[tuple[int, Words]]:
        """All blocks from the first pair on; the first time, states are kept on the way."""
        words, fresh = _Words(np.random.PCG64(self.seed)), not self._states
        for number, (top, partners) in enumerate(self._blocks(self.units - 1, words, 1)):
            if fresh and number % _KEPT == _KEPT - 1:
                state = words.generator.state, words.left.copy()
                self._states.append((top - len(partners), *state))
            yield top, partners

    def _walk_back(self) -> Iterator[tuple[int, Words]]:
        """All blocks, the last pairs first."""
        if not self._states:
            for _ in self._walk():
                pass
        start = np.random.PCG64(self.seed).state
        begins = [(self.units - 1, start, np.empty(0, np.uint32)), *self._states]
        stops = [*(top + 1 for top, *_ in self._states), 1]
        for (top, state, left), stop in zip(reversed(begins), reversed(stops), strict=True):
            generator = np.random.PCG64()
            generator.state = state
            yield from reversed(list(self._blocks(top, _Words(generator, left), stop)))

    def _forward(self, units: list[int]) -> list[int]:
        """Places at which units end, following each through the pairs."""
        at = {unit: unit for unit in units}  # place -> unit that stands there now
        found: dict[int, int] = {}
        table = _Table(units)
        ahead = sorted(units)  # places that i has not reached, of units that were not yet moved
        for top, partners in self._walk():
            if not at:
                break
            last = top - len(partners) + 1
            events = set(table.hits(partners).tolist())
            while ahead and ahead[-1] >= last:
                events.add(top - ahead.pop())
            queue = sorted(events, reverse=True)
            while queue:
                k = queue.pop()
                i, j = top - k, int(partners[k])
                mover, other = at.pop(i, None), at.pop(j, None) if j != i else None
                if mover is not None and j == i:
                    found[mover] = i
                elif mover is not None:
                    at[j] = mover
                    table.add(j)
                    later = _later(partners, k, j)
                    if j >= last:
                        later.append(top - j)
                    else:
                        insort(ahead, j)
                    queue = sorted({*queue, *later}, reverse=True)
                if other is not None:
                    found[other] = i
        found.update({unit: place for place, unit in at.items()})
        return [found[unit] for unit in units]

    def _backward(self, places: list[int]) -> list[int]:
        """Units that end at places, followed back through the pairs."""
        waiting = sorted(places, reverse=True)  # those whose own pair has not come yet
        came: dict[int, list[int]] = {}  # place -> final places whose unit stood there
        table = _Table([])
        for top, partners in self._walk_back():
            last = top - len(partners) + 1
            # in ascending order of i: the block turned around, position t is i = last + t
            turned = partners[::-1]
            events = set(table.hits(turned).tolist())
            while waiting and waiting[-1] <= top:
                place = waiting.pop()
                if place < last:  # place 0, which has no pair of its own
                    came.setdefault(place, []).append(place)
                    table.add(place)
                    events |= {*_later(turned, -1, place)}
                else:
                    events.add(place - last)
                    came.setdefault(-1 - place, []).append(place)
            queue = sorted(events, reverse=True)
            while queue:
                t = queue.pop()
                i, j = last + t, int(turned[t])
                before = came.pop(j, []) if j != i else []
                own = came.pop(-1 - i, [])
                for place, finals in ((i, before), (j, own)):
                    if finals:
                        came.setdefault(place, []).extend(finals)
                        table.add(place)
                        queue = sorted({*queue, *_later(turned, t, place)}, reverse=True)
        unit_of = {final: place for place, finals in came.items() for final in finals}
        # without a single pair nothing moves
        return [unit_of.get(place, place) for place in places]


def _accepted(words: Words, top: int, low: int) -> tuple[Words, int]:
    """Partners of i = top, top - 1, ..., not below `low`, and how many words they took.

    Whether a word is taken depends on how many before it were, but only for the few words between
    the first i and the last that the block can reach.
    """
    values = words & np.uint32((1 << top.bit_length()) - 1)
    sure = np.flatnonzero(values <= top - len(words))
    # unsigned: what is smaller wraps around to a large number
    unsure = np.flatnonzero(values - np.uint32(top - len(words) + 1) < len(words))
    before, chosen = np.searchsorted(sure, unsure).tolist(), list[int]()
    for at, count, value in zip(unsure.tolist(), before, values[unsure].tolist(), strict=True):
        if value <= top - count - len(chosen):
            chosen.append(at)
    # two ascending runs, which a stable sort merges
    joined = np.concatenate([sure, np.array(chosen, np.int64)])
    accepted = np.sort(joined, kind="stable") if chosen else sure
    most = top - low + 1
    used = int(accepted[most - 1]) + 1 if len(accepted) >= most else len(words)
    return values[accepted[:most]], used


class _Table:
    """Places that are or were followed: finds the pairs that may concern one of them."""

    __slots__ = ("_added", "_known", "_marked")

    def __init__(self, places: list[int]) -> None:
        self._marked = np.zeros(_BITS, bool)
        self._known, self._added = np.array(sorted(places), np.int64), list[int]()
        self._marked[self._known & (_BITS - 1)] = True

    def add(self, place: int) -> None:
        """Follow one more."""
        self._marked[place & (_BITS - 1)] = True
        self._added.append(place)
        if len(self._added) > _MERGED:
            self._known = np.union1d(self._known, self._added)
            self._added = []

    def hits(self, partners: Words) -> Numbers:
        """Positions of pairs whose j is followed."""
        # the last bits alone leave few to be looked up
        some = np.flatnonzero(self._marked[partners & np.uint32(_BITS - 1)])
        j = partners[some].astype(np.int64)
        at = np.searchsorted(self._known, j).clip(max=max(0, len(self._known) - 1))
        found = self._known[at] == j if len(self._known) else np.zeros(len(j), bool)
        return some[found | np.isin(j, self._added)]


def _later(partners: Words, at: int, place: int) -> list[int]:
    """Positions behind `at` of pairs with this j."""
    later: list[int] = (np.flatnonzero(partners[at + 1 :] == place) + at + 1).tolist()
    return later
