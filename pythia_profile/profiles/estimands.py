"""Effects that do not depend on the grid of checkpoints, other estimators of the means, and strata.

In: the estimates of a study. Out: the table `ESTIMANDS`. The published definitions depend on which
checkpoints were scored: instantaneous is the effect at the cohort's first checkpoint, persistent a
mean over whatever checkpoints follow. Here event times are counted from each row's own step.

    effect_at                 effect at one event time, in optimizer steps
    persistence               mean over event times from `start` to `end`, each step counting alike
    efficient …               the published means, adjusted for all differences before treatment by
                              their best coefficients (a random training order makes these 0)
    no_effect, placebo        exact tests by reassigning rows to cohorts: `p_value` only
    instantaneous … overall   the published means of each stratum, and strata minus the first

Sources: Roth and Sant'Anna (2023) for the efficient estimator; Fisher (1935) for the tests.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Annotated, Any, TypeVar, get_args

import numpy as np
import polars as pl
from pydantic import Field

from pythia_profile.did import (
    AttGt,
    Contrast,
    aggregate,
    by_stratum,
    difference,
    effect_at,
    effects_by_own_step,
    efficient,
    persistence,
    randomization_test,
)
from pythia_profile.did.estimation import effects
from pythia_profile.did.inference.aggregates import Kind
from pythia_profile.did.inference.random_timing import Hypothesis
from pythia_profile.did.settings import DEFAULT, Estimation
from pythia_profile.errors import EstimationError
from pythia_profile.profiles.estimates import Estimates, Frame, RunEstimate, estimates_of
from pythia_profile.settings import Settings
from pythia_profile.tables import ESTIMANDS, conform

__all__ = ["EstimandPlan", "estimands"]

log = logging.getLogger(__name__)

T = TypeVar("T")

MEANS: tuple[Kind, ...] = ("instantaneous", "persistent", "overall")
_FRACTIONS = (16, 8, 4, 2)


class EstimandPlan(Settings):
    """Which estimands to add to the published ones."""

    event_times: tuple[Annotated[int, Field(ge=0, lt=2**63)], ...] = Field(
        (),
        description="event times of `effect_at`, optimizer steps; empty: 1/16 to 1/2 of the run",
    )
    start: int = Field(0, ge=0, description="event time at which `persistence` begins")
    horizon: int = Field(0, ge=0, description="and ends; 0: from 1/16 to 1/2 of the run")
    column: str = Field("", description="column of the rows whose values are strata; empty: none")
    cut: int = Field(0, ge=0, description="for a column of numbers: groups of about equal size")
    reassignments: int = Field(
        999, ge=0, le=100_000, description="draws of the exact tests; 0: no tests"
    )


def estimands(
    rows: Frame | Estimates,
    scores: Frame | None = None,
    settings: Estimation = DEFAULT,
    *,
    outcomes: str | Sequence[str] = ("log_likelihood",),
    plan: EstimandPlan | None = None,
) -> pl.DataFrame:
    """Estimate each run's further estimands.

    Parameters
    ----------
    rows, scores, settings, outcomes : as in `estimate`; or in place of all, what it returned.

    Returns
    -------
    The `ESTIMANDS` table, in units of the outcome, with pointwise intervals. What a run does not
    allow (no cohort followed that long, say) is left out, and a warning says why.

    Raises
    ------
    NotFoundError, OptionError
        The rows have no such column, or its numbers were not cut.
    """
    plan = plan or EstimandPlan()
    found = estimates_of(rows, scores, settings, outcomes)
    lines = [
        {**one.names, "stratum": None, "start": None, "end": None, "p_value": None, **line}
        for one in found.runs
        for line in _of_run(one, found.settings, plan)
    ]
    return conform(pl.DataFrame(lines, schema=ESTIMANDS.columns), ESTIMANDS)


def _of_run(one: RunEstimate, settings: Estimation, plan: EstimandPlan) -> Iterator[dict[str, Any]]:
    grid = one.panel.checkpoints
    span = int(grid[-1] - grid[0])
    times = plan.event_times or tuple(span // part for part in _FRACTIONS)
    start, end = (plan.start, plan.horizon) if plan.horizon else (span // 16, span // 2)
    own = _or_none(one, "own event times", partial(effects_by_own_step, one.panel, settings))
    if own is not None:
        for time in times:
            at = _or_none(one, f"effect at {time} steps", partial(effect_at, own, time))
            yield from _lines(at, "effect_at", settings, start=time, end=time)
        mean = _or_none(one, "persistence", partial(persistence, own, start, end))
        yield from _lines(mean, "persistence", settings, start=start, end=end)
    yield from _efficient(one, settings)
    yield from _tests(one, settings, plan.reassignments)
    if plan.column:
        yield from _strata(one, settings, plan)


def _efficient(one: RunEstimate, settings: Estimation) -> Iterator[dict[str, Any]]:
    plain = settings.replace(estimator="diff", covariates=())
    diff = _or_none(one, "efficient", partial(effects, one.panel, plain))
    if diff is None:
        return
    for kind in MEANS:
        mean = _or_none(one, kind, partial(efficient, diff, kind, before="all"))
        yield from _lines(mean, f"efficient {kind}", settings)


def _tests(one: RunEstimate, settings: Estimation, draws: int) -> Iterator[dict[str, Any]]:
    by_batch = settings.clusters == "batch"
    for hypothesis in get_args(Hypothesis) if draws else ():
        make = partial(randomization_test, by_batch=by_batch, draws=draws, seed=settings.seed)
        test = _or_none(one, hypothesis, partial(make, one.panel, hypothesis))
        if test is not None:
            yield {"estimand": hypothesis, "p_value": test.p_value}


def _strata(one: RunEstimate, settings: Estimation, plan: EstimandPlan) -> Iterator[dict[str, Any]]:
    found = by_stratum(one.panel, plan.column, settings, cut=plan.cut or None)
    names = list(found)
    for kind in MEANS:
        means = {name: _mean(one, found[name], kind) for name in names}
        for name, mean in means.items():
            yield from _lines(mean, kind, settings, stratum=name)
        first = means[names[0]]
        for name in names[1:]:
            if (other := means[name]) is not None and first is not None:
                gap = difference(other, first)
                yield from _lines(gap, kind, settings, stratum=f"{name} minus {names[0]}")


def _mean(one: RunEstimate, att: AttGt, kind: Kind) -> Contrast | None:
    found = _or_none(one, kind, partial(aggregate, att, kind))
    return None if found is None else found.only([None])


def _or_none(one: RunEstimate, what: str, make: Callable[[], T]) -> T | None:
    """Make it; None, and a warning, where the run does not allow it."""
    try:
        return make()
    except EstimationError as error:
        log.warning("%s, %s: %s left out: %s", one.panel.run[1], one.panel.outcome, what, error)
        return None


def _lines(
    found: Contrast | None, estimand: str, settings: Estimation, **named: Any
) -> Iterator[dict[str, Any]]:
    if found is None:
        return
    found = found.only([found.labels[-1]])  # the mean over cohorts stands last
    lower, upper = found.interval(settings.level)
    numbers = {
        "att": found.estimate[0],
        "se": found.se[0],
        "lower": np.asarray(lower)[0],
        "upper": np.asarray(upper)[0],
    }
    values = {name: float(value) for name, value in numbers.items()}
    yield {"estimand": estimand, **named, **values}
