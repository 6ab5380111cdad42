"""Memorization profiles of every run: instantaneous, persistent, residual, and by event time.

In: the tables `ROWS` and `SCORES`. Out: the table `PROFILES`. Each number is an aggregate of
ATT(g, c) with a standard error of its own, which counts that cells share their control rows.
"""

import logging
from collections.abc import Iterator, Sequence
from itertools import pairwise

import numpy as np
import polars as pl

from pythia_profile.did import AttGt, Contrast, Panel, aggregate, bands, panel
from pythia_profile.did.estimation import effects
from pythia_profile.did.settings import Base, ClusterBy, Control, Estimation, Estimator, MissingRule
from pythia_profile.profiles.study_inputs import names_of, study_tables
from pythia_profile.suites.model import Suite
from pythia_profile.tables import PROFILES, RUN, conform

__all__ = ["KINDS", "mean_learning_rates", "panels", "profile", "profile_lines"]

log = logging.getLogger(__name__)

KINDS = ("instantaneous", "persistent", "residual", "event_time")


def profile(
    rows: pl.DataFrame | pl.LazyFrame,
    scores: pl.DataFrame | pl.LazyFrame,
    *,
    suite: Suite | None = None,
    outcomes: str | Sequence[str] = ("log_likelihood",),
    control: Control = "never",
    base: Base = "universal",
    estimator: Estimator = "did",
    clusters: ClusterBy = "row",
    anticipation: int = 0,
    unbalanced: MissingRule = "error",
    draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> pl.DataFrame:
    """Aggregate the effects of every run in `scores` into its profiles.

    Parameters
    ----------
    rows, scores : the tables of a study, eager or lazy; what is needed of the rows is `row_id` and
        `treatment_step`, and `batch` to cluster by it.
    suite : gives each cohort's mean learning rate; without it that column is null.
    outcomes : columns of the scores, or one of them.
    control, base, estimator, anticipation : as in `did.att_gt`.
    clusters : `row`; `batch` where rows were drawn batch by batch; `auto`, by batch where rows
        share one.
    unbalanced : what to do with rows that lack a score: `error`; `balanced` drops them; `available`
        uses what is there. What was dropped is logged, and stands in the notes of
        `estimate_effects`.
    draws, seed, level : of the bands, simultaneous over the lines of one kind; a mean over cohorts
        (`at` null) has its own interval at the same level.

    Returns
    -------
    The `PROFILES` table, with `learning_rate` behind: mean rate over the steps that read a cohort.

    Raises
    ------
    TableError
        A table is no polars frame, is empty, or lacks a column.
    UnbalancedPanelError, EstimationError
        A score is missing and no rule was chosen; the panel allows no estimate.
    """
    settings = Estimation(
        control=control,
        base=base,
        estimator=estimator,
        clusters=clusters,
        anticipation=anticipation,
        missing=unbalanced,
        draws=draws,
        seed=seed,
        level=level,
    )
    parts = []
    for laid in panels(rows, scores, outcomes, settings):
        att = effects(laid, settings)
        tell(laid, att)
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


def panels(
    rows: pl.DataFrame | pl.LazyFrame,
    scores: pl.DataFrame | pl.LazyFrame,
    outcomes: str | Sequence[str],
    settings: Estimation,
) -> Iterator[Panel]:
    """Lay out each run of `scores`, in the order of the table, once for each outcome.

    Rows read at or before a run's first checkpoint, or so soon after it that they have no base
    before `anticipation`, have nothing to be compared with; they are dropped, and the panel's notes
    say so.
    """
    names = names_of(outcomes, "outcomes")
    rows, table = study_tables(rows, scores, names)
    for _, part in table.group_by(*RUN, maintain_order=True):
        for outcome in names:
            yield panel(part, rows, settings, outcome=outcome, early="drop")


def tell(laid: Panel, att: AttGt) -> None:
    """Log what a table cannot hold: notes of the panel and of its estimate."""
    for note in att.notes:
        log.info("%s, %s: %s", laid.run[1], laid.outcome, note)


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
    is_mean = np.array([at is None for at in found.labels])
    lower, upper = (np.array(end) for end in found.interval(level))
    testable = ~is_mean & (found.se > 0)
    if testable.any():
        band = bands(found, draws, seed, testable, level=level)
        lower[testable], upper[testable] = band.lower[testable], band.upper[testable]
    return pl.DataFrame(
        {
            "kind": [found.kind] * len(found),
            "at": pl.Series(found.labels, dtype=pl.Int64),
            "att": found.estimate,
            "se": found.se,
            "lower": lower,
            "upper": upper,
        }
    )


def _rate_of(lines: pl.DataFrame, rates: dict[int, float]) -> pl.Series:
    of_cohort = pl.Series([rates.get(at) for at in lines["at"]], dtype=pl.Float64)
    return of_cohort.set(lines["kind"] == "event_time", None)
