"""Tables of other origin: a published panel, or losses without a model.

In: files in another study's schema. Out: the study's own `rows.parquet` and `scores/`, and notes on
what differs from what the training order says. Effects: `published_effects`.

    panel     seq_idx, step, sup_seq, and any of entr_seq, acc_seq, avg_rank
    losses    index, loss, and step, unless each file is named by its step

`seq_idx` and `index` are 0-based places in the training order; from −100 downward, row −100 − i is
row i of a validation set. `sup_seq` and `loss` are surprisals in nats per token: their negative is
the log-likelihood. Nothing of the published cohorts is kept: the treatment step of a row is
recomputed from its place, and differences are counted.

Source: Lesci et al. (2024), the schema of the published panel.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import polars as pl

from data_order.order import TrainingOrder
from data_order.sample import HELD_OUT, published_row_id
from pythia_profile.errors import TableError
from pythia_profile.suites.model import KnownFault
from pythia_profile.tables import SCORES, Table, conform

__all__ = [
    "OUTCOMES",
    "Border",
    "Source",
    "equal_checkpoints",
    "known_faults",
    "losses_from_files",
    "misassigned",
    "panel_from_published",
    "panel_to_published",
    "published_step",
    "read_parquet",
]

OUTCOMES = {
    "sup_seq": ("log_likelihood", -1.0),
    "entr_seq": ("entropy", 1.0),
    "acc_seq": ("accuracy", 1.0),
    "avg_rank": ("mean_rank", 1.0),
}
"""Published statistic -> outcome, and the sign that makes one the other."""

_FIRST_VALIDATION = -100
_PANEL = Table(
    "panel",
    pl.Schema({"seq_idx": pl.Int64(), "step": pl.Int64(), "sup_seq": pl.Float64()}),
    ("seq_idx", "step"),
)
_LOSSES = Table(
    "losses",
    pl.Schema({"index": pl.Int64(), "loss": pl.Float64(), "step": pl.Int64()}),
    ("index", "step"),
)


@dataclass(frozen=True, slots=True)
class Source:
    """What imported rows are rows of.

    Attributes
    ----------
    suite : name of the suite.
    order : its training order.
    seed : training seed.
    """

    suite: str
    order: TrainingOrder
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Border:
    """How a published assignment of rows to batches and cohorts differs from the exact one.

    Attributes
    ----------
    rows : treated rows in all.
    batches : of these, rows in another batch.
    cohorts : of these, rows in another cohort.
    controls : rows that a step reads and that were taken for controls.
    examples : some of the places of the rows in another cohort.
    """

    rows: int
    batches: int
    cohorts: int
    controls: int
    examples: tuple[int, ...] = field(default=())

    def __str__(self) -> str:
        some = f" (rows {', '.join(f'{row:,}' for row in self.examples)})" if self.examples else ""
        return (
            f"of {self.rows:,} treated rows the published assignment puts {self.batches:,} into "
            f"another batch, {self.cohorts:,} into another cohort{some}, and takes "
            f"{self.controls:,} for controls; here all are where the order has them"
        )


def panel_from_published(
    frame: pl.DataFrame, source: Source, size: str
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Read a panel in the published schema as rows and scores.

    Rows keep their published place in the column `seq_idx`.

    Raises
    ------
    TableError
        A column is missing or of another kind, a line is duplicated, or a row is none of the order
        and none of a validation set.
    """
    panel = conform(frame, _PANEL)
    known = {name: of for name, of in OUTCOMES.items() if name in panel.columns}
    for name in known:
        if not panel.schema[name].is_numeric():
            raise TableError(f"table 'panel': '{name}' is {panel.schema[name]}, expected Float64")
    row_id = _row_ids(panel["seq_idx"], source, "seq_idx")
    scores = panel.select(
        checkpoint="step",
        row_id=row_id,
        **{new: sign * pl.col(old).cast(pl.Float64) for old, (new, sign) in known.items()},
    )
    return _rows(panel["seq_idx"], row_id, source, "seq_idx"), _named(scores, source, size)


def panel_to_published(scores: pl.DataFrame) -> pl.DataFrame:
    """Lay out the scores of one size in the published schema, inverse of the above."""
    back = [
        (sign * pl.col(new)).alias(old)
        for old, (new, sign) in OUTCOMES.items()
        if new in scores.columns
    ]
    place = pl.Series("seq_idx", published_row_id(scores["row_id"].to_numpy()), pl.Int32)
    return scores.select(place, pl.col("checkpoint").alias("step"), *back)


