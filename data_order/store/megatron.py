"""A Megatron store: token sequences of any length in a `.bin` file, their places in an `.idx`.

In: the prefix that both files share. Out: arrays that belong to the caller, so that nothing
depends on the memory map after it is closed.
"""

from array import array
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from data_order.errors import OrderError, StoreNotFoundError
from data_order.order import as_integers
from data_order.store.files import bin_path, idx_path, mapped_bytes, replacing, store_prefix
from data_order.store.idx import StoreIndex, read_index, token_type, write_index
from data_order.store.selection import selected
from data_order.store.shards import LocalShards
from data_order.store.token_stream import TokenStream
from data_order.store.vocabulary import check_vocabulary, vocabulary_size

Tokens = npt.NDArray[Any]


class MegatronStore:
    """One `.idx`/`.bin` pair of files, read by memory map.

    `store[i]` is sequence i, `store[a:b]` and `store[[i, j]]` are several: a list of arrays, or
    one (n, L) array where all sequences of the store have the same length L.

    Attributes
    ----------
    prefix : the path without `.idx` or `.bin`.
    index : what the `.idx` says: sizes, pointers, documents, dtype.
    vocabulary : number of token ids; ids from here on are refused when they are read.

    Examples
    --------
    >>> import tempfile
    >>> folder = tempfile.mkdtemp()
    >>> store = MegatronStore.write(f"{folder}/document", [[3, 1, 4], [1, 5]])
    >>> store[0]
    array([3, 1, 4], dtype=uint16)
    >>> len(store), store.tokens, store.documents.tolist()
    (2, 5, [0, 1, 2])
    """

    __slots__ = ("_bytes", "index", "prefix", "vocabulary")

    def __init__(self, prefix: str | Path, *, vocabulary: int | None = None) -> None:
        """Open the pair of files and check one against the other.

        Parameters
        ----------
        prefix : path of either file, or what both have in common.
        vocabulary : number of token ids; None accepts what the dtype can hold.

        Raises
        ------
        StoreNotFoundError
            One of the two files is missing.
        StoreError
            A field of the index is impossible, or the `.bin` has another length than it says.
        """
        self.prefix = store_prefix(prefix)
        self.vocabulary = vocabulary_size(vocabulary)
        data = bin_path(self.prefix)
        if not data.is_file():
            raise StoreNotFoundError(f"{data}: no such file, expected the tokens of a store")
        self.index: StoreIndex = read_index(idx_path(self.prefix), data.stat().st_size)
        self._bytes = mapped_bytes(data)

    @classmethod
    def write(
        cls,
        prefix: str | Path,
        sequences: Iterable[npt.ArrayLike],
        *,
        dtype: npt.DTypeLike = np.uint16,
        documents: npt.ArrayLike | None = None,
    ) -> "MegatronStore":
        """Write `sequences`, one after the other, and return the store that holds them.

        Both files appear under their names only when they are complete, the index last.

        Parameters
        ----------
        prefix : path without `.idx` or `.bin`; folders on the way are made.
        sequences : each (L_i,) tokens; or one (n, L) array. Read once, in order.
        dtype : token type, one of those with a code in `data_order.store.idx.DTYPES`.
        documents : (D,) document entries: first sequence of each document, then N. By default
            each sequence is a document, D = N + 1; the published shuffled rows have `[0]`.

        Raises
        ------
        OrderError
            A token does not fit the dtype, or the dtype has no code.
        StoreError
            The files cannot be written.
        """
        prefix = store_prefix(prefix)
        kind = token_type(dtype)
        with replacing(idx_path(prefix)) as index, replacing(bin_path(prefix)) as data:
            sizes = _write_tokens(data, sequences, kind)
            entries = np.arange(len(sizes) + 1) if documents is None else documents
            starts = _document_entries(entries, len(sizes))
            write_index(index, kind, sizes, starts)
        return cls(prefix)

    @property
    def dtype(self) -> np.dtype[Any]:
        """Type of a token."""
        return self.index.dtype

    @property
    def sizes(self) -> npt.NDArray[np.int32]:
        """(N,) int32 tokens of each sequence; an array of the caller's own."""
        return np.array(self.index.sizes)

    @property
    def documents(self) -> npt.NDArray[np.int64]:
        """(D,) int64 document entries; an array of the caller's own."""
        return np.array(self.index.documents)

    @property
    def tokens(self) -> int:
        """Tokens of all sequences together."""
        return self.index.tokens

    def stream(self) -> TokenStream:
        """All tokens of the store as one run, one sequence after the other."""
        return TokenStream(LocalShards([bin_path(self.prefix)], str(self.prefix)), self.dtype)

    def __len__(self) -> int:
        return len(self.index.sizes)

    def __repr__(self) -> str:
        return (
            f"MegatronStore('{self.prefix}': {len(self):,} sequences, "
            f"{self.tokens:,} {self.dtype.name} tokens)"
        )

    def __getitem__(self, key: object) -> Any:
        """Sequence(s) `key`: (L,) for one; (n, L) or a list of n arrays for several."""
        numbers = selected(key, len(self), "sequence")
        if numbers.ndim == 0:
            return self._sequence(int(numbers))
        if self.index.size:
            rows = self._bytes.view(self.dtype).reshape(len(self), self.index.size)[numbers]
            check_vocabulary(rows, self.vocabulary, numbers, str(self.prefix))
            return rows
        return [self._sequence(int(number)) for number in numbers.ravel()]

    def __reduce__(self) -> tuple[Any, ...]:
        return partial(MegatronStore, vocabulary=self.vocabulary), (self.prefix,)

    def __iter__(self) -> Iterator[Tokens]:
        return (self._sequence(number) for number in range(len(self)))

    def _sequence(self, number: int) -> Tokens:
        first = int(self.index.pointers[number])
        last = first + int(self.index.sizes[number]) * self.dtype.itemsize
        tokens = self._bytes[first:last].copy().view(self.dtype)
        check_vocabulary(tokens[None], self.vocabulary, [number], str(self.prefix))
        return tokens


