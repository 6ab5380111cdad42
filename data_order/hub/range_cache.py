"""Pieces of a large remote file that have been read before, kept on disk.

A folder holds segments, each of them written once and never changed: the extents (first byte,
length) it has, then their bytes, under a checksum. A segment gets its name when it is complete, so
that processes that die or work at the same time cannot harm one another; one that does not match
its checksum is dropped and its bytes are asked for anew.

Segment, little-endian: magic (8 bytes), sha256 of what follows (32 bytes), u64 n, int64 starts[n],
int64 lengths[n], bytes.
"""

import hashlib
import logging
import os
import struct
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from data_order.errors import StoreError
from data_order.store.files import mapped_bytes, replacing

log = logging.getLogger(__name__)

Bytes = npt.NDArray[np.uint8]
Offsets = npt.NDArray[np.int64]

_MAGIC = b"EXTENTS1"
_HEAD = len(_MAGIC) + 32
_SMALL = 16 << 20
_MANY = 32


@dataclass(frozen=True, slots=True)
class _Segment:
    """One file: extents ascending by `starts`, their bytes one after the other in `data`."""

    path: Path
    starts: Offsets
    lengths: Offsets
    places: Offsets
    data: Bytes


class Extents:
    """What is known of one large file, in one folder.

    Attributes
    ----------
    folder : where the segments are.
    """

    def __init__(self, folder: Path) -> None:
        """Use `folder`; it is made when the first segment is written."""
        self.folder = folder
        self._segments: dict[str, _Segment] = {}
        self._lock = threading.Lock()

    def read_into(self, out: Bytes, starts: Offsets, lengths: Offsets) -> npt.NDArray[np.bool_]:
        """Fill `out` (sum(lengths),) with the pieces that are here; say which ones were: (n,)."""
        found = np.zeros(len(starts), bool)
        ends = np.cumsum(lengths)
        for segment in self._look():
            place = np.searchsorted(segment.starts, starts, side="right") - 1
            inside = (place >= 0) & ~found
            offset = starts - segment.starts[place]
            inside &= offset + lengths <= segment.lengths[place]
            for i in np.flatnonzero(inside).tolist():
                first = int(segment.places[place[i]] + offset[i])
                piece = segment.data[first : first + int(lengths[i])]
                out[int(ends[i] - lengths[i]) : int(ends[i])] = piece
            found |= inside
        return found

    def add(self, starts: Offsets, lengths: Offsets, data: Bytes) -> None:
        """Keep pieces, ascending and apart; a folder that cannot be written is left alone.

        Parameters
        ----------
        starts, lengths : (n,) extents.
        data : (sum(lengths),) their bytes.
        """
        try:
            self._write(starts, lengths, data)
            self._compact()
        except (StoreError, OSError) as error:
            log.warning("%s; rows are not kept", error)

    def _write(self, starts: Offsets, lengths: Offsets, data: Bytes) -> Path:
        extents = struct.pack("<Q", len(starts)) + starts.astype("<i8").tobytes()
        extents += lengths.astype("<i8").tobytes()
        digest = hashlib.sha256(extents)
        digest.update(data.data)
        path = self.folder / f"{digest.hexdigest()[:32]}.extents"
        with replacing(path) as file:
            file.write(_MAGIC + digest.digest() + extents)
            file.write(data.data)
        return path

    def _look(self) -> list[_Segment]:
        """Segments that are here now; those that have come since are read and checked."""
        with self._lock:
            names = set()
            if self.folder.is_dir():
                names = {entry.name for entry in os.scandir(self.folder) if _is_segment(entry.name)}
            for name in set(self._segments) - names:
                del self._segments[name]
            for name in sorted(names - set(self._segments)):
                segment = _read_segment(self.folder / name)
                if segment is not None:
                    self._segments[name] = segment
            return list(self._segments.values())

    def _compact(self) -> None:
        """Write many small segments as one."""
        small = [segment for segment in self._look() if segment.data.nbytes < _SMALL]
        if len(small) < _MANY:
            return
        starts, lengths, data = _union(small)
        kept = self._write(starts, lengths, data)
        for segment in small:
            if segment.path != kept:
                segment.path.unlink(missing_ok=True)
        log.debug("%s: %d segments are one now", self.folder, len(small))


def _is_segment(name: str) -> bool:
    return name.endswith(".extents") and not name.startswith(".")


def _read_segment(path: Path) -> _Segment | None:
    """Map a segment; None, and the file is dropped, where it is not what it was written as."""
    try:
        whole = mapped_bytes(path)
    except StoreError as error:  # another process may have merged it with others
        log.debug("%s", error)
        return None
    digest = hashlib.sha256(whole[_HEAD:].data).digest()
    if whole[: len(_MAGIC)].tobytes() != _MAGIC or whole[len(_MAGIC) : _HEAD].tobytes() != digest:
        log.warning("%s: does not match its checksum; dropped, its rows will be read anew", path)
        path.unlink(missing_ok=True)
        return None
    (count,) = struct.unpack("<Q", whole[_HEAD : _HEAD + 8].tobytes())
    extents = np.frombuffer(whole[_HEAD + 8 : _HEAD + 8 + 16 * count].tobytes(), "<i8")
    starts, lengths = extents[:count], extents[count:]
    places = np.cumsum(lengths) - lengths
    return _Segment(path, starts, lengths, places, whole[_HEAD + 8 + 16 * count :])


def _union(segments: list[_Segment]) -> tuple[Offsets, Offsets, Bytes]:
    """Every byte of the segments once: extents that touch or overlap become one."""
    starts = np.concatenate([s.starts for s in segments])
    lengths = np.concatenate([s.lengths for s in segments])
    merged, sizes = merge(starts, lengths)
    places = np.cumsum(sizes) - sizes
    data = np.empty(int(sizes.sum()), np.uint8)
    for segment in segments:
        home = np.searchsorted(merged, segment.starts, side="right") - 1
        targets = places[home] + segment.starts - merged[home]
        for target, place, length in zip(
            targets.tolist(), segment.places.tolist(), segment.lengths.tolist(), strict=True
        ):
            data[target : target + length] = segment.data[place : place + length]
    return merged, sizes, data


def merge(starts: Offsets, lengths: Offsets) -> tuple[Offsets, Offsets]:
    """Join extents (n,) that touch or overlap; return them ascending and apart.

    Examples
    --------
    >>> merge(np.array([8, 0, 4, 20]), np.array([4, 4, 5, 1]))
    (array([ 0, 20]), array([12,  1]))
    """
    if len(starts) == 0:
        return starts, lengths
    order = np.argsort(starts, kind="stable")
    begins, ends = starts[order], np.maximum.accumulate((starts + lengths)[order])
    first = np.flatnonzero(np.append(True, begins[1:] > ends[:-1]))
    last = np.append(first[1:], len(begins)) - 1
    return begins[first], ends[last] - begins[first]
