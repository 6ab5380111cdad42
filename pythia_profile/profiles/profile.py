"""Memorization profiles of every run: instantaneous, persistent, residual, and by event time.

In: the tables `ROWS` and `SCORES`. Out: the table `PROFILES`. Each number is an aggregate of
ATT(g, c) with a standard error of its own, which counts that cells share their control rows.
"""

from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import polars as pl

from pythia_profile.did import AttGt, Contrast, Panel, aggregate, bands, panel
from pythia_profile.did.table import effects
from pythia_profile.schema import PROFILES, RUN, conform
from pythia_profile.suites.model import Suite

__all__ = ["KINDS", "mean_learning_rates", "panels", "profile", "profile_lines"]

KINDS = ("instantaneous", "persistent", "residual", "event_time")


def profile(
    rows: pl.DataFrame,
    scores: pl.DataFrame,
    *,
    suite: Suite | None = None,
    outcomes: Sequence[str] = ("log_likelihood",),
    control: str = "never",
    base: str = "universal",
    clusters: str = "row",
    draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> pl.DataFrame:
    """Aggregate the effects of every run in `scores` into its profiles.

    Parameters
    ----------
    rows, scores : the tables of a study.
    suite : gives each cohort's mean learning rate; without it that column is null.
    outcomes : columns of the scores.
    control, base : as in `did.att_gt`.
    clusters : `row`, or `batch` where rows were drawn batch by batch.
    draws, seed, level : of the bands, simultaneous over the lines of one kind; a mean over cohorts
        (`at` null) has its own interval at the same level.

    Returns
    -------
    The `PROFILES` table, with `learning_rate` behind: mean rate over the steps that read a cohort.
    """
    parts = []
    for laid in panels(rows, scores, outcomes):
        att = effects(laid, control=control, base=base, clusters=clusters)  # type: ignore[arg-type]
        lines = profile_lines(att, draws=draws, seed=seed, level=level)
        rates = mean_learning_rates(suite, laid) if suite else {}
        parts.append(
            lines.with_columns(
                *(pl.lit(value).alias(name) for name, value in zip(RUN, laid.run, strict=True)),
                outcome=pl.lit(laid.outcome),
                learning_rate=_rate_of(lines, rates),
            )
        )
    return conform(pl.concat(parts), PROFILES)


def panels(rows: pl.DataFrame, scores: pl.DataFrame, outcomes: Sequence[str]) -> Iterator[Panel]:
    """Lay out each run of `scores`, in the order of the table, once for each outcome.

    Rows read at or before a run's first checkpoint have nothing to be compared with; they are
    dropped, and the panel's notes say so.
    """
    for _, part in scores.group_by(*RUN, maintain_order=True):
        for outcome in outcomes:
            yield panel(part, rows, outcome=outcome, early="drop")


def profile_lines(att: AttGt, *, draws: int, seed: int, level: float) -> pl.DataFrame:
    """Lay out every kind of profile of one panel: `kind`, `at`, estimate, band."""
    return pl.concat(
        _lines(aggregate(att, kind), draws=draws, seed=seed, level=level)  # type: ignore[arg-type]
        for kind in KINDS
    )


def mean_learning_rates(suite: Suite, laid: Panel) -> dict[int, float]:
    """Mean learning rate over the steps that read each cohort of a panel."""
    grid = laid.checkpoints.tolist()
    return {
        cohort: float(suite.learning_rate(laid.run[1], np.arange(before + 1, cohort + 1)).mean())
        for before, cohort in pairwise(grid)
    }


def _lines(found: Contrast, *, draws: int, seed: int, level: float) -> pl.DataFrame:
    is_mean = np.array([at is None for at in found.at])
    lower, upper = (np.array(end) for end in found.interval(level))
    testable = ~is_mean & (found.se > 0)
    if testable.any():
        band = bands(found, draws, seed, testable, level=level)
        lower[testable], upper[testable] = band.lower[testable], band.upper[testable]
    return pl.DataFrame(
        {
            "kind": [found.kind] * len(found),
            "at": pl.Series(found.at, dtype=pl.Int64),
            "att": found.estimate,
            "se": found.se,
            "lower": lower,
            "upper": upper,
        }
    )


def _rate_of(lines: pl.DataFrame, rates: dict[int, float]) -> pl.Series:
    of_cohort = pl.Series([rates.get(at) for at in lines["at"]], dtype=pl.Float64)
    return of_cohort.set(lines["kind"] == "event_time", None)
