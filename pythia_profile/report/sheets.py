"""Frames as the report prints them: every cell a text, one format to a column."""

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

__all__ = ["Sheet", "sheet"]


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table ready to be printed.

    Attributes
    ----------
    columns : name of each column, and whether it holds numbers.
    rows : texts of each row, in the order of the columns.
    """

    columns: tuple[tuple[str, bool], ...]
    rows: tuple[tuple[str, ...], ...]


def sheet(frame: pl.DataFrame, decimals: Mapping[str, int] | None = None) -> Sheet:
    """Format every column alike: floats with as many decimals, integers with thousands apart.

    Parameters
    ----------
    decimals : of a column of floats; 4 unless given.

    Examples
    --------
    >>> sheet(pl.DataFrame({"rows": [1024, 96], "att": [0.18, 0.1719]})).rows
    (('1,024', '0.1800'), ('96', '0.1719'))
    """
    places = decimals or {}
    texts = []
    for column in frame:
        form = "{}"
        if column.dtype.is_float():
            form = f"{{:.{places.get(column.name, 4)}f}}"
        elif column.dtype.is_integer():
            form = "{:,}"
        texts.append(["–" if value is None else form.format(value) for value in column])
    return Sheet(
        tuple((column.name, column.dtype.is_numeric()) for column in frame),
        tuple(zip(*texts, strict=True)),
    )
