r"""The `.idx` file of a Megatron store: where each token sequence lies in the `.bin` file.

Little-endian: magic `MMIDIDX\0\0` (9 bytes), u64 version 1, u8 dtype code, u64 N, u64 D, then
int32 sizes[N] (tokens), int64 pointers[N] (bytes), int64 documents[D]: 34 + 12 N + 8 D bytes.

Everything is checked before anything is believed: counts against the length of the file, so that
no array is made from an unchecked number, then sizes, pointers and documents in one pass.

Source: the layout read by GPT-NeoX at Pythia's training commit.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from data_order.errors import OrderError, StoreError, StoreNotFoundError

MAGIC = b"MMIDIDX\x00\x00"
VERSION = 1
HEADER = struct.Struct("<9sQBQQ")
DTYPES: dict[int, np.dtype[Any]] = {
    1: np.dtype("<u1"),
    2: np.dtype("<i1"),
    3: np.dtype("<i2"),
    4: np.dtype("<i4"),
    5: np.dtype("<i8"),
    6: np.dtype("<f4"),
    7: np.dtype("<f8"),
    8: np.dtype("<u2"),
}
"""Token type of each dtype code. Codes 6 and 7 changed places between programs (6 is float64 at
Pythia's training commit), so for these two the width is taken from the pointers and the data."""

CODES = {dtype: code for code, dtype in DTYPES.items()}
_FLOATS: dict[float, np.dtype[Any]] = {4: np.dtype("<f4"), 8: np.dtype("<f8")}
_BLOCK = 1 << 22


def token_type(dtype: npt.DTypeLike) -> np.dtype[Any]:
    """Little-endian token type with a code in the format.

    Raises
    ------
    OrderError
        There is no such type, or it has no code.
    """
    try:
        kind = np.dtype(dtype)
    except TypeError:
        raise OrderError(f"dtype: got {dtype!r}, expected one of {_names()}") from None
    if kind.newbyteorder("=") not in {known.newbyteorder("=") for known in CODES}:
        raise OrderError(f"dtype {kind.name} has no code in the format; expected {_names()}")
    if kind.byteorder == ">":
        raise OrderError(f"dtype {kind.str} is big-endian; stores are little-endian")
    return kind.newbyteorder("<")


def _names() -> str:
    return ", ".join(dtype.name for dtype in CODES)


@dataclass(frozen=True, slots=True)
class StoreIndex:
    """What an `.idx` file says, checked.

    Attributes
    ----------
    dtype : type of a token.
    sizes : (N,) int32 tokens of each sequence; memory-mapped, read-only.
    pointers : (N,) int64 first byte of each sequence in the `.bin` file; memory-mapped.
    documents : (D,) int64 first sequence of each document, and N at the end where D > 1.
    tokens : tokens of all sequences together.
    size : tokens of every sequence, where all have the same number; else None.
    """

    dtype: np.dtype[Any]
    sizes: npt.NDArray[np.int32]
    pointers: npt.NDArray[np.int64]
    documents: npt.NDArray[np.int64]
    tokens: int
    size: int | None


def read_index(path: str | Path, bin_bytes: int | None = None) -> StoreIndex:
    """Read and check an `.idx` file.

    Checks read it block by block: a large index leaves no trace in memory, and the arrays that
    are returned are mapped but not touched.

    Parameters
    ----------
    path : the `.idx` file.
    bin_bytes : length of the `.bin` file beside it; None where there is none to compare with.

    Raises
    ------
    StoreNotFoundError
        There is no such file.
    StoreError
        A field is not what the format allows; the message names it.
    """
    path = Path(path)
    code, sequences, documents = _header(path)
    pointers_at = HEADER.size + 4 * sequences
    sizes = _Column(path, "<i4", HEADER.size, sequences)
    pointers = _Column(path, "<i8", pointers_at, sequences)
    starts = _Column(path, "<i8", pointers_at + 8 * sequences, documents)
    tokens, size = _check_sizes(sizes)
    dtype = _token_type(code, sizes, pointers, tokens, bin_bytes)
    _check_pointers(sizes, pointers, dtype.itemsize)
    _check_documents(starts, sequences)
    if bin_bytes is not None and bin_bytes != tokens * dtype.itemsize:
        raise StoreError(
            f"{path}: its sizes add up to {tokens:,} {dtype.name} tokens = "
            f"{tokens * dtype.itemsize:,} bytes, but the .bin file has {bin_bytes:,}; "
            "one of the two is truncated or belongs to another store"
        )
    return StoreIndex(dtype, sizes.mapped(), pointers.mapped(), starts.mapped(), tokens, size)


def write_index(
    file: BinaryIO,
    dtype: np.dtype[Any],
    sizes: npt.NDArray[np.int32],
    documents: npt.NDArray[np.int64],
) -> None:
    """Write the index of sequences that lie one after the other in their `.bin` file."""
    file.write(HEADER.pack(MAGIC, VERSION, CODES[dtype], len(sizes), len(documents)))
    blocks = [sizes[start : start + _BLOCK] for start in range(0, len(sizes), _BLOCK)]
    for block in blocks:
        file.write(block.astype("<i4").tobytes())
    end = 0
    for block in blocks:
        ends = end + np.cumsum(block, dtype=np.int64)
        file.write(((ends - block) * dtype.itemsize).astype("<i8").tobytes())
        end = int(ends[-1])
    file.write(documents.astype("<i8").tobytes())


def _header(path: Path) -> tuple[int, int, int]:
    try:
        length = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(HEADER.size)
    except FileNotFoundError:
        raise StoreNotFoundError(f"{path}: no such file, expected the index of a store") from None
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error.strerror})") from error
    if len(head) < HEADER.size:
        raise StoreError(f"{path}: has {length} bytes, a header alone has {HEADER.size}")
    magic, version, code, sequences, documents = HEADER.unpack(head)
    if magic != MAGIC:
        raise StoreError(f"{path}: magic is {magic!r}, expected {MAGIC!r}; not a Megatron index")
    if version != VERSION:
        raise StoreError(f"{path}: version is {version}, expected {VERSION}")
    if code not in DTYPES:
        known = ", ".join(f"{number} {dtype.name}" for number, dtype in DTYPES.items())
        raise StoreError(f"{path}: dtype code is {code}, expected one of {known}")
    expected = HEADER.size + 12 * sequences + 8 * documents
    if length != expected:
        raise StoreError(
            f"{path}: has {length:,} bytes, but a header with N = {sequences:,} sequences and "
            f"D = {documents:,} document entries asks for {expected:,}; truncated or damaged"
        )
    return code, sequences, documents


