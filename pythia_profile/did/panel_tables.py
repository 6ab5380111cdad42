"""What must be true of the tables `SCORES` and `ROWS` before a panel is laid out from them.

In: tables as other tools write them. Out: queries and frames with the columns that are needed, keys
as whole numbers; each fault is named with its table, column and count.
"""

from collections.abc import Sequence
from typing import Any

import polars as pl

from pythia_profile.did.arguments import counted
from pythia_profile.errors import TableError
from pythia_profile.tables import ROWS, RUN, SCORES
from pythia_profile.tables.frames import polars_frame


def check_tables(
    scores: pl.LazyFrame, rows: pl.DataFrame | pl.LazyFrame, outcome: str, weights: str | None
) -> pl.DataFrame:
    """Refuse tables without the columns that are needed; return the rows, steps as integers."""
    schema = scores.collect_schema()
    need_columns(schema, [*RUN, "checkpoint", "row_id", outcome], SCORES.name)
    named = [] if weights is None else [weights]
    table = as_lazy(rows, ROWS.name).collect()
    if "batch" not in table.columns:
        table = table.with_columns(batch=pl.lit(None, pl.Int64))
    needed = ["row_id", "treatment_step", *named]
    need_columns(table.schema, needed, ROWS.name)
    for frame, name, columns in (
        (schema, SCORES.name, ["checkpoint", "row_id", outcome]),
        (table.schema, ROWS.name, [*needed, "batch"]),
    ):
        for column in columns:
            if not (frame[column].is_numeric() or frame[column] in (pl.Boolean, pl.Null)):
                raise TableError(f"table '{name}': '{column}' is {frame[column]}, expected numbers")
    _no_nulls(table.select("row_id"), ROWS.name)
    return table.with_columns(_whole(table[name]) for name in ("row_id", "treatment_step", "batch"))


def as_lazy(frame: Any, table: str) -> pl.LazyFrame:
    """Take a table as a query, eager or lazy; refuse what is no frame."""
    return polars_frame(frame, table).lazy()


def need_columns(schema: pl.Schema, columns: Sequence[str], table: str) -> None:
    """Refuse a table without one of these columns, and say which it has."""
    swapped = {"rows": "checkpoint", "scores": "treatment_step"}.get(table, "")
    if swapped in schema and any(name not in schema for name in columns):
        raise TableError(
            f"table '{table}': got one with '{swapped}', as the other table has it; expected the "
            "rows first, then the scores"
        )
    missing = [f"'{name}' is missing" for name in columns if name not in schema]
    if missing:
        raise TableError(
            f"table '{table}': {'; '.join(missing)}; it has {', '.join(schema.names())}"
        )


def check_keys(values: pl.DataFrame) -> None:
    """Refuse scores whose row or checkpoint is not known."""
    _no_nulls(values.select("row_id", "checkpoint"), SCORES.name)


def _no_nulls(keys: pl.DataFrame, table: str) -> None:
    for column in keys.iter_columns():
        if nulls := column.null_count():
            raise TableError(
                f"table '{table}': '{column.name}' holds {counted(nulls, 'null')}, expected none"
            )


def _whole(values: pl.Series) -> pl.Series:
    """Whole numbers as Int64, also where another tool has made them floats to hold nulls."""
    if not values.dtype.is_float():
        return values.cast(pl.Int64)
    known = values.fill_nan(None)
    if (broken := int((known != known.round()).sum())) > 0:
        raise TableError(
            f"table '{ROWS.name}': {counted(broken, 'value')} of '{values.name}' "
            f"{'is no whole number' if broken == 1 else 'are no whole numbers'}"
        )
    return known.cast(pl.Int64)


def only_run(scores: pl.LazyFrame) -> tuple[str, str, int]:
    """Suite, size and seed of the scores, which must be of one run."""
    runs = scores.select(RUN).unique().sort(RUN).collect(engine="streaming")
    if len(runs) != 1:
        names = "; ".join(" ".join(map(str, run)) for run in runs.rows()[:5]) or "none"
        raise TableError(
            f"table '{SCORES.name}': {counted(len(runs), 'run')} ({names}), expected one; filter "
            "by suite, size and seed"
        )
    suite, size, seed = runs.row(0)
    return suite, size, seed
