"""Scoring as one call: a suite, rows, sizes -> the `SCORES` table, resumable."""

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from pythia_profile.checkpoints.grid import Grid, locate
from pythia_profile.checkpoints.pins import Pins
from pythia_profile.checkpoints.prefetch import Prefetcher
from pythia_profile.checkpoints.source import HubCheckpoint, prune_after
from pythia_profile.errors import NotFoundError, StudyError, UnfinishedError
from pythia_profile.execute.executors import Cluster, Worker, map_units
from pythia_profile.execute.resources import (
    Resources,
    available_cores,
    chosen_device,
    memory_of,
    resources_for,
)
from pythia_profile.execute.time_left import Part, model_cost
from pythia_profile.execute.turns import dearest_first, shares
from pythia_profile.progress import track
from pythia_profile.scoring.outcomes import outcomes_of
from pythia_profile.scoring.records import is_done, read_scores, unfinished
from pythia_profile.scoring.settings import RunOptions, Scoring
from pythia_profile.scoring.units import Work, rows_sha256, unit_key, units_of, work_folder
from pythia_profile.store import read_json, write_json, write_table
from pythia_profile.suites.model import Suite
from pythia_profile.suites.registry import as_suite
from pythia_profile.tables import ROWS, conform

__all__ = ["check_scorers", "part_of", "score", "score_grid"]

_WAIT_SECONDS = 1.0
_QUARANTINED = "quarantined"
_ADVICE = "; quarantined ones are not scored again before `score --retry`"


def score(
    suite: Suite | str | Path,
    rows: pl.DataFrame,
    sizes: Sequence[str] | None = None,
    checkpoints: Sequence[int] | None = None,
    *,
    settings: Scoring | None = None,
    options: RunOptions | None = None,
    folder: Path | None = None,
) -> pl.DataFrame:
    """Score `rows` at every checkpoint of every size.

    Checkpoints on the hub are listed first and judged by their listing; each is fetched when it is
    needed, checked, and deleted when it is scored.

    Parameters
    ----------
    suite : or its name, or its folder.
    rows : the `ROWS` table.
    sizes, checkpoints : slices of the suite; everything by default.
    settings : precision, attention, device, batch rule, what to do with faulty checkpoints; by
        default float32 on a GPU where there is one, and faulty ones are refused.
    options : workers, retries, part of the work; no number depends on them.
    folder : where finished units are kept and found again; a temporary one by default.

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
    settings = settings or Scoring()
    suite = as_suite(suite, sizes or ())
    grid = _located(suite, sizes or list(suite.sizes), checkpoints, folder)
    with _kept(folder) as scores:
        return score_grid(suite, rows, grid, scores, settings, options)


def score_grid(
    suite: Suite,
    rows: pl.DataFrame,
    grid: Grid,
    scores: Path,
    settings: Scoring,
    options: RunOptions | None = None,
) -> pl.DataFrame:
    """Score `rows` at the checkpoints of a grid, as `score` does; units are kept in `scores`."""
    rows, options = conform(rows, ROWS), options or RunOptions()
    device = chosen_device(settings.device)
    check_scorers(suite, settings)
    works = units_of(suite, grid, settings.faulty)
    if not works:
        why = next((f" ({'; '.join(v.reasons)})" for v in grid.verdicts if v.reasons), "")
        raise NotFoundError(f"suite '{suite.name}': none of the checkpoints asked for exists{why}")
    costs = {w.unit.size: model_cost(suite.size(w.unit.size).parameters) for w in works}
    works = part_of(works, options.shard, costs)
    memory = memory_of((suite.size(w.unit.size).parameters for w in works), settings.dtype)
    executor: Resources | Cluster = options.cluster or resources_for(
        len(works), available_cores(), memory, device, options.workers
    )
    tokenizer = str(suite.root / suite.tokenizer) if suite.root and suite.tokenizer else None
    run = _Run(rows, rows_sha256(rows), scores, settings, options, executor, tokenizer, costs)
    _score_missing(works, run)
    found = read_scores(
        scores,
        run.rows_sha256,
        suite=suite.name,
        sizes=list(dict.fromkeys(work.unit.size for work in works)),
        seed=suite.seed,
        settings=settings,
    )
    asked = [(work.unit.size, work.unit.checkpoint) for work in works]
    keys = pl.DataFrame(asked, ["size", "checkpoint"], orient="row")
    return found.join(keys, on=["size", "checkpoint"], how="semi", maintain_order="left")


def _located(
    suite: Suite, sizes: Sequence[str], checkpoints: Sequence[int] | None, folder: Path | None
) -> Grid:
    """Find the checkpoints; the hub is asked once, and its answer kept in `folder`."""
    kept = folder / "pins.json" if folder is not None else None
    known = Pins.read(read_json(kept)) if kept is not None and kept.exists() else None
    grid = locate(suite, sizes, checkpoints, pins=known)
    if kept is not None and grid.pins is not None:
        write_json(grid.pins.facts(), kept)
    return grid


def part_of(
    works: list[Work], shard: tuple[int, int] | None, costs: Mapping[str, float]
) -> list[Work]:
    """Return the units of one of several machines: about equally much work for each.

    Parameters
    ----------
    shard : which of how many, from 1 on; None for all units.
    costs : of a checkpoint of each size.

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
    return shares(works, count, lambda work: costs[work.unit.size])[number - 1]


