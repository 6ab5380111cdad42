"""Units shared by workers who know of each other only what is claimed: the rule of scoring.

All workers go through the same list, the dearest units first. Each takes the next one that is open
and that nobody is at, and claims one more while it works, so that what this one needs can be
fetched meanwhile. No worker is given a share beforehand: a slow or lost one delays its own units
only. The cheap units at the end even out what the dear ones leave, so none is split
(`tests/bench/bench_scheduler.py`: 8 sizes, 154 checkpoints, 1 to 64 workers).
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from typing import TypeVar

__all__ = ["ClaimNext", "dearest_first", "shares", "take_turns"]

U = TypeVar("U")

ClaimNext = Callable[[], U | None]
"""Claims the unit after the present one, and gives it; None where none is left."""


def dearest_first(units: Sequence[U], cost: Callable[[U], float]) -> tuple[U, ...]:
    """Order units by falling cost; of equal ones the last comes first.

    Examples
    --------
    >>> dearest_first(["a1", "a2", "b1", "b2"], cost=lambda unit: "ab".index(unit[0]))
    ('b2', 'b1', 'a2', 'a1')
    """
    return tuple(sorted(reversed(units), key=lambda unit: -cost(unit)))


def shares(units: Sequence[U], count: int, cost: Callable[[U], float]) -> list[list[U]]:
    """Divide units among machines that do not see each other: about equal costs for each.

    The dearest unit goes to the share that has least so far. Each share is in the order of `units`.

    Examples
    --------
    >>> shares([1, 2, 3, 4, 5], 2, cost=float)
    [[1, 2, 5], [3, 4]]
    """
    totals, owner = [0.0] * count, dict[int, int]()
    for place in sorted(range(len(units)), key=lambda place: -cost(units[place])):
        owner[place] = totals.index(min(totals))
        totals[owner[place]] += cost(units[place])
    return [[unit for i, unit in enumerate(units) if owner[i] == n] for n in range(count)]


def take_turns(
    units: Iterable[U],
    claimed: Callable[[U], ExitStack | None],
    do: Callable[[U, ClaimNext[U]], None],
) -> None:
    """Do the units that nobody else does, one after the other.

    Parameters
    ----------
    units : in the order in which they are tried.
    claimed : what is held while a unit is worked at; None where somebody is at it, or it is done.
    do : called with a unit, and with what claims the next one; this may be called any number of
        times, and claims once.
    """
    claims = _claims(units, claimed)
    with ExitStack() as ahead:  # lets go of the next unit where this one ends in an error
        claim = next(claims, None)
        while claim is not None:
            unit, held = claim
            following: list[tuple[U, ExitStack]] = []

            def claim_next(following: list[tuple[U, ExitStack]] = following) -> U | None:
                if not following and (found := next(claims, None)) is not None:
                    following.append(found)
                    ahead.push(found[1])
                return following[0][0] if following else None

            with held:
                do(unit, claim_next)
            claim = following[0] if following else next(claims, None)


def _claims(
    units: Iterable[U], claimed: Callable[[U], ExitStack | None]
) -> Iterator[tuple[U, ExitStack]]:
    for unit in units:
        if (held := claimed(unit)) is not None:
            yield unit, held
