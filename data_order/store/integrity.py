"""Are rows what was published? A second fetch for rows of the hub, hashes for files on disk.

The hub gives a hash of each whole file, none of a range: a row that was read by range has been
checked for its length, its place in the file and, where the suite is known, its vocabulary. A byte
that was changed on the way within these bounds shows only when the row is fetched again.
"""

import hashlib
from collections.abc import Iterable, Mapping
from pathlib import Path

import numpy as np
import numpy.typing as npt

from data_order.errors import StoreError
from data_order.order import as_integers
from data_order.store.shards import LocalShards
from data_order.store.token_rows import TokenRows


def differing_rows(rows: TokenRows, numbers: npt.ArrayLike) -> npt.NDArray[np.int64]:
    """Fetch rows of the hub a second time, past the cache, and name those that differ.

    What the cache holds of these is dropped, so that they are read anew.

    Raises
    ------
    StoreError
        The rows do not come from the hub.
    """
    if isinstance(rows.source, LocalShards):
        raise StoreError(f"{rows.source.name}: lies on this disk; compare its hashes instead")
    asked, width = as_integers(numbers, "rows").reshape(-1), rows.row_bytes
    first = rows.source.rows(asked, width)
    second = rows.source.fresh().rows(asked, width)  # type: ignore[attr-defined]
    differing: npt.NDArray[np.int64] = asked[(first != second).any(axis=1)]
    rows.source.forget(differing * width, np.full(len(differing), width))
    return differing


def shards_of(rows: TokenRows, numbers: npt.ArrayLike) -> list[Path]:
    """Files on this disk that hold some rows, in order."""
    source = rows.source
    if not isinstance(source, LocalShards):
        raise StoreError(f"{source.name}: does not lie on this disk")
    asked, width = as_integers(numbers, "rows").reshape(-1), rows.row_bytes
    first, last = source.shard_of(asked * width), source.shard_of((asked + 1) * width - 1)
    return [source.paths[shard] for shard in sorted({*first.tolist(), *last.tolist()})]


def damaged_files(paths: Iterable[Path], hashes: Mapping[str, str]) -> list[Path]:
    """Hash whole files, and name those that are not what was published.

    Parameters
    ----------
    hashes : sha256 of each file, by name: from `published_hashes`, or the hub's listing.

    Raises
    ------
    StoreError
        A file cannot be read, or no hash of its name is known.
    """
    damaged = []
    for path in paths:
        if path.name not in hashes:
            raise StoreError(f"{path}: no published file has this name; no hash to compare with")
        try:
            with path.open("rb") as content:
                digest = hashlib.file_digest(content, "sha256").hexdigest()
        except OSError as error:
            raise StoreError(f"{path}: cannot be read ({error.strerror})") from error
        if digest != hashes[path.name]:
            damaged.append(path)
    return damaged
