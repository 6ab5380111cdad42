"""Shard files on disk as one flat run of bytes, read where it is: no merging, no second copy.

Shards may be cut anywhere, also in the middle of a row. Published names are
`document-00000-of-00020.bin` to `document-00020-of-00020.bin`: the second number is the last
shard's, so 21 files.
"""

import re
from bisect import bisect_right
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from data_order.errors import RowRangeError, StoreError, StoreNotFoundError
from data_order.store.files import bin_path, idx_path, mapped_bytes, store_prefix

Bytes = npt.NDArray[np.uint8]
Offsets = npt.NDArray[np.int64]

SHARD_NAME = re.compile(r"(?P<stem>.+)-(?P<number>\d+)-of-(?P<last>\d+)\.bin")


class ByteSource(Protocol):
    """A flat run of bytes that can be read in pieces, on disk or on the hub."""

    @property
    def name(self) -> str:
        """What messages call it."""

    @property
    def length(self) -> int:
        """Number of bytes."""

    def read(self, starts: Offsets, lengths: Offsets) -> Bytes:
        """Pieces `starts[i] : starts[i] + lengths[i]`, one after the other: (sum(lengths),)."""

    def rows(self, numbers: Offsets, width: int) -> Bytes:
        """Pieces of `width` bytes that begin at `numbers * width`: (n, width)."""

    def span(self, start: int, length: int) -> Bytes:
        """Bytes `start : start + length`, which exist: (length,)."""

    def forget(self, starts: Offsets, lengths: Offsets) -> bool:
        """Drop what is kept of these pieces beside the store itself; whether anything can be."""


