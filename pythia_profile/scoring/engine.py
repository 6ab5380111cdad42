"""The scoring loop: units one after the other, rows in chunks, each committed before the next.

    scores/mini/xs/seed0/step32/scores.parquet    the unit's table
                                done.json         its key, hash, counts
                                quarantine.json   instead, when it needs a person
                                failed.json       instead, when a later run may succeed
    tokens/mini/xs/seed0/step32/<key>/00000.parquet   every token's statistics, on request
    .scores/<key>/00000.parquet                   chunks of an unfinished unit

Killed at any moment, a later run repeats at most one chunk and ends with the same bytes. A lease
keeps two processes from doing the same unit; it only saves work, because every file appears whole
and two processes would write the same bytes.
"""

import logging
import shutil
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl

from data_order.errors import RemoteError
from pythia_profile.checkpoints.load import CheckpointLoader
from pythia_profile.checkpoints.supply import Supply
from pythia_profile.checkpoints.weights import CheckpointError
from pythia_profile.errors import StudyError
from pythia_profile.execute.resources import chosen_device
from pythia_profile.redaction import redact
from pythia_profile.scoring.outcomes import Decode
from pythia_profile.scoring.rows import ScoringError, score_rows
from pythia_profile.scoring.units import (
    ScoringSettings,
    Unit,
    Work,
    is_done,
    rows_sha256,
    token_folder,
    unit_key,
    work_folder,
)
from pythia_profile.store import (
    atomic_write,
    file_sha256,
    lease,
    make_folder,
    read_json,
    remove_leftovers,
    write_json,
)
from pythia_profile.tables import SCORES, conform

__all__ = ["Work", "score_units", "token_folder", "work_folder"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class _Desk:
    """What every unit of a run is scored with."""

    rows: pl.DataFrame
    checksum: str
    scores: Path
    settings: ScoringSettings
    loader: CheckpointLoader
    supply: Supply
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
    supply: Supply | None = None,
) -> None:
    """Score every unit that is not done and that no other process is at.

    A checkpoint that cannot be loaded, or gives no numbers, is quarantined, one that cannot be
    fetched is left for a later run, and the others go on. While one is scored the next is fetched.

    Parameters
    ----------
    rows : the `ROWS` table.
    scores : folder of the unit tables.
    advance : called with the number of rows scored.
    decode : from token ids to text, for outcomes that need it.
    supply : brings checkpoints of the hub; by default one at a time and the next.

    Raises
    ------
    StudyError
        The folder cannot be written to, or the disk is full; every finished chunk is kept.
    RefusedError
        The disk has no room for the next checkpoint; every finished chunk is kept.
    """
    device = chosen_device(settings.device)
    loader = CheckpointLoader(settings.dtype, device, settings.attention)
    shared = make_folder(work_folder(scores))
    with supply or Supply(shared) as supplied:
        checksum = rows_sha256(rows)
        desk = _Desk(rows, checksum, scores, settings, loader, supplied, decode, advance)
        claims = _claims(works, desk)
        claim = next(claims, None)
        while claim is not None:
            ahead = _Ahead(claims, supplied)
            with claim.lease:
                _score_unless_done_meanwhile(claim.work, desk, ahead)
            claim = ahead.claim or next(claims, None)


@dataclass(frozen=True, slots=True)
class _Claim:
    """A unit that is this process's to score while the lease is held."""

    work: Work
    lease: ExitStack


def _claims(works: Iterable[Work], desk: _Desk) -> Iterator[_Claim]:
    """Take one unit after the other that is not done and that no other process is at."""
    for work in works:
        key = desk.key(work.unit)
        with ExitStack() as stack:
            mine = stack.enter_context(lease(work_folder(desk.scores) / f"{key}.lease"))
            if mine and not is_done(desk.scores, work.unit, key):
                yield _Claim(work, stack.pop_all())


@dataclass(slots=True)
class _Ahead:
    """Claims the next unit and has its checkpoint fetched, if there is room for it."""

    claims: Iterator[_Claim]
    supply: Supply
    claim: _Claim | None = None

    def __call__(self) -> None:
        if self.claim is None and self.supply.reserve():
            self.claim = next(self.claims, None)
            self.supply.begin(self.claim.work.checkpoint if self.claim else None)


def _score_unless_done_meanwhile(work: Work, desk: _Desk, ahead: Callable[[], None]) -> None:
    """Score a unit; without leases, another process may finish it first and clear its chunks."""
    try:
        _score_or_quarantine(work, desk, ahead)
    except (OSError, StudyError):
        if not is_done(desk.scores, work.unit, desk.key(work.unit)):
            raise


