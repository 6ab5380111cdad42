"""Token rows of a training run, by their place in the training order.

In: a store of rows of one length, as a prefix, a folder of shards, or a dataset repository on the
hub. Out: (n, row_tokens) arrays that belong to the caller. Only the rows asked for are read.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from data_order.errors import StoreError
from data_order.hub.access import Hub
from data_order.order import positive
from data_order.store.byte_source import Where, open_source
from data_order.store.files import read_npy_header
from data_order.store.idx import DTYPES, read_index, token_type
from data_order.store.selection import contiguous, selected
from data_order.store.shards import ByteSource, LocalShards
from data_order.store.vocabulary import check_vocabulary, vocabulary_size

PYTHIA_ROW_TOKENS = 2049
"""Tokens of a row of Pythia: 2048 inputs, and the target of the last one."""


@dataclass(frozen=True, slots=True)
class TokenRows:
    """Rows of `row_tokens` tokens each, one after the other in a run of bytes.

    `rows[i]` is row i, (row_tokens,); `rows[a:b]` and `rows[[i, j]]` are several,
    (n, row_tokens). Rows count from 0; one that does not exist is an error, never a short answer.

    Attributes
    ----------
    source : where the bytes lie.
    row_tokens : tokens of a row (Pythia: 2049).
    dtype : type of a token.
    vocabulary : number of token ids; ids from here on are refused when they are read.

    Examples
    --------
    >>> import tempfile
    >>> from data_order import MegatronStore
    >>> prefix = tempfile.mkdtemp() + "/document"
    >>> _ = MegatronStore.write(prefix, np.arange(30).reshape(6, 5))
    >>> rows = TokenRows.open(prefix, row_tokens=5)
    >>> len(rows), rows[4]
    (6, array([20, 21, 22, 23, 24], dtype=uint16))
    >>> rows[[5, 0]].tolist()
    [[25, 26, 27, 28, 29], [0, 1, 2, 3, 4]]
    """

    source: ByteSource
    row_tokens: int = PYTHIA_ROW_TOKENS
    dtype: np.dtype[Any] = DTYPES[8]
    vocabulary: int | None = None

    def __post_init__(self) -> None:
        positive(self.row_tokens, "row_tokens")
        vocabulary_size(self.vocabulary)
        if self.source.length % self.row_bytes:
            raise StoreError(
                f"{self.source.name}: {self.source.length:,} bytes are no whole number of rows of "
                f"{self.row_tokens} {self.dtype.name} tokens ({self.row_bytes:,} bytes each); a "
                "shard is truncated or missing, or row_tokens is another"
            )

    @classmethod
    def open(
        cls,
        where: Where,
        row_tokens: int = PYTHIA_ROW_TOKENS,
        *,
        dtype: npt.DTypeLike | None = None,
        vocabulary: int | None = None,
        hub: Hub | None = None,
    ) -> "TokenRows":
        """Open a store of rows; shards are read where they lie, without merging.

        Parameters
        ----------
        where : prefix of an `.idx`/`.bin` pair or of shards, a folder that holds one store, the
            shard files themselves in their order, a `.npy` file of rows, or a dataset on the hub:
            "owner/name", or "hf://datasets/owner/name@revision/prefix". An `.idx` beside local
            files is compared with them; none is needed.
        row_tokens : tokens of a row.
        dtype : type of a token; by default the index's, uint16 where there is none.
        vocabulary : number of token ids; None accepts what the dtype can hold.
        hub : how to read from the hub: address, cache, retries, progress.

        Raises
        ------
        StoreNotFoundError, RemoteNotFoundError
            There is no such store.
        RemoteError
            The hub does not answer.
        StoreError
            A shard is missing or truncated, or the index says something else than was asked for.
        """
        positive(row_tokens, "row_tokens")
        if isinstance(where, str | Path) and Path(where).suffix == ".npy":
            return cls(*_npy_source(Path(where), row_tokens, dtype), vocabulary)
        source, index = open_source(where, hub)
        kind = None if dtype is None else token_type(dtype)
        if index is not None:
            kind = _agreed_type(index, source.length, row_tokens, kind)
        return cls(source, row_tokens, kind or DTYPES[8], vocabulary)

    @property
    def row_bytes(self) -> int:
        """Bytes of a row."""
        return int(self.row_tokens) * self.dtype.itemsize

    def __len__(self) -> int:
        return self.source.length // self.row_bytes

    def __repr__(self) -> str:
        return (
            f"TokenRows('{self.source.name}': {len(self):,} rows of {self.row_tokens} "
            f"{self.dtype.name} tokens)"
        )

    def __getitem__(self, key: object) -> npt.NDArray[Any]:
        """Row(s) `key`: (row_tokens,) for one, (n, row_tokens) for several.

        Raises
        ------
        RowRangeError
            A row does not exist.
        StoreError
            A token id is not in the vocabulary; row and position are named.
        """
        # One row, or rows side by side: one run of bytes, without arrays of numbers in between.
        if type(key) is int and 0 <= key < len(self):
            return self._run(key, 1).reshape(-1)
        if isinstance(key, slice) and (span := contiguous(key, len(self))) is not None:
            return self._run(*span)
        numbers = selected(key, len(self), "row")
        flat = numbers.reshape(-1)
        tokens = self.source.rows(flat, self.row_bytes).view(self.dtype)
        self._check(tokens, flat)
        return tokens.reshape(*numbers.shape, self.row_tokens)

    def _run(self, first: int, count: int) -> npt.NDArray[Any]:
        """Rows `first : first + count`, which exist: (count, row_tokens)."""
        width = self.row_bytes
        tokens = self.source.span(first * width, count * width).view(self.dtype)
        rows = tokens.reshape(count, self.row_tokens)
        if self.vocabulary is not None:
            self._check(rows, np.arange(first, first + count))
        return rows

    def _check(self, tokens: npt.NDArray[Any], numbers: npt.NDArray[np.int64]) -> None:
        """Refuse ids beyond the vocabulary; what a cache holds of these rows is dropped."""
        try:
            check_vocabulary(tokens, self.vocabulary, numbers, self.source.name)
        except StoreError as error:
            width = self.row_bytes
            if self.source.forget(numbers * width, np.full(len(numbers), width)):
                raise StoreError(f"{error}; dropped from the cache, ask again") from None
            raise


def _npy_source(
    path: Path, row_tokens: int, dtype: npt.DTypeLike | None
) -> tuple[ByteSource, int, np.dtype[Any]]:
    header = read_npy_header(path)
    if header.shape[1] != row_tokens:
        raise StoreError(f"{path}: rows have {header.shape[1]} tokens, expected {row_tokens}")
    if dtype is not None and token_type(dtype) != header.dtype:
        raise StoreError(f"{path}: tokens are {header.dtype}, expected {token_type(dtype)}")
    return LocalShards([path], str(path), header.offset), row_tokens, header.dtype


def _agreed_type(
    path: Path, data_bytes: int, row_tokens: int, dtype: np.dtype[Any] | None
) -> np.dtype[Any]:
    index = read_index(path, data_bytes)
    if dtype is not None and dtype != index.dtype:
        raise StoreError(f"{path}: tokens are {index.dtype.name}, expected {dtype.name}")
    if len(index.sizes) and index.size != row_tokens:
        of = (
            f"{index.size}"
            if index.size
            else f"{int(index.sizes.min())} to {int(index.sizes.max())}"
        )
        raise StoreError(
            f"{path}: sequences have {of} tokens, expected {row_tokens} in each; "
            "pass the store's own row_tokens, or read documents with MegatronStore"
        )
    return index.dtype