def _write_tokens(
    file: BinaryIO, sequences: Iterable[npt.ArrayLike], kind: np.dtype[Any]
) -> npt.NDArray[np.int32]:
    sizes = array("i")
    for number, sequence in enumerate(sequences):
        tokens = np.asarray(sequence)
        if tokens.ndim != 1 or len(tokens) > np.iinfo(np.int32).max:
            raise OrderError(
                f"sequence {number}: got an array of shape {tokens.shape}, expected (L,)"
            )
        file.write(_as_kind(tokens, kind, number).tobytes())
        sizes.append(len(tokens))
    return np.frombuffer(sizes, np.int32) if sizes else np.empty(0, np.int32)


def _as_kind(tokens: Tokens, kind: np.dtype[Any], number: int) -> Tokens:
    if tokens.size == 0 or tokens.dtype == kind:
        return tokens.astype(kind)
    if tokens.dtype.kind not in "iuf" or (tokens.dtype.kind == "f" and kind.kind != "f"):
        raise OrderError(f"sequence {number}: got {tokens.dtype} tokens, expected {kind.name}")
    if kind.kind != "f":
        allowed = np.iinfo(kind)
        low, high = int(tokens.min()), int(tokens.max())
        if low < allowed.min or high > allowed.max:
            bad = low if low < allowed.min else high
            raise OrderError(
                f"sequence {number}: token {bad} does not fit {kind.name} "
                f"({allowed.min} to {allowed.max})"
            )
        return tokens.astype(kind)
    with np.errstate(over="ignore"):
        narrow = tokens.astype(kind)
    lost = np.isfinite(tokens) & ~np.isfinite(narrow)
    if lost.any():
        raise OrderError(f"sequence {number}: {tokens[lost][0]} does not fit {kind.name}")
    return narrow


def _document_entries(entries: npt.ArrayLike, sequences: int) -> npt.NDArray[np.int64]:
    starts = as_integers(entries, "documents")
    if starts.ndim != 1 or (
        starts.size
        and (starts[0] < 0 or starts[-1] > sequences or bool((np.diff(starts) < 0).any()))
    ):
        raise OrderError(
            f"documents: got {starts.tolist()}, expected ascending sequence numbers "
            f"of 0 to {sequences}"
        )
    return starts