class LocalShards:
    """Files on disk, one after the other, as one run of bytes.

    Attributes
    ----------
    paths : the shard files in their order.
    name : what messages call the whole.
    length : bytes of all shards together.
    """

    __slots__ = ("_ends", "_header", "_maps", "_stops", "length", "name", "paths")

    def __init__(self, paths: Sequence[Path], name: str | None = None, header: int = 0) -> None:
        """Map the files into memory, each from byte `header` on; nothing is read yet.

        Raises
        ------
        StoreNotFoundError
            A file is missing, or there is none.
        """
        self.paths = tuple(Path(path) for path in paths)
        if not self.paths:
            raise StoreNotFoundError("no shard files were given, expected at least one")
        for path in self.paths:
            if not path.is_file():
                raise StoreNotFoundError(f"{path}: no such file, expected a shard of a store")
        self.name = name or str(self.paths[0])
        self._header = header
        self._maps = [mapped_bytes(path)[header:] for path in self.paths]
        self._ends = np.cumsum([len(part) for part in self._maps], dtype=np.int64)
        self._stops: list[int] = self._ends.tolist()
        self.length = int(self._ends[-1])

    def __reduce__(self) -> tuple[Any, ...]:
        return LocalShards, (self.paths, self.name, self._header)

    def read(self, starts: Offsets, lengths: Offsets) -> Bytes:
        """Pieces `starts[i] : starts[i] + lengths[i]`, one after the other: (sum(lengths),)."""
        check_pieces(starts, lengths, self.length, self.name)
        out = np.empty(int(lengths.sum()), np.uint8)
        position = 0
        for start, length in zip(starts.tolist(), lengths.tolist(), strict=True):
            self._copy(out[position : position + length], start)
            position += length
        return out

    def span(self, start: int, length: int) -> Bytes:
        """Bytes `start : start + length`, which exist: (length,)."""
        out = np.empty(length, np.uint8)
        self._copy(out, start)
        return out

    def forget(self, starts: Offsets, lengths: Offsets) -> bool:  # noqa: ARG002
        """Drop nothing: the files are the store itself."""
        return False

    def _copy(self, out: Bytes, start: int) -> None:
        """Fill `out` with the bytes from `start` on, shard after shard."""
        position, left = 0, len(out)
        while left:
            shard = bisect_right(self._stops, start)
            count = min(left, self._stops[shard] - start)
            first = start - (self._stops[shard] - len(self._maps[shard]))
            out[position : position + count] = self._maps[shard][first : first + count]
            position, start, left = position + count, start + count, left - count

    def rows(self, numbers: Offsets, width: int) -> Bytes:
        """Pieces of `width` bytes that begin at `numbers * width`: (n, width)."""
        starts = numbers * width
        check_pieces(starts, np.full(len(starts), width), self.length, self.name)
        if len(self._maps) == 1:
            return self._grid(0, width)[numbers]
        shard = np.searchsorted(self._ends, starts, side="right")
        inside = starts + width <= self._ends[shard]
        out = np.empty((len(numbers), width), np.uint8)
        for number in np.unique(shard[inside]):
            at = np.flatnonzero(inside & (shard == number))
            first_row = -(-self._begin(number) // width)
            out[at] = self._grid(number, width)[numbers[at] - first_row]
        cut = np.flatnonzero(~inside)
        out[cut] = self.read(starts[cut], np.full(len(cut), width)).reshape(len(cut), width)
        return out

    def shard_of(self, positions: Offsets) -> npt.NDArray[np.intp]:
        """Shard that holds each byte (n,)."""
        return np.searchsorted(self._ends, positions, side="right")

    def _begin(self, shard: int) -> int:
        return int(self._ends[shard]) - len(self._maps[shard])

    def _grid(self, shard: int, width: int) -> Bytes:
        """Rows that lie wholly in one shard, as a (rows, width) view."""
        phase = -self._begin(shard) % width
        rows = max(0, len(self._maps[shard]) - phase) // width
        return self._maps[shard][phase : phase + rows * width].reshape(rows, width)


def check_pieces(starts: Offsets, lengths: Offsets, total: int, name: str) -> None:
    """Refuse pieces that are not wholly inside `total` bytes.

    Raises
    ------
    RowRangeError
        A piece begins before the first byte or ends after the last.
    """
    wrong = (starts < 0) | (lengths < 0) | (starts > total - lengths)
    if wrong.any():
        at = int(np.argmax(wrong))
        raise RowRangeError(
            f"{name}: bytes {int(starts[at]):,} to {int(starts[at] + lengths[at]):,} were asked "
            f"for, but there are {total:,}"
        )


def local_files(where: str | Path) -> tuple[list[Path], Path | None]:
    """Shard files of a local store, in order, and its `.idx` file where there is one.

    Parameters
    ----------
    where : a folder with one store, the prefix of its files, or one of its files.

    Raises
    ------
    StoreNotFoundError
        There is no store.
    StoreError
        A shard is missing, or the folder holds several stores.
    """
    where = Path(where)
    if where.is_dir():
        prefix = _only_store(where)
    else:
        shard = SHARD_NAME.fullmatch(where.name)
        prefix = where.with_name(shard["stem"]) if shard else store_prefix(where)
    index = idx_path(prefix)
    return _files_of(prefix), index if index.is_file() else None


def shards_in_order(names: Sequence[str], where: str) -> list[str]:
    """Names of the shards 0 to last of one store, in order.

    Parameters
    ----------
    names : file names that all match `SHARD_NAME`.
    where : what messages call their folder.

    Raises
    ------
    StoreError
        A shard is missing or duplicated.
    """
    found: dict[int, str] = {}
    lasts = set()
    for name in names:
        match = SHARD_NAME.fullmatch(name)
        if match:
            lasts.add(int(match["last"]))
            if int(match["number"]) in found:
                raise StoreError(f"{where}: two files are shard {int(match['number'])}")
            found[int(match["number"])] = name
    if len(lasts) != 1:
        raise StoreError(f"{where}: shards name different last shards: {sorted(lasts)}")
    last = lasts.pop()
    missing = [number for number in range(last + 1) if number not in found]
    if missing or len(found) != last + 1:
        raise StoreError(
            f"{where}: {len(found)} of {last + 1} shards found; missing: "
            f"{', '.join(str(number) for number in missing[:8]) or 'none, but some are extra'}"
        )
    return [found[number] for number in range(last + 1)]


def _only_store(folder: Path) -> Path:
    stems = set()
    for path in folder.glob("*.bin"):
        shard = SHARD_NAME.fullmatch(path.name)
        stems.add(shard["stem"] if shard else path.stem)
    if not stems:
        raise StoreNotFoundError(f"{folder}: holds no .bin file, expected the shards of a store")
    if len(stems) > 1:
        raise StoreError(
            f"{folder}: holds {len(stems)} stores ({', '.join(sorted(stems))}); name one of them"
        )
    return folder / stems.pop()


def _files_of(prefix: Path) -> list[Path]:
    if bin_path(prefix).is_file():
        return [bin_path(prefix)]
    names = [
        path.name
        for path in prefix.parent.glob("*.bin")
        if (shard := SHARD_NAME.fullmatch(path.name)) and shard["stem"] == prefix.name
    ]
    if not names:
        raise StoreNotFoundError(
            f"{prefix}: no store there, expected {prefix.name}.bin or "
            f"{prefix.name}-00000-of-000NN.bin"
        )
    return [prefix.with_name(name) for name in shards_in_order(names, str(prefix))]