def losses_from_files(path: Path, source: Source, size: str) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Read losses of ordered rows, without a model, as rows and scores.

    Parameters
    ----------
    path : a parquet file with `index`, `loss` and `step`, or a folder of parquet files with `index`
        and `loss`, each named by its step, such as step1000.parquet.

    Raises
    ------
    TableError
        There is no such file, a column is missing, or a file is not named by its step.
    """
    files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
    if not files:
        raise TableError(f"losses: no parquet file in '{path}'; expected one for each checkpoint")
    losses = conform(pl.concat([_losses_of(file) for file in files]), _LOSSES)
    row_id = _row_ids(losses["index"], source, "index")
    scores = losses.select(checkpoint="step", row_id=row_id, log_likelihood=-pl.col("loss"))
    return _rows(losses["index"], row_id, source, "index"), _named(scores, source, size)


def _losses_of(file: Path) -> pl.DataFrame:
    frame = read_parquet(file)
    if "step" not in frame.columns:
        if not (found := re.findall(r"\d+", file.stem)):
            raise TableError(
                f"losses: '{file}' has no column 'step' and is not named by its step; expected a "
                "name such as step1000.parquet"
            )
        frame = frame.with_columns(step=pl.lit(int(found[-1]), pl.Int64))
    return frame.select([name for name in ("index", "loss", "step") if name in frame.columns])


def read_parquet(path: Path) -> pl.DataFrame:
    """Read a file of another origin.

    Raises
    ------
    TableError
        It is missing, or no parquet.
    """
    try:
        return pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise TableError(f"'{path}' cannot be read as parquet ({reason}); name another") from error


def published_step(
    row_id: np.ndarray[tuple[int], np.dtype[np.int64]], batch_size: int
) -> np.ndarray[tuple[int], np.dtype[np.int64]]:
    """Treatment step as the published code has it: ⌈r / batch size⌉, which is 0 for row 0.

    Exact is r // batch size + 1: they differ for the first row of every batch.

    Examples
    --------
    >>> published_step(np.array([0, 1, 1023, 1024, 1025]), 1024).tolist()
    [0, 1, 1, 1, 2]
    """
    step: np.ndarray[tuple[int], np.dtype[np.int64]] = -(-row_id // batch_size)
    return step


def misassigned(rows: pl.DataFrame, checkpoints: Sequence[int], batch_size: int) -> Border:
    """Count the rows that the published rule assigns otherwise than the order does.

    Parameters
    ----------
    rows : `row_id` and `treatment_step`.
    checkpoints : that were scored; a cohort is the first one at or after the step.
    """
    treated = rows.filter(pl.col("treatment_step").is_not_null()).sort("row_id")
    row_id, step = (treated[name].to_numpy() for name in ("row_id", "treatment_step"))
    theirs = published_step(row_id, batch_size)
    grid = np.sort(np.asarray(checkpoints))
    moved = (np.searchsorted(grid, theirs) != np.searchsorted(grid, step)) & (theirs > 0)
    return Border(
        rows=len(treated),
        batches=int((theirs != step).sum()),
        cohorts=int(moved.sum()),
        controls=int((theirs == 0).sum()),
        examples=tuple(row_id[moved][:3].tolist()),
    )


def known_faults(faults: Sequence[KnownFault], scored: Mapping[str, Sequence[int]]) -> list[str]:
    """List what was reported of the checkpoints that were imported."""
    notes = []
    for fault in faults:
        for size in [fault.size] if fault.size else scored:
            if size not in scored:
                continue
            steps = [step for step in fault.steps if step in {*scored[size]}]
            if fault.steps and not steps:
                continue
            where = f" (imported: {len(steps)} of {len(fault.steps)} steps)" if steps else ""
            notes.append(f"{size}: reported: {fault.what}{where}; {', '.join(fault.threads)}")
    return notes


def equal_checkpoints(scores: pl.DataFrame) -> list[str]:
    """List checkpoints of a size with the same scores, row for row: they hold the same weights."""
    wide = scores.group_by("size", "checkpoint", maintain_order=True).agg(
        pl.struct("row_id", "log_likelihood").hash(seed=0).sum().alias("all"),
        pl.len().alias("rows"),
    )
    alike = (
        wide.group_by("size", "all", "rows", maintain_order=True)
        .agg(pl.col("checkpoint").sort())
        .filter(pl.col("checkpoint").list.len() > 1)
    )
    return [
        f"{size}: checkpoints {', '.join(map(str, steps[:6]))}{' …' * (len(steps) > 6)} "
        f"({len(steps)}) have the same scores of every row: the same weights were published"
        for size, steps in alike.select("size", "checkpoint").iter_rows()
    ]


def _row_ids(place: pl.Series, source: Source, name: str) -> pl.Series:
    """Ids of rows at these places of the order, or of a validation set."""
    last = source.order.rows
    wrong = place.filter((place < 0) & (place > _FIRST_VALIDATION))
    if len(wrong):
        raise TableError(
            f"'{name}' holds {wrong[0]}, expected 0 to {last - 1:,} for rows that a step reads, "
            f"{last:,} or more, or {_FIRST_VALIDATION} and below, for rows that none does"
        )
    held_out = HELD_OUT + (_FIRST_VALIDATION - place)
    return pl.select(pl.when(place < 0).then(held_out).otherwise(place)).to_series()


def _rows(place: pl.Series, row_id: pl.Series, source: Source, name: str) -> pl.DataFrame:
    """Make the table `ROWS`, as far as it is known: no tokens, and no exposure."""
    rows = pl.DataFrame({"row_id": row_id, name: place}).unique("row_id").sort("row_id")
    read = (pl.col(name) >= 0) & (pl.col(name) < source.order.rows)
    batch = pl.when(read).then(pl.col(name) // source.order.batch_size)
    return rows.with_columns(treatment_step=batch + 1, batch=batch).select(
        *(name for name in ("row_id", "treatment_step", "batch")), name
    )


def _named(scores: pl.DataFrame, source: Source, size: str) -> pl.DataFrame:
    named = {"suite": source.suite, "size": size}
    lines = scores.with_columns(
        **{k: pl.lit(v) for k, v in named.items()}, seed=pl.lit(source.seed, pl.Int64)
    )
    outcomes = [name for name in SCORES.columns if name in lines.columns]
    return lines.select(outcomes)
