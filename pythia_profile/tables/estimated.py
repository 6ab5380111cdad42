"""Tables of estimates: effects, placebo tests, profiles, and what is made of them."""

import polars as pl

from pythia_profile.tables.contract import ESTIMATE, RUN, RUN_COLUMNS, Table

__all__ = [
    "AGREEMENT",
    "ATT",
    "ESTIMANDS",
    "PLACEBO",
    "PRECISION",
    "PROFILES",
]

ATT = Table(
    "att",
    pl.Schema(
        {
            **RUN_COLUMNS,
            "outcome": pl.String(),
            "cohort": pl.Int64(),
            "checkpoint": pl.Int64(),
            **ESTIMATE,
            "n_treated": pl.Int64(),
            "n_control": pl.Int64(),
        }
    ),
    (*RUN, "outcome", "cohort", "checkpoint"),
    frozenset({"att", "se", "lower", "upper"}),
)
"""ATT(g, c) in units of the outcome; `lower` and `upper` bound the simultaneous band."""

PLACEBO = Table(
    "placebo",
    pl.Schema(
        {
            **RUN_COLUMNS,
            "outcome": pl.String(),
            "test": pl.String(),
            "cohort": pl.Int64(),
            "statistic": pl.Float64(),
            "p_value": pl.Float64(),
        }
    ),
    (*RUN, "outcome", "test", "cohort"),
    frozenset({"cohort"}),
)
"""Tests that effects before treatment are 0: `test` is joint (largest |z| of all cells), wald
(chi-square of the cohorts' means) or cohort (largest |z| of one cohort, p-value after Holm)."""

PROFILES = Table(
    "profiles",
    pl.Schema(
        {
            **RUN_COLUMNS,
            "outcome": pl.String(),
            "kind": pl.String(),
            "cohort": pl.Int64(),
            "event_time": pl.Int64(),
            **ESTIMATE,
        }
    ),
    (*RUN, "outcome", "kind", "cohort", "event_time"),
    frozenset({"cohort", "event_time", *ESTIMATE}),
)
"""Profiles: `kind` is instantaneous, persistent or residual, of a `cohort` (null = mean over
cohorts), or event_time, at an `event_time` in optimizer steps since the cohort, of all cohorts that
reach it or (event_time_balanced) of the same ones throughout. The estimate is
null where no cohort has a checkpoint of that kind."""

PRECISION = Table(
    "precision",
    pl.Schema(
        {
            **RUN_COLUMNS,
            "outcome": pl.String(),
            "covariates": pl.String(),
            "adjustment": pl.String(),
            "kind": pl.String(),
            "att": pl.Float64(),
            "se": pl.Float64(),
            "ratio": pl.Float64(),
        }
    ),
    (*RUN, "outcome", "covariates", "kind"),
    frozenset({"ratio"}),
)
"""Mean effects without covariates (empty) and at equal ones, side by side; `ratio` is the standard
error over that without: the same precision from `ratio`² of the rows."""

ESTIMANDS = Table(
    "estimands",
    pl.Schema(
        {
            **RUN_COLUMNS,
            "outcome": pl.String(),
            "estimand": pl.String(),
            "stratum": pl.String(),
            "start": pl.Int64(),
            "end": pl.Int64(),
            **ESTIMATE,
            "p_value": pl.Float64(),
        }
    ),
    (*RUN, "outcome", "estimand", "stratum", "start", "end"),
    frozenset({"stratum", "start", "end", *ESTIMATE, "p_value"}),
)
"""Effects beside the published definitions: by rows' own event time (`start` to `end`, optimizer
steps), by the efficient estimator, by stratum; and exact tests, which have a `p_value` only."""

AGREEMENT = Table(
    "agreement",
    pl.Schema(
        {
            "suite": pl.String(),
            "seed": pl.Int64(),
            "outcome": pl.String(),
            "size_a": pl.String(),
            "size_b": pl.String(),
            "kind": pl.String(),
            "cells": pl.Int64(),
            "pearson": pl.Float64(),
            "spearman": pl.Float64(),
            "reliability_a": pl.Float64(),
            "reliability_b": pl.Float64(),
            "disattenuated": pl.Float64(),
            "lower": pl.Float64(),
            "upper": pl.Float64(),
        }
    ),
    ("suite", "seed", "outcome", "size_a", "size_b", "kind"),
    frozenset(
        {"pearson", "spearman", "lower", "upper", "reliability_a", "reliability_b", "disattenuated"}
    ),
)
"""Correlation of two sizes' profiles over a stated set of cells, the reliability of each, and the
correlation of the true profiles (`disattenuated`) with its interval: null where a reliability is so
low that it cannot be told."""
