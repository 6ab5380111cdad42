"""Scoring as one call: a suite, rows, sizes -> the `SCORES` table, resumable."""

import logging
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import polars as pl

from pythia_profile.checkpoints.grid import Grid, locate
from pythia_profile.checkpoints.pins import Pins
from pythia_profile.checkpoints.source import HubCheckpoint, prune_after, source_facts
from pythia_profile.checkpoints.supply import slots_for
from pythia_profile.errors import NotFoundError, StudyError, UnfinishedError
from pythia_profile.execute.commands import run_workers
from pythia_profile.execute.resources import (
    Resources,
    available_cores,
    chosen_device,
    memory_of,
    resources_for,
)
from pythia_profile.progress import track
from pythia_profile.scoring.outcomes import outcomes_of
from pythia_profile.scoring.tables import read_scores
from pythia_profile.scoring.units import (
    ScoringSettings,
    Work,
    is_done,
    rows_sha256,
    unit_key,
    units_of,
    work_folder,
)
from pythia_profile.store import read_json, write_json, write_table
from pythia_profile.suites.model import Suite
from pythia_profile.tables import ROWS, conform

__all__ = ["Shard", "part_of", "score"]

log = logging.getLogger(__name__)

WORKER = "pythia_profile.scoring.worker"
_WAIT_SECONDS = 1.0
_QUARANTINED = "quarantined"
_ADVICE = "; quarantined ones are not scored again before `score --retry`"

Shard = tuple[int, int]
"""Which part of how many, from 1 on."""


def score(
    suite: Suite,
    rows: pl.DataFrame,
    sizes: Sequence[str] | None = None,
    checkpoints: Sequence[int] | None = None,
    *,
    settings: ScoringSettings | None = None,
    folder: Path | None = None,
    workers: int | None = None,
    grid: Grid | None = None,
    faulty: str = "refuse",
    retry: bool = False,
    shard: Shard | None = None,
) -> pl.DataFrame:
    """Score `rows` at every checkpoint of every size.

    Checkpoints on the hub are listed first and judged by their listing; each is fetched when it is
    needed, checked, and deleted when it is scored.

    Parameters
    ----------
    rows : the `ROWS` table.
    sizes, checkpoints : slices of the suite; everything by default.
    settings : precision, attention, device, batch rule; by default float32 on a GPU where there is
        one.
    folder : where finished units are kept and found again; a temporary one by default.
    workers : scoring processes at most; by default what cores, memory or GPUs allow. No number
        depends on it.
    grid : the checkpoints, from `checkpoints.grid.locate`; found and judged by default.
    faulty : what to do with checkpoints that are not what they claim to be: `refuse` to score any,
        `skip` them, or `accept` them.
    retry : score units again that were quarantined; those that failed are tried again anyway.
    shard : (i, n), 1-based: only the i-th of n equal parts of the units, for one of n machines.

    Returns
    -------
    The `SCORES` table, ordered by size, checkpoint and row.

    Raises
    ------
    NotFoundError
        A size or checkpoint that the suite does not have.
    RefusedError
        Checkpoints are faulty, or the disk has no room for one.
    UnfinishedError
        Some checkpoints could not be scored; the others' tables are kept.
    """
    rows = conform(rows, ROWS)
    settings = settings or ScoringSettings()
    device = chosen_device(settings.device)
    _check_text(suite, settings)
    grid = grid or _located(suite, sizes or list(suite.sizes), checkpoints, folder)
    works = units_of(suite, grid, faulty)
    if not works:
        raise NotFoundError(f"suite '{suite.name}': none of the checkpoints asked for is there")
    works = part_of(works, shard)
    with _kept(folder) as scores:
        tokenizer = str(suite.root / suite.tokenizer) if suite.root and suite.tokenizer else None
        memory = memory_of((suite.size(w.unit.size).parameters for w in works), settings.dtype)
        resources = resources_for(len(works), available_cores(), memory, device, workers)
        plan = _Plan(rows, scores, settings, resources, tokenizer, retry, shard)
        _score_missing(works, plan)
        sizes = list(dict.fromkeys(work.unit.size for work in works))
        named: dict[str, Any] = {"suite": suite.name, "sizes": sizes, "seed": suite.seed}
        found = read_scores(scores, rows, **named, settings=settings)
        asked = [(work.unit.size, work.unit.checkpoint) for work in works]
        keys = pl.DataFrame(asked, ["size", "checkpoint"], orient="row")
        return found.join(keys, on=["size", "checkpoint"], how="semi", maintain_order="left")


def _located(
    suite: Suite, sizes: Sequence[str], checkpoints: Sequence[int] | None, folder: Path | None
) -> Grid:
    """Find the checkpoints; what the hub says is asked for once and kept in `folder`."""
    kept = folder / "pins.json" if folder is not None else None
    known = Pins.read(read_json(kept)) if kept is not None and kept.exists() else None
    grid = locate(suite, sizes, checkpoints, pins=known)
    if kept is not None and grid.pins is not None:
        write_json(grid.pins.facts(), kept)
    return grid