@dataclass(frozen=True, slots=True)
class _Column:
    """One of the file's three arrays."""

    path: Path
    dtype: str
    offset: int
    count: int

    def read(self, start: int, count: int) -> npt.NDArray[Any]:
        """Entries `start : start + count`, read from the file."""
        at = self.offset + start * np.dtype(self.dtype).itemsize
        try:
            block = np.fromfile(self.path, self.dtype, count, offset=at)
        except OSError as error:
            raise StoreError(f"{self.path}: cannot be read ({error.strerror})") from error
        if len(block) != count:
            raise StoreError(f"{self.path}: became shorter while it was read")
        return block

    def blocks(self) -> Iterator[tuple[int, npt.NDArray[Any]]]:
        """(first entry, entries) of each block."""
        for start in range(0, self.count, _BLOCK):
            yield start, self.read(start, min(_BLOCK, self.count - start))

    def mapped(self) -> npt.NDArray[Any]:
        """All entries as a memory map, of which nothing has been read yet."""
        if self.count == 0:
            return np.empty(0, self.dtype)
        try:
            shape = (self.count,)
            mapped = np.memmap(self.path, self.dtype, mode="r", offset=self.offset, shape=shape)
        except (OSError, ValueError) as error:
            raise StoreError(f"{self.path}: cannot be memory-mapped ({error})") from error
        return np.asarray(mapped)


def _check_sizes(sizes: _Column) -> tuple[int, int | None]:
    """Tokens of all sequences, and of each where all have the same number."""
    tokens, low, high = 0, np.iinfo(np.int32).max, 0
    for start, block in sizes.blocks():
        low, high = min(low, int(block.min())), max(high, int(block.max()))
        if low < 0:
            at = int(np.argmax(block < 0))
            raise StoreError(
                f"{sizes.path}: sizes[{start + at}] is {int(block[at])}, expected 0 tokens or more"
            )
        tokens += int(block.sum(dtype=np.int64))
    return tokens, low if low == high else None


def _token_type(
    code: int,
    sizes: _Column,
    pointers: _Column,
    tokens: int,
    bin_bytes: int | None,
) -> np.dtype[Any]:
    dtype = DTYPES[code]
    if dtype.kind != "f" or tokens == 0:
        return dtype
    last = sizes.count - 1
    before_last = tokens - int(sizes.read(last, 1)[0])
    if before_last:
        width = int(pointers.read(last, 1)[0]) / before_last
    else:
        width = dtype.itemsize if bin_bytes is None else bin_bytes / tokens
    return _FLOATS.get(width, dtype)


def _check_pointers(sizes: _Column, pointers: _Column, token_bytes: int) -> None:
    begin = 0
    for (start, block), (_, got) in zip(sizes.blocks(), pointers.blocks(), strict=True):
        ends = begin + np.cumsum(block, dtype=np.int64)
        expected = (ends - block) * token_bytes
        wrong = got != expected
        if wrong.any():
            at = int(np.argmax(wrong))
            raise StoreError(
                f"{sizes.path}: pointers[{start + at}] is {int(got[at])}, expected "
                f"{int(expected[at])} bytes, where the sequences before it end; out of order or "
                "damaged"
            )
        begin = int(ends[-1])


def _check_documents(documents: _Column, sequences: int) -> None:
    before = 0
    for start, block in documents.blocks():
        wrong = np.diff(block, prepend=np.int64(before)) < 0
        wrong |= (block < 0) | (block > sequences)
        if wrong.any():
            at = int(np.argmax(wrong))
            raise StoreError(
                f"{documents.path}: documents[{start + at}] is {int(block[at])}, expected "
                f"ascending sequence numbers of 0 to {sequences}"
            )
        before = int(block[-1])
