"""A checkpoint on the hub as something that a unit of work can carry, and its files on disk.

    checkpoints/models/EleutherAI--pythia-70m/<commit>/model.safetensors   config.json
                                              .<commit>.lock               held while it is fetched
                                              .<commit>.use~...            one for each user of it

`HubCheckpoint` is plain data and travels as JSON to worker processes. `held` brings its files here,
checks each against the listing, and keeps them until the block ends. A checkpoint that was fetched
for a run is marked as passing; `prune` deletes passing ones that nobody uses beyond a given number,
and never one that somebody keeps. Files that another tool's cache holds are linked, not copied.
"""

import logging
import os
import shutil
import threading
import uuid
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from filelock import FileLock, Timeout
from huggingface_hub import try_to_load_from_cache

from data_order.hub.access import Hub, HubFile, hub_endpoint
from data_order.hub.retry import RetryPolicy
from pythia_profile.checkpoints.fetch import UNFINISHED, fetch_file, is_whole
from pythia_profile.errors import RefusedError
from pythia_profile.store import make_folder

__all__ = [
    "HubCheckpoint",
    "check_space",
    "locked",
    "prune",
    "prune_after",
]

log = logging.getLogger(__name__)

KEEP_ALL = -1
"""Value of `keep` that deletes nothing."""

