"""The scoring loop: units one after the other, rows in chunks, each committed before the next.

    scores/mini/xs/seed0/step32/                  a unit's table and record, see `records`
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
from contextlib import ExitStack
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any

import polars as pl

from data_order.errors import RemoteError
from pythia_profile.checkpoints.load import CheckpointLoader
from pythia_profile.checkpoints.prefetch import Prefetcher
from pythia_profile.checkpoints.weights import CheckpointError
from pythia_profile.errors import StudyError
from pythia_profile.execute.resources import chosen_device
from pythia_profile.execute.turns import ClaimNext, take_turns
from pythia_profile.redaction import redact
from pythia_profile.scoring.forward import ScoringError, score_rows
from pythia_profile.scoring.outcomes import Decode
from pythia_profile.scoring.records import is_done, unfinished
from pythia_profile.scoring.settings import Scoring
from pythia_profile.scoring.units import (
    Unit,
    Work,
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

__all__ = ["Session", "score_units"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class Session:
    """What every unit of a run is scored with.

    Attributes
    ----------
    rows : the `ROWS` table.
    scores : folder of the unit tables.
    settings : what numbers depend on.
    chunk_rows : rows committed at a time; no number depends on it.
    decode : from token ids to text, for outcomes that need it.
    prefetcher : brings checkpoints of the hub.
    retry : whether units that were given up before are tried again.
    advance : called with the number of rows scored.
    begin : called with the name of each unit before its rows.
    """

    rows: pl.DataFrame
    scores: Path
    settings: Scoring
    chunk_rows: int = 1024
    decode: Decode | None = None
    prefetcher: Prefetcher | None = None
    retry: bool = True
    advance: Callable[[int], None] = lambda _: None
    begin: Callable[[str], None] = lambda _: None

    @cached_property
    def rows_sha256(self) -> str:
        """Hash of the rows."""
        return rows_sha256(self.rows)

    @cached_property
    def loader(self) -> CheckpointLoader:
        """Loads one checkpoint after the other into the same model."""
        device = chosen_device(self.settings.device)
        return CheckpointLoader(self.settings.dtype, device, self.settings.attention)

    @cached_property
    def downloads(self) -> Prefetcher:
        """The prefetcher that is used."""
        return self.prefetcher or Prefetcher()

    def key(self, unit: Unit) -> str:
        """Hash of everything that a number of this unit depends on."""
        return unit_key(unit, self.rows_sha256, self.settings)


def score_units(works: Iterable[Work], session: Session) -> None:
    """Score every unit that is not done and that no other process is at.

    A checkpoint that cannot be loaded, or gives no numbers, is quarantined, one that cannot be
    fetched is left for a later run, and the others go on. While one is scored the next is fetched.

    Raises
    ------
    StudyError
        The folder cannot be written to, or the disk is full; every finished chunk is kept.
    RefusedError
        The disk has no room for the next checkpoint; every finished chunk is kept.
    """
    make_folder(work_folder(session.scores))
    with session.downloads as downloads:

        def do(work: Work, claim_next: ClaimNext[Work]) -> None:
            def begin_next() -> None:
                following = claim_next()
                if following is not None and not following.fault:
                    downloads.begin(following.checkpoint)

            _score_unless_done_meanwhile(work, session, begin_next)

        take_turns(works, partial(_claimed, session), do)


def _claimed(session: Session, work: Work) -> ExitStack | None:
    """Hold a unit's lease; None where it is done, given up, or another process is at it."""
    key = session.key(work.unit)
    with ExitStack() as stack:
        mine = stack.enter_context(lease(work_folder(session.scores) / f"{key}.lease"))
        # What another worker of this run gave up meanwhile is not fetched a second time.
        given_up = not session.retry and unfinished(session.scores, work.unit, key)
        if mine and not given_up and not is_done(session.scores, work.unit, key):
            return stack.pop_all()
    return None


def _score_unless_done_meanwhile(
    work: Work, session: Session, begin_next: Callable[[], None]
) -> None:
    """Score a unit; without leases, another process may finish it first and clear its chunks."""
    try:
        _score_or_quarantine(work, session, begin_next)
    except (OSError, StudyError):
        if not is_done(session.scores, work.unit, session.key(work.unit)):
            raise


def _score_or_quarantine(work: Work, session: Session, begin_next: Callable[[], None]) -> None:
    folder = session.scores / work.unit.path
    quarantined, failed = folder / "quarantine.json", folder / "failed.json"
    try:
        _score_unit(work, session, begin_next)
        quarantined.unlink(missing_ok=True)
        failed.unlink(missing_ok=True)
    except (CheckpointError, ScoringError) as error:
        _give_up(work, session, error, quarantined)
        failed.unlink(missing_ok=True)
        log.warning("quarantined %s: %s", work.unit.name, error)
    except RemoteError as error:
        if is_done(session.scores, work.unit, session.key(work.unit)):  # by another process
            return
        _give_up(work, session, error, failed)
        quarantined.unlink(missing_ok=True)
        log.warning("left %s for a later run: %s", work.unit.name, error)


