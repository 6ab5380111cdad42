"""The scoring loop: units one after the other, rows in chunks, each committed before the next.

    scores/mini/xs/seed0/step32/scores.parquet    the unit's table
                                done.json         its key, hash, counts
                                quarantine.json   instead, when it needs a person
    tokens/mini/xs/seed0/step32/<key>/00000.parquet   every token's statistics, on request
    .scores/<key>/00000.parquet                   chunks of an unfinished unit

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

from pythia_profile.checkpoints.load import CheckpointLoader
from pythia_profile.checkpoints.weights import CheckpointError
from pythia_profile.errors import StudyError
from pythia_profile.schema import SCORES, conform
from pythia_profile.scoring.outcomes import Decode
from pythia_profile.scoring.rows import ScoringError, score_rows
from pythia_profile.scoring.units import (
    ScoringSettings,
    Unit,
    is_done,
    rows_sha256,
    unit_key,
)
from pythia_profile.store import (
    atomic_write,
    file_sha256,
    lease,
    make_folder,
    remove_leftovers,
    write_json,
)

__all__ = ["Work", "score_units", "token_folder", "work_folder"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Work:
    """One unit and the folder its checkpoint lies in."""

    unit: Unit
    checkpoint: Path


def work_folder(scores: Path) -> Path:
    """Folder beside `scores` for what is not finished; removed when everything is."""
    return scores.with_name(f".{scores.name}")


def token_folder(scores: Path) -> Path:
    """Folder beside `scores` for the statistics of single tokens."""
    return scores.with_name("tokens")


@dataclass(frozen=True, slots=True)
class _Desk:
    """What every unit of a run is scored with."""

    rows: pl.DataFrame
    checksum: str
    scores: Path
    settings: ScoringSettings
    loader: CheckpointLoader
    decode: Decode | None
    advance: Callable[[int], None]

    def key(self, unit: Unit) -> str:
        return unit_key(unit, self.checksum, self.settings)


def score_units(
    works: Iterable[Work],
    rows: pl.DataFrame,
    scores: Path,
    settings: ScoringSettings,
    advance: Callable[[int], None] = lambda _: None,
    *,
    decode: Decode | None = None,
) -> None:
    """Score every unit that is not done and that no other process is at.

    A checkpoint that cannot be loaded, or gives no numbers, is quarantined and the others go on.

    Parameters
    ----------
    rows : the `ROWS` table.
    scores : folder of the unit tables.
    advance : called with the number of rows scored.
    decode : from token ids to text, for outcomes that need it.

    Raises
    ------
    StudyError
        The folder cannot be written to, or the disk is full; every finished chunk is kept.
    """
    loader = CheckpointLoader(settings.dtype, settings.device, settings.attention)
    desk = _Desk(rows, rows_sha256(rows), scores, settings, loader, decode, advance)
    shared = make_folder(work_folder(scores))
    for work in works:
        key = desk.key(work.unit)
        with lease(shared / f"{key}.lease") as mine:
            if mine and not is_done(scores, work.unit, key):
                _score_unless_done_meanwhile(work, desk)


def _score_unless_done_meanwhile(work: Work, desk: _Desk) -> None:
    """Score a unit; without leases, another process may finish it first and clear its chunks."""
    try:
        _score_or_quarantine(work, desk)
    except (OSError, StudyError):
        if not is_done(desk.scores, work.unit, desk.key(work.unit)):
            raise


def _score_or_quarantine(work: Work, desk: _Desk) -> None:
    record = desk.scores / work.unit.place / "quarantine.json"
    try:
        _score_unit(work, desk)
        record.unlink(missing_ok=True)
    except (CheckpointError, ScoringError) as error:
        write_json({"key": desk.key(work.unit), "reason": str(error)}, record)
        log.warning("quarantined %s: %s", work.unit.name, error)


def _score_unit(work: Work, desk: _Desk) -> None:
    unfinished = work_folder(desk.scores) / desk.key(work.unit)
    remove_leftovers(unfinished)
    remove_leftovers(desk.scores / work.unit.place)
    settings, model = desk.settings, None
    started, scored, batch_tokens = time.monotonic(), 0, settings.batch_tokens
    batch = max(1, batch_tokens // max(1, len(desk.rows["tokens"].item(0)) - 1))
    step = max(batch, settings.chunk_rows // batch * batch)
    tokens = _tokens_of(work.unit, desk)
    if tokens is not None:
        remove_leftovers(tokens)
    parts = []
    for number, start in enumerate(range(0, len(desk.rows), step)):
        chunk = unfinished / f"{number:05d}.parquet"
        part = desk.rows[start : start + step]
        finished = _read_chunk(chunk)
        if finished is not None and (tokens is None or (tokens / chunk.name).exists()):
            parts.append(finished)
            desk.advance(len(part))
            continue
        model = model or desk.loader.load(work.checkpoint)
        found = score_rows(
            model,
            part,
            outcomes=settings.outcomes,
            keep_tokens=settings.keep_tokens,
            batch_tokens=batch_tokens,
            decode=desk.decode,
            advance=desk.advance,
        )
        if tokens is not None and found.tokens is not None:
            _write(found.tokens, tokens / chunk.name)
        _write(found.rows, chunk)
        parts.append(found.rows)
        scored, batch_tokens = scored + len(part), min(batch_tokens, found.batch_tokens)
    seconds = time.monotonic() - started
    speed = {"rows": scored, "seconds": round(seconds, 2), "batch_tokens": batch_tokens}
    _commit(work.unit, desk, pl.concat(parts), speed)
    shutil.rmtree(unfinished, ignore_errors=True)
    log.debug("scored %s: %d rows in %.1f s", work.unit.name, scored, seconds)


def _tokens_of(unit: Unit, desk: _Desk) -> Path | None:
    """Folder of the unit's token statistics, named by its key; None where they are not kept."""
    if not desk.settings.keep_tokens:
        return None
    return token_folder(desk.scores) / unit.place / desk.key(unit)[:16]