_PASSING = ".passing"
_MARGIN = 2**20
"""Bytes that are left free on the disk beside what is fetched, and a twentieth of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class HubCheckpoint:
    """Files of one commit of a model repository.

    Attributes
    ----------
    repository, commit : where they are.
    files : those needed to load it, with sizes and hashes.
    endpoint : address of the hub; by default `HF_ENDPOINT`, else the public one.
    cache : folder that holds `checkpoints`; the user's cache by default.
    keep : passing checkpoints that stay on disk when nobody uses them; -1 keeps all.
    """

    repository: str
    commit: str
    files: tuple[HubFile, ...]
    endpoint: str = ""
    cache: str = ""
    keep: int = 0

    @property
    def folder(self) -> Path:
        """Where its files lie, or will."""
        return _home(self.cache) / self.repository.replace("/", "--") / self.commit

    @property
    def size(self) -> int:
        """Bytes of all its files."""
        return sum(file.size for file in self.files)

    @property
    def missing(self) -> tuple[HubFile, ...]:
        """Files that are not here yet, by the sizes of those on disk."""
        folder = self.folder
        return tuple(
            file
            for file in self.files
            if _size(folder / file.name) != file.size and not self._elsewhere(file)
        )

    @contextmanager
    def held(
        self,
        *,
        retry: RetryPolicy | None = None,
        stop: threading.Event | None = None,
        advance: Callable[[int], None] = lambda _: None,
        spare: Collection[str] = (),
    ) -> Iterator[Path]:
        """Bring the files here and hold them while the block runs; gives their folder.

        Parameters
        ----------
        retry : how often to ask the hub again, and how long to wait.
        stop : ends a fetch when it is set.
        advance : called with the bytes of each block that is fetched.
        spare : commits that are still needed, not to be deleted afterwards.

        Raises
        ------
        RefusedError
            The disk has not enough room.
        CheckpointError
            A file is not the one of the listing, also after fetching it twice.
        RemoteError
            The hub does not give a file.
        """
        hub = Hub(endpoint=hub_endpoint(self.endpoint or None), retry=retry or RetryPolicy())
        home = make_folder(self.folder.parent)
        try:
            with ExitStack() as stack:
                with locked(home / f".{self.commit}.lock"):
                    _in_use(self.folder)  # takes away the marks of processes that were killed
                    stack.enter_context(_user(home, self.commit))
                    self._bring(hub, stop, advance)
                yield self.folder
        finally:
            prune(_home(self.cache), self.keep, spare)

    def _bring(
        self, hub: Hub, stop: threading.Event | None, advance: Callable[[int], None]
    ) -> None:
        for file in self.files:
            self._link(file)
        bad = [file for file in self.files if not is_whole(self.folder / file.name, file)]
        if not bad:
            self._mark()
            return
        begun = sum(_size(self.folder / (file.name + UNFINISHED)) for file in bad)
        check_space(self.folder, sum(file.size for file in bad) - begun)
        make_folder(self.folder)
        self._mark(new=True)
        for file in bad:
            fetch_file(
                self.repository, self.commit, file, self.folder, hub, stop=stop, advance=advance
            )

    def _mark(self, new: bool = False) -> None:
        """Mark what a run fetched for itself as passing; what is to be kept is not."""
        mark = self.folder / _PASSING
        if self.keep == KEEP_ALL:
            mark.unlink(missing_ok=True)
        elif new or mark.exists():
            mark.touch()

    def _link(self, file: HubFile) -> None:
        """Use a file that `huggingface_hub` has in its own cache, if it is the one of the listing.

        Whether it is, is found out like for every other file: by its hash.
        """
        path = self.folder / file.name
        if path.exists():
            return
        known = try_to_load_from_cache(self.repository, file.name, revision=self.commit)
        if isinstance(known, str) and _size(Path(known)) == file.size:
            make_folder(self.folder)
            self._mark(new=True)
            with suppress(OSError):
                path.unlink(missing_ok=True)
                path.symlink_to(Path(known).resolve())

    def _elsewhere(self, file: HubFile) -> bool:
        known = try_to_load_from_cache(self.repository, file.name, revision=self.commit)
        return isinstance(known, str) and _size(Path(known)) == file.size


def check_space(folder: Path, need: int) -> None:
    """Refuse to fetch what the disk has no room for.

    Raises
    ------
    RefusedError
        Less is free than `need` bytes and a margin; need, free space and folder are named.
    """
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    free = shutil.disk_usage(existing).free
    if need > 0 and free < need * 1.05 + _MARGIN:
        raise RefusedError(
            f"not enough disk space to fetch a checkpoint: need {need / 1e9:.3f} GB and a "
            f"twentieth to spare, {free / 1e9:.3f} GB are free in '{existing}'; make room there, "
            "or set XDG_CACHE_HOME to a folder on a larger disk"
        )


def prune(home: Path, keep: int, spare: Collection[str] = ()) -> None:
    """Delete passing checkpoints that nobody uses, the oldest first, until `keep` are left.

    Parameters
    ----------
    home : folder of repositories.
    keep : how many may stay; -1 for all.
    spare : commits that are still needed; they do not count.
    """
    if keep == KEEP_ALL:
        return
    passing = sorted(home.glob(f"*/*/{_PASSING}"), key=_age)
    unused = [
        mark.parent
        for mark in passing
        if mark.parent.name not in spare and not _in_use(mark.parent)
    ]
    for folder in unused[: max(0, len(unused) - keep)]:
        _delete(folder)


def prune_after(run: Iterable[HubCheckpoint]) -> None:
    """Delete what a run that has ended leaves beyond what it was to keep."""
    for home, keep in {(_home(source.cache), source.keep) for source in run}:
        prune(home, keep)


def _home(cache: str) -> Path:
    return Hub(cache=cache or True).root / "checkpoints" / "models"


def _age(mark: Path) -> float:
    try:
        return mark.stat().st_mtime
    except OSError:
        return 0.0


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return -1 if path.suffix != UNFINISHED else 0


@contextmanager
def locked(path: Path, timeout: float = -1) -> Iterator[None]:
    """Hold a lock while the block runs; where the file system knows no locks, hold none.

    It may be released in another thread than it was taken in.

    Raises
    ------
    Timeout
        Another process holds it for longer than `timeout` seconds; by default one waits.
    """
    lock = FileLock(path, thread_local=False)
    try:
        lock.acquire(timeout=timeout)
    except Timeout:
        raise
    except (OSError, NotImplementedError) as error:
        log.debug("%s: no lock to be had (%s)", path, error)
    try:
        yield
    finally:
        lock.release()


@contextmanager
def _user(home: Path, commit: str) -> Iterator[None]:
    """Be known as a user of a commit's folder while the block runs, also to other processes.

    Begins while the commit is locked, so that nobody deletes the folder meanwhile.
    """
    path = home / f".{commit}.use~{os.getpid()}-{uuid.uuid4().hex[:8]}"
    with locked(path):
        try:
            yield
        finally:
            path.unlink(missing_ok=True)


def _in_use(folder: Path) -> bool:
    """Whether a live process uses a commit's folder; the marks of dead ones are removed."""
    used = False
    for path in folder.parent.glob(f".{folder.name}.use~*"):
        try:
            with locked(path, timeout=0):
                path.unlink(missing_ok=True)
        except Timeout:
            used = True
    return used


def _delete(folder: Path) -> None:
    """Delete a commit's folder, unless somebody has begun to fetch or use it."""
    with (
        suppress(Timeout),
        locked(folder.parent / f".{folder.name}.lock", timeout=0),
    ):
        if not _in_use(folder):
            log.debug("deleting %s", folder)
            shutil.rmtree(folder, ignore_errors=True)
