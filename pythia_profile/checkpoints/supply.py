"""Checkpoints for a worker, one in use and the next on its way, within a bound on all of them.

Every process that scores from one plan shares `slots` places for checkpoints of the hub. Who has no
place waits; who finds one free while its own checkpoint is in use fetches the next one meanwhile.
So at most `slots` checkpoints are on disk for a run, and the hub is waited for as little as can be.
"""

import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from filelock import Timeout

from data_order.errors import RemoteError
from data_order.hub.retry import RetryPolicy
from pythia_profile.checkpoints.source import HubCheckpoint, locked
from pythia_profile.errors import CheckpointError, ProfileError

__all__ = ["Source", "Supply", "slots_for"]

Source = Path | HubCheckpoint
"""Where a checkpoint is: a folder of this machine, or a commit on the hub."""

_LOOK_AGAIN_SECONDS = 0.2


def slots_for(workers: int) -> int:
    """Places for checkpoints: one for each worker, and one to fetch into where there is only one.

    Examples
    --------
    >>> slots_for(1), slots_for(2), slots_for(8)
    (2, 2, 8)
    """
    return max(2, workers)


@dataclass(slots=True)
class _Coming:
    """A checkpoint that is being fetched: its place, the thread, and what came of it."""

    source: HubCheckpoint
    place: ExitStack
    thread: threading.Thread | None = None
    files: ExitStack = field(default_factory=ExitStack)
    folder: Path | None = None
    failure: BaseException | None = None


@dataclass(slots=True)
class Supply:
    """Brings checkpoints to one worker.

    Attributes
    ----------
    folder : where the processes of a run keep their locks.
    slots : checkpoints of the hub on disk at one time, over all of these processes.
    wanted : commits that this worker has not come to; what an earlier run left of them stays.
    retry : how often to ask the hub again.
    """

    folder: Path
    slots: int = 2
    wanted: set[str] = field(default_factory=set)
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    _stop: threading.Event = field(default_factory=threading.Event, repr=False)
    _coming: _Coming | None = field(default=None, repr=False)
    _reserved: ExitStack | None = field(default=None, repr=False)

    def __enter__(self) -> "Supply":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End what is being fetched; it is left for a later run."""
        self._stop.set()
        self.begin(None)
        coming, self._coming = self._coming, None
        if coming is not None:
            _end(coming)

    @contextmanager
    def held(self, source: Source) -> Iterator[Path]:
        """Have a checkpoint here while the block runs; gives its folder.

        Raises
        ------
        RefusedError, CheckpointError, RemoteError
            As `HubCheckpoint.held`.
        """
        if isinstance(source, Path):
            yield source
            return
        coming, self._coming = self._coming, None
        if coming is not None and coming.source == source:
            with coming.place:
                if coming.thread is not None:
                    coming.thread.join()
                if coming.folder is not None:
                    with coming.files:
                        yield coming.folder
                    return
                if isinstance(coming.failure, CheckpointError | RemoteError):
                    raise coming.failure
                with self._fetched(source) as folder:  # there may be room on the disk by now
                    yield folder
            return
        if coming is not None:
            _end(coming)
        with self._place(), self._fetched(source) as folder:
            yield folder

    def reserve(self) -> bool:
        """Take a free place for the checkpoint that is used next; False where there is none."""
        if self._reserved is not None or self._coming is not None:
            return False
        place = ExitStack()
        try:
            place.enter_context(self._place(wait=False))
        except Timeout:
            return False
        self._reserved = place
        return True

    def begin(self, source: Source | None) -> None:
        """Fetch a checkpoint into the reserved place, in the background; None gives it back.

        The next `held` is then expected to be for this source.
        """
        place, self._reserved = self._reserved, None
        if place is None:
            return
        if source is None or isinstance(source, Path):
            place.close()
            return
        coming = self._coming = _Coming(source, place)
        coming.thread = threading.Thread(target=self._fetch, args=(coming,), daemon=True)
        coming.thread.start()

    def _fetch(self, coming: _Coming) -> None:
        try:
            coming.folder = coming.files.enter_context(self._fetched(coming.source))
        except (ProfileError, OSError) as error:
            coming.failure = error

    def _fetched(self, source: HubCheckpoint) -> AbstractContextManager[Path]:
        self.wanted.discard(source.commit)
        return source.held(retry=self.retry, stop=self._stop, spare=self.wanted)

    @contextmanager
    def _place(self, wait: bool = True) -> Iterator[None]:
        """Hold one of the places; without `wait`, a Timeout where none is free."""
        with ExitStack() as stack:
            while not any(self._took(number, stack) for number in range(self.slots)):
                if not wait:
                    raise Timeout("no place is free")
                time.sleep(_LOOK_AGAIN_SECONDS)
            yield

    def _took(self, number: int, stack: ExitStack) -> bool:
        with suppress(Timeout):
            stack.enter_context(locked(self.folder / f"place-{number}.lock", timeout=0))
            return True
        return False


def _end(coming: _Coming) -> None:
    if coming.thread is not None:
        coming.thread.join()
    with coming.place, coming.files:
        pass
