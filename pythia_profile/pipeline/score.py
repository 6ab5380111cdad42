"""Scoring of a study: its settings and its lock file -> its units, scored.

In: the settings and the `ROWS` table of a study. Out: `scores/` in its folder, and in the lock file
what was pinned, what the audit found, and what the user chose to do about it. Or `noise.parquet`:
how far the scores of one checkpoint move when only the execution settings change.
"""

from contextlib import suppress
from pathlib import Path

import numpy as np
import polars as pl

from pythia_profile.checkpoints.prefetch import Prefetcher
from pythia_profile.checkpoints.verdicts import tally
from pythia_profile.errors import NotFoundError, StudyError, UnfinishedError, not_found
from pythia_profile.pipeline.pinned import study_grid
from pythia_profile.scoring.settings import RunOptions
from pythia_profile.scoring.units import rows_sha256, units_of
from pythia_profile.store import file_sha256, read_table, write_table
from pythia_profile.study import Study, read_lock, update_lock
from pythia_profile.suites.model import Suite
from pythia_profile.tables import ATT, NOISE, ROWS

__all__ = ["rows_hash", "score_study", "study_noise"]

NOISE_ROWS = 64
"""Rows that the noise floor is measured on, spread over all rows of a study."""


def score_study(folder: Path, study: Study, suite: Suite, options: RunOptions | None = None) -> str:
    """Score what a study asks for and does not have; returns a one-line summary.

    Raises
    ------
    RefusedError
        Checkpoints are faulty and the study says to refuse them, or the disk has no room.
    UnfinishedError
        Some checkpoints could not be scored, or all are required and some are missing; the others'
        tables are kept.
    """
    from pythia_profile.scoring.run import score_grid  # loads torch, which `status` does not need

    options = options or RunOptions()
    rows = read_table(folder / "rows.parquet", ROWS, "sample")
    grid, settings = study_grid(folder, study, suite), study.score
    scores = score_grid(suite, rows, grid, folder / "scores", settings, options)
    if options.require_complete and grid.missing:
        first = grid.missing[0]
        raise UnfinishedError(
            f"{len(grid.missing)} of {len(grid.verdicts)} checkpoints are missing, the first is "
            f"{first.step} of {first.size} ({'; '.join(first.reasons)}); the others are scored"
        )
    scored = scores.select("size", "checkpoint").unique().height
    line = f"score: {len(rows):,} rows at {scored:,} checkpoints of {len(study.sizes)} sizes"
    if options.shard is not None:
        whole = len(units_of(suite, grid, settings.faulty))
        part, parts = options.shard
        line = (
            f"score: {len(rows):,} rows at {scored:,} of {whole:,} checkpoints, part {part} of "
            f"{parts}"
        )
    if grid.missing or grid.faulty:
        chosen = f": {_CHOSEN[settings.faulty]}" if grid.faulty else ""
        count = tally(len(grid.faulty), len(grid.missing), len(grid.verdicts))
        line += f" ({count}{chosen})"
    return line


def rows_hash(folder: Path) -> str:
    """Hash of a study's rows, as unit keys have it; computed once and kept in the lock file.

    It is kept beside the hash of the file, which tells whether it still holds.
    """
    path, known = folder / "rows.parquet", read_lock(folder).get("rows", {})
    file = file_sha256(path) if path.exists() else ""
    if file and known.get("file") == file and isinstance(known.get("tokens"), str):
        return str(known["tokens"])
    tokens = rows_sha256(read_table(path, ROWS, "sample"))
    with suppress(StudyError):  # a study that cannot be written to is read all the same
        update_lock(folder, "rows", {"file": file, "tokens": tokens})
    return tokens


def study_noise(
    folder: Path,
    study: Study,
    suite: Suite,
    *,
    size: str | None = None,
    checkpoint: int | None = None,
    rows: int = NOISE_ROWS,
) -> pl.DataFrame:
    """Measure the noise floor of a study's scores at one checkpoint; keep it in `noise.parquet`.

    Parameters
    ----------
    size, checkpoint : by default the last checkpoint of the last size.
    rows : how many of the study's rows are scored.

    Returns
    -------
    The `NOISE` table; in units of the smallest standard error where there is an `att.parquet`.

    Raises
    ------
    NotFoundError
        The study has no such size or checkpoint.
    """
    from pythia_profile.scoring.noise import noise_floor

    drawn = read_table(folder / "rows.parquet", ROWS, "sample")
    works = units_of(suite, study_grid(folder, study, suite), study.score.faulty)
    size = size or study.sizes[-1]
    of_size = {work.unit.checkpoint: work for work in works if work.unit.size == size}
    step = max(of_size, default=0) if checkpoint is None else checkpoint
    if size not in study.sizes:
        raise not_found("size", size, list(study.sizes))
    if step not in of_size:
        raise NotFoundError(
            f"the study has no checkpoint {step} of size '{size}'; known: "
            f"{', '.join(map(str, sorted(of_size)))}"
        )
    spread = np.unique(np.linspace(0, len(drawn) - 1, min(rows, len(drawn))).astype(int))
    decode = None
    if suite.root and suite.tokenizer:
        from tokenizers import Tokenizer

        decode = Tokenizer.from_file(str(suite.root / suite.tokenizer)).decode
    with (
        Prefetcher() as downloads,
        downloads.held(of_size[step].checkpoint) as files,
    ):
        found = noise_floor(
            files,
            drawn[spread],
            settings=study.score,
            smallest_se=_smallest_se(folder, size),
            decode=decode,
        )
    write_table(found, folder / "noise.parquet", NOISE)
    return found


def _smallest_se(folder: Path, size: str) -> dict[str, float]:
    """Smallest standard error of an effect of one size, by outcome; nothing before `att`."""
    path = folder / "att.parquet"
    if not path.exists():
        return {}
    effects = read_table(path, ATT, "att").filter((pl.col("size") == size) & (pl.col("se") > 0))
    return dict(effects.group_by("outcome").agg(pl.col("se").min()).iter_rows())


_CHOSEN = {"skip": "left out", "accept": "scored all the same", "refuse": "refused"}
