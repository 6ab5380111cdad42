"""Alternative estimators: what a regression, or the published code's estimator, would say.

In: effects of a run and its panel. Out: lines of the table `ALTERNATIVES`. None of these is an
estimate of ATT(g, c) where effects change with time: `pythia_profile.did.diagnostics.alternatives`.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from pythia_profile.did import AttGt, Panel, aggregate, event_study, naive_double_demeaned, twfe
from pythia_profile.did.diagnostics.alternatives import AlternativeEstimate
from pythia_profile.errors import EstimationError
from pythia_profile.tables import NEVER

__all__ = ["alternative_lines"]


def alternative_lines(
    att: AttGt, laid: Panel, clusters: str, notes: list[str]
) -> list[dict[str, Any]]:
    """Lines of each estimator; notes say what cannot be run.

    Parameters
    ----------
    clusters : `row` or `batch`, for the regressions' clustered errors.
    notes : takes in what was left out, and why.
    """
    if np.isnan(laid.y).any() or not (laid.cohort == NEVER).any():
        notes.append("alternatives: left out, they need a balanced panel with never-treated rows")
        return []
    given = (laid.y, laid.cohort, laid.checkpoints)
    named = laid.cluster if clusters == "batch" else None
    ours = _by_checkpoints_since(att.att, att)
    lines = [
        *_regression("twfe", lambda: twfe(*given, clusters=named), notes),
        *_regression("event_study", lambda: event_study(*given, clusters=named), notes),
        *(
            {"estimator": "naive_double_demeaned", "checkpoints_since": since, "estimate": mean}
            for since, mean in _by_checkpoints_since(naive_double_demeaned(*given), att).items()
        ),
    ]
    overall = float(aggregate(att, "overall").estimate[0])
    return [
        {
            **line,
            "att": overall
            if line["checkpoints_since"] is None
            else ours.get(line["checkpoints_since"]),
        }
        for line in lines
    ]


def _regression(
    name: str, fit: Callable[[], AlternativeEstimate], notes: list[str]
) -> list[dict[str, Any]]:
    try:
        found = fit()
    except (EstimationError, ValueError, np.linalg.LinAlgError) as error:
        notes.append(f"alternatives: {name} left out: {error}")
        return []
    return [
        {
            "estimator": name,
            "checkpoints_since": None if since is None else int(since),
            "estimate": float(found.estimate[k]),
            "se": float(found.clustered[k]),
            "driscoll_kraay": float(found.driscoll_kraay[k]),
        }
        for k, since in enumerate(found.labels)
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
