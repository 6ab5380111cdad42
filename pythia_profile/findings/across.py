"""Estimates over training seeds, and bands over all sizes together.

In: the estimates of one study, or of several that differ in their training seed. Out: the table
`ACROSS`. Of one seed,

    sizes    each size's means and event-time curve, with a simultaneous band over the lines of all
             sizes: sizes that scored the same rows share draws, so the family is no larger than it
             must be

and of several seeds, for each size

    seeds    the mean over seeds of the same numbers, with the variance between runs in its error
             and interval (Student's t with seeds − 1 degrees of freedom, `findings.seeds`)

A row id names the same text in two seeds only where the rows say so; else their errors are taken as
independent.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float
from scipy.special import stdtrit

from pythia_profile.did import Contrast, contrast_draws
from pythia_profile.did.inference.aggregates import Kind
from pythia_profile.did.inference.bootstrap import BootstrapSpec
from pythia_profile.did.inference.contrasts import joint_covariance
from pythia_profile.did.inference.simultaneous import interquartile_sigma
from pythia_profile.errors import TableError
from pythia_profile.findings.seeds import averaged
from pythia_profile.findings.summaries import grouped
from pythia_profile.profiles.estimates import Estimates, RunEstimate
from pythia_profile.profiles.profile import aggregate_if_any
from pythia_profile.tables import ACROSS, conform

__all__ = ["across", "mean_over_seeds"]

KINDS: tuple[Kind, ...] = (*("event_time", "instantaneous", "persistent", "residual", "overall"),)


def across(studies: Sequence[Estimates], *, same_rows: bool = False) -> pl.DataFrame:
    """Put the runs of one study, or of several training seeds, together.

    Parameters
    ----------
    studies : estimates of each training seed; settings are those of the first.
    same_rows : whether a row id names the same text in all of them.

    Returns
    -------
    The `ACROSS` table.

    Raises
    ------
    TableError
        There is no study, or two of them hold the same run.
    """
    runs = [one for study in studies for one in study.runs]
    keys = [(*one.panel.run, one.panel.outcome) for one in runs]
    if not runs or (twice := [key for key in keys if keys.count(key) > 1]):
        got = f"{' '.join(map(str, twice[0]))} twice" if runs else "no run"
        raise TableError(f"across: got {got}; expected studies of different training seeds")
    settings, lines = studies[0].settings, list[dict[str, Any]]()
    spec, level = BootstrapSpec.of(settings), settings.level
    for group in grouped(runs, lambda one: (one.panel.run[::2], one.panel.outcome)):
        for kind in KINDS:
            lines += _over_sizes(group, kind, spec, level)
    for group in grouped(runs, lambda one: (one.panel.run[:2], one.panel.outcome)):
        for kind in KINDS if len(group) > 1 else ():
            lines += _over_seeds(group, kind, level, same_rows)
    return conform(pl.DataFrame(lines, schema=ACROSS.columns), ACROSS)


def _over_sizes(
    runs: Sequence[RunEstimate], kind: Kind, spec: BootstrapSpec, level: float
) -> Iterator[dict[str, Any]]:
    """Lines of each size with one critical value for all of them."""
    found = [(one, aggregate_if_any(one.att, kind)) for one in runs]
    known = [(one, _after(curve)) for one, curve in found if curve is not None]
    if not known:
        return
    draws = np.concatenate(contrast_draws([curve for _, curve in known], spec))
    sigma = interquartile_sigma(draws)
    moving = sigma > 0
    largest = abs(draws[moving] / sigma[moving, None]).max(axis=0)
    critical = float(np.quantile(largest, level, method="higher"))
    for one, curve in known:
        for k, label in enumerate(curve.labels):
            half = critical * float(curve.se[k])
            yield {
                **_named(one, kind, label),
                "over": "sizes",
                "runs": len(known),
                "att": float(curve.estimate[k]),
                "se": float(curve.se[k]),
                "lower": float(curve.estimate[k]) - half,
                "upper": float(curve.estimate[k]) + half,
                "critical": critical,
            }


def _over_seeds(
    runs: Sequence[RunEstimate], kind: Kind, level: float, same_rows: bool
) -> Iterator[dict[str, Any]]:
    found = [aggregate_if_any(one.att, kind) for one in runs]
    curves = [_after(one) for one in found if one is not None]
    labels = [a for a in curves[0].labels if all(a in c.labels for c in curves)] if curves else []
    if len(curves) < len(runs) or not labels:
        return
    mean, se, half = mean_over_seeds([c.only(labels) for c in curves], level, same_rows=same_rows)
    for k, label in enumerate(labels):
        yield {
            **_named(runs[0], kind, label),
            "seed": None,
            "over": "seeds",
            "runs": len(runs),
            "att": float(mean[k]),
            "se": float(se[k]),
            "lower": float(mean[k] - half[k]),
            "upper": float(mean[k] + half[k]),
            "critical": None,
        }


def mean_over_seeds(
    curves: Sequence[Contrast], level: float = 0.95, *, same_rows: bool = False
) -> tuple[Float[np.ndarray, " K"], ...]:
    """Mean over seeds of K numbers, standard error and half length of the interval; (K,) each.

    Parameters
    ----------
    curves : one contrast a seed, all with the same K labels.
    same_rows : whether a row id names the same text in all seeds, whose errors are then shared.
    """
    seeds, count = len(curves), len(curves[0])
    x = np.stack([one.estimate for one in curves])
    if same_rows:
        joint = joint_covariance(curves).reshape(seeds, count, seeds, count)
        noise = np.einsum("skTk->ksT", joint)
    else:
        noise = np.stack([np.diag([float(one.se[k]) ** 2 for one in curves]) for k in range(count)])
    mean, se = averaged(x, noise)
    return mean, se, stdtrit(seeds - 1, (1 + level) / 2) * se


def _after(curve: Contrast) -> Contrast:
    """Leave out event times before treatment, and those without an error."""
    if curve.kind != "event_time":
        return curve
    return curve.only(
        [a for a, se in zip(curve.labels, curve.se, strict=True) if a >= 0 and se > 0]
    )


def _named(one: RunEstimate, kind: Kind, label: Any) -> dict[str, Any]:
    at = None if label is None else int(label)
    by_time = kind == "event_time"
    places = {"cohort": None if by_time else at, "event_time": at if by_time else None}
    return {**one.names, "kind": kind, **places}
