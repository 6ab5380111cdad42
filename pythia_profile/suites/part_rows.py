"""A part of the rows of a study, such that a larger part holds every smaller one."""

from collections.abc import Sequence
from math import ceil

import numpy as np
import polars as pl

from data_order.order import cohort_of_steps
from pythia_profile.tables import NEVER

__all__ = ["part_of_rows"]


def part_of_rows(
    rows: pl.DataFrame, checkpoints: Sequence[int], share: float, seed: int
) -> pl.DataFrame:
    """Keep a share of each cohort's batches, and of the rows that no step reads.

    A cohort's batches have one random order, of which a share is the beginning. So the part is a
    random sample of the rows, cluster by cluster, and that of a larger share holds it.

    Parameters
    ----------
    rows : the `ROWS` table.
    checkpoints : those to be scored; they bound the cohorts.
    share : above 0, up to 1; of each cohort at least one batch is kept.

    Examples
    --------
    >>> rows = pl.DataFrame({"row_id": range(40), "treatment_step": [r // 4 + 1 for r in range(40)],
    ...                      "batch": [r // 4 for r in range(40)]})
    >>> half = part_of_rows(rows, [0, 5, 10], 0.5, seed=0)
    >>> len(half), set(part_of_rows(rows, [0, 5, 10], 0.2, seed=0)["batch"]) <= set(half["batch"])
    (24, True)
    """
    steps = rows["treatment_step"].fill_null(NEVER).to_numpy()
    cohort = np.where(steps == NEVER, NEVER, cohort_of_steps(steps, checkpoints))
    in_batch = pl.col("treatment_step").is_not_null() & pl.col("batch").is_not_null()
    # a row without a batch is a cluster of its own; its id is no number of a batch
    named = pl.when(in_batch).then(pl.format("b{}", "batch")).otherwise(pl.format("r{}", "row_id"))
    cluster = rows.select(named.alias("cluster"))["cluster"].to_numpy().astype(str)
    kept = np.zeros(len(rows), bool)
    for one in np.unique(cohort):
        of_cohort = cohort == one
        known = np.unique(cluster[of_cohort])
        rng = np.random.default_rng([seed, 7, int(one) % 2**63])
        chosen = rng.permutation(known)[: ceil(share * len(known))]
        kept |= of_cohort & np.isin(cluster, chosen)
    return rows.filter(kept)
