"""What a study would cost: units and why, bytes to fetch and to write, hours, requests.

From the listing, the cache and what is scored already; nothing is fetched and nothing is scored.
The rate of the device is that of the units that have been scored: 2 · parameters · tokens
operations each. Before the first one there is none, and no hours are promised.
"""

import logging
from collections import Counter, defaultdict
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import polars as pl

from data_order.hub.access import Hub
from pythia_profile.checkpoints.grid import Grid
from pythia_profile.checkpoints.prefetch import most_on_disk
from pythia_profile.checkpoints.source import KEEP_ALL, HubCheckpoint
from pythia_profile.checkpoints.verdicts import MISSING, OK, UNSAFE, Verdict
from pythia_profile.errors import RefusedError, StudyError
from pythia_profile.execute.resources import (
    available_cores,
    chosen_device,
    memory_of,
    resources_for,
)
from pythia_profile.pipeline.pinned import study_grid
from pythia_profile.pipeline.score import rows_hash
from pythia_profile.scoring.records import is_done, scored_units, unfinished
from pythia_profile.scoring.units import Work, unit_key, units_of
from pythia_profile.store import read_json, read_table
from pythia_profile.study import Study, open_study, read_lock
from pythia_profile.suites.model import Suite
from pythia_profile.suites.registry import open_suite, suite_facts_of
from pythia_profile.tables import ROWS

__all__ = ["Plan", "PlannedUnit", "plan_study"]

log = logging.getLogger(__name__)

DONE, TO_DO, QUARANTINED, LEFT_OUT, REFUSED, GONE = (
    "done",
    "to do",
    "quarantined",
    "left out",
    "refused",
    "missing",
)
UNMADE = "not made yet"
BANDWIDTH = 50e6
"""Bytes per second that are assumed where none is given."""

_TOKEN_BYTES = 6
_BASE_COLUMNS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedUnit:
    """One checkpoint of a study.

    Attributes
    ----------
    size, checkpoint : which.
    state : `done`, `to do`, `quarantined`, `left out`, `refused` or `missing`.
    why : in words.
    fetch, here : bytes to fetch; bytes that are on this disk already.
    requests : to the hub, to fetch it.
    """

    size: str
    checkpoint: int
    state: str
    why: str
    fetch: int = 0
    here: int = 0
    requests: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """What scoring a study would take.

    Attributes
    ----------
    units : every checkpoint that the study asks for.
    rows, targets : rows to score at each; scored tokens of a row.
    fetch_bytes, here_bytes : of checkpoints to do: to fetch; on this disk already.
    peak_disk_bytes : checkpoints on disk at one time, and the output.
    output_bytes : scores, and token statistics where they are kept.
    requests : to the hub.
    operations : floating-point operations of all units to do.
    device_hours : of one worker; None before a unit has been scored.
    workers, bandwidth : processes at a time; bytes per second.
    wall_hours : while one is scored the next is fetched, so the longer of both; None as above.
    """

    units: tuple[PlannedUnit, ...]
    rows: int
    targets: int
    fetch_bytes: int
    here_bytes: int
    peak_disk_bytes: int
    output_bytes: int
    requests: int
    operations: float
    device_hours: float | None
    workers: int
    bandwidth: float
    wall_hours: float | None

    @property
    def states(self) -> dict[str, int]:
        """How many units there are in each state."""
        return dict(Counter(unit.state for unit in self.units))

    @property
    def fetch_hours(self) -> float:
        """Hours that fetching takes at the given bandwidth."""
        return self.fetch_bytes / self.bandwidth / 3600


