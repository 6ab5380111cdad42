"""The scoring loop: units one after the other, rows in chunks, each committed before the next.

    scores/suite=mini/size=xs/seed=0/checkpoint=32/scores.parquet   the unit's table
                                                   done.json        its key, hash, counts
                                                   quarantine.json  instead, when it needs a person
    scores/.work/<key>/00000.parquet                                chunks of an unfinished unit

Killed at any moment, a later run repeats at most one chunk and ends with the same bytes. A lease
keeps two processes from doing the same unit; it only saves work, because every file appears whole
and two processes would write the same bytes.
"""

import logging
import shutil
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

import polars as pl
from filelock import FileLock, Timeout

from pythia_profile.checkpoints.load import CheckpointLoader
from pythia_profile.checkpoints.weights import CheckpointError
from pythia_profile.schema import SCORES, conform
from pythia_profile.scoring.score import ScoringError, score_checkpoint
from pythia_profile.scoring.units import (
    ScoringSettings,
    Unit,
    is_done,
    rows_sha256,
    unit_key,
)
from pythia_profile.store import atomic_write, file_sha256, remove_leftovers, write_json

__all__ = ["Work", "score_units"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Work:
    """One unit and the folder its checkpoint lies in."""

    unit: Unit
    checkpoint: Path


def score_units(
    works: Iterable[Work],
    rows: pl.DataFrame,
    scores: Path,
    settings: ScoringSettings,
    advance: Callable[[int], None] = lambda _: None,
) -> None:
    """Score every unit that is not done and that no other process is at.

    A checkpoint that cannot be loaded, or gives no numbers, is quarantined and the others go on.

    Parameters
    ----------
    rows : the `ROWS` table.
    scores : folder of the unit tables.
    advance : called with the number of rows scored.

    Raises
    ------
    StudyError
        The folder cannot be written to, or the disk is full; every finished chunk is kept.
    """
    loader = CheckpointLoader(settings.dtype, settings.device, settings.attention)
    checksum = rows_sha256(rows)
    for work in works:
        key = unit_key(work.unit, checksum, settings)
        lease = FileLock(scores / ".work" / f"{key}.lease")
        try:
            lease.acquire(blocking=False)
        except Timeout:
            continue
        with lease:
            if not is_done(scores, work.unit, key):
                _score_or_quarantine(work, key, rows, scores, settings, loader, advance)


def _score_or_quarantine(
    work: Work,
    key: str,
    rows: pl.DataFrame,
    scores: Path,
    settings: ScoringSettings,
    loader: CheckpointLoader,
    advance: Callable[[int], None],
) -> None:
    folder = scores / work.unit.place
    try:
        _score_unit(work, key, rows, scores, settings, loader, advance)
        (folder / "quarantine.json").unlink(missing_ok=True)
    except (CheckpointError, ScoringError) as error:
        write_json({"key": key, "reason": str(error)}, folder / "quarantine.json")
        log.warning("quarantined %s: %s", work.unit.name, error)


def _score_unit(
    work: Work,
    key: str,
    rows: pl.DataFrame,
    scores: Path,
    settings: ScoringSettings,
    loader: CheckpointLoader,
    advance: Callable[[int], None],
) -> None:
    unfinished = scores / ".work" / key
    remove_leftovers(unfinished)
    model, started, scored = None, time.monotonic(), 0
    batch = max(1, settings.batch_tokens // max(1, len(rows["tokens"].item(0)) - 1))
    step = max(batch, settings.chunk_rows // batch * batch)
    chunks = []
    for number, start in enumerate(range(0, len(rows), step)):
        chunk = unfinished / f"{number:05d}.parquet"
        chunks.append(chunk)
        if _is_whole(chunk):
            advance(len(rows[start : start + step]))
            continue
        model = model or loader.load(work.checkpoint)
        frame = score_checkpoint(
            model, rows[start : start + step], batch_tokens=settings.batch_tokens, advance=advance
        )
        _write(frame, chunk)
        scored += len(frame)
    _commit(work.unit, key, rows_sha256(rows), chunks, scores, settings)
    shutil.rmtree(unfinished, ignore_errors=True)
    seconds = time.monotonic() - started
    log.debug("scored %s: %d rows in %.1f s", work.unit.name, scored, seconds)


def _commit(
    unit: Unit,
    key: str,
    checksum: str,
    chunks: list[Path],
    scores: Path,
    settings: ScoringSettings,
) -> None:
    """Join the chunks into the unit's table, then leave the record that it is done."""
    named = pl.concat([pl.read_parquet(chunk) for chunk in chunks]).with_columns(
        suite=pl.lit(unit.suite),
        size=pl.lit(unit.size),
        seed=pl.lit(unit.seed, pl.Int64),
        checkpoint=pl.lit(unit.checkpoint, pl.Int64),
    )
    table = conform(named, SCORES)
    folder = scores / unit.place
    _write(table, folder / "scores.parquet")
    outcomes = [name for name, dtype in table.schema.items() if dtype.is_float()]
    record = {
        "key": key,
        "sha256": file_sha256(folder / "scores.parquet"),
        "rows": len(table),
        "rows_sha256": checksum,
        "finite": {name: int(table[name].is_finite().sum()) for name in outcomes},
        "weights": dict(unit.weights),
        "settings": asdict(settings),
    }
    write_json(record, folder / "done.json")


def _write(frame: pl.DataFrame, path: Path) -> None:
    with atomic_write(path) as file:
        frame.write_parquet(file, compression="zstd")


def _is_whole(chunk: Path) -> bool:
    """Whether a chunk is there and readable; one that is not gets written again."""
    if not chunk.exists():
        return False
    try:
        pl.read_parquet_metadata(chunk)
    except (pl.exceptions.PolarsError, OSError):
        return False
    return True
