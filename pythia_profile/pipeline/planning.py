"""What a study would cost: units and why, bytes to fetch and to write, hours, requests.

From the listing, the cache and what is scored already; nothing is fetched and nothing is scored.
A unit takes 2 · parameters · tokens operations. The rate of a size is that of its units that have
been scored on this machine; before the first one, and on another device, it is assumed
(`devices`), and the plan states the assumptions.
"""

from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path

from data_order.hub.access import Hub
from pythia_profile.checkpoints.prefetch import most_on_disk
from pythia_profile.checkpoints.source import KEEP_ALL
from pythia_profile.errors import RefusedError, StudyError, as_path
from pythia_profile.execute.resources import (
    available_cores,
    chosen_device,
    gpu_name,
    memory_of,
    resources_for,
)
from pythia_profile.pipeline.devices import DEVICE_NAMES, Device, Share, device_named
from pythia_profile.pipeline.planned import (
    TO_DO,
    PlannedUnit,
    planned_grid,
    planned_unit,
    stored_bytes,
)
from pythia_profile.pipeline.planned_covariates import CovariateCost, planned_covariates
from pythia_profile.pipeline.score import rows_hash
from pythia_profile.scoring.records import scored_units
from pythia_profile.scoring.units import units_of
from pythia_profile.store import read_table
from pythia_profile.study import Study, open_study
from pythia_profile.suites.model import Suite
from pythia_profile.suites.registry import suite_facts_of
from pythia_profile.tables import ROWS

__all__ = ["Plan", "PlannedUnit", "SizeCost", "plan_study"]

BANDWIDTH = 50e6
"""Bytes per second that are assumed where none is given."""

_TOKEN_BYTES = 6
_BASE_COLUMNS = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class SizeCost:
    """What the checkpoints to do of one size take.

    Attributes
    ----------
    size, checkpoints : which, and how many are to do.
    fetch_bytes : of all of them.
    memory_bytes : of one worker.
    rate : operations per second of one worker.
    share : of the device's peak that was assumed; None where the rate was measured on this machine.
    hours : of one worker for all of them; where assumed, with the loading of weights.
    """

    size: str
    checkpoints: int
    fetch_bytes: int
    memory_bytes: int
    rate: float
    share: float | None
    hours: float


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
    device : name of the device that the plan is for.
    costs : by size.
    device_hours : of one worker.
    workers, bandwidth : processes at a time; bytes per second.
    wall_hours : while one is scored the next is fetched, so the longer of both.
    memory_bytes : that a worker needs for the largest model.
    covariates : what features of the rows and a reference take, and are worth.
    assumptions, notes : what the hours rest on beside measured rates; what else to know.
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
    device: str
    costs: tuple[SizeCost, ...]
    device_hours: float
    workers: int
    bandwidth: float
    wall_hours: float
    memory_bytes: int
    covariates: tuple[CovariateCost, ...]
    assumptions: tuple[str, ...]
    notes: tuple[str, ...]

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
    device: str = "",
    hub: Hub | None = None,
) -> Plan:
    """Plan the scoring of a study: what is to do, why, and what it takes.

    What is not pinned yet is pinned: one request for each checkpoint, none the next time. Where the
    hub does not answer, a published suite is planned from the facts of the package.

    Parameters
    ----------
    workers : processes at most; by default what cores, memory or GPUs allow, and one on a GPU that
        was named.
    bandwidth : bytes per second from the hub.
    device : to plan for, one of `devices.DEVICE_NAMES`; this machine by default.

    Raises
    ------
    StudyError
        There is no study in `folder`, or the bandwidth is not above 0.
    NotFoundError
        There is no such device.
    """
    if not bandwidth > 0:
        raise StudyError(f"bandwidth: got {bandwidth}, expected more than 0")
    asked = device_named(device) if device else None
    folder = as_path(folder)
    study = open_study(folder)
    suite = suite_facts_of(study.suite, study.training_seed or None, near=folder)
    grid, notes = planned_grid(folder, study, suite, hub)
    rows, targets, checksum = _rows(folder, study, suite)
    works = {
        (work.unit.size, work.unit.checkpoint): work for work in units_of(suite, grid, "accept")
    }
    units = tuple(
        planned_unit(
            folder, study, suite, verdict, works.get((verdict.size, verdict.step)), checksum
        )
        for verdict in grid.verdicts
    )
    to_do = [unit for unit in units if unit.state == TO_DO]
    memory = memory_of((suite.size(size).parameters for size in study.sizes), study.score.dtype)
    place = _place(study, asked, max(1, len(to_do)), memory, workers)
    costs = _costs(folder, study, suite, to_do, (rows, targets), place)
    hours = sum(cost.hours for cost in costs)
    fetch = sum(unit.fetch for unit in to_do)
    output = _output(folder, study, len(to_do), rows, targets)
    return Plan(
        units=units,
        rows=rows,
        targets=targets,
        fetch_bytes=fetch,
        here_bytes=sum(unit.here for unit in to_do),
        peak_disk_bytes=_peak(study, to_do, place.workers) + output,
        output_bytes=output,
        requests=sum(unit.requests for unit in to_do),
        operations=sum(2.0 * suite.size(unit.size).parameters * rows * targets for unit in to_do),
        device=place.device.name,
        costs=costs,
        device_hours=hours,
        workers=place.workers,
        bandwidth=bandwidth,
        wall_hours=max(hours / place.workers, fetch / bandwidth / 3600),
        memory_bytes=memory,
        covariates=planned_covariates(folder, study, suite, rows, targets),
        assumptions=_assumptions(suite, costs, place, study.score.dtype),
        notes=(*notes, *place.notes),
    )