def plan_study(
    folder: Path | str,
    *,
    workers: int | None = None,
    bandwidth: float = BANDWIDTH,
    hub: Hub | None = None,
) -> Plan:
    """Plan the scoring of a study: what is to do, why, and what it takes.

    What is not pinned yet is pinned: one request for each checkpoint, none the next time.

    Parameters
    ----------
    workers : processes at most; by default what cores, memory or GPUs allow.
    bandwidth : bytes per second from the hub.

    Raises
    ------
    StudyError
        There is no study in `folder`, or the bandwidth is not above 0.
    """
    if not bandwidth > 0:
        raise StudyError(f"bandwidth: got {bandwidth}, expected more than 0")
    folder = Path(folder)
    study = open_study(folder)
    suite = suite_facts_of(study.suite, study.training_seed or None, near=folder)
    grid = _grid(folder, study, suite, hub)
    rows, targets, checksum = _rows(folder, study, suite)
    works = {
        (work.unit.size, work.unit.checkpoint): work for work in units_of(suite, grid, "accept")
    }
    units = tuple(
        _planned(folder, study, verdict, works.get((verdict.size, verdict.step)), checksum)
        for verdict in grid.verdicts
    )
    to_do = [unit for unit in units if unit.state == TO_DO]
    memory = memory_of((suite.size(unit.size).parameters for unit in units), study.score.dtype)
    count = _workers(study, max(1, len(to_do)), memory, workers)
    operations = sum(2.0 * suite.size(u.size).parameters * rows * targets for u in to_do)
    seconds = _seconds(folder, suite, targets)
    hours = None
    if seconds:
        usual = sum(seconds.values()) / len(seconds)
        size_of = (2.0 * suite.size(u.size).parameters * seconds.get(u.size, usual) for u in to_do)
        hours = sum(size_of) * rows * targets / 3600
    fetch = sum(unit.fetch for unit in to_do)
    output = _output(folder, study, len(to_do), rows, targets)
    wall = None if hours is None else max(hours / count, fetch / bandwidth / 3600)
    return Plan(
        units=units,
        rows=rows,
        targets=targets,
        fetch_bytes=fetch,
        here_bytes=sum(unit.here for unit in to_do),
        peak_disk_bytes=_peak(study, to_do, count) + output,
        output_bytes=output,
        requests=sum(unit.requests for unit in to_do),
        operations=operations,
        device_hours=hours,
        workers=count,
        bandwidth=bandwidth,
        wall_hours=0.0 if not to_do else wall,
    )


def _workers(study: Study, units: int, memory: int, most: int | None) -> int:
    """Workers of this machine; where it cannot run the study, one, for a plan refuses nothing."""
    try:
        device = chosen_device(study.score.device)
        return len(resources_for(units, available_cores(), memory, device, most).devices)
    except (RefusedError, StudyError) as error:
        log.warning("not on this machine: %s; planned for one worker that can", error)
        return 1


def _grid(folder: Path, study: Study, suite: Suite, hub: Hub | None) -> Grid:
    """Find the checkpoints; those of a suite that is made here are opened once they were made."""
    if suite.root is not None or suite.repository(study.sizes[0]) is not None:
        return study_grid(folder, study, suite, hub)
    if "suite" in read_lock(folder):
        made = open_suite(study.suite, study.sizes, study.training_seed, near=folder)
        return study_grid(folder, study, made, hub)
    why = ("its models are trained on this machine first",)
    steps = {size: study.checkpoints or suite.usual_checkpoints(size) for size in study.sizes}
    return Grid(
        (), tuple(Verdict(size, step, UNMADE, why) for size in steps for step in steps[size])
    )


def _planned(
    folder: Path, study: Study, verdict: Verdict, work: Work | None, checksum: str
) -> PlannedUnit:
    named: dict[str, Any] = {"size": verdict.size, "checkpoint": verdict.step}
    reasons = "; ".join(verdict.reasons)
    if verdict.verdict == UNMADE:
        return PlannedUnit(**named, state=TO_DO, why=reasons)
    if work is None:
        state = MISSING if verdict.verdict != UNSAFE else REFUSED
        return PlannedUnit(**named, state=state, why=reasons or "missing")
    if verdict.verdict != OK and study.score.faulty != "accept":
        state = LEFT_OUT if study.score.faulty == "skip" else REFUSED
        return PlannedUnit(**named, state=state, why=f"{verdict.verdict}: {reasons}")
    source = work.checkpoint
    wanted: dict[str, Any] = {}
    if isinstance(source, HubCheckpoint):
        bytes_here = source.size - source.missing
        wanted = {"fetch": source.missing, "requests": source.requests}
    else:
        bytes_here = sum(path.stat().st_size for path in source.iterdir() if path.is_file())
    state, why = _state(folder, study, work, checksum)
    found = PlannedUnit(size=verdict.size, checkpoint=verdict.step, state=state, why=why)
    return found if state != TO_DO else replace(found, here=bytes_here, **wanted)


