"""Shards on the Hugging Face hub as one flat run of bytes: only the bytes that are asked for.

Pieces that touch are read as one range, ranges are read in parallel, and what has been read is kept
on disk: asking again, in this process or another, costs no request at all.
"""

import hashlib
import json
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from data_order.errors import RemoteNotFoundError
from data_order.hub.access import Hub, parse_address
from data_order.hub.client import RemoteFile
from data_order.hub.listings import Pinned, pinned_dataset
from data_order.hub.range_cache import Bytes, Offsets, RangeCache, merge
from data_order.store.shards import SHARD_NAME, check_pieces, shards_in_order

_RANGE = 8 << 20
_BATCH = 16 << 20


class RemoteBytes:
    """Remote files, one after the other, as one run of bytes.

    Attributes
    ----------
    name : what messages call the whole.
    length : bytes of all files together.
    """

    __slots__ = ("_cache", "_ends", "_files", "_hub", "length", "name")

    def __init__(
        self, files: Sequence[RemoteFile], name: str, hub: Hub, cache: Path | None
    ) -> None:
        """Keep what is to be read; nothing is requested yet.

        Parameters
        ----------
        cache : database of the ranges that have been read; None to keep nothing.
        """
        self._files, self._hub, self.name = files, hub, name
        self._ends = np.cumsum([file.file.size for file in files], dtype=np.int64)
        self._cache = None if cache is None else RangeCache(cache)
        self.length = int(self._ends[-1])

    def rows(self, numbers: Offsets, width: int) -> Bytes:
        """Pieces of `width` bytes that begin at `numbers * width`: (n, width)."""
        pieces = self.read(numbers * width, np.full(len(numbers), width))
        return pieces.reshape(len(numbers), width)

    def forget(self, starts: Offsets, lengths: Offsets) -> bool:
        """Drop these pieces from the cache, so that they are read anew."""
        if self._cache is not None:
            self._cache.drop(starts, lengths)
        return True

    def fresh(self) -> "RemoteBytes":
        """Return the same bytes, read past the cache."""
        return RemoteBytes(self._files, self.name, replace(self._hub, progress=None), None)

    def span(self, start: int, length: int) -> Bytes:
        """Bytes `start : start + length`, which exist: (length,)."""
        return self.read(np.array([start]), np.array([length]))

    def read(self, starts: Offsets, lengths: Offsets) -> Bytes:
        """Pieces `starts[i] : starts[i] + lengths[i]`, one after the other: (sum(lengths),).

        Raises
        ------
        RemoteError
            The hub does not give them, also after trying again; what came is kept.
        """
        check_pieces(starts, lengths, self.length, self.name)
        out = np.empty(int(lengths.sum()), np.uint8)
        found = lengths == 0
        if self._cache is not None:
            found |= self._cache.read_into(out, starts, lengths)
        if found.all():
            return out
        # Rows that touch are one request; `home` is the range in which each wanted piece lies.
        ends = np.cumsum(lengths)
        wanted = np.flatnonzero(~found)
        wanted = wanted[np.argsort(starts[wanted], kind="stable")]
        first, size = merge(starts[wanted], lengths[wanted])
        home = np.searchsorted(first, starts[wanted], side="right") - 1
        done, total = 0, int(size.sum())
        for begin, stop in _batches(size):
            data = self._fetch(first[begin:stop], size[begin:stop], done, total)
            if self._cache is not None:
                self._cache.add(first[begin:stop], size[begin:stop], data)
            offset = np.cumsum(size[begin:stop]) - size[begin:stop]
            # `wanted` ascends with `home`, so the pieces of these ranges stand side by side.
            for k in range(*np.searchsorted(home, [begin, stop]).tolist()):
                i, h = int(wanted[k]), int(home[k])
                low = int(offset[h - begin] + starts[i] - first[h])
                out[int(ends[i] - lengths[i]) : int(ends[i])] = data[low : low + int(lengths[i])]
            done += len(data)
        return out

    def _fetch(self, starts: Offsets, lengths: Offsets, done: int, total: int) -> Bytes:
        """Bytes of ranges (n,) that are ascending and apart, read in parallel: (sum(lengths),)."""
        data = np.empty(int(lengths.sum()), np.uint8)
        jobs, stop = self._ranges(starts, lengths), threading.Event()

        def fetch(job: tuple[RemoteFile, int, int, int]) -> int:
            file, offset, length, position = job
            body = file.read(offset, length, stop)
            data[position : position + length] = np.frombuffer(body, np.uint8)
            return length

        pool = ThreadPoolExecutor(min(self._hub.parallel, len(jobs)))
        try:
            for finished in as_completed([pool.submit(fetch, job) for job in jobs]):
                done += finished.result()
                if self._hub.progress is not None:
                    self._hub.progress(done, total)
        finally:
            stop.set()
            pool.shutdown(wait=True, cancel_futures=True)
        return data

    def _ranges(self, starts: Offsets, lengths: Offsets) -> list[tuple[RemoteFile, int, int, int]]:
        """Ranges within one shard and of at most 8 MiB: (shard, first, length, position)."""
        jobs, position, ends = [], 0, self._ends.tolist()
        for start, left in zip(starts.tolist(), lengths.tolist(), strict=True):
            while left:
                shard = int(np.searchsorted(self._ends, start, side="right"))
                begin = ends[shard - 1] if shard else 0
                length = min(left, ends[shard] - start, _RANGE)
                jobs.append((self._files[shard], start - begin, length, position))
                start, left, position = start + length, left - length, position + length
        return jobs


