"""Other estimators beside ours: what a regression, or the published code's estimator, would say.

In: effects of a run and its panel. Out: lines of the table `WITNESSES`. None of these is an
estimate of ATT(g, c) where effects change with time: `pythia_profile.did.diagnostics.alternatives`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from pythia_profile.did import AttGt, Panel, aggregate, event_study, naive_double_demeaned, twfe
from pythia_profile.did.diagnostics.alternatives import AlternativeEstimate
from pythia_profile.errors import EstimationError
from pythia_profile.tables import NEVER

__all__ = ["witness_lines"]

LARGEST = 2**25
"""Most numbers of a regression's design here (256 MiB; linearmodels needs several copies)."""


def witness_lines(att: AttGt, laid: Panel, clusters: str, said: list[str]) -> list[dict[str, Any]]:
    """Lines of each estimator; what cannot be run is said.

    Parameters
    ----------
    clusters : `row` or `batch`, for the regressions' clustered errors.
    said : takes in what was left out, and why.
    """
    if np.isnan(laid.y).any() or not (laid.cohort == NEVER).any():
        said.append("witnesses: left out, they need a balanced panel with never-treated rows")
        return []
    given = (laid.y, laid.cohort, laid.checkpoints)
    named = laid.cluster if clusters == "batch" else None
    ours = _by_checkpoints_since(att.att, att)
    lines = [
        *_regression("twfe", lambda: twfe(*given, clusters=named), 1, laid, said),
        *_regression(
            "event_study",
            lambda: event_study(*given, clusters=named),
            2 * len(laid.checkpoints) - 2,
            laid,
            said,
        ),
        *(
            {"estimator": "naive_double_demeaned", "at": at, "estimate": mean}
            for at, mean in _by_checkpoints_since(naive_double_demeaned(*given), att).items()
        ),
    ]
    overall = float(aggregate(att, "overall").estimate[0])
    return [
        {**line, "att": overall if line["at"] is None else ours.get(line["at"])} for line in lines
    ]


def _regression(
    name: str, fit: Callable[[], AlternativeEstimate], columns: int, laid: Panel, said: list[str]
) -> list[dict[str, Any]]:
    size = laid.y.size * (columns + 1)
    if size > LARGEST:
        said.append(f"witnesses: {name} left out, its design has {size / 1e6:,.0f} million numbers")
        return []
    try:
        found = fit()
    except (EstimationError, ValueError, np.linalg.LinAlgError) as error:
        said.append(f"witnesses: {name} left out: {error}")
        return []
    return [
        {
            "estimator": name,
            "at": None if at is None else int(at),
            "estimate": float(found.estimate[k]),
            "se": float(found.clustered[k]),
            "driscoll_kraay": float(found.driscoll_kraay[k]),
        }
        for k, at in enumerate(found.labels)
    ]


def _by_checkpoints_since(values: Any, att: AttGt) -> dict[int, float]:
    """Checkpoints since the cohort -> mean over cohorts, weighted by their rows."""
    first = np.searchsorted(att.checkpoints, att.cohorts)
    since = np.arange(len(att.checkpoints)) - first[:, None]
    mass = np.broadcast_to(att.fit.treated.weight, since.shape)
    known = np.isfinite(values)
    return {
        int(e): float(np.average(values[known & (since == e)], weights=mass[known & (since == e)]))
        for e in np.unique(since[known])
    }
