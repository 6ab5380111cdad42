"""Effects that do not depend on the grid of checkpoints, other estimators of the means, and strata.

In: the estimates of a study. Out: the table `ESTIMANDS`. The published definitions depend on which
checkpoints were scored: instantaneous is the effect at the cohort's first checkpoint, persistent a
mean over whatever checkpoints follow. Here event times are counted from each row's own step.

    effect_at                 effect at one event time, in optimizer steps
    persistence               mean over event times from `start` to `end`, each step counting alike
    efficient …               the published means, adjusted for all differences before treatment by
                              their best coefficients (a random training order makes these 0)
    no_effect, placebo        exact tests by reassigning rows to cohorts: `p_value` only
    overall, simple …         mean over all cells, and without the first cohort; the overall ATT of
                              R's did for each of its aggregates, with R's standard error
    instantaneous … overall   the published means of each stratum, and strata minus the first
    slope of …                by how much they grow for a standard deviation of a column

Sources: Roth and Sant'Anna (2023) for the efficient estimator; Fisher (1935) for the tests.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Literal, TypeVar, get_args

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
    overall_of,
    persistence,
    randomization_test,
)
from pythia_profile.did.diagnostics.slopes import effect_slope
from pythia_profile.did.estimation import effects
from pythia_profile.did.inference.aggregates import Kind
from pythia_profile.did.inference.random_timing import Before, Hypothesis
from pythia_profile.did.settings import DEFAULT, Estimation
from pythia_profile.errors import EstimationError
from pythia_profile.profiles.estimates import Estimates, Frame, RunEstimate, estimates_of
from pythia_profile.settings import Settings
from pythia_profile.tables import ESTIMANDS, conform

__all__ = ["EstimandPlan", "estimands"]

log = logging.getLogger(__name__)

T = TypeVar("T")

MEANS: tuple[Kind, ...] = ("instantaneous", "persistent", "overall")
R_AGGREGATES: dict[str, Kind] = {
    "simple": "overall",
    "dynamic": "event_time",
    "group": "cohort",
    "calendar": "calendar",
}
"""Type of aggregate in R's did -> ours."""
ROWS_EACH = 20
"""Fewest rows for each difference before treatment whose coefficient is estimated; with fewer rows
the efficient estimator adjusts for the difference at each cohort's base alone."""
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
    slopes: tuple[str, ...] = Field((), description="columns of numbers along which effects change")
    tokens: Literal["", "position", "frequency"] = Field(
        "", description="classes of tokens to estimate effects of, where token tables were kept"
    )
    classes: int = Field(8, ge=2, le=1000, description="how many classes of tokens")
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
    by_class: Estimates | None = None,
) -> pl.DataFrame:
    """Estimate each run's further estimands.

    Parameters
    ----------
    rows, scores, settings, outcomes : as in `estimate`; or in place of all, what it returned.
    by_class : estimates of classes of tokens (`token_scores`), whose outcomes are strata here.

    Returns
    -------
    The `ESTIMANDS` table, in units of the outcome, with pointwise intervals. What a run does not
    allow (no cohort followed that long, say) is left out, and a warning says why. `cohorts` says of
    how many cohorts an effect is the mean; null where it is a slope or a test.

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
    lines += _token_lines(by_class) if by_class is not None else []
    schema = {**ESTIMANDS.columns, "cohorts": pl.Int64()}
    return conform(pl.DataFrame(lines, schema=schema), ESTIMANDS)


def _of_run(one: RunEstimate, settings: Estimation, plan: EstimandPlan) -> Iterator[dict[str, Any]]:
    grid = one.panel.checkpoints
    span = int(grid[-1] - grid[0])
    times = plan.event_times or tuple({span // part: None for part in _FRACTIONS})  # each once
    start, end = (plan.start, plan.horizon) if plan.horizon else (span // 16, span // 2)
    own = _or_none(one, "own event times", partial(effects_by_own_step, one.panel, settings))
    if own is not None:
        for time in times:
            at = _or_none(one, f"effect at {time} steps", partial(effect_at, own, time))
            yield from _lines(at, "effect_at", settings, start=time, end=time)
        mean = _or_none(one, "persistence", partial(persistence, own, start, end))
        yield from _lines(mean, "persistence", settings, start=start, end=end)
    yield from _efficient(one, settings)
    yield from _overall(one, settings)
    yield from _tests(one, settings, plan.reassignments)
    if plan.column:
        yield from _strata(one, by_stratum(one.panel, plan.column, settings, cut=plan.cut or None))
    for column in plan.slopes:
        for kind in MEANS:
            slope = effect_slope(one.panel, column, settings, kind=kind)
            lower, upper = slope.interval(settings.level)
            numbers = {"att": slope.estimate, "se": slope.se, "lower": lower, "upper": upper}
            yield {"estimand": f"slope of {kind}", "stratum": column, **numbers}


def _efficient(one: RunEstimate, settings: Estimation) -> Iterator[dict[str, Any]]:
    plain = settings.replace(estimator="diff", covariates=())
    diff = _or_none(one, "efficient", partial(effects, one.panel, plain))
    if diff is None:
        return
    # Of Pythia's grid there are 10,000 differences before treatment and 14,300 rows: coefficients
    # of each would be noise, and their covariance a gigabyte.
    every = ROWS_EACH * int(diff.placebo.sum()) <= len(one.panel)
    for kind in MEANS:
        before: Before = "all" if every else "base"
        mean = _or_none(one, kind, partial(efficient, diff, kind, before=before))
        yield from _lines(mean, f"efficient {kind}", settings)


def _tests(one: RunEstimate, settings: Estimation, draws: int) -> Iterator[dict[str, Any]]:
    by_batch = settings.clusters == "batch"
    for hypothesis in get_args(Hypothesis) if draws else ():
        make = partial(randomization_test, by_batch=by_batch, draws=draws, seed=settings.seed)
        test = _or_none(one, hypothesis, partial(make, one.panel, hypothesis))
        if test is not None:
            yield {"estimand": hypothesis, "p_value": test.p_value}


def _overall(one: RunEstimate, settings: Estimation) -> Iterator[dict[str, Any]]:
    """Mean over all cells with and without the first cohort, and what R's did calls overall."""
    yield from _lines(_mean(one, one.att, "overall"), "overall", settings)
    later = one.att.cohorts[1:].tolist()
    if later and one.att.post[1:].any():
        rest = aggregate(one.att, "overall", cohorts=later)
        yield from _lines(rest, "overall, without the first cohort", settings)
    for name, kind in R_AGGREGATES.items():
        curve = _or_none(one, name, partial(aggregate, one.att, kind, shares="estimated"))
        if curve is not None:
            mean = curve if kind == "overall" else overall_of(curve, shares="estimated")
            yield from _lines(mean, f"R's {name}", settings)


