"""When the text of a sampled row is read again: the column `second_step` of `ROWS`.

In: sampled rows, and index maps where a run has them. Out: for each row the first step after its
own, and for a never-treated row the first step at all, that reads its text; null for none.
"""

from itertools import pairwise

import numpy as np
import polars as pl

from data_order import NeoxOrder, TrainingOrder
from data_order.neox.exposure import exposures
from pythia_profile.tables import NEVER

__all__ = ["read_again", "with_twins"]


def read_again(maps: NeoxOrder, run: TrainingOrder, rows: pl.DataFrame) -> pl.DataFrame:
    """By which step half of a row's tokens, or more, had been read again in other copies."""
    ids, own = rows["row_id"].to_numpy(), rows["treatment_step"].fill_null(0).to_numpy()
    found = exposures(maps, ids, run.steps + 1, run).read_again(own)
    steps = pl.col("second_step").replace(NEVER, None)
    return pl.DataFrame({"row_id": ids, "second_step": found}).with_columns(steps)


def with_twins(rows: pl.DataFrame) -> pl.DataFrame:
    """Mark rows whose tokens are those of another row of the sample, listed at another step.

    The earlier one gets the later's step as its `second_step`, if none is known before it; the
    later one an `earlier_exposure` of 1. A table without such rows stays as it is.

    Examples
    --------
    >>> table = {"treatment_step": [3, 5, 4], "tokens": [[7, 8], [7, 8], [8, 8]]}
    >>> with_twins(pl.DataFrame(table).with_columns(earlier_exposure=0.0))["second_step"].to_list()
    [5, None, None]
    """
    flat, ends = rows["tokens"].explode().to_numpy(), rows["tokens"].list.len().cum_sum().to_numpy()
    steps = rows["treatment_step"].fill_null(NEVER).to_numpy()
    by_text = dict[bytes, list[int]]()
    for row, (begin, end) in enumerate(pairwise([0, *ends.tolist()])):
        by_text.setdefault(flat[begin:end].tobytes(), []).append(row)
    second, read_before = np.full(len(rows), NEVER, np.int64), np.zeros(len(rows), bool)
    for same in by_text.values():
        for row in same if len(same) > 1 else ():
            own, others = steps[row], steps[same]
            second[row] = others[(others > own) | (own == NEVER)].min(initial=NEVER)
            read_before[row] = own != NEVER and bool((others < own).any())
    if (second == NEVER).all() and not read_before.any():
        return rows
    known = rows["second_step"] if "second_step" in rows.columns else pl.Series([None] * len(rows))
    first = np.minimum(known.cast(pl.Int64).fill_null(NEVER).to_numpy(), second)
    earlier = pl.when(pl.Series(read_before)).then(1.0).otherwise("earlier_exposure")
    return rows.with_columns(
        second_step=pl.Series(first).replace(NEVER, None), earlier_exposure=earlier
    )
