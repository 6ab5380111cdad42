"""Checkpoints for a worker: one in use, the next one prefetched, within a bound on all of them.

Every process that scores in one run shares `slots` download slots. A worker without a slot
waits; one that finds a slot free while its own checkpoint is in use fetches the next one meanwhile.
So at most `slots` checkpoints are on disk for a run.
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

__all__ = ["Prefetcher", "Source", "slots_for"]

Source = Path | HubCheckpoint
"""Where a checkpoint is: a folder of this machine, or a commit on the hub."""

_LOOK_AGAIN_SECONDS = 0.2


def slots_for(workers: int) -> int:
    """Download slots: one for each worker, and one to fetch into where there is only one.

    Examples
    --------
    >>> slots_for(1), slots_for(2), slots_for(8)
    (2, 2, 8)
    """
    return max(2, workers)


@dataclass(slots=True)
class _Pending:
    """A pending download: its slot, its thread, and what came of it."""

    source: HubCheckpoint
    slot: ExitStack
    thread: threading.Thread | None = None
    files: ExitStack = field(default_factory=ExitStack)
    folder: Path | None = None
    failure: BaseException | None = None


@dataclass(slots=True)
class Prefetcher:
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
    _pending: _Pending | None = field(default=None, repr=False)
    _reserved: ExitStack | None = field(default=None, repr=False)

    def __enter__(self) -> "Prefetcher":
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
        pending, self._pending = self._pending, None
        if pending is not None:
            _end(pending)

    @contextmanager
    def held(self, source: Source) -> Iterator[Path]:
        """Hold a checkpoint on this disk while the block runs; gives its folder.

        Raises
        ------
        RefusedError, CheckpointError, RemoteError
            As `HubCheckpoint.held`.
        """
        if isinstance(source, Path):
            yield source
            return
        pending, self._pending = self._pending, None
        if pending is not None and pending.source == source:
            with pending.slot:
                if pending.thread is not None:
                    pending.thread.join()
                if pending.folder is not None:
                    with pending.files:
                        yield pending.folder
                    return
                if isinstance(pending.failure, CheckpointError | RemoteError):
                    raise pending.failure
                with self._fetched(source) as folder:  # there may be room on the disk by now
                    yield folder
            return
        if pending is not None:
            _end(pending)
        with self._slot(), self._fetched(source) as folder:
            yield folder

    def reserve(self) -> bool:
        """Take a free slot for the checkpoint that is used next; False where there is none."""
        if self._reserved is not None or self._pending is not None:
            return False
        slot = ExitStack()
        try:
            slot.enter_context(self._slot(wait=False))
        except Timeout:
            return False
        self._reserved = slot
        return True

    def begin(self, source: Source | None) -> None:
        """Fetch a checkpoint into the reserved slot, in the background; None frees the slot.

        The next `held` is then expected to be for this source.
        """
        slot, self._reserved = self._reserved, None
        if slot is None:
            return
        if source is None or isinstance(source, Path):
            slot.close()
            return
        pending = self._pending = _Pending(source, slot)
        pending.thread = threading.Thread(target=self._fetch, args=(pending,), daemon=True)
        pending.thread.start()

    def _fetch(self, pending: _Pending) -> None:
        try:
            pending.folder = pending.files.enter_context(self._fetched(pending.source))
        except (ProfileError, OSError) as error:
            pending.failure = error

    def _fetched(self, source: HubCheckpoint) -> AbstractContextManager[Path]:
        self.wanted.discard(source.commit)
        return source.held(retry=self.retry, stop=self._stop, spare=self.wanted)

    @contextmanager
    def _slot(self, wait: bool = True) -> Iterator[None]:
        """Hold one of the slots; without `wait`, a Timeout where none is free."""
        with ExitStack() as stack:
            while not any(self._took(number, stack) for number in range(self.slots)):
                if not wait:
                    raise Timeout("no slot is free")
                time.sleep(_LOOK_AGAIN_SECONDS)
            yield

    def _took(self, number: int, stack: ExitStack) -> bool:
        with suppress(Timeout):
            stack.enter_context(locked(self.folder / f"slot-{number}.lock", timeout=0))
            return True
        return False


def _end(pending: _Pending) -> None:
    if pending.thread is not None:
        pending.thread.join()
    with pending.slot, pending.files:
        pass
