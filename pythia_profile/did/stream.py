"""Panels that need not fit in memory: rows are read in blocks, and only their sums are kept.

In: `SCORES` as a lazy table and `ROWS`. Out: `AttGt` without rows, or the `ATT` table with bands
simulated from the covariance. A block holds some rows at all checkpoints; clusters are never cut.
Memory is that of one block and of the groups' moments, whatever the number of rows.
"""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import polars as pl
from jaxtyping import Float, Int

from pythia_profile.did.arguments import positive
from pythia_profile.did.att import AttGt, effects_of_sums
from pythia_profile.did.errors import NoRowsError, OptionError
from pythia_profile.did.estimation import cluster_by
from pythia_profile.did.moments import RowLabels, Sums, gather, summarize
from pythia_profile.did.panels import (
    Early,
    Panel,
    Rules,
    as_lazy,
    check_keys,
    check_tables,
    lay_out,
    only_run,
)
from pythia_profile.did.settings import DEFAULT, Estimation
from pythia_profile.did.threads import one_blas_thread
from pythia_profile.tables import NEVER, SCORES

BLOCK = 20_000
"""Rows read at once; at 144 checkpoints, 23 MB of outcomes and some 150 MB of table."""


@one_blas_thread
def stream_effects(
    scores: pl.LazyFrame | pl.DataFrame,
    rows: pl.DataFrame | pl.LazyFrame,
    settings: Estimation = DEFAULT,
    *,
    outcome: str = "log_likelihood",
    early: Early = "error",
    weights: str | None = None,
    block: int = BLOCK,
) -> AttGt:
    """Estimate ATT(g, c) from sums over blocks of rows; otherwise as `panel` and `effects`.

    Parameters
    ----------
    scores : scores of one run, for instance `pl.scan_parquet("scores/**/*.parquet")`; reading is
        fastest where files are sorted by row.
    block : rows read at once.

    Raises
    ------
    OptionError
        `ancova`, or `available` gaps: both need all rows at once.
    NoRowsError
        None of the rows was scored.
    """
    if settings.estimator == "ancova" or settings.missing == "available":
        raise OptionError(
            f"streaming: got estimator '{settings.estimator}' and missing '{settings.missing}'; "
            "ancova and available gaps need all rows at once, use panel and effects"
        )
    if isinstance(block, bool) or block < 1:
        raise OptionError(f"block: got {block}, expected a number of rows")
    rules = Rules(outcome=outcome, early=early, weights=weights)
    scores = as_lazy(scores, SCORES.name)
    table = check_tables(scores, rows, rules)
    by, chosen = cluster_by(settings.clusters, table["batch"].fill_null(NEVER).to_numpy())
    run = only_run(scores)
    unknown = pl.col("row_id").is_null() | pl.col("checkpoint").is_null()
    check_keys(scores.select("row_id", "checkpoint").filter(unknown).collect(engine="streaming"))
    steps = scores.select(pl.col("checkpoint").unique().sort()).collect(engine="streaming")
    grid = steps["checkpoint"].to_numpy().astype(np.int64)
    values = scores.select("row_id", "checkpoint", pl.col(outcome).cast(pl.Float64))
    total = _Total()
    for part in _blocks(table, block):
        laid = _read(values, part, grid, run, rules, settings)
        if laid is not None:
            total.add(laid, by == "batch", settings.estimator != "did")
    if not total.by_cohort:
        raise NoRowsError(f"none of the {len(table)} rows of the sample was scored")
    att = effects_of_sums(total.sums(), grid, settings)
    return replace(att, notes=(*chosen, *total.notes, *att.notes))


class _Total:
    """Sums of each cohort over the blocks read so far."""

    def __init__(self) -> None:
        self.by_cohort: dict[int, Sums] = {}
        self.center: Float[np.ndarray, " C"] | None = None
        self.notes: list[str] = []

    def add(self, laid: Panel, clustered: bool, levels: bool) -> None:
        """Take in a block; all blocks are centered at the mean of the first."""
        if self.center is None:
            self.center = laid.y.mean(axis=0)
        given = RowLabels(laid.cluster if clustered else None, positive(laid.weight), laid.row_id)
        sums = summarize(gather(laid.y, laid.cohort, given, levels=levels, center=self.center))
        for h, g in enumerate(sums.labels.tolist()):
            part = Sums(*(getattr(sums, name)[h : h + 1] for name in Sums.__slots__))
            known = self.by_cohort.get(g)
            self.by_cohort[g] = part if known is None else _joined(known, part)
        named = f"rows {laid.row_id[0]} to {laid.row_id[-1]}: "
        self.notes += [named + note for note in laid.notes]

    def sums(self) -> Sums:
        """Return the sums over all blocks, cohort after cohort."""
        parts = [self.by_cohort[g] for g in sorted(self.by_cohort)]
        return Sums(
            *(np.concatenate([getattr(part, name) for part in parts]) for name in Sums.__slots__)
        )


def _blocks(rows: pl.DataFrame, size: int) -> list[pl.DataFrame]:
    """Rows in the order of their batches, cut where a batch ends."""
    ordered = rows.sort("batch", "row_id", nulls_last=True)
    batch = ordered["batch"].fill_null(-1).to_numpy()
    own = ordered["batch"].is_null().to_numpy()
    starts = np.flatnonzero(np.append(True, (np.diff(batch) != 0) | own[1:]))
    position = np.searchsorted(starts, np.arange(size, len(ordered), size), side="left")
    cuts = np.unique(np.append(starts, len(ordered))[position])
    return [ordered[a:b] for a, b in pairwise([0, *cuts.tolist(), len(ordered)]) if b > a]


def _read(
    values: pl.LazyFrame,
    rows: pl.DataFrame,
    grid: Int[np.ndarray, " C"],
    run: tuple[str, str, int],
    rules: Rules,
    settings: Estimation,
) -> Panel | None:
    """Lay out a block; None where none of its rows was scored."""
    ids = rows["row_id"]
    within = pl.col("row_id").is_between(ids.min(), ids.max())
    wanted = values.filter(within).join(rows.lazy().select("row_id"), on="row_id", how="semi")
    found = wanted.collect(engine="streaming")
    if not len(found):
        return None
    laid = lay_out(found, rows, grid, run, rules, settings)
    return laid if len(laid) else None


def _joined(one: Sums, other: Sums) -> Sums:
    return replace(
        one,
        rows=one.rows + other.rows,
        clusters=one.clusters + other.clusters,
        total=one.total + other.total,
        moment=one.moment + other.moment,
    )
