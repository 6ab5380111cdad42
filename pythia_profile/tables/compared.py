"""Tables of experiments hidden in the training: other orders of the same rows, planted texts."""

import polars as pl

from pythia_profile.tables.contract import ESTIMATE, RUN, RUN_COLUMNS, Table

__all__ = ["ACROSS", "CROSSOVER", "CROSSOVER_MEANS", "INSERTIONS", "MEMORY_DATES"]

CROSSOVER = Table(
    "crossover",
    pl.Schema(
        {
            **RUN_COLUMNS,
            "outcome": pl.String(),
            "estimator": pl.String(),
            "cohort": pl.Int64(),
            "checkpoint": pl.Int64(),
            **ESTIMATE,
            "weight": pl.Float64(),
            "n_treated": pl.Int64(),
            "n_control": pl.Int64(),
        }
    ),
    (*RUN, "outcome", "estimator", "cohort", "checkpoint"),
    frozenset(ESTIMATE),
)
"""ATT(g, c) by `estimator`: did (of the run alone), crossover SUITE SEED (against another run that
read the same rows in another order), combined (both, each with its `weight` in the cell). `lower`
and `upper` are pointwise; the estimate is null where a run has too few rows."""

CROSSOVER_MEANS = Table(
    "crossover_means",
    pl.Schema(
        {
            **RUN_COLUMNS,
            "outcome": pl.String(),
            "estimator": pl.String(),
            "kind": pl.String(),
            "cohort": pl.Int64(),
            **ESTIMATE,
            "did_se": pl.Float64(),
            "ratio": pl.Float64(),
        }
    ),
    (*RUN, "outcome", "estimator", "kind", "cohort"),
    frozenset({"cohort", "did_se", "ratio"}),
)
"""Means of the same cells: `kind` is instantaneous (each cohort, and null for their mean),
persistent, residual or overall. `did_se` is the standard error of difference-in-differences over
the estimator's own cells, and `ratio` the estimator's over it."""

INSERTIONS = Table(
    "insertions",
    pl.Schema(
        {
            **RUN_COLUMNS,
            "outcome": pl.String(),
            "arm": pl.String(),
            "window": pl.String(),
            "kind": pl.String(),
            **ESTIMATE,
            "experiment": pl.Float64(),
            "experiment_se": pl.Float64(),
            "difference": pl.Float64(),
            "difference_se": pl.Float64(),
            "items": pl.Int64(),
        }
    ),
    (*RUN, "outcome", "arm", "window", "kind"),
    frozenset({"experiment", "experiment_se", "difference", "difference_se"}),
)
"""Effects of planting a text at random steps, by `arm` (how many copies, or placebo) and `window`
of the run ("all" for any): `att` by the study's estimator from the run alone, `experiment` against
a run that never read the texts, and `difference`, att minus experiment over the same cells."""

ACROSS = Table(
    "across",
    pl.Schema(
        {
            **RUN_COLUMNS,
            "outcome": pl.String(),
            "over": pl.String(),
            "kind": pl.String(),
            "cohort": pl.Int64(),
            "event_time": pl.Int64(),
            "runs": pl.Int64(),
            **ESTIMATE,
            "critical": pl.Float64(),
        }
    ),
    (*RUN, "outcome", "over", "kind", "cohort", "event_time"),
    frozenset({"seed", "cohort", "event_time", "critical"}),
)
"""Runs together. `over` is sizes: numbers of each size with a band simultaneous over all sizes of a
seed and all lines of a `kind`; or seeds (seed null): means over training seeds, whose error and
interval hold the variance between runs. `cohort` and `event_time` null: mean over cohorts."""

MEMORY_DATES = Table(
    "memory_dates",
    pl.Schema(
        {
            **RUN_COLUMNS,
            "outcome": pl.String(),
            "checkpoint": pl.Int64(),
            "date": pl.Int64(),
            "lower": pl.Int64(),
            "upper": pl.Int64(),
            "correlation": pl.Float64(),
            "rank_correlation": pl.Float64(),
            "distance": pl.Float64(),
            "far": pl.Boolean(),
        }
    ),
    (*RUN, "outcome", "checkpoint"),
)
"""The step at which each checkpoint's weights seem to stand, by what they remember, with an
interval in steps (exploratory); `far` where that is not the step of its label, `distance` twice the
log-likelihood ratio of the two."""
