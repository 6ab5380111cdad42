"""What a user hands to the functions of this room, checked where it enters.

In: the tables `ROWS` and `SCORES`, eager or lazy, and names. Out: eager tables that have the
columns that are needed, and tuples of names.
"""

from collections.abc import Iterable, Sequence

import polars as pl

from pythia_profile.did.errors import OptionError
from pythia_profile.did.panels import as_lazy, need_columns
from pythia_profile.errors import TableError
from pythia_profile.tables import ROWS, RUN, SCORES

__all__ = ["names_of", "study_tables"]


def study_tables(
    rows: pl.DataFrame | pl.LazyFrame,
    scores: pl.DataFrame | pl.LazyFrame,
    outcomes: Sequence[str],
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Collect rows, and of the scores the columns that are needed.

    Raises
    ------
    TableError
        One of the two is no polars frame, has no lines, or lacks a column.
    """
    lazy_rows, lazy_scores = as_lazy(rows, ROWS.name), as_lazy(scores, SCORES.name)
    needed = list(dict.fromkeys([*RUN, "checkpoint", "row_id", *outcomes]))
    need_columns(lazy_rows.collect_schema(), ["row_id", "treatment_step"], ROWS.name)
    need_columns(lazy_scores.collect_schema(), needed, SCORES.name)
    collected = lazy_rows.collect(), lazy_scores.select(needed).collect()
    for frame, table in zip(collected, (ROWS, SCORES), strict=True):
        if not len(frame):
            raise TableError(f"table '{table.name}': got no lines, expected one or more")
    return collected


def names_of(names: str | Sequence[str], what: str) -> tuple[str, ...]:
    """Take one name, or several, as a tuple.

    Raises
    ------
    OptionError
        There is none, or one of them is no text.

    Examples
    --------
    >>> names_of("accuracy", "outcomes"), names_of(["accuracy", "entropy"], "outcomes")
    (('accuracy',), ('accuracy', 'entropy'))
    """
    several = (names,) if isinstance(names, str) or not isinstance(names, Iterable) else (*names,)
    if not several or not all(isinstance(name, str) for name in several):
        raise OptionError(f"{what}: got {names!r}, expected one name or more")
    return tuple(dict.fromkeys(several))
