"""Byte ranges of a large remote file that have been read before, kept on disk in sqlite.

One database for each run of shards of a commit: `ranges(start, length, digest, data)`, each row at
most `_PIECE` bytes under its own checksum. sqlite keeps it whole when processes write side by side
or die at any moment; a row that does not match its checksum is dropped and read anew, and a
database that is damaged is removed and made again.
"""

import hashlib
import logging
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt

log = logging.getLogger(__name__)

Bytes = npt.NDArray[np.uint8]
Offsets = npt.NDArray[np.int64]

_PIECE = 1 << 16
_LOCKED_SECONDS = 60.0
_OF_THE_PLACE = {
    sqlite3.SQLITE_PERM,
    sqlite3.SQLITE_BUSY,
    sqlite3.SQLITE_LOCKED,
    sqlite3.SQLITE_NOMEM,
    sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_FULL,
    sqlite3.SQLITE_CANTOPEN,
}
"""Errors of the disk or its rights, not of what the database holds."""

_TABLE = (
    "CREATE TABLE IF NOT EXISTS ranges"
    "(start INTEGER PRIMARY KEY, length INTEGER, digest BLOB, data BLOB)"
)
# No row is longer than _PIECE, so what covers [low, high) begins after low - _PIECE: a short walk
# along the primary key, which does not touch the data of rows that end before `low`.
_COVERING = (
    "SELECT start, digest, data FROM ranges "
    f"WHERE start > ?1 - {_PIECE} AND start < ?2 AND start + length > ?1 ORDER BY start"
)
_DROP = f"DELETE FROM ranges WHERE start > ?1 - {_PIECE} AND start < ?2 AND start + length > ?1"
_INSERT = (
    "INSERT INTO ranges VALUES (?, ?, ?, ?) ON CONFLICT (start) DO UPDATE SET "
    "length = excluded.length, digest = excluded.digest, data = excluded.data "
    "WHERE excluded.length > ranges.length"
)


class RangeCache:
    """Byte ranges of one remote file, or of shards that are read as one.

    Attributes
    ----------
    path : the database; it is made when the first range is kept.
    """

    def __init__(self, path: Path) -> None:
        """Use `path`; nothing is opened yet."""
        self.path = path

    def read_into(self, out: Bytes, starts: Offsets, lengths: Offsets) -> npt.NDArray[np.bool_]:
        """Fill `out` (sum(lengths),) with the ranges that are kept; say which ones were: (n,)."""
        found = np.zeros(len(starts), bool)
        ends = np.cumsum(lengths)
        if not (self.path.is_file() and self.path.stat().st_size):
            return found
        with self._repaired(), self._opened() as database:
            for i, (start, length, end) in enumerate(
                zip(starts.tolist(), lengths.tolist(), ends.tolist(), strict=True)
            ):
                found[i] = self._fill(database, out[end - length : end], start)
        return found

    def add(self, starts: Offsets, lengths: Offsets, data: Bytes) -> None:
        """Keep ranges; where nothing can be written, they are left alone with a warning.

        Parameters
        ----------
        starts, lengths : (n,) ranges, ascending and apart.
        data : (sum(lengths),) their bytes.
        """
        with self._repaired():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with self._opened() as database:
                database.execute(_TABLE)
                database.executemany(_INSERT, _pieces(starts, lengths, data))

    def drop(self, starts: Offsets, lengths: Offsets) -> None:
        """Forget every kept range that touches one of these, so that it is read anew."""
        if not (self.path.is_file() and self.path.stat().st_size):
            return
        with self._repaired(), self._opened() as database:
            for low, high in zip(starts.tolist(), (starts + lengths).tolist(), strict=True):
                database.execute(_DROP, (low, high))

    def _fill(self, database: sqlite3.Connection, out: Bytes, start: int) -> bool:
        """Fill `out` with the bytes from `start` on; False where one of them is not kept."""
        end = start + len(out)
        position = start
        for first, digest, data in database.execute(_COVERING, (start, end)).fetchall():
            if first > position:
                return False
            if hashlib.sha256(data).digest() != digest:
                log.warning("%s: a range does not match its checksum; read anew", self.path)
                database.execute("DELETE FROM ranges WHERE start = ?", (first,))
                return False
            stop = min(first + len(data), end)
            if stop > position:
                kept = np.frombuffer(data, np.uint8, stop - position, position - first)
                out[position - start : stop - start] = kept
                position = stop
        return position == end

    @contextmanager
    def _opened(self) -> Iterator[sqlite3.Connection]:
        """One connection for each use: so it may be used in threads, and after a fork."""
        with closing(sqlite3.connect(self.path, timeout=_LOCKED_SECONDS)) as database, database:
            # A commit need not wait for the disk: what a power cut damages, the checksums show.
            database.execute("PRAGMA synchronous = OFF")
            yield database

    @contextmanager
    def _repaired(self) -> Iterator[None]:
        """Remove a damaged database; only warn of one that cannot be used."""
        try:
            yield
        except OSError as error:
            log.warning("%s: the rows that are read are not kept (%s)", self.path, error)
        except sqlite3.Error as error:
            if (error.sqlite_errorcode & 0xFF) in _OF_THE_PLACE:
                log.warning("%s: the rows that are read are not kept (%s)", self.path, error)
                return
            log.warning("%s: is damaged (%s); removed, rows will be read anew", self.path, error)
            for name in (f"{self.path.name}-journal", self.path.name):
                with suppress(OSError):
                    self.path.with_name(name).unlink(missing_ok=True)


def _pieces(
    starts: Offsets, lengths: Offsets, data: Bytes
) -> Iterator[tuple[int, int, bytes, memoryview]]:
    position = 0
    for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
        for offset in range(0, length, _PIECE):
            size = min(_PIECE, length - offset)
            piece = data[position : position + size].data
            yield start + offset, size, hashlib.sha256(piece).digest(), piece
            position += size


def merge(starts: Offsets, lengths: Offsets) -> tuple[Offsets, Offsets]:
    """Join ranges (n,) that touch or overlap; return them ascending and apart.

    Examples
    --------
    >>> merge(np.array([8, 0, 4, 20]), np.array([4, 4, 5, 1]))
    (array([ 0, 20]), array([12,  1]))
    """
    if len(starts) == 0:
        return starts, lengths
    order = np.argsort(starts, kind="stable")
    # The furthest end so far, not a range's own: a range may lie wholly inside one before it.
    begins, ends = starts[order], np.maximum.accumulate((starts + lengths)[order])
    first = np.flatnonzero(np.append(True, begins[1:] > ends[:-1]))
    last = np.append(first[1:], len(begins)) - 1
    return begins[first], ends[last] - begins[first]
