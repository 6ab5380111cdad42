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
from data_order.hub.options import Hub
from data_order.order import positive
from data_order.store.byte_source import Where, open_source
from data_order.store.idx import DTYPES, read_index, token_type
from data_order.store.selection import selected
from data_order.store.shards import ByteSource
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
            shard files themselves in their order, or a dataset on the hub: "owner/name", or
            "hf://datasets/owner/name@revision/prefix". An `.idx` beside local files is compared
            with what is there; none is needed.
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
        numbers = selected(key, len(self), "row")
        flat = numbers.reshape(-1)
        tokens = self.source.rows(flat, self.row_bytes).view(self.dtype)
        check_vocabulary(tokens, self.vocabulary, flat, self.source.name)
        return tokens.reshape(*numbers.shape, self.row_tokens)


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
