"""The tables at which the stages meet: names, columns, units, keys; and the check at each border.

A *run* is (suite, size, seed). Outcomes are in nats per token where they are log-likelihoods, and
higher always means better remembered. Extra columns are welcome everywhere and kept.
"""

from dataclasses import dataclass

import polars as pl
from polars._typing import PolarsDataType

from data_order.order import NEVER
from data_order.sample import ROWS as ROWS_COLUMNS
from pythia_profile.errors import TableError

__all__ = [
    "AGREEMENT",
    "ALTERNATIVES",
    "ATT",
    "BALANCE",
    "CHECKS",
    "CONTRASTS",
    "COUNTERFACTUAL",
    "COUNTERFACTUAL_SUMMARY",
    "COVARIATES",
    "ESTIMANDS",
    "LEAVE_ONE_OUT",
    "NEVER",
    "NOISE",
    "PLACEBO",
    "PRECISION",
    "PROFILES",
    "ROWS",
    "RUN",
    "SCORES",
    "SENSITIVITY",
    "Table",
    "conform",
]

RUN = ("suite", "size", "seed")
_RUN_COLUMNS = {"suite": pl.String(), "size": pl.String(), "seed": pl.Int64()}
_ESTIMATE = {"att": pl.Float64(), "se": pl.Float64(), "lower": pl.Float64(), "upper": pl.Float64()}


@dataclass(frozen=True, slots=True)
class Table:
    """Contract of one table.

    Attributes
    ----------
    name : what the table is called in messages and on disk.
    columns : required columns and their types.
    key : columns that name a line; no two lines share a key.
    nullable : columns that may hold null.
    """

    name: str
    columns: pl.Schema
    key: tuple[str, ...]
    nullable: frozenset[str] = frozenset()


ROWS = Table(
    "rows", ROWS_COLUMNS, ("row_id",), frozenset({"treatment_step", "batch", "earlier_exposure"})
)
"""Sampled rows; `treatment_step` is null for never-treated rows. Effects need `row_id` and
`treatment_step` only: `batch` is optional unless they are clustered by it, `tokens` unless rows are
scored or a design is planned, `earlier_exposure` always."""

SCORES = Table(
    "scores",
    pl.Schema(
        {
            **_RUN_COLUMNS,
            "checkpoint": pl.Int64(),
            "row_id": pl.Int64(),
            "log_likelihood": pl.Float64(),
            "accuracy": pl.Float64(),
            "mean_rank": pl.Float64(),
            "entropy": pl.Float64(),
        }
    ),
    (*RUN, "checkpoint", "row_id"),
)
"""Scores of every row at every checkpoint: `log_likelihood` nats per token, `accuracy` share of
greedy hits, `mean_rank` (0 = greedy), `entropy` nats, each a mean over the row's targets."""

NOISE = Table(
    "noise",
    pl.Schema(
        {
            "way": pl.String(),
            "dtype": pl.String(),
            "outcome": pl.String(),
            "rows": pl.Int64(),
            "shift": pl.Float64(),
            "spread": pl.Float64(),
            "largest": pl.Float64(),
            "shift_in_se": pl.Float64(),
            "spread_in_se": pl.Float64(),
        }
    ),
    ("way", "outcome"),
    frozenset({"shift_in_se", "spread_in_se"}),
)
"""How far rows' scores of one checkpoint move when only the way of computing changes."""

COVARIATES = Table("covariates", pl.Schema({"row_id": pl.Int64()}), ("row_id",))
"""What is known of the sampled rows whether or not they were read, a column each, named by source:
`features.…` from the tokens alone, `reference.…` by a model that has read none of the rows."""

ATT = Table(
    "att",
    pl.Schema(
        {
            **_RUN_COLUMNS,
            "outcome": pl.String(),
            "cohort": pl.Int64(),
            "checkpoint": pl.Int64(),
            **_ESTIMATE,
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
            **_RUN_COLUMNS,
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
            **_RUN_COLUMNS,
            "outcome": pl.String(),
            "kind": pl.String(),
            "cohort": pl.Int64(),
            "event_time": pl.Int64(),
            **_ESTIMATE,
        }
    ),
    (*RUN, "outcome", "kind", "cohort", "event_time"),
    frozenset({"cohort", "event_time", *_ESTIMATE}),
)
"""Profiles: `kind` is instantaneous, persistent or residual, of a `cohort` (null = mean over
cohorts), or event_time, at an `event_time` in optimizer steps since the cohort. The estimate is
null where no cohort has a checkpoint of that kind."""

