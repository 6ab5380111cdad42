"""Effects by cohort: the numbers of which most findings are made.

In: the estimate of a run. Out: `CohortEffects`, one number for each cohort and its errors.
"""

from collections.abc import Callable, Hashable, Iterable
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from jaxtyping import Float

from pythia_profile.did import AttGt, Contrast
from pythia_profile.did.inference.aggregates import Kind
from pythia_profile.profiles.profile import aggregate_if_any

__all__ = ["MEANS", "CohortEffects", "CohortTables", "grouped"]

MEANS: tuple[Kind, ...] = ("instantaneous", "persistent", "residual")

T = TypeVar("T")


@dataclass(frozen=True, slots=True, eq=False)
class CohortEffects:
    """One kind of effect, cohort by cohort.

    Attributes
    ----------
    contrast : the K effects, labeled by their cohorts.
    noise : (K, K) covariance of their errors, unit of the outcome squared.
    """

    contrast: Contrast
    noise: Float[np.ndarray, "K K"]


class CohortTables:
    """Effects by cohort of runs; each run's are computed once, whoever asks."""

    def __init__(self) -> None:
        self._found: dict[int, tuple[AttGt, dict[str, CohortEffects]]] = {}

    def of(self, att: AttGt) -> dict[str, CohortEffects]:
        """Each kind that any cohort has: at once, later on average, last."""
        if id(att) not in self._found:
            self._found[id(att)] = att, _by_cohort(att)  # held, so that its id stays its own
        return self._found[id(att)][1]


def _by_cohort(att: AttGt) -> dict[str, CohortEffects]:
    found = {}
    for kind in MEANS:
        if (aggregate := aggregate_if_any(att, kind)) is not None:
            each = aggregate.only([label for label in aggregate.labels if label is not None])
            found[str(kind)] = CohortEffects(each, each.covariance())
    return found


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
