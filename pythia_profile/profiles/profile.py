"""Memorization profiles of every run: instantaneous, persistent, residual, and by event time.

In: the tables `ROWS` and `SCORES`. Out: the table `PROFILES`. Each number is an aggregate of
ATT(g, c) with a standard error of its own, which counts that cells share their control rows.
"""

import logging
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import polars as pl

from pythia_profile.did import AttGt, Contrast, Panel, aggregate, bands
from pythia_profile.did.errors import EmptyFamilyError
from pythia_profile.did.inference.aggregates import Kind
from pythia_profile.did.settings import DEFAULT, Estimation
from pythia_profile.profiles.estimates import Estimates, Frame, estimates_of
from pythia_profile.suites.model import Suite
from pythia_profile.tables import PROFILES, conform

__all__ = ["KINDS", "mean_learning_rates", "profile", "profile_lines"]

log = logging.getLogger(__name__)

_COLUMNS = ("kind", "cohort", "event_time", "att", "se", "lower", "upper")
KINDS: tuple[Kind, ...] = ("instantaneous", "persistent", "residual", "event_time")


def profile(
    rows: Frame | Estimates,
    scores: Frame | None = None,
    settings: Estimation = DEFAULT,
    *,
    outcomes: str | Sequence[str] = ("log_likelihood",),
    suite: Suite | None = None,
) -> pl.DataFrame:
    """Aggregate the effects of every run into its profiles.

    Parameters
    ----------
    rows, scores, settings, outcomes : as in `estimate`; or in place of all, what it returned.
    suite : adds the column `learning_rate`, the mean rate over the steps that read a cohort.

    Returns
    -------
    The `PROFILES` table. Bands are simultaneous over the lines of one kind; the mean over cohorts
    has an interval of its own.

    Raises
    ------
    ProfileError
        As `estimate`.
    """
    found = estimates_of(rows, scores, settings, outcomes)
    parts = []
    for one in found.runs:
        lines = profile_lines(one.att, found.settings)
        rates = mean_learning_rates(suite, one.panel) if suite else {}
        parts.append(one.named(lines).with_columns(learning_rate=_rate_of(lines, rates)))
    return conform(pl.concat(parts), PROFILES)


def profile_lines(att: AttGt, settings: Estimation) -> pl.DataFrame:
    """Lay out every kind of profile of one panel: `kind`, cohort or event time, estimate, band.

    A mean that does not exist is a line without an estimate: of one cohort there is no persistent
    effect; with rows of later cohorts as the only controls, no cohort has any at the last
    checkpoint, and there is no residual.
    """
    found = {kind: aggregate_if_any(att, kind) for kind in KINDS}
    if all(one is None for one in found.values()):
        raise EmptyFamilyError(f"profiles: none of {att.att.size} cells after treatment is known")
    return pl.concat(
        _no_mean(kind) if one is None else _lines(one, settings) for kind, one in found.items()
    )


def aggregate_if_any(att: AttGt, kind: Kind) -> Contrast | None:
    """Aggregate effects; None, and a line in the log, where no cell belongs to the aggregate."""
    try:
        return aggregate(att, kind)
    except EmptyFamilyError as error:
        log.info("left out: %s", error)
        return None


def mean_learning_rates(suite: Suite, laid: Panel) -> dict[int, float]:
    """Mean learning rate over the steps that read each cohort of a panel, where rates are known."""
    if not suite.size(laid.run[1]).peak_lr:
        return {}
    grid = laid.checkpoints.tolist()
    return {
        cohort: float(suite.learning_rate(laid.run[1], np.arange(before + 1, cohort + 1)).mean())
        for before, cohort in pairwise(grid)
    }


def _no_mean(kind: Kind) -> pl.DataFrame:
    empty = pl.DataFrame(schema={name: PROFILES.columns[name] for name in _COLUMNS})
    return pl.concat([empty, pl.DataFrame({"kind": [kind]})], how="diagonal")


def _lines(found: Contrast, settings: Estimation) -> pl.DataFrame:
    is_mean = np.array([at is None for at in found.labels])
    lower, upper = (np.array(end) for end in found.interval(settings.level))
    testable = ~is_mean & (found.se > 0)
    if testable.any():
        band = bands(found, settings.draws, settings.seed, testable, level=settings.level)
        lower[testable], upper[testable] = band.lower[testable], band.upper[testable]
    labels = pl.Series(found.labels, dtype=pl.Int64), pl.Series([None] * len(found), dtype=pl.Int64)
    if found.kind == "event_time":
        labels = labels[::-1]
    return pl.DataFrame(
        {
            "kind": [found.kind] * len(found),
            **dict(zip(("cohort", "event_time"), labels, strict=True)),
            "att": found.estimate,
            "se": found.se,
            "lower": lower,
            "upper": upper,
        }
    )


def _rate_of(lines: pl.DataFrame, rates: dict[int, float]) -> pl.Series:
    return pl.Series([rates.get(cohort) for cohort in lines["cohort"]], dtype=pl.Float64)
