"""Effects by cohort: the numbers of which most findings are made.

In: the estimate of a run. Out: `Contrast`, one number for each cohort, without the mean over them.
"""

from collections.abc import Callable, Hashable, Iterable
from typing import TypeVar

from pythia_profile.did import Contrast
from pythia_profile.did.inference.aggregates import Kind
from pythia_profile.profiles.estimates import RunEstimate
from pythia_profile.profiles.profile import aggregate_if_any

__all__ = ["MEANS", "by_cohort", "grouped"]

MEANS: tuple[Kind, ...] = ("instantaneous", "persistent", "residual")

T = TypeVar("T")


def by_cohort(one: RunEstimate, kind: Kind) -> Contrast | None:
    """Effect of each cohort at once, later on average, or last; None where no cohort has any."""
    found = aggregate_if_any(one.att, kind)
    if found is None:
        return None
    return found.only([label for label in found.labels if label is not None])


def grouped(items: Iterable[T], key: Callable[[T], Hashable]) -> list[list[T]]:
    """Group items by a key, each group where its first item stands.

    Examples
    --------
    >>> grouped([1, 2, 3, 4], lambda n: n % 2)
    [[1, 3], [2, 4]]
    """
    groups: dict[Hashable, list[T]] = {}
    for item in items:
        groups.setdefault(key(item), []).append(item)
    return list(groups.values())
