"""Rows in files of other kinds: lines of JSON (Amber), shards of parquet (Pico).

In: a folder, or for parquet a dataset on the hub. Out: (n, row_tokens) arrays by row number. Only
the files that hold wanted rows need to be there. Parquet shards from the hub are fetched whole, one
at a time, since their rows are compressed together; lines of JSON cannot be fetched by range.
"""

import hashlib
import json
import logging
from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from data_order.errors import RowRangeError, StoreError, StoreNotFoundError
from data_order.hub.access import Hub, is_address, parse_address
from data_order.order import Rows
from data_order.store.selection import selected
from data_order.store.vocabulary import check_vocabulary

__all__ = ["JsonLines", "ParquetShards"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class _RowFiles:
    """Rows of equal files, by number.

    Attributes
    ----------
    where : folder of the files, or a dataset on the hub.
    names : what a file may be called, with `{file}` for its number; the first that is there counts.
    files, file_rows : number of files, rows of each.
    row_tokens : tokens of a row.
    column : field that holds the tokens.
    vocabulary : number of token ids; None accepts all.
    hub : how to reach the hub.
    """

    where: str
    names: tuple[str, ...]
    files: int
    file_rows: int
    row_tokens: int
    column: str
    vocabulary: int | None = None
    hub: Hub | None = None

    def __len__(self) -> int:
        return self.files * self.file_rows

    def __getitem__(self, key: Any, /) -> npt.NDArray[np.uint32]:
        """Tokens of some rows: (n, row_tokens), or (row_tokens,) of one."""
        ids = selected(key, len(self), "row")
        file, local = np.divmod(np.atleast_1d(ids), self.file_rows)
        tokens = np.empty((len(file), self.row_tokens), np.uint32)
        for number in np.unique(file).tolist():
            mine = np.flatnonzero(file == number)
            different, place = np.unique(local[mine], return_inverse=True)
            tokens[mine] = self._read(number, different)[place]
        check_vocabulary(tokens, self.vocabulary, ids, self.where)
        return tokens if np.ndim(ids) else tokens[0]

    def path(self, file: int) -> Path:
        """Path of a file.

        Raises
        ------
        StoreNotFoundError
            It is not there.
        """
        tried = [Path(self.where) / name.format(file=file) for name in self.names]
        for path in tried:
            if path.is_file():
                return path
        raise StoreNotFoundError(
            f"{tried[0]}: no such file; rows {file * self.file_rows:,} to "
            f"{(file + 1) * self.file_rows - 1:,} are in it"
        )

    @abstractmethod
    def _read(self, file: int, rows: Rows) -> npt.NDArray[np.uint32]:
        """Tokens of some rows of a file, which ascend."""

    def _whole(self, lists: Sequence[Any], path: object, rows: Rows) -> npt.NDArray[np.uint32]:
        for tokens, row in zip(lists, rows.tolist(), strict=True):
            if not isinstance(tokens, list) or len(tokens) != self.row_tokens:
                got = f"{len(tokens)} tokens" if isinstance(tokens, list) else repr(tokens)[:40]
                raise StoreError(
                    f"{path}: row {row:,} holds {got} in '{self.column}', expected "
                    f"{self.row_tokens:,} tokens"
                )
        try:
            found = np.array(lists, dtype=np.int64)
        except (ValueError, TypeError, OverflowError) as error:
            raise StoreError(f"{path}: '{self.column}' holds no whole numbers") from error
        if found.size and (int(found.min()) < 0 or int(found.max()) >= 2**32):
            raise StoreError(f"{path}: tokens {found.min()} to {found.max()} are no token ids")
        return found.astype(np.uint32)


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonLines(_RowFiles):
    """Rows that are lines of JSON: `{"token_ids": [...], ...}`."""

    column: str = "token_ids"

    def _read(self, file: int, rows: Rows) -> npt.NDArray[np.uint32]:
        path, wanted, lists = self.path(file), {*rows.tolist()}, []
        log.info("%s: looking for %s rows", path, f"{len(wanted):,}")
        with path.open("rb") as lines:
            for number, line in enumerate(lines):
                if number in wanted:
                    try:
                        lists.append(json.loads(line)[self.column])
                    except (ValueError, KeyError, TypeError, RecursionError) as error:
                        raise StoreError(
                            f"{path}: line {number + 1:,} is no JSON with '{self.column}'"
                        ) from error
                    if len(lists) == len(wanted):
                        return self._whole(lists, path, rows)
        raise RowRangeError(f"{path}: has no row {int(rows[len(lists)]):,}; it is cut short")


@dataclass(frozen=True, slots=True, kw_only=True)
class ParquetShards(_RowFiles):
    """Rows of parquet shards, whose column `idx`, where there is one, counts them."""

    column: str = "input_ids"

    def _read(self, file: int, rows: Rows) -> npt.NDArray[np.uint32]:
        if not is_address(self.where):
            return self._of(self.path(file), file, rows)
        path = self._fetched(file)
        try:
            return self._of(path, file, rows)
        finally:
            path.unlink(missing_ok=True)

    def _of(self, path: Path, file: int, rows: Rows) -> npt.NDArray[np.uint32]:
        try:
            columns = pl.read_parquet_schema(path)
            if self.column not in columns:
                raise StoreError(f"{path}: has no column '{self.column}'")
            wanted = [name for name in (self.column, "idx") if name in columns]
            table = pl.scan_parquet(path).select(wanted).collect()
        except (pl.exceptions.PolarsError, OSError) as error:
            raise StoreError(f"{path}: is no parquet file, or is damaged") from error
        if len(table) != self.file_rows:
            raise StoreError(f"{path}: holds {len(table):,} rows, expected {self.file_rows:,}")
        chosen = table[rows]
        if "idx" in wanted and chosen["idx"].to_list() != (rows + file * self.file_rows).tolist():
            raise StoreError(
                f"{path}: its 'idx' does not count rows from {file * self.file_rows:,}"
            )
        return self._whole(chosen[self.column].to_list(), path, rows)

    def _fetched(self, file: int) -> Path:
        from data_order.hub.client import RemoteFile
        from data_order.hub.download import download
        from data_order.hub.listings import pinned_dataset

        hub, address = self.hub or Hub(), parse_address(self.where)
        pinned = pinned_dataset(address.repository, address.revision or "main", hub)
        listed = {known.name: known for known in pinned.files}
        names = [name.format(file=file) for name in self.names]
        name = next((name for name in names if name in listed), None)
        if name is None:
            raise StoreNotFoundError(f"{self.where}: lists no {names[0]}")
        kept = hub.kept("rows", pinned.repository.replace("/", "--"), Path(name).name)
        if kept is None:
            raise StoreError(f"{self.where}: shards are fetched whole and need a cache; give one")
        log.info("%s: fetching %s, %.0f MB", self.where, name, listed[name].size / 1e6)
        remote = RemoteFile(hub, "dataset", pinned.repository, pinned.commit, listed[name])
        found = download(remote, kept, hashlib.sha256)
        if listed[name].sha256 and found != listed[name].sha256:
            kept.unlink(missing_ok=True)
            raise StoreError(f"{self.where}: {name} has another hash than the hub lists; ask again")
        return kept
