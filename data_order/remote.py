"""Shards on the Hugging Face hub as one flat run of bytes: only the bytes that are asked for.

Pieces that touch are read as one range, ranges are read in parallel, and what has been read is kept
on disk: asking again, in this process or another, costs no request at all. The commit is asked for
once and then kept too, so that a moved branch cannot change rows between two runs; `refresh`
asks anew.
"""

import hashlib
import json
import logging
import re
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from platformdirs import user_cache_path

from data_order.errors import RemoteNotFoundError, StoreError
from data_order.extents import Bytes, Extents, Offsets, merge
from data_order.files import replacing
from data_order.retry import Patience
from data_order.shards import SHARD_NAME, check_pieces, shards_in_order

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
"""Called with (bytes read, bytes to read) while a read goes on."""

_NAME = r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*"
_ADDRESS = re.compile(
    rf"hf://datasets/(?P<repository>{_NAME})(?:@(?P<revision>[^/]+))?(?:/(?P<stem>.+))?"
)
_RANGE = 8 << 20
_BATCH = 16 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """How to read from the hub.

    Attributes
    ----------
    revision : branch, tag or commit of the dataset.
    endpoint : address of the hub; by default `HF_ENDPOINT`, else the public one.
    cache : folder for what has been read; by default `pythia-profile` in the user's cache folder;
        False keeps nothing.
    refresh : ask the hub for the commit of the revision, even if it is known.
    parallel : requests under way at once.
    patience : how often to ask again.
    progress : called with (bytes read, bytes to read) while a read goes on.
    """

    revision: str = "main"
    endpoint: str | None = None
    cache: str | Path | bool = True
    refresh: bool = False
    parallel: int = 16
    patience: Patience = field(default_factory=Patience)
    progress: Progress | None = None


class RemoteOptions(TypedDict, total=False):
    """The attributes of `Remote`, as keyword arguments."""

    revision: str
    endpoint: str | None
    cache: str | Path | bool
    refresh: bool
    parallel: int
    patience: Patience
    progress: Progress | None


def is_address(where: str) -> bool:
    """Tell an address on the hub from a place on disk, which may not exist.

    "owner/name" is an address unless there is a folder "owner" here.

    Examples
    --------
    >>> is_address("EleutherAI/pile-deduped-pythia-preshuffled"), is_address("hf://datasets/a/b")
    (True, True)
    >>> is_address("./rows/document"), is_address("rows"), is_address("/data/rows/document")
    (False, False, False)
    """
    if where.startswith("hf://"):
        return True
    return bool(re.fullmatch(_NAME, where)) and not Path(where).parent.is_dir()