def _give_up(work: Work, session: Session, error: Exception, record: Path) -> None:
    """Write the reason, and remove a table of other weights or rows, lest it pass for this one."""
    for name in ("done.json", "scores.parquet"):
        record.with_name(name).unlink(missing_ok=True)
    write_json({"key": session.key(work.unit), "reason": redact(str(error))}, record)


def _score_unit(work: Work, session: Session, begin_next: Callable[[], None]) -> None:
    """Score what is missing of a unit; its checkpoint is held from the first need on."""
    if work.fault:
        raise CheckpointError(work.fault)
    unfinished = work_folder(session.scores) / session.key(work.unit)
    tokens = _tokens_of(work.unit, session)
    for folder in (
        unfinished,
        session.scores / work.unit.path,
        token_folder(session.scores) / work.unit.path,
    ):
        remove_leftovers(folder)
    settings, model = session.settings, None
    session.begin(work.unit.name)
    started, scored = time.monotonic(), 0
    # Chunks end where batches end, so that their size changes no batch and no number.
    batch = max(1, settings.batch_tokens // max(1, len(session.rows["tokens"].item(0)) - 1))
    step = max(batch, session.chunk_rows // batch * batch)
    parts, loaded = [], unfinished / "architecture.json"
    with ExitStack() as files:
        for number, start in enumerate(range(0, len(session.rows), step)):
            chunk = unfinished / f"{number:05d}.parquet"
            part = session.rows[start : start + step]
            finished = _read_chunk(chunk)
            if finished is not None and (tokens is None or (tokens / chunk.name).exists()):
                parts.append(finished)
                session.advance(len(part))
                continue
            if model is None:
                folder = files.enter_context(session.downloads.held(work.checkpoint))
                model = session.loader.load(folder)
                _check_shape(model.config, work)
                write_json(session.loader.architecture, loaded)
                if not isinstance(work.checkpoint, Path):
                    begin_next()
                started = time.monotonic()
            found = score_rows(
                model, part, settings, decode=session.decode, advance=session.advance
            )
            if tokens is not None and found.tokens is not None:
                _write(found.tokens, tokens / chunk.name)
            _write(found.rows, chunk)
            parts.append(found.rows)
            scored += len(part)
            # Memory that ran out once will do so again: later chunks begin with the halved batch.
            smaller = min(settings.batch_tokens, found.batch_tokens)
            settings = settings.model_copy(update={"batch_tokens": smaller})
    seconds = time.monotonic() - started
    speed = {"rows": scored, "seconds": round(seconds, 2), "batch_tokens": settings.batch_tokens}
    architecture = session.loader.architecture if model is not None else read_json(loaded)
    _commit(work.unit, session, pl.concat(parts), {"speed": speed, "architecture": architecture})
    shutil.rmtree(unfinished, ignore_errors=True)
    log.debug("scored %s: %d rows in %.1f s", work.unit.name, scored, seconds)


def _check_shape(config: Any, work: Work) -> None:
    """Refuse a checkpoint of another model than the suite states: its numbers would mix unseen."""
    names = ("num_hidden_layers", "hidden_size", "num_attention_heads")
    found = tuple(getattr(config, name, None) for name in names)
    if work.shape and found != work.shape:
        words = ("layers", "width", "heads")
        got, expected = (
            ", ".join(f"{name} {value}" for name, value in zip(words, shape, strict=True))
            for shape in (found, work.shape)
        )
        raise CheckpointError(
            f"checkpoint {work.unit.checkpoint} of {work.unit.size} is of another architecture: "
            f"got {got}, the suite states {expected}"
        )


def _tokens_of(unit: Unit, session: Session) -> Path | None:
    """Folder of the unit's token statistics, named by its key; None where they are not kept."""
    if not session.settings.token_table:
        return None
    return token_folder(session.scores) / unit.path / session.key(unit)[:16]


def _commit(unit: Unit, session: Session, frame: pl.DataFrame, run: dict[str, Any]) -> None:
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
    folder = session.scores / unit.path
    _write(table, folder / "scores.parquet")
    tokens = _tokens_of(unit, session)
    for other in (token_folder(session.scores) / unit.path).glob("*"):
        if other != tokens:  # made under other settings
            shutil.rmtree(other, ignore_errors=True)
    outcomes = [name for name, dtype in table.schema.items() if dtype.is_float()]
    record = {
        "key": session.key(unit),
        "sha256": file_sha256(folder / "scores.parquet"),
        "rows": len(table),
        "rows_sha256": session.rows_sha256,
        "finite": {name: int(table[name].is_finite().sum()) for name in outcomes},
        "weights": dict(unit.weights),
        "settings": session.settings.numerics,
        "device": session.loader.device,
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
