"""Training seeds: how much of what differs between runs is the seed, and how much the sample.

In: estimates of one size under several seeds. Out: lines of the table `FINDINGS`. With estimates
x_s, s = 1 … S, of variance B between seeds, and V the covariance of their sampling errors (seeds
that scored the same rows share noise: rows are matched by their ids),

    E[sample variance of x] = B + W,    W = mean of V's diagonal − mean of the rest
    Var[mean of x]          = E[sample variance]/S + mean of V off the diagonal

so B is the sample variance less W, and the mean over seeds gets the error of another draw of seeds.
The interval of B is that of the sample variance, chi-square with S − 1 degrees of freedom, less W.
For whole profiles all moments are means over cohorts.

Source: Searle, Casella and McCulloch (1992), "Variance components", chapter 3.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.special import chdtri, stdtr, stdtrit

from pythia_profile.did import Contrast
from pythia_profile.did.inference.contrasts import joint_covariance
from pythia_profile.findings.summaries import MEANS
from pythia_profile.profiles.estimates import RunEstimate
from pythia_profile.profiles.profile import aggregate_if_any

__all__ = ["Components", "averaged", "between_seeds", "components", "outliers"]

_SMALL = 0.05
_FEWEST_TO_JUDGE = 4
"""Seeds with which one of them can be called an outlier: the others need a spread of their own."""


@dataclass(frozen=True, slots=True)
class Components:
    """Variance between seeds and within them, of one number or a mean over cohorts.

    Attributes
    ----------
    between, lower, upper : variance between seeds and its interval; 0 or more, the unit squared.
    within : sampling variance of the difference between seeds.
    """

    between: float
    lower: float
    upper: float
    within: float

    @property
    def share(self) -> float:
        """Share of the variance that is between seeds."""
        total = self.between + self.within
        return self.between / total if total > 0 else 0.0


def components(
    x: Float[np.ndarray, "S K"], noise: Float[np.ndarray, "K S S"], level: float = 0.95
) -> Components:
    """Separate variance between seeds from sampling variance, over K numbers together.

    Parameters
    ----------
    x : (S, K) estimates of S seeds.
    noise : (K, S, S) covariance of the seeds' errors, for each number.

    Examples
    --------
    >>> found = components(np.array([[0.0], [2.0], [4.0]]), np.eye(3)[None])
    >>> found.between, found.within
    (3.0, 1.0)
    """
    seeds = len(x)
    within = float(_apart(noise).mean())
    total = float(x.var(axis=0, ddof=1).mean())
    # K cohorts of a profile that moves as one are no K samples: S - 1 degrees of freedom are safe.
    df, tail = seeds - 1, (1 - level) / 2
    lower, upper = (df * total / chdtri(df, p) - within for p in (tail, 1 - tail))
    return Components(max(total - within, 0.0), max(lower, 0.0), max(upper, 0.0), within)


def averaged(
    x: Float[np.ndarray, "S K"], noise: Float[np.ndarray, "K S S"]
) -> tuple[Float[np.ndarray, " K"], Float[np.ndarray, " K"]]:
    """Mean over seeds and its standard error, for another draw of seeds and rows; (K,) each.

    Examples
    --------
    >>> mean, se = averaged(np.array([[0.0], [2.0], [4.0]]), np.eye(3)[None])
    >>> mean, (se**2).round(3)
    (array([2.]), array([1.333]))
    """
    seeds = len(x)
    shared = (noise.sum(axis=(1, 2)) - np.trace(noise, axis1=1, axis2=2)) / (seeds * (seeds - 1))
    variance = x.var(axis=0, ddof=1) / seeds + shared
    floor = noise.mean(axis=(1, 2))  # sampling error alone
    return x.mean(axis=0), np.sqrt(np.maximum(variance, floor))


def outliers(x: Float[np.ndarray, " S"]) -> tuple[Float[np.ndarray, " S"], ...]:
    """Each seed minus the mean of the others: difference, standard error, p-value after Bonferroni.

    Source: the studentized deleted residual (Cook and Weisberg, 1982).
    """
    seeds = len(x)
    difference, se = np.empty(seeds), np.empty(seeds)
    for s in range(seeds):
        others = np.delete(x, s)
        difference[s] = x[s] - others.mean()
        se[s] = others.std(ddof=1) * np.sqrt(1 + 1 / len(others))
    with np.errstate(divide="ignore", invalid="ignore"):
        p = 2 * stdtr(seeds - 2, -np.abs(difference / se))
    return difference, se, np.minimum(np.nan_to_num(p, nan=1.0) * seeds, 1.0)


def between_seeds(runs: Sequence[RunEstimate], level: float) -> Iterator[dict[str, Any]]:
    """Lines of `FINDINGS` of one size under several seeds; none for one seed.

    Parameters
    ----------
    runs : seeds of one suite, size and outcome.
    """
    if len(runs) < 2:
        return
    for kind in MEANS:
        aggregates = [aggregate_if_any(one.att, kind) for one in runs]
        if any(found is None for found in aggregates):
            continue
        found = [one for one in aggregates if one is not None]
        common = [label for label in found[0].labels if all(label in o.labels for o in found)]
        base = {
            **runs[0].names,
            "seed": None,
            "finding": "seeds",
            "kind": kind,
            "n": len(runs),
            "verdict": "",
        }
        for subset, labels in (("mean", [None]), ("profile", common[:-1])):
            x, noise = _moments(found, labels)
            yield from _component_lines(x, noise, {**base, "subset": subset}, level)
        x, noise = _moments(found, [None])
        yield _mean_line(x, noise, {**base, "subset": "mean"}, level)
        yield from _outlier_lines(runs, x[:, 0], base, level)


def _moments(
    found: Sequence[Contrast], labels: Sequence[Any]
) -> tuple[Float[np.ndarray, "S K"], Float[np.ndarray, "K S S"]]:
    """Estimates of the labels by seed, and the covariance between seeds for each label."""
    chosen = [one.only(labels) for one in found]
    x = np.stack([one.estimate for one in chosen])
    joint = joint_covariance(chosen).reshape(len(found), len(labels), len(found), len(labels))
    return x, np.einsum("skTk->ksT", joint)


def _apart(noise: Float[np.ndarray, "K S S"]) -> Float[np.ndarray, " K"]:
    """Return what sampling adds to the expected sample variance over seeds."""
    seeds = noise.shape[1]
    own = np.trace(noise, axis1=1, axis2=2) / seeds
    shared = (noise.sum(axis=(1, 2)) - seeds * own) / (seeds * (seeds - 1))
    apart: Float[np.ndarray, " K"] = own - shared
    return apart


def _component_lines(
    x: Float[np.ndarray, "S K"],
    noise: Float[np.ndarray, "K S S"],
    base: dict[str, Any],
    level: float,
) -> Iterator[dict[str, Any]]:
    found = components(x, noise, level)
    none = dict.fromkeys(("se", "lower", "upper", "p_value"))
    ends = {"lower": np.sqrt(found.lower), "upper": np.sqrt(found.upper)}
    yield {**base, "quantity": "between_sd", "estimate": np.sqrt(found.between), **none, **ends}
    yield {**base, "quantity": "within_sd", "estimate": np.sqrt(max(found.within, 0.0)), **none}
    yield {**base, "quantity": "share", "estimate": found.share, **none}


def _mean_line(
    x: Float[np.ndarray, "S 1"],
    noise: Float[np.ndarray, "1 S S"],
    base: dict[str, Any],
    level: float,
) -> dict[str, Any]:
    mean, se = (float(value[0]) for value in averaged(x, noise))
    half = stdtrit(len(x) - 1, (1 + level) / 2) * se
    p = 2 * stdtr(len(x) - 1, -abs(mean / se)) if se > 0 else 1.0
    line = {"estimate": mean, "se": se, "lower": mean - half, "upper": mean + half, "p_value": p}
    return {**base, "quantity": "mean", **line}


def _outlier_lines(
    runs: Sequence[RunEstimate], x: Float[np.ndarray, " S"], base: dict[str, Any], level: float
) -> Iterator[dict[str, Any]]:
    if len(x) < _FEWEST_TO_JUDGE:
        return
    half = stdtrit(len(x) - 2, (1 + level) / 2)
    for one, difference, se, p in zip(runs, *outliers(x), strict=True):
        yield {
            **base,
            "subset": f"seed {one.panel.run[2]}",
            "quantity": "outlier",
            "estimate": difference,
            "se": se,
            "lower": difference - half * se,
            "upper": difference + half * se,
            "p_value": p,
            "verdict": "outlier" if p < _SMALL else "",
        }
