"""What the interactive profile needs: every cell, as one compressed word inside the page.

In: the table `ATT`. Out: base64 of gzip of JSON, which the page's script opens without a request.
Numbers have four decimals, like the tables of the page: they are whole ten-thousandths, and the
ends of a band are told from its effect, so that the small steps between neighbors pack well.
"""

import base64
import gzip
import json
from collections.abc import Sequence
from typing import Any

import polars as pl

__all__ = ["DECIMALS", "packed"]

DECIMALS = 4


def packed(
    att: pl.DataFrame, outcome: str, sizes: Sequence[str], most: int = 700_000
) -> tuple[str, list[str]]:
    """Pack the cells of an outcome, and name the sizes that had room.

    Parameters
    ----------
    most : bytes of the word; sizes beyond are left out, the smallest models first.

    Returns
    -------
    The word, and the sizes in it.

    Each size is a table in row order: cohorts down, checkpoints across; null where there is no
    cell. `att` is in units of 10^-4, `lower` and `upper` are as far from it. `n_treated` and
    `n_control` are one number a cohort where they do not change.
    """
    needed = {"size", "outcome", "cohort", "checkpoint", "att", "lower", "upper"}
    if not needed <= {*att.columns}:
        return "", []
    of_outcome = att.filter(pl.col("outcome") == outcome)
    cells = {size: _cells(of_outcome.filter(pl.col("size") == size)) for size in sizes}
    kept = [size for size in sizes if cells[size] is not None]
    while kept:
        word = _word({size: cells[size] for size in kept})
        if len(word) <= most:
            return word, kept
        kept = kept[1:]
    return "", []


def _word(content: Any) -> str:
    plain = json.dumps(content, separators=(",", ":"), allow_nan=False).encode()
    return base64.b64encode(gzip.compress(plain, mtime=0)).decode()


def _cells(table: pl.DataFrame) -> dict[str, Any] | None:
    if table.is_empty():
        return None
    cohorts, checkpoints = (table[name].unique().sort() for name in ("cohort", "checkpoint"))
    grid = pl.DataFrame({"cohort": cohorts}).join(
        pl.DataFrame({"checkpoint": checkpoints}), how="cross"
    )
    whole = grid.join(table, on=["cohort", "checkpoint"], how="left", maintain_order="left")
    units = {name: _units(whole[name]) for name in ("att", "lower", "upper")}
    columns: dict[str, Any] = {
        "att": units["att"].to_list(),
        **{end: (units[end] - units["att"]).to_list() for end in ("lower", "upper")},
    }
    for name in ("n_treated", "n_control"):
        if name in whole.columns:
            columns[name] = _by_cohort(whole, name)
    return {"cohorts": cohorts.to_list(), "checkpoints": checkpoints.to_list(), **columns}


def _units(values: pl.Series) -> pl.Series:
    """Round to `DECIMALS` as a table prints them; null where there is no number."""
    whole = [
        None if v is None else round(round(v, DECIMALS) * 10**DECIMALS)
        for v in values.fill_nan(None)
    ]
    return pl.Series(whole, dtype=pl.Int64)


def _by_cohort(whole: pl.DataFrame, name: str) -> list[int | None]:
    """One count a cohort where it is the same at every checkpoint, else one a cell."""
    each = whole.group_by("cohort", maintain_order=True).agg(
        pl.col(name).drop_nulls().n_unique().alias("values"), pl.col(name).drop_nulls().first()
    )
    counts: list[int | None] = (each if (each["values"] <= 1).all() else whole)[name].to_list()
    return counts
