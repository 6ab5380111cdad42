"""Predictions of every size from the smaller ones, with verdicts; and of sizes never scored.

In: the estimates of a study. Out: the tables `PREDICTION` and `PREDICTION_SKILL`. Where a verdict
is not `predicted`, the first table has no lines: an interval for noise would be read as a finding.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float
from scipy.special import stdtrit

from pythia_profile.did.settings import Estimation
from pythia_profile.errors import EstimationError
from pythia_profile.findings.halves import KINDS, Profile, halves, profiles, reliability
from pythia_profile.findings.learning_rate import rates
from pythia_profile.findings.prediction import (
    FEWEST,
    Predicted,
    lines_of,
    predict,
    scaling,
    shuffled_p,
    verdict,
)
from pythia_profile.findings.summaries import MEANS, CohortTables, grouped
from pythia_profile.findings.targets import Target, align
from pythia_profile.profiles.estimates import Estimates, RunEstimate
from pythia_profile.suites.model import Suite
from pythia_profile.tables import PREDICTION, PREDICTION_SKILL, conform

__all__ = ["large_from_small", "never_scored"]

log = logging.getLogger(__name__)

_FEWEST_SIZES = 3
"""Sizes with which the line of a scaling can be checked: two for the line, one to miss it."""


def large_from_small(
    found: Estimates,
    suite: Suite | None,
    parameters: Mapping[str, int] | None = None,
    tables: CohortTables | None = None,
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Predict each size from the smaller ones; the tables `PREDICTION` and `PREDICTION_SKILL`.

    Parameters
    ----------
    suite : for learning rates and parameters; sizes are taken as smallest first.
    parameters : of each size, in place of the suite's; of sizes that were not scored, these are
        extrapolated to.
    tables : where effects by cohort are kept for others that need them.
    """
    known = _parameters(suite) if parameters is None else dict(parameters)
    predictions: list[pl.DataFrame] = []
    skills: list[dict[str, Any]] = []
    for runs in grouped(found.runs, lambda one: (one.panel.run[::2], one.panel.outcome)):
        if len(runs) < 2:
            continue
        try:
            study = _Halved(runs, found.settings, suite, known, tables or CohortTables())
        except EstimationError as error:
            log.warning("%s: no prediction, rows cannot be halved: %s", runs[0].names, error)
            continue
        for lines, of_skill in study.predicted():
            predictions += lines
            skills += of_skill
        unseen = study.extrapolated()
        predictions += [pl.DataFrame(unseen, PREDICTION.columns, orient="row")] if unseen else []
    none = pl.DataFrame(schema=PREDICTION.columns)
    return (
        conform(pl.concat([none, *(one.select(none.columns) for one in predictions)]), PREDICTION),
        conform(pl.DataFrame(skills, PREDICTION_SKILL.columns, orient="row"), PREDICTION_SKILL),
    )


def _parameters(suite: Suite | None) -> dict[str, int]:
    if suite is None:
        return {}
    return {name: size.parameters for name, size in suite.sizes.items() if size.parameters}


