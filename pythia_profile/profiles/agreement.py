"""Do sizes agree? Correlation of their profiles, and how much of it sampling noise allows.

In: the tables `ROWS` and `SCORES`. Out: the table `AGREEMENT`.

All sizes score the same rows, so part of any correlation between them is shared noise. Beside each
correlation stands each size's split-half reliability, the correlation its profile would have with
itself on other rows, and the disattenuated correlation, computed between *disjoint* halves:

    r_ab(disjoint) = mean over splits of corr(half 1 of a, half 2 of b)
    disattenuated  = r_ab(disjoint) / sqrt(r_aa(disjoint) r_bb(disjoint))

A random half of the rows has weights 1 + ε, ε = ±1, and the other half 1 − ε, so both halves come
from one bootstrap draw: estimate + error and estimate − error.

Source: Spearman (1904) on attenuation; Spearman–Brown for the reliability of the whole sample.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations

import numpy as np
import numpy.typing as npt
import polars as pl
from jaxtyping import Float
from scipy.stats import norm, rankdata

from pythia_profile.did import AttGt
from pythia_profile.did.inference.aggregates import Kind
from pythia_profile.did.inference.bootstrap import BootstrapSpec, cell_draws, contrast_draws
from pythia_profile.did.settings import DEFAULT, Estimation
from pythia_profile.errors import EstimationError
from pythia_profile.profiles.estimates import Estimates, Frame, RunEstimate, estimates_of
from pythia_profile.profiles.profile import aggregate_if_any
from pythia_profile.tables import AGREEMENT, conform

__all__ = ["CELL_SETS", "agree", "agreement", "correlation"]

MEANS: tuple[Kind, ...] = ("instantaneous", "persistent", "residual")
CELL_SETS = ("post", *MEANS)
"""Cells whose effects are correlated: all from the cohort on, or one number for each cohort."""
MOST_DRAWS = 200
"""Most draws of an interval: a standard deviation of 200 draws is known to 5 %."""


@dataclass(frozen=True, slots=True)
class _Profile:
    """A profile and draws of its error: (K,) and (K, B)."""

    estimate: Float[np.ndarray, " K"]
    errors: Float[np.ndarray, "K B"]


def agreement(
    rows: Frame | Estimates,
    scores: Frame | None = None,
    settings: Estimation = DEFAULT,
    *,
    outcomes: str | Sequence[str] = ("log_likelihood",),
) -> pl.DataFrame:
    """Correlate the profiles of every two sizes of a study, on the checkpoints that all have.

    Parameters
    ----------
    rows, scores, settings, outcomes : as in `estimate`; or in place of all, what it returned. All
        sizes scored the same rows. At most `MOST_DRAWS` random halves and draws are made.

    Returns
    -------
    The `AGREEMENT` table; empty where there is one size only.
    """
    found = estimates_of(rows, scores, settings, outcomes)
    fewer = found.settings.replace(draws=min(found.settings.draws, MOST_DRAWS))
    spec = BootstrapSpec.of(fewer)
    groups: dict[tuple[str, int, str], list[RunEstimate]] = {}
    for one in found.runs:
        suite, _, seed = one.panel.run
        groups.setdefault((suite, seed, one.panel.outcome), []).append(one)
    lines = []
    for (suite, seed, outcome), runs in groups.items():
        grids = [set(one.panel.checkpoints.tolist()) for one in runs]
        common = sorted(set.intersection(*grids))
        alike = [one.on(common, found.settings) for one in runs] if len(runs) > 1 else []
        by_size = {one.panel.run[1]: _profiles(one.att, spec) for one in alike}
        lines += [
            {
                "suite": suite,
                "seed": seed,
                "outcome": outcome,
                "size_a": a,
                "size_b": b,
                "kind": kind,
                **agree(by_size[a][kind], by_size[b][kind], fewer.level),
            }
            for a, b in combinations(by_size, 2)
            for kind in CELL_SETS
            if kind in by_size[a] and kind in by_size[b]
        ]
    return conform(pl.DataFrame(lines, schema=AGREEMENT.columns), AGREEMENT)


def agree(a: _Profile, b: _Profile, level: float = 0.95) -> dict[str, float | int | None]:
    """Correlations of two profiles, interval, reliabilities, disattenuated correlation."""
    if len(a.estimate) != len(b.estimate):
        raise EstimationError(
            f"profiles have {len(a.estimate)} and {len(b.estimate)} cells; sizes that are compared "
            "must be scored at the same checkpoints"
        )
    r = correlation(a.estimate, b.estimate)
    halves_a = a.estimate[:, None] + a.errors, a.estimate[:, None] - a.errors
    halves_b = b.estimate[:, None] + b.errors, b.estimate[:, None] - b.errors
    drawn = np.arctanh(np.clip(correlation(halves_a[0], halves_b[0]), -1 + 1e-12, 1 - 1e-12))
    reach = norm.ppf(0.5 + level / 2) * drawn.std()
    center = np.arctanh(np.clip(r, -1 + 1e-12, 1 - 1e-12))
    itself_a = float(correlation(*halves_a).mean())
    itself_b = float(correlation(*halves_b).mean())
    disjoint = float(correlation(halves_a[0], halves_b[1]).mean())
    known = itself_a > 0 and itself_b > 0
    return {
        "cells": len(a.estimate),
        "pearson": _number(r),
        "spearman": _number(correlation(rankdata(a.estimate), rankdata(b.estimate))),
        "lower": _number(np.tanh(center - reach)),
        "upper": _number(np.tanh(center + reach)),
        "reliability_a": _number(_whole_sample(itself_a)),
        "reliability_b": _number(_whole_sample(itself_b)),
        "disattenuated": _number(disjoint / np.sqrt(itself_a * itself_b)) if known else None,
    }


def correlation(a: npt.NDArray[np.float64], b: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Pearson correlation over the first axis; NaN where a side is constant.

    Examples
    --------
    >>> float(correlation(np.array([1.0, 2, 4]), np.array([2.0, 4, 8])).round(12))
    1.0
    """
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        r: npt.NDArray[np.float64] = (a * b).sum(axis=0) / np.sqrt(
            (a**2).sum(axis=0) * (b**2).sum(axis=0)
        )
    return r


def _profiles(att: AttGt, spec: BootstrapSpec) -> dict[str, _Profile]:
    """Each set of cells that has any, with draws of their errors."""
    errors = [drawn[:-1][att.post[g]] for g, drawn in enumerate(cell_draws(att, spec))]
    profiles = {"post": _Profile(att.att[att.post], np.concatenate(errors))}
    for kind in MEANS:
        if (found := aggregate_if_any(att, kind)) is not None:
            of_cohort = np.array([label is not None for label in found.labels])
            drawn = contrast_draws([found], spec)[0]
            profiles[kind] = _Profile(found.estimate[of_cohort], drawn[of_cohort])
    return profiles


def _whole_sample(half: float) -> float:
    """Spearman–Brown: reliability of the whole sample from that of its halves."""
    return 2 * half / (1 + half) if half > -1 else float("nan")


def _number(value: npt.ArrayLike) -> float | None:
    number = float(np.asarray(value))
    return number if np.isfinite(number) else None
