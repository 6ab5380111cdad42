"""How many processes score, on what, with how many threads: enough to use the machine, no more.

No number depends on any of it but the device, which is part of every unit's key.
"""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from pythia_profile.errors import RefusedError, StudyError

__all__ = [
    "DEVICES",
    "Resources",
    "available_cores",
    "chosen_device",
    "gpu_name",
    "memory_of",
    "on_cores",
    "physical_memory",
    "resources_for",
]

DEVICES = ("auto", "cpu", "cuda")
"""Where models run; `auto` takes a GPU where there is one."""

_BESIDE_WEIGHTS = 600 * 2**20
"""Bytes of a worker beside the weights: torch itself, activations of a batch, a chunk of logits."""

_SHARE = 0.9
"""Share of the machine's memory that workers may take."""

_BYTES = {"float32": 4, "bfloat16": 2, "float16": 2}


@dataclass(frozen=True, slots=True)
class Resources:
    """Worker processes of a run, and what each may use.

    Attributes
    ----------
    devices : of each worker, `cpu` or `cuda:0`, `cuda:1`, ...
    threads : arithmetic threads of each.
    """

    devices: tuple[str, ...]
    threads: int

    @property
    def slots(self) -> int:
        """Units at a time."""
        return len(self.devices)


def available_cores() -> int:
    """Cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def on_cores(workers: int | None = None) -> Resources:
    """Workers on the CPU with one thread each: as many as asked for, or as there are cores."""
    return Resources(("cpu",) * (workers or available_cores()), 1)


def chosen_device(wanted: str) -> str:
    """Return `cpu` or `cuda`; torch is imported only where the machine seems to have a GPU.

    Raises
    ------
    StudyError
        There is no such device, or not on this machine.
    """
    if wanted not in DEVICES:
        raise StudyError(f"device: got '{wanted}', expected one of {', '.join(DEVICES)}")
    if wanted == "cpu":
        return "cpu"
    found = _seems_to_have_a_gpu() and _gpus() > 0
    if wanted == "cuda" and not found:
        raise StudyError("device: got 'cuda', and torch finds no GPU here; set it to 'cpu'")
    return "cuda" if found else "cpu"


def resources_for(
    units: int, cores: int, memory: int, device: str, workers: int | None
) -> Resources:
    """Share cores, memory or GPUs among workers.

    On a CPU, as many workers as cores with a thread each, fewer where units are few or memory is
    short, and then more threads each. On GPUs, one worker a GPU.

    Parameters
    ----------
    units : checkpoints to score.
    cores : that this process may use.
    memory : bytes that the largest model needs, from `memory_of`.
    workers : processes at most; chosen here by default.

    Raises
    ------
    RefusedError
        The machine has not the memory for one.

    Examples
    --------
    >>> resources_for(units=100, cores=8, memory=10**6, device="cpu", workers=None).threads
    1
    >>> resources_for(units=2, cores=8, memory=10**6, device="cpu", workers=None)
    Resources(devices=('cpu', 'cpu'), threads=4)
    """
    if device == "cuda":
        gpus = _gpus()
        count = min(workers or gpus, units)
        return Resources(
            tuple(f"cuda:{number % gpus}" for number in range(count)), max(1, cores // count)
        )
    fitting = int(_SHARE * physical_memory()) // memory
    if fitting == 0:
        raise RefusedError(
            f"the largest model needs {memory / 1e9:.1f} GB of memory, this machine has "
            f"{physical_memory() / 1e9:.1f} GB; take a narrower dtype or leave it out"
        )
    count = max(1, min(workers or cores, units, fitting))
    return Resources(("cpu",) * count, max(1, cores // count))


def memory_of(parameters: Iterable[int], dtype: str) -> int:
    """Bytes that one worker needs for the largest of some models."""
    return max(parameters) * _BYTES.get(dtype, 4) + _BESIDE_WEIGHTS


def gpu_name() -> str:
    """Name of this machine's first GPU, as its driver gives it."""
    import torch

    return torch.cuda.get_device_name(0)


def _seems_to_have_a_gpu() -> bool:
    nodes = ("/dev/nvidia0", "/dev/nvidiactl", "/dev/kfd", "/dev/dxg")
    return any(Path(node).exists() for node in nodes)


def _gpus() -> int:
    import torch

    return torch.cuda.device_count() if torch.cuda.is_available() else 0


def physical_memory() -> int:
    """Bytes of memory of this machine."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