class _Halved:
    """Sizes of one suite, seed and outcome, estimated on two halves of their rows."""

    def __init__(
        self,
        runs: Sequence[RunEstimate],
        settings: Estimation,
        suite: Suite | None,
        parameters: Mapping[str, int],
        tables: CohortTables,
    ) -> None:
        grids = [set(one.panel.checkpoints.tolist()) for one in runs]
        common = sorted(set.intersection(*grids))
        self.runs = [one.on(common, settings) for one in runs]
        if parameters and all(one.panel.run[1] in parameters for one in runs):
            self.runs.sort(key=lambda one: parameters[one.panel.run[1]])
        self.sizes = [one.panel.run[1] for one in self.runs]
        self.halves = [
            tuple(profiles(half, CohortTables()) for half in pair)
            for pair in halves(self.runs, settings)
        ]
        self.whole = [profiles(one, tables) for one in self.runs]
        self.settings, self.suite, self.parameters = settings, suite, parameters

    def predicted(self) -> Iterator[tuple[list[pl.DataFrame], list[dict[str, Any]]]]:
        """Predict each size and kind from all smaller sizes, and from each alone."""
        for t, kind in product(range(1, len(self.runs)), KINDS):
            if (target := self._target(t, kind)) is None:
                continue
            one, level, seed = self.runs[t], self.settings.level, self.settings.seed
            share, p = reliability(one, self.whole[t][kind], seed)
            cohorts = len(np.unique(target.cohort))
            base = {
                **one.names,
                "kind": kind,
                "cohorts": cohorts,
                "cells": len(target.cohort),
                "reliability": share,
                "reliability_p": p,
            }
            shuffled = shuffled_p(target, seed) if kind != "cell" and cohorts >= FEWEST else None
            sources = ", ".join(self.sizes[:t])
            lines: list[pl.DataFrame] = []
            skills = []
            for name, made in (predict(target, level) if cohorts >= 3 else {}).items():
                told = verdict(cohorts, p, made.against_mean)
                chosen = name == "selected"
                skills.append(
                    {
                        **base,
                        "sources": sources,
                        "method": name,
                        "chosen": chosen,
                        "permutation_p": shuffled,
                        **_skills(made),
                        "verdict": told,
                    }
                )
                if chosen and told == "predicted":
                    named = {**one.names, "kind": kind, "sources": sources}
                    names = [pl.lit(v, PREDICTION.columns[n]).alias(n) for n, v in named.items()]
                    lines.append(lines_of(target, made).with_columns(names))
            skills += [self._alone(target, s, base) for s in range(t) if t > 1 and cohorts >= 3]
            yield lines, skills

    def _alone(self, target: Target, source: int, base: dict[str, Any]) -> dict[str, Any]:
        """Skill of one smaller size alone."""
        alone = target.of(source)
        made = predict(alone, self.settings.level)["line"]
        told = base["kind"] != "cell" and base["cohorts"] >= FEWEST
        return {
            **base,
            "sources": self.sizes[source],
            "method": "line",
            "chosen": False,
            "permutation_p": shuffled_p(alone, self.settings.seed) if told else None,
            **_skills(made),
            "verdict": verdict(base["cohorts"], base["reliability_p"], made.against_mean),
        }

    def _target(self, t: int, kind: str) -> Target | None:
        if any(kind not in half for pair in self.halves[: t + 1] for half in pair):
            return None
        sources = [[half[kind] for half in pair] for pair in self.halves[:t]]
        observed = [half[kind] for half in self.halves[t]]
        sizes = self.sizes[: t + 1]
        known = all(name in self.parameters for name in sizes)
        parameters = np.array([self.parameters[name] for name in sizes] if known else [], float)
        return align(sources, observed, parameters, self._schedule(t, kind))

    def _schedule(self, t: int, kind: str) -> dict[tuple[int, int], Float[np.ndarray, " q"]] | None:
        """Regressors made of rates: at the cohort; for later effects also what came since."""
        if self.suite is None:
            return None
        whole, grid = self.whole[t][kind], self.runs[t].panel.checkpoints
        cohorts = np.unique(whole.cohort)
        found = rates(self.suite, self.sizes[t], cohorts, grid)
        if found is None:
            return None
        at = np.searchsorted(cohorts, whole.cohort)
        rate = found.mean[at] / found.peak
        columns = [rate]
        if kind in ("persistent", "residual"):
            columns.append(found.later[at] / (found.later.max() or 1.0))
        if kind == "cell":
            steps = np.arange(1, int(grid[-1]) + 1)
            total = np.append(0.0, np.cumsum(self.suite.learning_rate(self.sizes[t], steps)))
            since = (total[whole.checkpoint] - total[whole.cohort]) / found.integrated.mean()
            later = np.log1p(since)
            columns += [later, rate * later]
        values = np.column_stack(columns)
        keys = zip(whole.cohort.tolist(), whole.checkpoint.tolist(), strict=True)
        return dict(zip(keys, values, strict=True))

    def extrapolated(self) -> list[dict[str, Any]]:
        """Predict the larger sizes that were never scored, by the scaling of those that were."""
        scored = [self.parameters.get(name, 0) for name in self.sizes]
        if len(scored) < _FEWEST_SIZES or not all(scored):
            return []
        larger = {n: p for n, p in self.parameters.items() if p > max(scored)}
        named = {name: self.runs[-1].names[name] for name in ("suite", "seed", "outcome")}
        return [
            {
                **named,
                "size": name,
                "kind": kind,
                "method": "scaling",
                "sources": ", ".join(self.sizes),
                **line,
            }
            for (name, size), kind in product(larger.items(), MEANS)
            if all(kind in one for one in self.whole) and self._told(kind)
            for line in never_scored(
                [one[kind] for one in self.whole],
                [tuple(half[kind] for half in pair) for pair in self.halves],
                np.array([*scored, size], float),
                self.settings.level,
            )
        ]

    def _told(self, kind: str) -> bool:
        """Whether the largest size's own effects of a kind are more than noise."""
        whole = self.whole[-1][kind]
        p = reliability(self.runs[-1], whole, self.settings.seed)[1]
        return verdict(len(whole.cohort), p, None) != "few_cohorts" and p < 0.05