def _state(folder: Path, study: Study, work: Work, checksum: str) -> tuple[str, str]:
    if not checksum:
        return TO_DO, "rows are not drawn yet"
    scores = folder / "scores"
    key = unit_key(work.unit, checksum, study.score)
    if is_done(scores, work.unit, key):
        return DONE, "scored"
    given_up = unfinished(scores, work.unit, key)
    if given_up is not None:
        word, reason = given_up
        if word == QUARANTINED:
            return QUARANTINED, f"{word}: {reason}"
        return TO_DO, f"failed before: {reason}"
    record = scores / work.unit.path / "done.json"
    if record.exists():
        same = read_json(record).get("key") == key
        return TO_DO, "its table is damaged" if same else "rows, settings or weights have changed"
    return TO_DO, "not scored yet"


def _rows(folder: Path, study: Study, suite: Suite) -> tuple[int, int, str]:
    """Rows to score, targets of each, and the hash of the rows; empty before they are drawn."""
    path = folder / "rows.parquet"
    if path.exists():
        rows = read_table(path, ROWS, "sample")
        width = len(rows["tokens"].item(0)) if len(rows) else suite.row_tokens
        return len(rows), width - 1, rows_hash(folder)
    steps = study.checkpoints or suite.usual_checkpoints(study.sizes[0])
    cohorts = max(0, len(steps) - 1)
    drawn = cohorts * study.sample.rows_per_cohort + study.sample.never_treated
    return drawn, suite.row_tokens - 1, ""


def _seconds(folder: Path, suite: Suite, targets: int) -> dict[str, float]:
    """Seconds an operation of one worker, by size, over the units that have been scored here.

    Small models reach less of a device's speed than large ones, so each size has a rate of its own.
    """
    operations: dict[str, float] = defaultdict(float)
    seconds: dict[str, float] = defaultdict(float)
    for unit in scored_units(folder / "scores"):
        if unit.suite == suite.name and unit.size in suite.sizes:
            work = unit.speed.get("rows", 0) * targets
            operations[unit.size] += 2.0 * suite.size(unit.size).parameters * work
            seconds[unit.size] += unit.speed.get("seconds", 0.0)
    return {size: seconds[size] / n for size, n in operations.items() if n and seconds[size]}


def _output(folder: Path, study: Study, units: int, rows: int, targets: int) -> int:
    """Bytes of the tables to write: as those already written, else eight a number."""
    written = list((folder / "scores").glob("*/*/*/*/scores.parquet"))
    each = rows * 8 * (_BASE_COLUMNS + 2 * len(study.score.scorers))
    if written:
        lengths = sum(
            pl.scan_parquet(path).select(pl.len()).collect().item() for path in written[:20]
        )
        used = sum(path.stat().st_size for path in written[:20])
        each = round(used / max(1, lengths) * rows)
    tokens = rows * targets * _TOKEN_BYTES if study.score.token_table else 0
    return units * (each + tokens)


def _peak(study: Study, to_do: list[PlannedUnit], workers: int) -> int:
    """Bytes of checkpoints of the hub on disk at one time."""
    sizes = sorted((unit.fetch + unit.here for unit in to_do if unit.requests), reverse=True)
    if study.score.keep == KEEP_ALL:
        return sum(sizes)
    return sum(sizes[: most_on_disk(min(workers, max(1, len(to_do)))) + study.score.keep])
