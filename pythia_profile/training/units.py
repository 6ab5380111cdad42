"""Units computed side by side, each once; what was killed goes on.

A unit is one folder: it is done when `result.json` is there, which its work writes last. Nothing
here knows what is computed.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from pythia_profile.execute.executors import map_units
from pythia_profile.execute.resources import Resources, available_cores, resources_for
from pythia_profile.execute.time_left import Part
from pythia_profile.execute.worker import Worker
from pythia_profile.progress import track
from pythia_profile.store import lease, make_folder, read_json, remove_leftovers

__all__ = ["RESULT", "Unit", "Work", "run_units"]

RESULT = "result.json"
"""Of a finished unit, in its folder."""

_WORKER_BYTES = 700 * 2**20
"""Memory of a worker: torch, and a tiny model of some 100k parameters."""


class Unit(Protocol):
    """One piece of work; a frozen dataclass that can be pickled."""

    @property
    def name(self) -> str:
        """What messages and progress call it; no two units of a call have the same."""

    @property
    def folder(self) -> Path:
        """Where it is kept; named by everything that its numbers depend on."""

    @property
    def steps(self) -> int:
        """How many times its work calls `worker.advance(1)`, from the beginning."""


Work = Callable[[Any, Worker], None]
"""Computes a unit: begins where its folder was left, writes `result.json` last and atomically."""


@dataclass(frozen=True, slots=True)
class _Call:
    """A unit and its work, as they are sent to a process."""

    unit: Unit
    work: Work

    @property
    def name(self) -> str:
        return self.unit.name


def run_units(
    units: Sequence[Unit],
    work: Work,
    *,
    title: str,
    device: str = "cpu",
    workers: int | None = None,
) -> list[dict[str, Any]]:
    """Compute the units that are not done; return the results of all, in their order.

    Each gets one thread, so no number depends on how many workers share the cores. Of two commands
    at the same folders, one waits for the units that the other is at.

    Parameters
    ----------
    work : `work(unit, worker)`, a function that an importable module holds by its name.
    title : of the line of progress.
    device : `cpu` or `cuda`.
    workers : processes at a time; as many as there are cores, or GPUs, by default.

    Raises
    ------
    WorkerError
        A unit failed, or its process was killed; what is done stays.
    """
    missing = [unit for unit in units if not (unit.folder / RESULT).exists()]
    if missing:
        found = resources_for(len(missing), available_cores(), _WORKER_BYTES, device, workers)
        parts = [Part(unit.name, title, unit.steps) for unit in missing]
        for folder in {unit.folder.parent for unit in missing}:
            remove_leftovers(make_folder(folder))
        total = sum(unit.steps for unit in missing)
        with track(title, total, "steps", parts=parts, workers=found.slots) as task:
            calls = [_Call(unit, work) for unit in missing]
            map_units(_once, calls, Resources(found.devices, 1), on_part=task.advance_part)
    return [read_json(unit.folder / RESULT) for unit in units]


def _once(call: _Call, worker: Worker) -> None:
    """Compute a unit that is not done, or wait for the process that is at it."""
    import torch
    from transformers.utils import logging as transformers_logging

    torch.set_num_threads(worker.threads)
    transformers_logging.disable_progress_bar()  # type: ignore[no-untyped-call]
    folder = make_folder(call.unit.folder)
    while not (folder / RESULT).exists():
        with lease(folder / "lock") as ours:
            # looked for again: who held it may have finished in between
            if ours and not (folder / RESULT).exists():
                worker.begin(call.name)
                call.work(call.unit, worker)
                return
        time.sleep(0.2)