def never_scored(
    whole: Sequence[Profile],
    halved: Sequence[tuple[Profile, ...]],
    parameters: Float[np.ndarray, " S1"],
    level: float,
) -> list[dict[str, Any]]:
    """Predict a size without any of its effects: by cohort, and their mean.

    The interval is made of the relative errors of the same prediction of each known size from those
    smaller than it, on the other half of the rows, and grows with the distance in log parameters.
    Two or three such errors are all there is: intervals are wide, as they must be.

    Parameters
    ----------
    whole : of each scored size, smallest first, its effects by cohort.
    halved : the same on two disjoint halves of the rows.
    parameters : of each scored size, and of the one to predict.

    Returns
    -------
    Lines of `PREDICTION` with nothing observed, the mean over cohorts last.
    """
    shared = set.intersection(
        *({*one.cohort.tolist()} for one in [*whole, *(half for pair in halved for half in pair)])
    )
    cohorts = np.array(sorted(shared))

    def effects(one: Profile) -> Float[np.ndarray, " K"]:
        return one.effect[np.isin(one.cohort, cohorts)]

    x = np.stack([effects(one) for one in whole], axis=-1)
    predicted = _scaled(x, parameters)
    wrong, wrong_mean = [], []
    for k in range(2, len(whole)):
        step = np.log(parameters[k] / parameters[k - 1])
        farther = max(float(np.log(parameters[-1] / parameters[-2]) / step), 1.0)
        for f in (0, 1):
            known = np.stack([effects(pair[f]) for pair in halved[:k]], axis=-1)
            guess, seen = _scaled(known, parameters[: k + 1]), effects(halved[k][1 - f])
            noise = halved[k][1 - f].se[np.isin(halved[k][1 - f].cohort, cohorts)] ** 2
            scale = farther**2 / max(float((guess**2).mean()), np.finfo(float).tiny)
            wrong.append(scale * max(float(((seen - guess) ** 2 - noise).mean()), 0.0))
            mean = (seen.mean() - guess.mean()) ** 2
            wrong_mean.append(farther**2 * mean / max(guess.mean() ** 2, np.finfo(float).tiny))
    reach = float(stdtrit(len(whole) - 2, (1 + level) / 2))
    half = reach * np.sqrt(np.mean(wrong)) * np.sqrt((predicted**2).mean())
    half_mean = reach * np.sqrt(np.mean(wrong_mean)) * abs(predicted.mean())
    lines = [
        (int(cohort), float(value), half) for cohort, value in zip(cohorts, predicted, strict=True)
    ]
    return [
        {
            "cohort": cohort,
            "checkpoint": None,
            "fold": None,
            "predicted": value,
            "lower": value - width,
            "upper": value + width,
            "observed": None,
            "observed_se": None,
            "covered": None,
        }
        for cohort, value, width in [*lines, (None, float(predicted.mean()), half_mean)]
    ]


def _scaled(
    x: Float[np.ndarray, "K S"], parameters: Float[np.ndarray, " S1"]
) -> Float[np.ndarray, " K"]:
    level, weights = scaling(x.mean(axis=0)[None], parameters)
    predicted: Float[np.ndarray, " K"] = level[0] * (x * weights[0]).sum(axis=1)
    return predicted


def _skills(made: Predicted) -> dict[str, Any]:
    lines: dict[str, Any] = {"coverage": float(made.covered.mean())}
    for name, found in (("mean", made.against_mean), ("schedule", made.against_schedule)):
        lines[f"skill_{name}"] = None if found is None else found.value
        lines[f"skill_{name}_lower"] = None if found is None else found.lower
        lines[f"skill_{name}_upper"] = None if found is None else found.upper
    return lines