@dataclass(frozen=True, slots=True)
class _Run:
    """One run over some units: what is scored, where, how, and on what."""

    rows: pl.DataFrame
    rows_sha256: str
    scores: Path
    settings: Scoring
    options: RunOptions
    executor: Resources | Cluster
    tokenizer: str | None
    costs: dict[str, float]


def check_scorers(suite: Suite, settings: Scoring) -> None:
    """Refuse outcomes that are unknown, or need a tokenizer that the suite does not have."""
    for one in outcomes_of(settings.scorers):
        if suite.row_tokens < one.tokens_needed:
            raise NotFoundError(
                f"outcome '{one.name}' needs rows of {one.tokens_needed} tokens, those of suite "
                f"'{suite.name}' have {suite.row_tokens}"
            )
        if one.needs_text and not suite.tokenizer:
            raise NotFoundError(
                f"outcome '{one.name}' needs a tokenizer, and suite '{suite.name}' names none"
            )


def _score_missing(works: list[Work], run: _Run) -> None:
    keys = {work.unit.path: unit_key(work.unit, run.rows_sha256, run.settings) for work in works}

    def missing() -> list[Work]:
        return [w for w in works if not is_done(run.scores, w.unit, keys[w.unit.path])]

    def given_up(work: Work) -> tuple[str, str] | None:
        return unfinished(run.scores, work.unit, keys[work.unit.path])

    left = missing()
    if not left:
        return
    for work in left:
        (run.scores / work.unit.path / "failed.json").unlink(missing_ok=True)
        if run.options.retry:
            (run.scores / work.unit.path / "quarantine.json").unlink(missing_ok=True)
    left = [work for work in left if given_up(work) is None]
    total = len(works) * len(run.rows)
    done = total - len(left) * len(run.rows)
    workers = run.options.workers or run.executor.slots
    with track("scoring", total, "rows", done, _parts(left, run), workers) as task:
        while left:
            _map_shares(left, run, task.advance_part)
            left = [work for work in missing() if given_up(work) is None]
            if left:  # another process is at these units
                time.sleep(_WAIT_SECONDS)
    _tidy(run, list(keys.values()))
    prune_after(work.checkpoint for work in works if isinstance(work.checkpoint, HubCheckpoint))
    ended = {work.unit.name: given_up(work) or ("failed", "") for work in missing()}
    if ended:
        raise UnfinishedError(_unfinished_message(ended, len(works)))