def _token_lines(by_class: Estimates) -> list[dict[str, Any]]:
    """Lines of each run's classes of tokens, named as strata of the log-likelihood."""
    runs: dict[tuple[str, str, int], list[RunEstimate]] = {}
    for one in by_class.runs:
        runs.setdefault(one.panel.run, []).append(one)
    fixed = {"outcome": "log_likelihood", "start": None, "end": None, "p_value": None}
    return [
        {**every[0].names, **fixed, **line}
        for every in runs.values()
        for line in _strata(every[0], {one.panel.outcome: one.att for one in every})
    ]


def _strata(one: RunEstimate, found: Mapping[str, AttGt]) -> Iterator[dict[str, Any]]:
    settings, names = one.att.settings, list(found)
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
    yield {"estimand": estimand, **named, **values, "cohorts": _cohorts_in(found)}


def _cohorts_in(found: Contrast) -> int:
    """Count the cohorts whose rows have a weight.

    A cohort that was split by its rows' own steps is one: its parts lie between two checkpoints.
    """
    held: set[int] = set()
    for part in found.parts:
        cohort = part.weights.nonzero()[1] // len(part.att.checkpoints)
        held |= {*np.searchsorted(part.att.checkpoints, part.att.cohorts[cohort]).tolist()}
    return len(held)
