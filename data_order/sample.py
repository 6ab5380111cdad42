"""The `ROWS` table: which token rows a study follows, and when the trainer read each of them."""

import polars as pl

ROWS = pl.Schema(
    {
        "row_id": pl.Int64(),
        "treatment_step": pl.Int64(),
        "batch": pl.Int64(),
        "tokens": pl.List(pl.UInt16),
        "earlier_exposure": pl.Float64(),
    }
)
"""One line per row: its place in the training order, the optimizer step that reads it (null =
never-treated), its batch `row_id // batch_size` (null = never-treated), its tokens, and the share
of its tokens that an earlier step had read before."""
