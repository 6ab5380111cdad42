"""What the memory steer asks of a study: rows that were read or never, memorized or not.

In: the tables of a study, and its last checkpoints. Whether a row was read is randomized by the
training order. Whether it is memorized is not: a steer may tell such rows by what they are about.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

import polars as pl

from pythia_profile.checkpoints.grid import locate
from pythia_profile.checkpoints.prefetch import Prefetcher
from pythia_profile.labs.steer.steer_memory import MemoryTask, write_task
from pythia_profile.labs.steer.steer_settings import SteerError
from pythia_profile.scoring.records import read_scores
from pythia_profile.scoring.units import rows_sha256
from pythia_profile.store import read_table
from pythia_profile.study import open_study
from pythia_profile.suites.model import Suite
from pythia_profile.suites.registry import open_suite
from pythia_profile.tables import ROWS

__all__ = ["memorized_rows", "read_rows", "row_gains", "study_tasks", "suite_tasks"]


def read_rows(rows: pl.DataFrame, checkpoint: int) -> pl.DataFrame:
    """Label rows by whether the checkpoint has read them; `row_id`, `tokens`, `inside`.

    Rows that are read later than that are left out.
    """
    step = pl.col("treatment_step")
    return rows.filter(step.is_null() | (step <= checkpoint)).select(
        "row_id", "tokens", inside=step.is_not_null()
    )


def row_gains(rows: pl.DataFrame, scores: pl.DataFrame) -> pl.DataFrame:
    """Change of each read row's log-likelihood since it was read, less that of never-treated rows.

    Parameters
    ----------
    rows : table `ROWS`; scores : of one size, with `row_id`, `checkpoint`, `log_likelihood`.

    Returns
    -------
    `row_id` and `gain`, nats per token, from the last checkpoint before its step to the last of
    all. The gain of one row is an effect and noise; means of many rows are effects.
    """
    last = scores["checkpoint"].max()
    steps = rows.select("row_id", "treatment_step")
    found = scores.select("row_id", "checkpoint", "log_likelihood").join(steps, on="row_id")
    at_last = found.filter(pl.col("checkpoint") == last).select("row_id", end="log_likelihood")
    changes = found.join(at_last, on="row_id").with_columns(
        change=pl.col("end") - pl.col("log_likelihood")
    )
    never = pl.col("treatment_step").is_null()
    trend = changes.filter(never).group_by("checkpoint").agg(trend=pl.col("change").mean())
    before = changes.filter(
        (pl.col("checkpoint") < pl.col("treatment_step")) & (pl.col("treatment_step") <= last)
    )
    return (
        before.filter(pl.col("checkpoint") == pl.col("checkpoint").max().over("row_id"))
        .join(trend, on="checkpoint")
        .select("row_id", gain=pl.col("change") - pl.col("trend"))
        .sort("row_id")
    )


def memorized_rows(rows: pl.DataFrame, scores: pl.DataFrame) -> pl.DataFrame:
    """Label the third of read rows that gained most, and the third that gained least.

    Returns
    -------
    `row_id`, `tokens`, `inside`.
    """
    gains = row_gains(rows, scores)
    third = len(gains) // 3
    ordered = gains.sort("gain", "row_id", descending=True)
    ends = pl.concat(
        [
            ordered.head(third).select("row_id", inside=pl.lit(True)),
            ordered.tail(third).select("row_id", inside=pl.lit(False)),
        ]
    ).sort("row_id")
    return ends.join(rows.select("row_id", "tokens"), on="row_id", maintain_order="left")


@contextmanager
def suite_tasks(
    suite: Suite, rows: pl.DataFrame, scores: pl.DataFrame, out: Path, faulty: str = "refuse"
) -> Iterator[list[MemoryTask]]:
    """Ask both questions of each size's last scored checkpoint; hold the checkpoints meanwhile.

    Parameters
    ----------
    out : folder in which the labelled rows are kept.
    faulty : what to do with faulty checkpoints, as in a study.

    Raises
    ------
    SteerError
        Sizes end at different checkpoints.
    """
    sizes = scores["size"].unique(maintain_order=True).to_list()
    ends = scores.group_by("size").agg(pl.col("checkpoint").max())["checkpoint"].unique().to_list()
    if len(ends) > 1:
        raise SteerError(
            f"the sizes end at checkpoints {', '.join(map(str, sorted(ends)))}, expected one last "
            "checkpoint of all; score the others, too"
        )
    grid = locate(suite, sizes, ends)
    sources = {one.size: one.source for one in grid.chosen(faulty)}
    if missing := [size for size in sizes if size not in sources]:
        raise SteerError(f"checkpoint {ends[0]} of {missing[0]} cannot be read")
    read = write_task(out / "read.parquet", read_rows(rows, ends[0]))
    with ExitStack() as held:
        downloads = held.enter_context(Prefetcher())
        folders = {size: held.enter_context(downloads.held(sources[size])) for size in sizes}
        tasks = [MemoryTask(size, folders[size], "read", read) for size in sizes]
        for size in sizes:
            own = memorized_rows(rows, scores.filter(pl.col("size") == size))
            path = write_task(out / f"memorized-{size}.parquet", own)
            tasks.append(MemoryTask(size, folders[size], "memorized", path))
        yield tasks


@contextmanager
def study_tasks(
    folder: Path, out: Path, sizes: Sequence[str] = ()
) -> Iterator[tuple[list[MemoryTask], Suite]]:
    """Ask both questions of a scored study.

    Parameters
    ----------
    sizes : of the study; all by default.

    Raises
    ------
    StudyError
        There is no study, or no scores of one of the sizes.
    """
    study = open_study(folder)
    chosen = list(sizes) or list(study.sizes)
    suite = open_suite(study.suite, chosen, study.training_seed, near=folder)
    rows = read_table(folder / "rows.parquet", ROWS, "sample")
    scores = read_scores(
        folder / "scores",
        rows_sha256(rows),
        suite=suite.name,
        sizes=chosen,
        seed=suite.seed,
        settings=study.score,
    )
    with suite_tasks(suite, rows, scores, out, study.score.faulty) as tasks:
        yield tasks, suite