@dataclass(frozen=True, slots=True)
class _Place:
    """Where a plan is for: a device, workers and the cores of each; whether it is this machine."""

    device: Device
    workers: int
    cores: int = 1
    here: bool = True
    notes: tuple[str, ...] = ()


def _place(study: Study, asked: Device | None, units: int, memory: int, most: int | None) -> _Place:
    """Choose where a plan is for; a plan refuses nothing: what cannot run becomes a note."""
    if asked is not None and asked.memory:
        note = (
            f"the largest model needs {memory / 1e9:.1f} GB of memory, one {asked.name} has "
            f"{asked.memory / 1e9:.0f} GB",
        )
        return _Place(
            asked, min(most or 1, units), here=False, notes=note if memory > asked.memory else ()
        )
    cores = available_cores()
    try:
        kind = chosen_device(study.score.device) if asked is None else "cpu"
        resources = resources_for(units, cores, memory, kind, most)
    except (RefusedError, StudyError) as error:
        note = (f"not on this machine: {error}; planned for one worker that can",)
        return _Place(device_named("cpu"), 1, cores, notes=note)
    count = len(resources.devices)
    if kind == "cpu":
        return _Place(device_named("cpu"), count, resources.threads)
    name = gpu_name()
    for known in DEVICE_NAMES:
        if known in name.lower():
            return _Place(device_named(known), count)
    note = (f"nothing is known here of the GPU '{name}': assumed to be an a100",)
    return _Place(device_named("a100"), count, notes=note)


