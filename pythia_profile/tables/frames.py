"""Frames that users bring: polars as they are, pandas as polars; and sizes from small to large."""

import re
from collections.abc import Iterable
from typing import Any

import polars as pl

from pythia_profile.errors import TableError

__all__ = ["polars_frame", "small_to_large"]

_WHOLE = ("row_id", "treatment_step", "batch", "checkpoint", "seed", "cohort")
"""Columns of whole numbers, which pandas keeps as floats where a value is missing."""


def polars_frame(frame: Any, table: str) -> pl.DataFrame | pl.LazyFrame:
    """Take a table, of polars or pandas.

    Raises
    ------
    TableError
        It is something else, a folder's name for instance.
    """
    if isinstance(frame, pl.DataFrame | pl.LazyFrame):
        return frame
    package, name = type(frame).__module__.partition(".")[0], type(frame).__qualname__
    if package == "pandas" and name == "DataFrame":
        return _of_pandas(frame)
    got = name if package == "builtins" else f"{package} {name}"
    raise TableError(
        f"table '{table}': got {got}, expected a polars or pandas frame; read a file with "
        "pl.read_parquet(path), a study's tables with pp.open_study(folder)"
    )


def _of_pandas(frame: Any) -> pl.DataFrame:
    """Convert column by column: polars' own way needs pyarrow, which is not installed with it."""
    columns = {}
    for name in frame.columns:
        values = frame[name]
        array = values.to_numpy()
        if array.dtype.kind not in "iufb":
            missing = values.isna().to_numpy()
            pairs = zip(array, missing, strict=True)
            array = [None if gone else _plain(value) for value, gone in pairs]
        column = pl.Series(str(name), array, strict=False)
        if name in _WHOLE and column.dtype.is_float():
            whole = column.fill_nan(None)
            column = whole.cast(pl.Int64) if (whole.drop_nulls() % 1 == 0).all() else column
        columns[str(name)] = column
    return pl.DataFrame(columns)


def _plain(value: Any) -> Any:
    return value.tolist() if hasattr(value, "tolist") else value


_WORDS = ("nano", "xxs", "tiny", "xs", "mini", "small", "s", "medium", "m", "base", "large", "l")
_RANK = {word: rank for rank, word in enumerate((*_WORDS, "xl", "xxl", "huge"))}
_UNIT = {"k": 1e3, "m": 1e6, "b": 1e9, "t": 1e12}


def small_to_large(sizes: Iterable[str]) -> list[str]:
    """Order names of sizes: by their parameters or words, others by name; never as in a file.

    Examples
    --------
    >>> small_to_large(["1.4b", "410m", "12b", "70m"]), small_to_large(["l", "s", "xs", "m"])
    (['70m', '410m', '1.4b', '12b'], ['xs', 's', 'm', 'l'])
    """
    return sorted(sizes, key=_key)


def _key(name: str) -> tuple[int, float, str]:
    lower = name.lower()
    if found := re.search(r"(\d+(?:\.\d+)?)([kmbt])(?![a-z])", lower):
        return 0, float(found[1]) * _UNIT[found[2]], name
    words = [word for word in re.split(r"[^a-z]+", lower) if word in _RANK]
    return (1, _RANK[words[0]], name) if words else (2, 0.0, name)
