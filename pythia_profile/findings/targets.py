"""A size to be predicted, beside the smaller ones that are to predict it.

In: profiles of the sizes on two disjoint halves of the rows. Out: `Target`, aligned arrays.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
from jaxtyping import Float, Int

from pythia_profile.findings.halves import Profile

__all__ = ["Target", "align"]


@dataclass(frozen=True, eq=False)
class Target:
    """What is to be predicted, and from what; two folds, K effects each.

    Attributes
    ----------
    cohort, checkpoint : (K,) of each effect, ascending; checkpoint −1 for a mean over checkpoints.
    sources : (2, K, S) effects of the smaller sizes, smallest first, on one half of the rows.
    observed, se : (2, K) effects of the size on the other half, with standard errors.
    common : (2,) variance of their mean.
    parameters : (S + 1,) of each source and of the size; empty where not known.
    schedule : (K, q) regressors made of learning rates; no columns where rates are not known.
    """

    cohort: Int[np.ndarray, " K"]
    checkpoint: Int[np.ndarray, " K"]
    sources: Float[np.ndarray, "2 K S"]
    observed: Float[np.ndarray, "2 K"]
    se: Float[np.ndarray, "2 K"]
    common: Float[np.ndarray, " 2"]
    parameters: Float[np.ndarray, " S1"] = field(default_factory=lambda: np.zeros(0))
    schedule: Float[np.ndarray, "K q"] = field(default_factory=lambda: np.zeros((0, 0)))

    @cached_property
    def number(self) -> Int[np.ndarray, " K"]:
        """Number of each effect's cohort, 0 … G − 1."""
        number: Int[np.ndarray, " K"] = np.unique(self.cohort, return_inverse=True)[1]
        return number

    @cached_property
    def noise(self) -> Float[np.ndarray, "2 K"]:
        """Noise that is left in each observed effect once a mean is taken off."""
        left: Float[np.ndarray, "2 K"] = np.maximum(self.se**2 - self.common[:, None], 0.0)
        return left

    def of(self, source: int) -> "Target":
        """Return the same target with one source alone."""
        one = self.sources[:, :, [source]]
        sizes = self.parameters[[source, -1]] if len(self.parameters) else self.parameters
        return Target(
            *(self.cohort, self.checkpoint, one, self.observed, self.se, self.common),
            sizes,
            self.schedule,
        )


def align(
    sources: Sequence[Sequence[Profile]],
    observed: Sequence[Profile],
    parameters: Float[np.ndarray, " S1"],
    schedule: Mapping[tuple[int, int], Float[np.ndarray, " q"]] | None = None,
) -> Target:
    """Put profiles side by side, on the cohorts and checkpoints that all have.

    Parameters
    ----------
    sources : for each smaller size its profile on each half.
    observed : of the size itself; fold f observes on half 1 − f what half f predicts.
    schedule : regressors of each cohort and checkpoint.
    """
    every = [*(one for size in sources for one in size), *observed]
    keys = [_key(one) for one in every]
    common = keys[0]
    for key in keys[1:]:
        common = np.intersect1d(common, key)
    cut = [one.keep(np.isin(key, common)) for one, key in zip(every, keys, strict=True)]
    count = len(sources)
    x = np.stack([np.stack([cut[2 * s + f].effect for s in range(count)], -1) for f in (0, 1)])
    seen = [cut[2 * count + 1 - f] for f in (0, 1)]
    labels = list(zip(seen[0].cohort.tolist(), seen[0].checkpoint.tolist(), strict=True))
    rates = np.zeros((len(labels), 0))
    if schedule is not None:
        rates = np.array([schedule[label] for label in labels]).reshape(len(labels), -1)
    return Target(
        cohort=seen[0].cohort,
        checkpoint=seen[0].checkpoint,
        sources=x,
        observed=np.stack([one.effect for one in seen]),
        se=np.stack([one.se for one in seen]),
        common=np.array([one.common for one in seen]),
        parameters=parameters,
        schedule=rates,
    )


def _key(one: Profile) -> Int[np.ndarray, " K"]:
    key: Int[np.ndarray, " K"] = one.cohort * (1 << 31) + one.checkpoint + 1
    return key
