"""Checkpoints for a worker: one in use, and the next one fetched meanwhile.

Each worker has one place for the checkpoint it uses and one for the next, so none waits for
another, all do equally much on equal work, and at most two checkpoints of a worker are on disk.
"""

import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from data_order.errors import RemoteError
from data_order.hub.retry import RetryPolicy
from pythia_profile.checkpoints.source import HubCheckpoint
from pythia_profile.errors import CheckpointError, ProfileError

__all__ = ["Prefetcher", "Source", "most_on_disk"]

Source = Path | HubCheckpoint
"""Where a checkpoint is: a folder of this machine, or a commit on the hub."""


def most_on_disk(workers: int) -> int:
    """Checkpoints of the hub that a run has on disk at one time, at most.

    Examples
    --------
    >>> most_on_disk(1), most_on_disk(8)
    (2, 16)
    """
    return 2 * workers


@dataclass(slots=True)
class _Pending:
    """A pending download: its thread, and what came of it."""

    source: HubCheckpoint
    thread: threading.Thread | None = None
    files: ExitStack = field(default_factory=ExitStack)
    folder: Path | None = None
    failure: BaseException | None = None


@dataclass(slots=True)
class Prefetcher:
    """Brings checkpoints to one worker.

    Attributes
    ----------
    wanted : commits that this worker has not come to; what an earlier run left of them stays.
    retry : how often to ask the hub again.
    """

    wanted: set[str] = field(default_factory=set)
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    _stop: threading.Event = field(default_factory=threading.Event, repr=False)
    _pending: _Pending | None = field(default=None, repr=False)

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
        self._drop()

    def begin(self, source: Source) -> None:
        """Fetch the checkpoint that is used next, in the background."""
        if isinstance(source, Path) or self._pending is not None:
            return
        pending = self._pending = _Pending(source)
        pending.thread = threading.Thread(target=self._fetch, args=(pending,), daemon=True)
        pending.thread.start()

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
        if self._pending is not None and self._pending.source == source:
            pending, self._pending = self._pending, None
            if pending.thread is not None:
                pending.thread.join()
            if isinstance(pending.failure, CheckpointError | RemoteError):
                raise pending.failure
            if pending.folder is not None:
                with pending.files:
                    yield pending.folder
                return
        self._drop()
        with self._fetched(source) as folder:  # the disk may have room by now
            yield folder

    def _drop(self) -> None:
        pending, self._pending = self._pending, None
        if pending is not None and pending.thread is not None:
            pending.thread.join()
            pending.files.close()

    def _fetch(self, pending: _Pending) -> None:
        try:
            pending.folder = pending.files.enter_context(self._fetched(pending.source))
        except (ProfileError, OSError) as error:
            pending.failure = error

    def _fetched(self, source: HubCheckpoint) -> AbstractContextManager[Path]:
        self.wanted.discard(source.commit)
        return source.held(retry=self.retry, stop=self._stop, spare=self.wanted)
