"""Diagnostics of a study: everything to look at before believing its effects.

In: the tables `ROWS` and `SCORES`. Out: `Checks`, six tables and a sentence for each finding.

    assignment      whether anything known of a row before it is read says when it is read
    sensitivity     how far trends may have been from parallel before an effect is gone
    leave_one_out   the estimate without each single checkpoint; faulty ones show
    balance         treated rows minus controls before treatment, in outcome and covariates
    contrasts       late minus early cohorts, and sizes against each other on the same rows
    alternatives    regressions and the published code's estimator, for contrast only

Cells before treatment are compared with the universal base, whatever base a study has: the bounds
need effects that are 0 at one common checkpoint.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from itertools import combinations
from typing import Any

import numpy as np
import polars as pl

from pythia_profile.did import (
    AttGt,
    Contrast,
    Panel,
    aggregate,
    baseline_balance,
    covariate_balance,
    leave_one_out,
    sensitivity,
)
from pythia_profile.did.arguments import counted
from pythia_profile.did.diagnostics.balance import Balance
from pythia_profile.did.errors import EmptyFamilyError
from pythia_profile.did.estimation import cluster_by, effects
from pythia_profile.did.inference.event_studies import EventStudy, event_study_of
from pythia_profile.did.settings import DEFAULT, Estimation
from pythia_profile.profiles.alternative_lines import alternative_lines
from pythia_profile.profiles.estimates import Estimates, Frame, RunEstimate, estimates_of
from pythia_profile.profiles.exchangeable import assignment_lines
from pythia_profile.profiles.placebo_effects import placebo_lines
from pythia_profile.profiles.profile import cohorts_with_common_base
from pythia_profile.profiles.sentences import check_sentences
from pythia_profile.tables import (
    ALTERNATIVES,
    ASSIGNMENT,
    BALANCE,
    CHECKS,
    CONTRASTS,
    LEAVE_ONE_OUT,
    SENSITIVITY,
    Table,
    conform,
)

__all__ = ["Checks", "check"]

MEANS = ("instantaneous", "persistent", "residual")
"""Means over cohorts that are contrasted."""


@dataclass(frozen=True, slots=True, repr=False)
class Checks:
    """What `check` finds; `print` it for the sentences.

    Attributes
    ----------
    assignment, sensitivity, leave_one_out, balance, contrasts, alternatives : tables, as in
        `pythia_profile.tables`.
    notes : what could not be checked, and why.
    """

    assignment: pl.DataFrame
    sensitivity: pl.DataFrame
    leave_one_out: pl.DataFrame
    balance: pl.DataFrame
    contrasts: pl.DataFrame
    alternatives: pl.DataFrame
    notes: tuple[str, ...]

    @property
    def tables(self) -> dict[str, pl.DataFrame]:
        """Name -> table."""
        return {field.name: getattr(self, field.name) for field in fields(self)[:-1]}

    @property
    def sentences(self) -> list[str]:
        """One for each finding, question by question, then the notes."""
        return [*check_sentences(self.tables), *(f"note: {note}" for note in self.notes)]

    def __repr__(self) -> str:
        named = (f"{name} ({counted(len(t), 'line')})" for name, t in self.tables.items())
        return (
            f"Checks: {', '.join(named)}; notes: {len(self.notes)}\n"
            "print it for one sentence about each finding"
        )

    def __str__(self) -> str:
        return "\n".join(self.sentences)


def check(
    rows: Frame | Estimates,
    scores: Frame | None = None,
    settings: Estimation = DEFAULT,
    *,
    outcomes: str | Sequence[str] = ("log_likelihood",),
    placebo: tuple[list[dict[str, Any]], list[str]] | None = None,
) -> Checks:
    """Check every run; all intervals are pointwise.

    Parameters
    ----------
    rows, scores, settings, outcomes : as in `estimate`; or in place of all, what it returned.
    placebo : what `placebo_lines` found, where estimates are given; else it is asked here.
    """
    given = estimates_of(rows, scores, settings, outcomes)
    if placebo is None and not isinstance(rows, Estimates) and scores is not None:
        placebo = placebo_lines(rows, scores, settings, outcomes)
    lines: dict[str, list[dict[str, Any]]] = {table.name: [] for table in CHECKS}
    notes: list[str] = []
    found: dict[tuple[str, int, str], dict[str, AttGt]] = {}
    for one in given.runs:
        laid, att = one.panel, _on_universal_base(one, given.settings)
        by, _ = cluster_by(given.settings.clusters, laid)
        own = list(laid.notes)
        for table, part in (
            (ASSIGNMENT, assignment_lines(laid)),
            (SENSITIVITY, _sensitivity_lines(att, given.settings.level, own)),
            (LEAVE_ONE_OUT, _leave_one_out_lines(att)),
            (BALANCE, _balance_lines(att, laid, own)),
            (ALTERNATIVES, alternative_lines(att, laid, by, own)),
        ):
            lines[table.name] += [{**one.names, **line} for line in part]
        notes += [f"{laid.run[1]}, {laid.outcome}: {note}" for note in own]
        suite, size, seed = laid.run
        found.setdefault((suite, seed, laid.outcome), {})[size] = att
    for (suite, seed, outcome), by_size in found.items():
        named = {"suite": suite, "seed": seed, "outcome": outcome}
        made = _contrast_lines(by_size, given.settings.level, notes)
        lines[CONTRASTS.name] += [{**named, **line} for line in made]
    if placebo is not None:
        lines[CONTRASTS.name] += placebo[0]
        notes += placebo[1]
    tables = {table.name: _frame(lines[table.name], table) for table in CHECKS}
    return Checks(**tables, notes=tuple(dict.fromkeys(notes)))


def _on_universal_base(one: RunEstimate, settings: Estimation) -> AttGt:
    """Return the estimate itself, unless its cells before treatment have bases of their own."""
    if settings.base == "universal":
        return one.att
    return effects(one.panel, settings.replace(base="universal"))


def _frame(lines: list[dict[str, Any]], table: Table) -> pl.DataFrame:
    frame = pl.DataFrame(lines, schema=table.columns, orient="row")
    floats = [name for name, dtype in table.columns.items() if dtype == pl.Float64]
    return conform(frame.with_columns(pl.col(floats).fill_nan(None)), table)


def _sensitivity_lines(att: AttGt, level: float, notes: list[str]) -> list[dict[str, Any]]:
    """Aggregate over event times: average, first and last effect; each cohort: its average."""
    if att.settings.estimator == "diff":
        notes.append(
            "sensitivity: left out, the bounds are about changes since a base, and the plain "
            "difference has none"
        )
        return []
    alike = cohorts_with_common_base(att)
    if (other := len(att.cohorts) - len(alike)) > 0:
        notes.append(
            f"sensitivity of the mean leaves out {other} of {len(att.cohorts)} cohorts, whose base "
            "checkpoint is further from them, or nearer, than that of most"
        )
    mean = aggregate(att, "event_time", cohorts=alike)
    targets: list[tuple[Any, int | None, Any]] = [
        (mean, None, effect) for effect in ("average", "first", "last")
    ]
    targets += [(att, int(g), "average") for g in att.cohorts]
    studies: dict[Any, EventStudy | None] = {}
    lines, without = [], 0
    for target, cohort, effect in targets:
        if (study := _event_study(target, cohort, studies)) is None:
            without += 1
            continue
        for restriction in ("relative_magnitudes", "smoothness"):
            made = sensitivity(study, effect=effect, restriction=restriction, level=level)
            unit = "m_bar" if restriction == "relative_magnitudes" else "m"
            for bound, lower, upper in zip(made.bounds, made.lower, made.upper, strict=True):
                lines.append(
                    {
                        "effect": effect,
                        "cohort": cohort,
                        "restriction": restriction,
                        unit: float(bound),
                        "att": made.estimate,
                        "se": made.se,
                        "lower": float(lower),
                        "upper": float(upper),
                        f"breakdown_{unit}": made.breakdown,
                    }
                )
    if without == len(targets):  # the first cohort never has one
        notes.append(
            "sensitivity: left out, no effect has a checkpoint before its base; score earlier ones"
        )
    return lines


def _event_study(
    target: Any, cohort: int | None, known: dict[Any, EventStudy | None]
) -> EventStudy | None:
    """Event study of a target, made once; None where it has no effect on one of the two sides."""
    if cohort not in known:
        try:
            known[cohort] = event_study_of(target, cohort)
        except EmptyFamilyError:
            known[cohort] = None
    return known[cohort]


def _leave_one_out_lines(att: AttGt) -> Iterator[dict[str, Any]]:
    found = leave_one_out(att)
    for at, checkpoint in enumerate(found.checkpoints.tolist()):
        yield {
            "checkpoint": checkpoint,
            "placebo": float(found.placebo[at]),
            "placebo_se": float(found.placebo_se[at]),
            "p_value": float(found.placebo_p[at]),
            "change": float(found.change[at]),
            "change_in_se": float(found.share[at]),
            "suspect": checkpoint in found.suspects,
        }


def _balance_lines(att: AttGt, laid: Panel, notes: list[str]) -> Iterator[dict[str, Any]]:
    if np.isnan(laid.y).any() and att.settings.estimator != "diff":
        notes.append("balance: base outcomes left out, some rows lack scores")
    else:
        for cohort, line in _balance(baseline_balance(att)):
            yield {"covariate": "base_outcome", "cohort": cohort, **line}
    for column, line in _balance(covariate_balance(laid)):
        yield {"covariate": str(column), **line}


def _balance(found: Balance) -> Iterator[tuple[Any, dict[str, float]]]:
    for k, name in enumerate(found.labels):
        values = {c: getattr(found, c)[k] for c in ("difference", "standardized", "p_value")}
        yield name, {column: float(value) for column, value in values.items()}


def _contrast_lines(
    by_size: dict[str, AttGt], level: float, notes: list[str]
) -> Iterator[dict[str, Any]]:
    """Late minus early cohorts of each size; then each size against each smaller one."""
    for size, att in by_size.items():
        half = len(att.cohorts) // 2
        early, late = att.cohorts[:half].tolist(), att.cohorts[-half:].tolist()
        for kind in MEANS if half else ():
            pair = [_mean(att, kind, cohorts) for cohorts in (late, early)]
            names = [f"{size}, cohorts {g[0]} to {g[-1]}" for g in (late, early)]
            yield from _contrast_line("cohorts", names, kind, pair, level)
    means = {(size, kind): _mean(att, kind) for size, att in by_size.items() for kind in MEANS}
    for smaller, larger in combinations(by_size, 2):
        grids = by_size[larger].checkpoints, by_size[smaller].checkpoints
        if not np.array_equal(*grids):
            notes.append(f"{larger} and {smaller} have other checkpoints and are not contrasted")
            continue
        for kind in MEANS:
            pair = [means[larger, kind], means[smaller, kind]]
            yield from _contrast_line("sizes", [larger, smaller], kind, pair, level)


def _mean(att: AttGt, kind: Any, cohorts: Sequence[int] | None = None) -> Contrast | None:
    """Mean over cohorts; None where none of them has such a checkpoint."""
    try:
        return aggregate(att, kind, cohorts=cohorts).only([None])
    except EmptyFamilyError:
        return None


def _contrast_line(
    between: str, names: list[str], kind: str, means: list[Contrast | None], level: float
) -> Iterator[dict[str, Any]]:
    a, b = means
    if a is None or b is None:
        return
    difference = a - b
    lower, upper = difference.interval(level)
    yield {
        "between": between,
        "group_a": names[0],
        "group_b": names[1],
        "kind": kind,
        "att": float(difference.estimate[0]),
        "se": float(difference.se[0]),
        "lower": float(lower[0]),
        "upper": float(upper[0]),
    }