PRECISION = Table(
    "precision",
    pl.Schema(
        {
            **_RUN_COLUMNS,
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
            **_RUN_COLUMNS,
            "outcome": pl.String(),
            "estimand": pl.String(),
            "stratum": pl.String(),
            "start": pl.Int64(),
            "end": pl.Int64(),
            **_ESTIMATE,
            "p_value": pl.Float64(),
        }
    ),
    (*RUN, "outcome", "estimand", "stratum", "start", "end"),
    frozenset({"stratum", "start", "end", *_ESTIMATE, "p_value"}),
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

COUNTERFACTUAL = Table(
    "counterfactual",
    pl.Schema(
        {
            **_RUN_COLUMNS,
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
"""Estimate beside the true effect, from a retraining without the cohort; `lag` is the
optimizer steps since the cohort, `lower` and `upper` the pointwise interval of `att`;
`interference` is what the cohort's unscored rows did to the scored ones (null where not asked
for)."""

COUNTERFACTUAL_SUMMARY = Table(
    "counterfactual_summary",
    pl.Schema(
        {
            **_RUN_COLUMNS,
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
            **_RUN_COLUMNS,
            "outcome": pl.String(),
            "effect": pl.String(),
            "cohort": pl.Int64(),
            "restriction": pl.String(),
            "m_bar": pl.Float64(),
            "m": pl.Float64(),
            **_ESTIMATE,
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
            **_RUN_COLUMNS,
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
            **_RUN_COLUMNS,
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
            **_ESTIMATE,
        }
    ),
    ("suite", "seed", "outcome", "between", "group_a", "group_b", "kind"),
)
"""Difference of two means over cohorts, `group_a` minus `group_b`, with its pointwise interval,
between cohorts (late minus early ones of a size) or sizes (on the same rows, matched)."""

ALTERNATIVES = Table(
    "alternatives",
    pl.Schema(
        {
            **_RUN_COLUMNS,
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

CHECKS = (SENSITIVITY, LEAVE_ONE_OUT, BALANCE, CONTRASTS, ALTERNATIVES)
"""Tables of the stage `check`."""


WIDER: dict[pl.DataType, pl.DataType] = {pl.List(pl.UInt16): pl.List(pl.UInt32)}
"""A column of the wider type is kept as it is: token ids of vocabularies above 65,536."""


def conform(frame: pl.DataFrame | pl.LazyFrame, table: Table) -> pl.DataFrame:
    """Return `frame` with the table's columns first and of its types; extra columns follow.

    Lazy frames are collected. Integers and floats of other widths are converted where no value
    changes.

    Raises
    ------
    TableError
        A column is missing, of another kind, null where it must not be or beyond what can be
        measured, or a key is duplicated.
    """
    frame = frame.lazy().collect()
    columns = {
        name: wide if (wide := WIDER.get(dtype)) == frame.schema.get(name) and wide else dtype
        for name, dtype in table.columns.items()
    }
    faults = [
        fault
        for column, dtype in columns.items()
        if (fault := _column_fault(frame, column, dtype, column in table.nullable))
    ]
    if faults:
        raise TableError(f"table '{table.name}': " + "; ".join(faults))
    typed = frame.with_columns(pl.col(name).cast(dtype) for name, dtype in columns.items())
    twice = typed.filter(pl.struct(table.key).is_duplicated()).select(table.key)
    if len(twice):
        raise TableError(
            f"table '{table.name}': {len(twice)} lines share a key, expected one line for each "
            f"({', '.join(table.key)}); first: {twice.row(0, named=True)}"
        )
    extras = [name for name in frame.columns if name not in table.columns]
    return typed.select(*table.columns, *extras)


_SHARE, _COUNT = (0, 1), (0, None)
_RANGES: dict[str, tuple[int, int | None]] = {
    **dict.fromkeys(("p_value", "coverage"), _SHARE),
    **dict.fromkeys(("row_id", "checkpoint", "cohort", "n_treated", "n_control", "cells"), _COUNT),
    **dict.fromkeys(("se", "error_se", "bias_se", "placebo_se", "mean_rank"), _COUNT),
    "accuracy": _SHARE,
    "treatment_step": (1, None),
    "pearson": (-1, 1),
    "spearman": (-1, 1),
}
"""Values that a column can have, whatever its table; a rounding error beyond is let pass."""
_ROUNDING = 1e-6


def _value_fault(values: pl.Series, column: str) -> str | None:
    """Say which value of a column no measurement gives; NaN is for others to judge."""
    least, most = _RANGES.get(column, (None, None))
    if least is None or not len(values) or not values.dtype.is_numeric():
        return None
    known = values.drop_nulls()
    known = known.drop_nans() if known.dtype.is_float() else known
    wrong = known.filter((known < least - _ROUNDING) | (known > (most or 0) + _ROUNDING))
    if most is None:
        wrong = known.filter(known < least - _ROUNDING)
    expected = f"{least} or more" if most is None else f"{least} to {most}"
    return f"'{column}' holds {wrong[0]}, expected {expected}" if len(wrong) else None


def _column_fault(
    frame: pl.DataFrame, column: str, dtype: pl.DataType, nullable: bool
) -> str | None:
    if column not in frame.columns:
        return f"'{column}' is missing"
    got = frame.schema[column]
    if got != dtype and not _converts(frame[column], dtype):
        return f"'{column}' is {got}, expected {dtype}"
    if not nullable and (nulls := frame[column].null_count()):
        return f"'{column}' holds {nulls} null{'s' * (nulls > 1)}, expected none"
    return _value_fault(frame[column], column)


def _converts(values: pl.Series, dtype: pl.DataType) -> bool:
    same_kind = (values.dtype.is_integer() and dtype.is_numeric()) or (
        values.dtype.is_float() and dtype.is_float()
    )
    if values.null_count() == len(values):
        return True
    if isinstance(dtype, pl.List) and isinstance(values.dtype, pl.List):
        return values.dtype.inner.is_integer() and _fits(
            values.explode(), pl.List(dtype.inner).inner
        )
    return same_kind and _fits(values, dtype)


def _fits(values: pl.Series, dtype: PolarsDataType) -> bool:
    return values.cast(dtype, strict=False).null_count() == values.null_count()
