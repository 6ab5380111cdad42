"""Tables of checks of the estimates: by retraining, by sensitivity, by other estimators."""

import polars as pl

from data_order.assignment import ASSIGNMENT_TESTS
from pythia_profile.tables.contract import ESTIMATE, RUN, RUN_COLUMNS, Table

__all__ = [
    "ALTERNATIVES",
    "ASSIGNMENT",
    "BALANCE",
    "CHECKS",
    "CONTRASTS",
    "COUNTERFACTUAL",
    "COUNTERFACTUAL_SUMMARY",
    "LEAVE_ONE_OUT",
    "SENSITIVITY",
]

ASSIGNMENT = Table(
    "assignment",
    pl.Schema({**RUN_COLUMNS, "outcome": pl.String(), **ASSIGNMENT_TESTS}),
    (*RUN, "outcome", "content", "pattern"),
)
"""Tests that nothing known of a row before it is read says when it is read: its text, features, and
the run's outcome at the first checkpoint; `pattern` is by cohort, by batch or drift, `statistic` in
standard deviations of random reassignments, `p_adjusted` after Holm over the tests of a run."""

COUNTERFACTUAL = Table(
    "counterfactual",
    pl.Schema(
        {
            **RUN_COLUMNS,
            "outcome": pl.String(),
            "cohort": pl.Int64(),
            "checkpoint": pl.Int64(),
            "event_time": pl.Int64(),
            "att": pl.Float64(),
            "se": pl.Float64(),
            "lower": pl.Float64(),
            "upper": pl.Float64(),
            "truth": pl.Float64(),
            "error": pl.Float64(),
            "error_se": pl.Float64(),
            "covered": pl.Boolean(),
            "interference": pl.Float64(),
            "interference_se": pl.Float64(),
        }
    ),
    (*RUN, "outcome", "cohort", "checkpoint"),
    frozenset({"interference", "interference_se"}),
)
"""Estimate beside the true effect, from a retraining without the cohort; `event_time` is the
optimizer steps since the cohort, `lower` and `upper` the pointwise interval of `att`;
`interference` is what the cohort's unscored rows did to the scored ones (null where not asked
for)."""

COUNTERFACTUAL_SUMMARY = Table(
    "counterfactual_summary",
    pl.Schema(
        {
            **RUN_COLUMNS,
            "outcome": pl.String(),
            "by": pl.String(),
            "cohort": pl.Int64(),
            "event_time": pl.Int64(),
            "cells": pl.Int64(),
            "bias": pl.Float64(),
            "bias_se": pl.Float64(),
            "correlation": pl.Float64(),
            "coverage": pl.Float64(),
            "interference": pl.Float64(),
            "interference_se": pl.Float64(),
        }
    ),
    (*RUN, "outcome", "by", "cohort", "event_time"),
    frozenset({"cohort", "event_time", "correlation", "interference", "interference_se"}),
)
"""The audit in numbers: `by` is all, cohort or event_time, and the column of that name says which
(null elsewhere)."""

SENSITIVITY = Table(
    "sensitivity",
    pl.Schema(
        {
            **RUN_COLUMNS,
            "outcome": pl.String(),
            "effect": pl.String(),
            "cohort": pl.Int64(),
            "restriction": pl.String(),
            "m_bar": pl.Float64(),
            "m": pl.Float64(),
            **ESTIMATE,
            "breakdown_m_bar": pl.Float64(),
            "breakdown_m": pl.Float64(),
        }
    ),
    (*RUN, "outcome", "effect", "cohort", "restriction", "m_bar", "m"),
    frozenset({"cohort", "m_bar", "m", "breakdown_m_bar", "breakdown_m"}),
)
"""Intervals of an effect under violations of parallel trends: `restriction` is relative_magnitudes
(slopes after treatment up to `m_bar` times the largest of the last five before it, no unit) or
smoothness (slopes change by up to `m` a checkpoint, unit of the outcome). `effect` is the average
from the cohort on, the first or the last; `cohort` null means over all cohorts. The breakdown value
is the smallest violation at which the interval holds 0, infinity where none does."""

LEAVE_ONE_OUT = Table(
    "leave_one_out",
    pl.Schema(
        {
            **RUN_COLUMNS,
            "outcome": pl.String(),
            "checkpoint": pl.Int64(),
            "placebo": pl.Float64(),
            "placebo_se": pl.Float64(),
            "p_value": pl.Float64(),
            "change": pl.Float64(),
            "change_in_se": pl.Float64(),
            "suspect": pl.Boolean(),
        }
    ),
    (*RUN, "outcome", "checkpoint"),
    frozenset({"placebo", "placebo_se", "p_value", "change", "change_in_se"}),
)
"""What each single checkpoint contributes: `placebo`, its effect on cohorts that are read later,
minus that of the other checkpoints before them (`p_value` after Holm); and the change of the
overall effect without it, also in standard errors. A `suspect` checkpoint stands out."""

BALANCE = Table(
    "balance",
    pl.Schema(
        {
            **RUN_COLUMNS,
            "outcome": pl.String(),
            "covariate": pl.String(),
            "cohort": pl.Int64(),
            "difference": pl.Float64(),
            "standardized": pl.Float64(),
            "p_value": pl.Float64(),
        }
    ),
    (*RUN, "outcome", "covariate", "cohort"),
    frozenset({"cohort", "difference", "standardized", "p_value"}),
)
"""Baseline balance: treated minus controls before treatment, also in standard deviations of the
controls. `covariate` is base_outcome, the outcome of a `cohort` at its base checkpoint, or a column
of the rows, all treated against never-treated rows (`cohort` null)."""

CONTRASTS = Table(
    "contrasts",
    pl.Schema(
        {
            "suite": pl.String(),
            "seed": pl.Int64(),
            "outcome": pl.String(),
            "between": pl.String(),
            "group_a": pl.String(),
            "group_b": pl.String(),
            "kind": pl.String(),
            **ESTIMATE,
        }
    ),
    ("suite", "seed", "outcome", "between", "group_a", "group_b", "kind"),
)
"""Difference of two means over cohorts, `group_a` minus `group_b`, with its pointwise interval,
between cohorts (late minus early ones of a size), sizes (on the same rows, matched), or placebo
rows and controls: the effect on rows that were read and moved no weight, which must be 0."""

ALTERNATIVES = Table(
    "alternatives",
    pl.Schema(
        {
            **RUN_COLUMNS,
            "outcome": pl.String(),
            "estimator": pl.String(),
            "checkpoints_since": pl.Int64(),
            "estimate": pl.Float64(),
            "se": pl.Float64(),
            "driscoll_kraay": pl.Float64(),
            "att": pl.Float64(),
        }
    ),
    (*RUN, "outcome", "estimator", "checkpoints_since"),
    frozenset({"checkpoints_since", "se", "driscoll_kraay", "att"}),
)
"""Alternative estimators beside ours (`att`), for contrast: twfe (one effect), event_study and
naive_double_demeaned (by checkpoints since the cohort; −1 is the base)."""

CHECKS = (ASSIGNMENT, SENSITIVITY, LEAVE_ONE_OUT, BALANCE, CONTRASTS, ALTERNATIVES)
"""Tables of the stage `check`."""
