"""The one place where work is mapped over processes, wherever they run."""

from collections.abc import Callable, Sequence
from typing import TypeVar

from pythia_profile.execute.calls import OnPart, OnProgress
from pythia_profile.execute.local import map_locally
from pythia_profile.execute.ray_cluster import RayCluster, map_on_ray
from pythia_profile.execute.resources import Resources
from pythia_profile.execute.slurm import SlurmJobs, map_on_slurm
from pythia_profile.execute.worker import Worker, WorkerError

__all__ = ["Cluster", "Worker", "WorkerError", "map_units"]

U = TypeVar("U")
R = TypeVar("R")

Cluster = RayCluster | SlurmJobs
"""Machines beyond this one."""


def map_units(
    function: Callable[[U, Worker], R],
    units: Sequence[U],
    executor: Resources | Cluster,
    on_progress: OnProgress = lambda _: None,
    on_part: OnPart = lambda *_: None,
) -> list[R]:
    """Call `function(unit, worker)` for every unit; no result depends on where.

    Parameters
    ----------
    function : found by its name in an importable module.
    units : frozen dataclasses that can be pickled, in the order in which they are handed out.
    executor : processes of this machine, a Ray cluster, or tasks of a SLURM array job.
    on_progress : called in this thread with what `worker.advance` was given.
    on_part : called with the unit's name (or the part of it that the function has begun), what
        `worker.advance` was given (0 where a part begins), and the number of the worker.

    Returns
    -------
    What the function returned, in the order of the units.

    Raises
    ------
    WorkerError
        A unit failed, or its process was lost; the others have been ended.
    """
    match executor:
        case RayCluster():
            return map_on_ray(function, units, executor, on_progress, on_part)
        case SlurmJobs():
            return map_on_slurm(function, units, executor, on_progress, on_part)
        case _:
            return map_locally(function, units, executor, on_progress, on_part)
