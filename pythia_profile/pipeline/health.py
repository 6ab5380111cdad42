"""Whether this machine is ready, and what the cache holds."""

import os
import platform
import shutil
import sys
import tempfile
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from filelock import FileLock

from data_order.errors import ProfileError
from data_order.hub.access import Hub, hub_endpoint
from pythia_profile.errors import StudyError, not_found
from pythia_profile.execute.resources import (
    available_cores,
    chosen_device,
    gpu_name,
    physical_memory,
)

__all__ = ["Finding", "Kept", "cache_contents", "diagnose", "prune_cache"]

LIBRARIES = ("torch", "transformers", "polars", "numpy", "huggingface_hub")
_LITTLE = 5 * 10**9


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that was looked at: whether it is as it should be, and in words."""

    what: str
    good: bool
    detail: str


def diagnose(folder: Path | None = None) -> list[Finding]:
    """Look at what runs depend on: Python, libraries, device, memory, disk, locks, hub, engines.

    Nothing is fetched. `folder` is where studies are kept; by default this one.
    """
    folder = folder or Path()
    return [
        Finding("python", sys.version_info >= (3, 11), platform.python_version()),
        *_libraries(),
        _device(),
        _memory(),
        _disk("disk for studies", folder),
        _disk("disk for the cache", Hub().root),
        _locks(folder),
        _hub(),
        _token(),
        *_engines(),
    ]


def _libraries() -> list[Finding]:
    found = []
    for name in LIBRARIES:
        try:
            found.append(Finding(name, True, version(name)))
        except PackageNotFoundError:
            found.append(Finding(name, False, "missing; install pythia-profile again"))
    return found


def _device() -> Finding:
    cores = available_cores()
    if chosen_device("auto") == "cuda":
        return Finding("device", True, f"{gpu_name()}, {cores} cores")
    return Finding("device", True, f"CPU, {cores} cores; no GPU that torch can use")


def _memory() -> Finding:
    size = physical_memory()
    return Finding("memory", size > 2 * 10**9, f"{size / 1e9:.1f} GB")


def _disk(what: str, folder: Path) -> Finding:
    present = next(one for one in (folder, *folder.absolute().parents) if one.exists())
    free = shutil.disk_usage(present).free
    advice = "" if free > _LITTLE else "; fetching checkpoints needs more"
    if not os.access(present, os.W_OK):
        return Finding(what, False, f"'{folder}' cannot be written to")
    return Finding(what, free > _LITTLE, f"{free / 1e9:.1f} GB free in '{folder}'{advice}")


def _locks(folder: Path) -> Finding:
    """Two processes at one study share its units by locks; without, both do all of them."""
    try:
        with (
            tempfile.TemporaryDirectory(dir=folder, prefix=".pythia-profile-") as own,
            FileLock(Path(own, "lock"), timeout=1),
        ):
            pass
    except OSError as error:
        return Finding("file locks", False, f"'{folder}': {error.strerror or error}")
    return Finding("file locks", True, f"work in '{folder}'")


def _hub() -> Finding:
    try:
        return Finding("hub", True, hub_endpoint())
    except ProfileError as error:
        return Finding("hub", False, str(error))


def _token() -> Finding:
    """Whether there is one; what it is, is nobody's business."""
    from huggingface_hub import get_token

    return Finding("token", True, "present" if get_token() else "none; public repositories only")


def _engines() -> list[Finding]:
    try:
        ray = version("ray")
    except PackageNotFoundError:
        ray = "not installed (optional: pip install 'pythia-profile[cluster]')"
    slurm = "sbatch found" if shutil.which("sbatch") else "no sbatch here (optional)"
    return [Finding("ray", True, ray), Finding("slurm", True, slurm)]


@dataclass(frozen=True, slots=True)
class Kept:
    """Something that the cache holds: its name, size, and files."""

    name: str
    size: int
    files: int


def cache_contents() -> tuple[Path, list[Kept]]:
    """List what is kept in the user's cache, largest first, and where."""
    root = Hub().root
    found = []
    for path in sorted(root.iterdir()) if root.is_dir() else []:
        files = [one for one in path.rglob("*") if one.is_file()] if path.is_dir() else [path]
        found.append(Kept(path.name, sum(one.stat().st_size for one in files), len(files)))
    return root, sorted(found, key=lambda one: -one.size)


def prune_cache(names: list[str]) -> int:
    """Delete parts of the cache by their names; return the bytes that became free.

    All of it can be made or fetched again. Deleted whole: first renamed, so that a process that
    is killed leaves nothing half deleted under a name that somebody uses.

    Raises
    ------
    NotFoundError
        The cache has no such part; nothing was deleted.
    StudyError
        It cannot be deleted.
    """
    root, kept = cache_contents()
    sizes = {one.name: one.size for one in kept}
    for name in names:
        if name not in sizes:
            raise not_found("part of the cache", name, list(sizes))
    for name in names:
        try:
            aside = root / f".{name}.deleted"
            (root / name).rename(aside)
            shutil.rmtree(aside) if aside.is_dir() else aside.unlink()
        except OSError as error:
            raise StudyError(f"cannot delete '{root / name}': {error.strerror}") from error
    return sum(sizes[name] for name in dict.fromkeys(names))
