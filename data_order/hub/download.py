"""A whole file from the hub: its ranges side by side, its bytes written in their order.

Several connections each fetch a range of the file; what arrives is written, and hashed, one range
after the other. So an unfinished file is always a beginning of the file: a later run, also after a
kill, goes on at its end, and no second pass over many gigabytes is needed for the hash.
"""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from pathlib import Path
from typing import BinaryIO, Protocol

from data_order.errors import RemoteError
from data_order.hub.client import NoRangesError, RemoteFile

CONNECTIONS = 8
_RANGE = 16 << 20
_BLOCK = 1 << 20
_LOOK_AGAIN_SECONDS = 0.2


class Hash(Protocol):
    """What is needed of a hash of `hashlib`."""

    def update(self, data: bytes | bytearray, /) -> None:
        """Add bytes."""

    def hexdigest(self) -> str:
        """Return the hash of all of them."""


def download(
    remote: RemoteFile,
    path: Path,
    new_hash: Callable[[], Hash],
    *,
    stop: threading.Event | None = None,
    advance: Callable[[int], None] = lambda _: None,
    connections: int = CONNECTIONS,
) -> str:
    """Bring what is missing of a file into `path`, which may hold a beginning of it.

    Parameters
    ----------
    new_hash : makes a hash of the content, `hashlib.sha256` for instance.
    stop : ends waiting and reading when it is set.
    advance : called with the bytes of each block.

    Returns
    -------
    Hash of the whole file, in hexadecimal digits.

    Raises
    ------
    RemoteError
        The hub does not give the file, also after trying again; what came is kept.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a+b") as out:
        if out.tell() > remote.file.size:
            out.truncate(0)
        try:
            return _side_by_side(remote, out, new_hash(), stop, advance, connections, _RANGE)
        except NoRangesError:
            # This server gives whole files only: begin anew, all in one answer.
            out.truncate(0)
            whole = max(1, remote.file.size)
            return _side_by_side(remote, out, new_hash(), stop, advance, 1, whole)


def _side_by_side(
    remote: RemoteFile,
    out: BinaryIO,
    digest: Hash,
    stop: threading.Event | None,
    advance: Callable[[int], None],
    connections: int,
    length: int,
) -> str:
    out.seek(0)
    while block := out.read(_BLOCK):
        digest.update(block)
    size, abandoned = remote.file.size, threading.Event()
    ranges = [(first, min(first + length, size)) for first in range(out.tell(), size, length)]
    written = _InOrder(out, digest, advance)
    pool = ThreadPoolExecutor(connections)
    try:
        for _ in _finished(pool, remote, ranges, written, connections, abandoned):
            if stop is not None and stop.is_set():
                raise RemoteError(f"{remote.what}: given up, because it is not needed any more")
    finally:
        abandoned.set()
        pool.shutdown(wait=True, cancel_futures=True)
        out.flush()
    return digest.hexdigest()


def _finished(
    pool: ThreadPoolExecutor,
    remote: RemoteFile,
    ranges: list[tuple[int, int]],
    written: "_InOrder",
    connections: int,
    abandoned: threading.Event,
) -> Iterator[None]:
    """Fetch the ranges; give way now and then, so that the caller can end it."""

    def fetch(number: int) -> None:
        first, end = ranges[number]
        remote.stream(first, end, lambda block: written.take(number, block), abandoned)
        written.end(number)

    begun, under_way = 0, set[Future[None]]()
    while written.head < len(ranges):
        # No range begins that far ahead of the slowest one: what waits in memory is bounded.
        while begun < min(len(ranges), written.head + connections):
            under_way.add(pool.submit(fetch, begun))
            begun += 1
        done, under_way = wait(under_way, _LOOK_AGAIN_SECONDS, FIRST_COMPLETED)
        for future in done:
            future.result()
        yield


class _InOrder:
    """Blocks of several ranges that arrive side by side, written one range after the other.

    Attributes
    ----------
    head : the range whose blocks are written as they come; those after it wait in memory.
    """

    def __init__(self, out: BinaryIO, digest: Hash, advance: Callable[[int], None]) -> None:
        self.head = 0
        self._out, self._digest, self._advance = out, digest, advance
        self._waiting: dict[int, bytearray] = {}
        self._ended: set[int] = set()
        self._lock = threading.Lock()

    def take(self, number: int, block: bytes) -> None:
        """Write a block, or keep it until its range's turn."""
        with self._lock:
            if number == self.head:
                self._write(block)
            else:
                self._waiting.setdefault(number, bytearray()).extend(block)
            self._advance(len(block))

    def end(self, number: int) -> None:
        """Note that a range is complete; write what waits of those after it."""
        with self._lock:
            self._ended.add(number)
            while self.head in self._ended:
                self.head += 1
                self._write(self._waiting.pop(self.head, b""))

    def _write(self, block: bytes | bytearray) -> None:
        self._out.write(block)
        self._out.flush()  # a kill must not lose what has come
        self._digest.update(block)
