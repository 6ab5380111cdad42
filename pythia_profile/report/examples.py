"""Rows as text: the most and the least remembered ones, each token with what reading changed.

In: the table `REMEMBERED`. Out: `Example`, one for each row. Text is data: the page
escapes it.
"""

from dataclasses import dataclass

import polars as pl

__all__ = ["Example", "examples"]

MOST_TOKENS = 256
"""Tokens of a row that are shown."""


@dataclass(frozen=True, slots=True)
class Example:
    """One row.

    Attributes
    ----------
    size, row_id, cohort, base : which row under which model, and the checkpoints that are compared.
    rank : 1, 2, ... from the most remembered row, -1, -2, ... from the least.
    effect : what reading it did to its outcome, in the unit of the outcome.
    tokens : text of each token, its change of log-likelihood in nats, and a shade from -5 to 5.
    cut : tokens that are not shown.
    """

    size: str
    row_id: int
    cohort: int
    base: int
    rank: int
    effect: float
    tokens: tuple[tuple[str, float, int], ...]
    cut: int


def examples(table: pl.DataFrame | None, outcome: str) -> list[Example]:
    """Lay out the rows of an outcome, the most remembered first, the least remembered last."""
    if table is None or table.is_empty():
        return []
    found = []
    lines = table.filter(pl.col("outcome") == outcome)
    # 1, 2, 3 and then -3, -2, -1: from most to least
    order = lines.sort((pl.col("rank") < 0), pl.col("rank"))
    for line in order.iter_rows(named=True):
        texts, changes = line["tokens"][:MOST_TOKENS], line["changes"][:MOST_TOKENS]
        largest = max((abs(change) for change in changes), default=0.0) or 1.0
        shades = (round(5 * change / largest) for change in changes)
        found.append(
            Example(
                **{name: line[name] for name in ("size", "row_id", "cohort", "base", "rank")},
                effect=line["effect"],
                tokens=tuple(zip(texts, changes, shades, strict=True)),
                cut=len(line["tokens"]) - len(texts),
            )
        )
    return found