def part_of(works: list[Work], shard: Shard | None) -> list[Work]:
    """Return the units of one of several machines: every n-th, so that each gets all sizes.

    Raises
    ------
    StudyError
        There is no such part, or nothing is in it.
    """
    if shard is None:
        return works
    number, count = shard
    if not 1 <= number <= count:
        raise StudyError(f"shard: got {number}/{count}, expected a part from 1 to {count}")
    if count > len(works):
        raise StudyError(f"shard: {len(works)} checkpoints cannot be shared by {count} machines")
    return works[number - 1 :: count]


@dataclass(frozen=True, slots=True)
class _Plan:
    """What the workers of a run share."""

    rows: pl.DataFrame
    scores: Path
    settings: ScoringSettings
    resources: Resources
    tokenizer: str | None
    retry: bool = False
    shard: Shard | None = None


def _check_text(suite: Suite, settings: ScoringSettings) -> None:
    """Refuse outcomes that are unknown, or need a tokenizer that the suite does not have."""
    for one in outcomes_of(settings.outcomes):
        if suite.row_tokens < one.tokens_needed:
            raise NotFoundError(
                f"outcome '{one.name}' needs rows of {one.tokens_needed} tokens, those of suite "
                f"'{suite.name}' have {suite.row_tokens}"
            )
        if one.needs_text and not suite.tokenizer:
            raise NotFoundError(
                f"outcome '{one.name}' needs a tokenizer, and suite '{suite.name}' names none"
            )


def _score_missing(works: list[Work], plan: _Plan) -> None:
    checksum = rows_sha256(plan.rows)
    keys = {work.unit.place: unit_key(work.unit, checksum, plan.settings) for work in works}

    def missing() -> list[Work]:
        return [w for w in works if not is_done(plan.scores, w.unit, keys[w.unit.place])]

    def given_up(work: Work) -> tuple[str, str] | None:
        for word, name in (("quarantined", "quarantine.json"), ("failed", "failed.json")):
            record = plan.scores / work.unit.place / name
            content = read_json(record) if record.exists() else {}
            if content.get("key") == keys[work.unit.place]:
                return word, content.get("reason", "")
        return None

    left = missing()
    if not left:
        return
    for work in left:
        (plan.scores / work.unit.place / "failed.json").unlink(missing_ok=True)
        if plan.retry:
            (plan.scores / work.unit.place / "quarantine.json").unlink(missing_ok=True)
    left = [work for work in left if given_up(work) is None]
    total = len(works) * len(plan.rows)
    done = total - len(left) * len(plan.rows)
    with track("scoring", total, "rows", done=done) as task:
        while left:
            _run(left, plan, task.advance)
            left = [work for work in missing() if given_up(work) is None]
            if left:  # another process is at these units
                time.sleep(_WAIT_SECONDS)
    _tidy(plan, list(keys.values()))
    prune_after(work.checkpoint for work in works if isinstance(work.checkpoint, HubCheckpoint))
    ended = {work.unit.name: given_up(work) or ("failed", "") for work in missing()}
    if ended:
        name, (_, reason) = next(iter(ended.items()))
        words = [word for word, _ in ended.values()]
        counts = ", ".join(
            f"{words.count(word)} {word}" for word in ("quarantined", "failed") if word in words
        )
        advice = _ADVICE if _QUARANTINED in words else ""
        raise UnfinishedError(
            f"{len(ended)} of {len(works)} checkpoints could not be scored ({counts}): "
            f"{_some(list(ended))}; first ({name}): {reason}" + advice
        )


def _some(names: list[str], most: int = 12) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _tidy(plan: _Plan, keys: list[str]) -> None:
    """Remove what is unfinished; of several machines each removes what is its own."""
    everything = work_folder(plan.scores)
    if plan.shard is None:
        shutil.rmtree(everything, ignore_errors=True)
        return
    for key in keys:
        shutil.rmtree(everything / key, ignore_errors=True)
        (everything / f"{key}.lease").unlink(missing_ok=True)
    with suppress(OSError):  # others are still at work in it
        everything.rmdir()


def _run(works: list[Work], plan: _Plan, advance: Callable[[int], None]) -> None:
    """Let workers share the units, the largest models first."""
    places = plan.resources.devices[: len(works)]
    content = {
        "settings": asdict(plan.settings),
        "tokenizer": plan.tokenizer,
        "slots": slots_for(len(places)),
        "works": [
            {
                "unit": asdict(work.unit),
                "checkpoint": source_facts(work.checkpoint),
                "shape": work.shape,
            }
            for work in reversed(works)
        ],
    }

    def hear(line: str) -> None:
        if line.isdigit():
            advance(int(line))
        else:
            log.info("%s", line)

    with tempfile.TemporaryDirectory(prefix="pythia-profile-") as own:  # another run may end first
        files = Path(own, "plan.json"), Path(own, "rows.parquet")
        write_json(content, files[0])
        write_table(plan.rows, files[1], ROWS)
        command = [WORKER, *map(str, files), str(plan.scores)]
        commands = [[*command, place] for place in places]
        run_workers(commands, workers=len(places), on_line=hear, threads=plan.resources.threads)


@contextmanager
def _kept(folder: Path | None) -> Iterator[Path]:
    if folder is not None:
        yield folder
    else:
        with tempfile.TemporaryDirectory(prefix="pythia-profile-") as temporary:
            yield Path(temporary)