def _costs(
    folder: Path,
    study: Study,
    suite: Suite,
    to_do: list[PlannedUnit],
    rows_and_targets: tuple[int, int],
    place: _Place,
) -> tuple[SizeCost, ...]:
    """Cost each size; a rate that was measured on this machine wins over an assumed one."""
    rows, targets = rows_and_targets
    dtype = study.score.dtype
    measured = _rates(folder, study, suite, targets, place.device) if place.here else {}
    found = []
    for size in dict.fromkeys(unit.size for unit in to_do):
        units = [unit for unit in to_do if unit.size == size]
        parameters = suite.size(size).parameters
        rate = measured.get(size) or place.device.rate(parameters, dtype, place.cores)
        seconds = 2.0 * parameters * rows * targets * len(units) / rate
        if size not in measured:
            stored = stored_bytes(suite, size)
            loaded = sum(unit.fetch + unit.here or stored for unit in units)
            seconds += loaded / place.device.loading
        found.append(
            SizeCost(
                size=size,
                checkpoints=len(units),
                fetch_bytes=sum(unit.fetch for unit in units),
                memory_bytes=memory_of([parameters], dtype),
                rate=rate,
                share=None if size in measured else place.device.share(parameters).share,
                hours=seconds / 3600,
            )
        )
    return tuple(found)


def _assumptions(
    suite: Suite, costs: tuple[SizeCost, ...], place: _Place, dtype: str
) -> tuple[str, ...]:
    """State what hours rest on where nothing was measured; empty where everything was."""
    device = place.device
    sizes: dict[Share, list[str]] = {}
    for cost in costs:
        if cost.share is not None:
            share = device.share(suite.size(cost.size).parameters)
            sizes.setdefault(share, []).append(cost.size)
    if not sizes:
        return ()
    many = f" for each of a worker's {place.cores} cores" if device.name == "cpu" else ""
    return (
        f"{device.name} in {dtype}: {device.peaks[dtype] / 1e12:.3g} TFLOP/s{many}, "
        f"{device.source}",
        *(
            f"{', '.join(names)}: {share.share:.0%} of that; {share.reason}"
            for share, names in sizes.items()
        ),
        f"weights are read, hashed and loaded at {device.loading / 1e6:.0f} MB/s",
        "none of this was measured; the first checkpoint of a size scored on this machine is",
    )


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


def _rates(
    folder: Path, study: Study, suite: Suite, targets: int, device: Device
) -> dict[str, float]:
    """Operations per second of one worker, by size, over the units that have been scored here.

    Small models reach less of a device's speed than large ones, so each size has a rate of its own;
    units of another precision or kind of device do not count.
    """
    operations: dict[str, float] = defaultdict(float)
    seconds: dict[str, float] = defaultdict(float)
    for unit in scored_units(folder / "scores"):
        numerics = (unit.settings.get("dtype"), unit.device == "cpu")
        alike = numerics == (study.score.dtype, device.name == "cpu")
        if unit.suite == suite.name and unit.size in suite.sizes and alike:
            work = unit.speed.get("rows", 0) * targets
            operations[unit.size] += 2.0 * suite.size(unit.size).parameters * work
            seconds[unit.size] += unit.speed.get("seconds", 0.0)
    return {size: n / seconds[size] for size, n in operations.items() if n and seconds[size]}


def _output(folder: Path, study: Study, units: int, rows: int, targets: int) -> int:
    """Bytes of the tables to write: as those already written, else eight a number."""
    tables = [
        (unit.rows, table.stat().st_size)
        for unit in scored_units(folder / "scores")
        if (table := unit.folder / "scores.parquet").exists()
    ]
    each = rows * 8 * (_BASE_COLUMNS + 2 * len(study.score.scorers))
    if tables:
        scored, used = sum(rows for rows, _ in tables), sum(size for _, size in tables)
        each = round(used / max(1, scored) * rows)
    tokens = rows * targets * _TOKEN_BYTES if study.score.token_table else 0
    return units * (each + tokens)


def _peak(study: Study, to_do: list[PlannedUnit], workers: int) -> int:
    """Bytes of checkpoints of the hub on disk at one time."""
    sizes = sorted((unit.fetch + unit.here for unit in to_do if unit.requests), reverse=True)
    if study.score.keep == KEEP_ALL:
        return sum(sizes)
    return sum(sizes[: most_on_disk(min(workers, max(1, len(to_do)))) + study.score.keep])
