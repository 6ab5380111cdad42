"""Two disjoint halves of a study's rows, the same ones for every size.

In: estimates of sizes that scored the same rows. Out: for each half and size the profiles, with
what is known of their errors. Sizes that score the same rows share their sampling noise, so a size
is predicted from one half of the rows and compared on the other.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Int

from pythia_profile.did import AttGt, Panel, contrast
from pythia_profile.did.estimation import cluster_by, effects
from pythia_profile.did.inference.bootstrap import BootstrapSpec, cell_draws
from pythia_profile.did.settings import Estimation
from pythia_profile.findings.known_noise import signal
from pythia_profile.findings.summaries import MEANS, CohortTables
from pythia_profile.profiles.estimates import RunEstimate
from pythia_profile.tables import NEVER

__all__ = ["KINDS", "Profile", "halves", "profiles", "reliability", "split"]

KINDS = ("cell", *MEANS)
_DRAWS = 100


@dataclass(frozen=True, slots=True, eq=False)
class Profile:
    """K effects of one size, in the order of their cohorts.

    Attributes
    ----------
    cohort, checkpoint : (K,) of each effect; checkpoint is −1 for a mean over checkpoints.
    effect, se : (K,) unit of the outcome.
    common : variance of their mean, the part of the noise that all share; same unit squared.
    noise : (K, K) covariance of their errors, same unit squared; None for cells, which are many.
    """

    cohort: Int[np.ndarray, " K"]
    checkpoint: Int[np.ndarray, " K"]
    effect: Float[np.ndarray, " K"]
    se: Float[np.ndarray, " K"]
    common: float
    noise: Float[np.ndarray, "K K"] | None = None

    def keep(self, chosen: Bool[np.ndarray, " K"]) -> "Profile":
        """Return some of the effects."""
        return Profile(
            *(self.cohort[chosen], self.checkpoint[chosen]),
            *(self.effect[chosen], self.se[chosen]),
            self.common,
            None if self.noise is None else self.noise[np.ix_(chosen, chosen)],
        )


def halves(
    runs: Sequence[RunEstimate], settings: Estimation
) -> list[tuple[RunEstimate, RunEstimate]]:
    """Estimate every size on each of two disjoint halves of the rows that all sizes scored.

    Clusters stay whole; each cohort, and the never-treated rows, are halved.

    Raises
    ------
    EstimationError
        A half is too small for an estimate.
    """
    common = set.intersection(*({*one.panel.row_id.tolist()} for one in runs))
    shared = np.array(sorted(common), dtype=np.int64)
    found = []
    for one in runs:
        panel = one.panel
        if len(shared) < len(panel):
            panel = panel.keep(np.isin(panel.row_id, shared), "not scored by every size")
        first = split(panel, settings)
        a, b = (panel.keep(half, "of the other half of the rows") for half in (first, ~first))
        found.append(
            (
                RunEstimate(a, effects(a, settings, precision=False)),
                RunEstimate(b, effects(b, settings, precision=False)),
            )
        )
    return found


def split(panel: Panel, settings: Estimation) -> Bool[np.ndarray, " U"]:
    """Rows of the first half: every second cluster of each cohort, in a random order.

    It depends on ids, cohorts and the seed alone, so it is the same for every size.
    """
    by, _ = cluster_by(settings.clusters, panel)
    labelled = (panel.cluster != NEVER) & (by == "batch")
    # ids of batches and of rows are numbered apart: a row's are negative
    cluster = np.where(labelled, panel.cluster, -1 - panel.row_id)
    names, number = np.unique(cluster, return_inverse=True)
    cohort = np.empty(len(names), np.int64)
    cohort[number] = panel.cohort
    shuffled = np.random.default_rng(settings.seed).permutation(len(names))
    order = np.lexsort((shuffled, cohort))
    starts = np.searchsorted(cohort[order], cohort[order], side="left")
    half = np.empty(len(names), bool)
    half[order] = (np.arange(len(names)) - starts) % 2 == 0
    first: Bool[np.ndarray, " U"] = half[number]
    return first


def profiles(one: RunEstimate, tables: CohortTables) -> dict[str, Profile]:
    """Profiles of a run, by kind; those that no cohort has are left out."""
    att = one.att
    found = {}
    if att.post.any():
        group, column = np.nonzero(att.post)
        found["cell"] = Profile(
            att.cohorts[group],
            att.checkpoints[column],
            att.att[att.post],
            att.se[att.post],
            _variance_of_mean(att),
        )
    for kind, effects_of in tables.of(att).items():
        mean, noise = effects_of.contrast, effects_of.noise
        cohorts, none = np.array(mean.labels), np.full(len(mean), -1)
        found[kind] = Profile(cohorts, none, mean.estimate, mean.se, float(noise.mean()), noise)
    return found


def reliability(one: RunEstimate, found: Profile, seed: int) -> tuple[float, float]:
    """Share of the variance of a run's profile that is not noise, and the p-value of none of it."""
    if found.noise is not None:
        return signal(found.effect, found.noise, seed)
    square = float(((found.effect - found.effect.mean()) ** 2).sum())
    noise = float((found.se**2).sum()) - len(found.effect) * found.common
    drawn = _drawn_squares(one.att, seed)
    p = float((1 + (drawn >= square).sum()) / (1 + len(drawn)))
    return (1 - noise / square, p) if square > 0 else (0.0, 1.0)


def _variance_of_mean(att: AttGt) -> float:
    weights = att.post / att.post.sum()
    return float(contrast(att, weights[None]).se[0] ** 2)


def _drawn_squares(att: AttGt, seed: int) -> Float[np.ndarray, " B"]:
    """Draw the sums of squares about the mean that noise alone would have."""
    total, squares, cells = np.zeros(_DRAWS), np.zeros(_DRAWS), int(att.post.sum())
    for g, errors in enumerate(cell_draws(att, BootstrapSpec(_DRAWS, seed))):
        of_cohort = errors[:-1][att.post[g]]
        total += of_cohort.sum(axis=0)
        squares += (of_cohort**2).sum(axis=0)
    return squares - total**2 / cells