def _score_or_quarantine(work: Work, desk: _Desk, ahead: Callable[[], None]) -> None:
    folder = desk.scores / work.unit.place
    quarantined, failed = folder / "quarantine.json", folder / "failed.json"
    try:
        _score_unit(work, desk, ahead)
        quarantined.unlink(missing_ok=True)
        failed.unlink(missing_ok=True)
    except (CheckpointError, ScoringError) as error:
        _give_up(work, desk, error, quarantined)
        failed.unlink(missing_ok=True)
        log.warning("quarantined %s: %s", work.unit.name, error)
    except RemoteError as error:
        if is_done(desk.scores, work.unit, desk.key(work.unit)):  # by another process
            return
        _give_up(work, desk, error, failed)
        quarantined.unlink(missing_ok=True)
        log.warning("left %s for a later run: %s", work.unit.name, error)


def _give_up(work: Work, desk: _Desk, error: Exception, record: Path) -> None:
    """Say why, and remove a table of other weights or rows, lest it be taken for that of these."""
    for name in ("done.json", "scores.parquet"):
        record.with_name(name).unlink(missing_ok=True)
    write_json({"key": desk.key(work.unit), "reason": redact(str(error))}, record)


def _score_unit(work: Work, desk: _Desk, ahead: Callable[[], None]) -> None:
    with ExitStack() as files:
        _score_chunks(work, desk, files, ahead)


def _score_chunks(work: Work, desk: _Desk, files: ExitStack, ahead: Callable[[], None]) -> None:
    """Score what is missing of a unit; its checkpoint is held by `files` from the first need on."""
    unfinished = work_folder(desk.scores) / desk.key(work.unit)
    remove_leftovers(unfinished)
    remove_leftovers(desk.scores / work.unit.place)
    remove_leftovers(token_folder(desk.scores) / work.unit.place)
    settings, model = desk.settings, None
    started, scored, batch_tokens = time.monotonic(), 0, settings.batch_tokens
    batch = max(1, batch_tokens // max(1, len(desk.rows["tokens"].item(0)) - 1))
    step = max(batch, settings.chunk_rows // batch * batch)
    tokens = _tokens_of(work.unit, desk)
    parts, loaded = [], unfinished / "architecture.json"
    for number, start in enumerate(range(0, len(desk.rows), step)):
        chunk = unfinished / f"{number:05d}.parquet"
        part = desk.rows[start : start + step]
        finished = _read_chunk(chunk)
        if finished is not None and (tokens is None or (tokens / chunk.name).exists()):
            parts.append(finished)
            desk.advance(len(part))
            continue
        if model is None:
            model = desk.loader.load(files.enter_context(desk.supply.held(work.checkpoint)))
            _check_shape(model.config, work)
            write_json(desk.loader.architecture, loaded)
            if not isinstance(work.checkpoint, Path):
                ahead()
            started = time.monotonic()
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
    architecture = desk.loader.architecture if model is not None else read_json(loaded)
    _commit(work.unit, desk, pl.concat(parts), {"speed": speed, "architecture": architecture})
    shutil.rmtree(unfinished, ignore_errors=True)
    log.debug("scored %s: %d rows in %.1f s", work.unit.name, scored, seconds)


def _check_shape(config: Any, work: Work) -> None:
    """Refuse a checkpoint of another model than the suite says; its numbers would mix unseen."""
    names = ("num_hidden_layers", "hidden_size", "num_attention_heads")
    found = tuple(getattr(config, name, None) for name in names)
    if work.shape and found != work.shape:
        said = ("layers", "width", "heads")
        got, expected = (
            ", ".join(f"{name} {value}" for name, value in zip(said, shape, strict=True))
            for shape in (found, work.shape)
        )
        raise CheckpointError(
            f"checkpoint {work.unit.checkpoint} of {work.unit.size} is of another architecture: "
            f"got {got}, the suite says {expected}"
        )


def _tokens_of(unit: Unit, desk: _Desk) -> Path | None:
    """Folder of the unit's token statistics, named by its key; None where they are not kept."""
    if not desk.settings.keep_tokens:
        return None
    return token_folder(desk.scores) / unit.place / desk.key(unit)[:16]


def _commit(unit: Unit, desk: _Desk, frame: pl.DataFrame, run: dict[str, Any]) -> None:
    """Write the unit's table, then leave the record that it is done.

    Everything in the record is the same for every run, but for the speed.
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
        "device": desk.loader.device,
        **run,
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