class HubShards(RemoteBytes):
    """Shards of a dataset repository, one after the other, as one run of bytes."""

    __slots__ = ("_pinned", "_stem")

    def __init__(self, pinned: Pinned, stem: str | None, name: str, hub: Hub) -> None:
        """Find the shards among the files of a commit; nothing is requested yet.

        Raises
        ------
        RemoteNotFoundError
            The commit holds no shards, or several stores and `stem` names none of them.
        StoreError
            A shard is missing.
        """
        self._pinned, self._stem = pinned, stem
        listed = {file.name: file for file in pinned.files}
        shards = [listed[shard] for shard in _shard_names(list(listed), stem, name)]
        files = [
            RemoteFile(hub, "dataset", pinned.repository, pinned.commit, shard) for shard in shards
        ]
        key = json.dumps([pinned.commit, [(shard.name, shard.size) for shard in shards]])
        digest = hashlib.sha256(key.encode()).hexdigest()[:32]
        kept = hub.kept("rows", pinned.repository.replace("/", "--"), f"{digest}.sqlite")
        super().__init__(files, name, hub, kept)

    @classmethod
    def open(cls, where: str, hub: Hub) -> "HubShards":
        """Open an address: one request, or none if this revision has been asked for before.

        Raises
        ------
        RemoteNotFoundError
            There is no such dataset or revision, or it holds no shards.
        """
        address = parse_address(where)
        found = pinned_dataset(address.repository, address.revision or "main", hub)
        return cls(found, address.stem, where, hub)

    @property
    def commit(self) -> str:
        """Full id of the commit that is read."""
        return self._pinned.commit

    def __reduce__(self) -> tuple[Any, ...]:
        quiet = replace(self._hub, progress=None)
        return HubShards, (self._pinned, self._stem, self.name, quiet)


def _batches(sizes: Offsets) -> list[tuple[int, int]]:
    """Group ranges, about 16 MiB each; a group is kept on disk as soon as it has come."""
    number = (np.cumsum(sizes) - sizes) // _BATCH
    cuts = np.flatnonzero(np.append(True, number[1:] != number[:-1])).tolist()
    return list(zip(cuts, [*cuts[1:], len(sizes)], strict=True))


def _shard_names(names: list[str], stem: str | None, address: str) -> list[str]:
    stores: dict[str, list[str]] = {}
    for name in names:
        shard = SHARD_NAME.fullmatch(name)
        if shard or name.endswith(".bin"):
            stores.setdefault(shard["stem"] if shard else name[:-4], []).append(name)
    if stem is None and len(stores) == 1:
        stem = next(iter(stores))
    if stem not in stores:
        there = ", ".join(sorted(stores)) or "none"
        raise RemoteNotFoundError(
            f"{address}: names no store of .bin shards; its stores: {there}"
            + ("; add one of them to the address" if stem is None and stores else "")
        )
    if stores[stem] == [f"{stem}.bin"]:
        return stores[stem]
    return shards_in_order(stores[stem], address)
