"""What a table promises: name, columns, units, key; and the check at each border."""

from dataclasses import dataclass

import polars as pl
from polars._typing import PolarsDataType

from pythia_profile.errors import TableError
from pythia_profile.tables.frames import polars_frame

__all__ = ["ESTIMATE", "RUN", "RUN_COLUMNS", "WIDER", "Table", "conform"]

RUN = ("suite", "size", "seed")
RUN_COLUMNS = {"suite": pl.String(), "size": pl.String(), "seed": pl.Int64()}
ESTIMATE = {"att": pl.Float64(), "se": pl.Float64(), "lower": pl.Float64(), "upper": pl.Float64()}


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


WIDER: dict[pl.DataType, pl.DataType] = {pl.List(pl.UInt16): pl.List(pl.UInt32)}
"""A column of the wider type is kept as it is: token ids of vocabularies above 65,536."""


def conform(frame: pl.DataFrame | pl.LazyFrame, table: Table) -> pl.DataFrame:
    """Return `frame` with the table's columns first and of its types; extra columns follow.

    Lazy frames are collected, those of pandas converted. Integers and floats of other widths are
    converted where no value changes.

    Raises
    ------
    TableError
        A column is missing, of another kind, null where it must not be or beyond what can be
        measured, or a key is duplicated.
    """
    frame = polars_frame(frame, table.name).lazy().collect()
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