class HubShards:
    """Shards of a dataset repository, one after the other, as one run of bytes.

    Attributes
    ----------
    name : what messages call the whole.
    length : bytes of all shards together.
    repository, commit : where they lie.
    """

    __slots__ = (
        "_address", "_ends", "_extents", "_files", "_names", "_settings",
        "commit", "length", "name", "repository",
    )  # fmt: skip

    def __init__(self, address: str, settings: Remote) -> None:
        """Find the shards: one request, or none if this commit has been asked for before.

        Raises
        ------
        RemoteNotFoundError
            There is no such dataset or revision, or it holds no shards.
        StoreError
            A shard is missing, or there are several stores.
        """
        from data_order.hub import HubFiles, hub_endpoint

        full = address if address.startswith("hf://") else f"hf://datasets/{address}"
        match = _ADDRESS.fullmatch(full)
        if match is None:
            raise RemoteNotFoundError(
                f"'{address}': expected owner/name, or hf://datasets/owner/name@revision/prefix"
            )
        endpoint = hub_endpoint(settings.endpoint)
        revision = match["revision"] or settings.revision
        folder = _cache_folder(settings.cache, match["repository"])
        pinned = _pinned(match["repository"], revision, endpoint, settings, folder)
        sizes = dict(pinned.files)
        self._names = _shard_names(list(sizes), match["stem"], address)
        self._ends = np.cumsum([sizes[name] for name in self._names], dtype=np.int64)
        self._address, self._settings = address, settings
        self._files = HubFiles(pinned, endpoint, settings.patience)
        self._extents = None
        if folder is not None:
            key = json.dumps([pinned.commit, [(name, sizes[name]) for name in self._names]])
            self._extents = Extents(folder / hashlib.sha256(key.encode()).hexdigest()[:32])
        self.name, self.length = address, int(self._ends[-1])
        self.repository, self.commit = pinned.repository, pinned.commit

    def __reduce__(self) -> tuple[Any, ...]:
        return HubShards, (self._address, self._settings)

    def rows(self, numbers: Offsets, width: int) -> Bytes:
        """Pieces of `width` bytes that begin at `numbers * width`: (n, width)."""
        pieces = self.read(numbers * width, np.full(len(numbers), width))
        return pieces.reshape(len(numbers), width)

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
        if self._extents is not None:
            found |= self._extents.read_into(out, starts, lengths)
        if found.all():
            return out
        ends = np.cumsum(lengths)
        wanted = np.flatnonzero(~found)
        wanted = wanted[np.argsort(starts[wanted], kind="stable")]
        first, size = merge(starts[wanted], lengths[wanted])
        home = np.searchsorted(first, starts[wanted], side="right") - 1
        done, total = 0, int(size.sum())
        for begin, stop in _batches(size):
            data = self._fetch(first[begin:stop], size[begin:stop], done, total)
            if self._extents is not None:
                self._extents.add(first[begin:stop], size[begin:stop], data)
            place = np.cumsum(size[begin:stop]) - size[begin:stop]
            for k in range(*np.searchsorted(home, [begin, stop]).tolist()):
                i, h = int(wanted[k]), int(home[k])
                at = int(place[h - begin] + starts[i] - first[h])
                out[int(ends[i] - lengths[i]) : int(ends[i])] = data[at : at + int(lengths[i])]
            done += len(data)
        return out

    def _fetch(self, starts: Offsets, lengths: Offsets, done: int, total: int) -> Bytes:
        """Bytes of extents (n,) that are ascending and apart, read in parallel: (sum(lengths),)."""
        data = np.empty(int(lengths.sum()), np.uint8)
        jobs = self._ranges(starts, lengths)

        def fetch(job: tuple[str, int, int, int]) -> int:
            name, offset, length, place = job
            body = self._files.read(name, offset, length)
            data[place : place + length] = np.frombuffer(body, np.uint8)
            return length

        pool = ThreadPoolExecutor(min(self._settings.parallel, len(jobs)))
        try:
            for length in pool.map(fetch, jobs):
                done += length
                if self._settings.progress is not None:
                    self._settings.progress(done, total)
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
        return data

    def _ranges(self, starts: Offsets, lengths: Offsets) -> list[tuple[str, int, int, int]]:
        """Ranges within one shard and of at most 8 MiB: (shard, first byte, length, place)."""
        jobs, place, ends = [], 0, self._ends.tolist()
        for start, left in zip(starts.tolist(), lengths.tolist(), strict=True):
            while left:
                shard = int(np.searchsorted(self._ends, start, side="right"))
                begin = ends[shard - 1] if shard else 0
                length = min(left, ends[shard] - start, _RANGE)
                jobs.append((self._names[shard], start - begin, length, place))
                start, left, place = start + length, left - length, place + length
        return jobs


def _batches(sizes: Offsets) -> list[tuple[int, int]]:
    """Group extents, about 16 MiB each; a group is kept on disk as soon as it is there."""
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
            f"{address}: names no store of .bin shards; stores there: {there}"
            + ("; add one of them to the address" if stem is None and stores else "")
        )
    if stores[stem] == [f"{stem}.bin"]:
        return stores[stem]
    return shards_in_order(stores[stem], address)


def _cache_folder(cache: str | Path | bool, repository: str) -> Path | None:
    if cache is False:
        return None
    root = user_cache_path("pythia-profile") if cache is True else Path(cache)
    return root / "rows" / repository.replace("/", "--")


def _pinned(
    repository: str, revision: str, endpoint: str, settings: Remote, folder: Path | None
) -> Any:
    """Return the commit and its files, from an earlier run if there was one."""
    from data_order.hub import Pinned, pin

    key = hashlib.sha256(json.dumps([endpoint, repository, revision]).encode()).hexdigest()[:32]
    known = folder / f"{key}.json" if folder is not None else None
    if known is not None and known.is_file() and not settings.refresh:
        try:
            said = json.loads(known.read_text())
            files = tuple((str(name), int(size)) for name, size in said["files"])
            return Pinned(str(said["repository"]), str(said["commit"]), files)
        except (OSError, ValueError, KeyError, TypeError):
            log.warning("%s: cannot be read; the hub is asked anew", known)
    pinned = pin(repository, revision, endpoint, settings.patience)
    if known is not None:
        try:
            with replacing(known) as file:
                file.write(json.dumps({**asdict(pinned), "revision": revision}).encode())
        except StoreError as error:
            log.warning("%s; the commit is not kept", error)
    return pinned