def _parts(works: list[Work], run: _Run) -> list[Part]:
    """Lay out the units in the order in which workers take them, each row at its model's cost."""
    return [
        Part(work.unit.name, work.unit.size, len(run.rows), run.costs[work.unit.size])
        for work in dearest_first(works, lambda work: run.costs[work.unit.size])
    ]


def _unfinished_message(ended: dict[str, tuple[str, str]], units: int) -> str:
    name, (_, reason) = next(iter(ended.items()))
    words = [word for word, _ in ended.values()]
    counts = ", ".join(
        f"{words.count(word)} {word}" for word in ("quarantined", "failed") if word in words
    )
    advice = _ADVICE if _QUARANTINED in words else ""
    return (
        f"{len(ended)} of {units} checkpoints could not be scored ({counts}): "
        f"{_some(list(ended))}; first ({name}): {reason}{advice}"
    )


def _some(names: list[str], most: int = 12) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def _tidy(run: _Run, keys: list[str]) -> None:
    """Remove what is unfinished; of several machines each removes what is its own."""
    everything = work_folder(run.scores)
    if run.options.shard is None:
        shutil.rmtree(everything, ignore_errors=True)
        return
    for key in keys:
        shutil.rmtree(everything / key, ignore_errors=True)
        (everything / f"{key}.lease").unlink(missing_ok=True)
    with suppress(OSError):  # others are still at work in it
        everything.rmdir()


@dataclass(frozen=True, slots=True)
class Share:
    """What one worker of a run is given: all units, of which it takes those that nobody is at.

    Attributes
    ----------
    works : units, in the order in which they are tried.
    rows : file of the rows.
    scores, settings, chunk_rows : as of a `Session`.
    tokenizer : file of the tokenizer, for outcomes that need text.
    """

    works: tuple[Work, ...]
    rows: Path
    scores: Path
    settings: Scoring
    chunk_rows: int
    tokenizer: str | None

    @property
    def name(self) -> str:
        """What messages call it."""
        return "scoring"


def score_share(share: Share, worker: Worker) -> None:
    """Score units until none is left, in a worker process."""
    import torch
    from tokenizers import Tokenizer

    from pythia_profile.scoring.engine import Session, score_units

    torch.set_num_threads(worker.threads)
    if worker.device != "cpu":
        torch.cuda.set_device(worker.device)
    sources = [work.checkpoint for work in share.works]
    wanted = {source.commit for source in sources if isinstance(source, HubCheckpoint)}
    session = Session(
        rows=pl.read_parquet(share.rows),
        scores=share.scores,
        settings=share.settings,
        chunk_rows=share.chunk_rows,
        decode=Tokenizer.from_file(share.tokenizer).decode if share.tokenizer else None,
        prefetcher=Prefetcher(wanted),
        retry=False,
        advance=worker.advance,
        begin=worker.begin,
    )
    score_units(share.works, session)


def _map_shares(works: list[Work], run: _Run, on_part: Callable[[str, int, int], None]) -> None:
    """Let workers share the units, the largest models first."""
    workers = min(run.options.workers or run.executor.slots, run.executor.slots, len(works))
    # Not in the folder of unfinished work: another run may end first, and removes that.
    shared = None if isinstance(run.executor, Resources) else run.scores.parent.resolve()
    with tempfile.TemporaryDirectory(prefix=".rows-", dir=shared) as own:
        rows = Path(own, "rows.parquet")
        write_table(run.rows, rows, ROWS)
        share = Share(
            works=dearest_first(works, lambda work: run.costs[work.unit.size]),
            rows=rows,
            scores=run.scores.resolve(),
            settings=run.settings,
            chunk_rows=run.options.chunk_rows,
            tokenizer=run.tokenizer,
        )
        map_units(score_share, [share] * workers, run.executor, on_part=on_part)


@contextmanager
def _kept(folder: Path | None) -> Iterator[Path]:
    if folder is not None:
        yield folder
    else:
        with tempfile.TemporaryDirectory(prefix="pythia-profile-") as temporary:
            yield Path(temporary)