def _commit(unit: Unit, desk: _Desk, frame: pl.DataFrame, speed: dict[str, float]) -> None:
    """Write the unit's table, then leave the record that it is done.

    The record says how fast this run was; everything else in it is the same for every run.
    """
    named = frame.with_columns(
        suite=pl.lit(unit.suite),
        size=pl.lit(unit.size),
        seed=pl.lit(unit.seed, pl.Int64),
        checkpoint=pl.lit(unit.checkpoint, pl.Int64),
    )
    table = conform(named, SCORES)
    folder = desk.scores / unit.place
    _write(table, folder / "scores.parquet")
    tokens = _tokens_of(unit, desk)
    for other in (token_folder(desk.scores) / unit.place).glob("*"):
        if other != tokens:  # made in another way
            shutil.rmtree(other, ignore_errors=True)
    outcomes = [name for name, dtype in table.schema.items() if dtype.is_float()]
    record = {
        "key": desk.key(unit),
        "sha256": file_sha256(folder / "scores.parquet"),
        "rows": len(table),
        "rows_sha256": desk.checksum,
        "finite": {name: int(table[name].is_finite().sum()) for name in outcomes},
        "weights": dict(unit.weights),
        "settings": asdict(desk.settings),
        "speed": speed,
    }
    write_json(record, folder / "done.json")


def _write(frame: pl.DataFrame, path: Path) -> None:
    with atomic_write(path) as file:
        frame.write_parquet(file, compression="zstd")


def _read_chunk(chunk: Path) -> pl.DataFrame | None:
    """Read a finished chunk; None where there is none, or a damaged one, which is scored again."""
    try:
        return pl.read_parquet(chunk)
    except (pl.exceptions.PolarsError, OSError):
        return None
