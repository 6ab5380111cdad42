"""Tables of rows and of their scores: what was drawn, what is known of it, how it was scored."""

import polars as pl

from data_order.sample import ROWS as ROWS_COLUMNS
from pythia_profile.tables.contract import RUN, RUN_COLUMNS, Table

__all__ = [
    "COVARIATES",
    "NOISE",
    "REMEMBERED",
    "ROWS",
    "SCORES",
]

ROWS = Table(
    "rows", ROWS_COLUMNS, ("row_id",), frozenset({"treatment_step", "batch", "earlier_exposure"})
)
"""Sampled rows; `treatment_step` is null for never-treated rows. Effects need `row_id` and
`treatment_step` only: `batch` is optional unless they are clustered by it, `tokens` unless rows are
scored or a design is planned, `earlier_exposure` always. So is a column `second_step`, the first
step after a row's own that reads its text again (null for none): `Estimation.second_reading`."""

SCORES = Table(
    "scores",
    pl.Schema(
        {
            **RUN_COLUMNS,
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

REMEMBERED = Table(
    "remembered",
    pl.Schema(
        {
            **RUN_COLUMNS,
            "outcome": pl.String(),
            "rank": pl.Int64(),
            "row_id": pl.Int64(),
            "cohort": pl.Int64(),
            "base": pl.Int64(),
            "effect": pl.Float64(),
            "tokens": pl.List(pl.String()),
            "changes": pl.List(pl.Float64()),
        }
    ),
    (*RUN, "outcome", "rank"),
)
"""Rows whose outcome gained most (`rank` 1, 2, …) and least (−1, −2, …) from being read: `effect`
is the change from the `base` to the `cohort`'s checkpoint less that of the never-treated rows,
`changes` that of each token's log-likelihood in nats, 0 for the first, which is only read."""
