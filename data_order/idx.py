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
    """

    dtype: np.dtype[Any]
    sizes: npt.NDArray[np.int32]
    pointers: npt.NDArray[np.int64]
    documents: npt.NDArray[np.int64]
    tokens: int

    def uniform_size(self) -> int | None:
        """Tokens of every sequence, where they all have the same number; else None."""
        if not len(self.sizes):
            return None
        first = int(self.sizes[0])
        same = all((block == first).all() for _, block in _blocks(self.sizes))
        return first if same else None


def read_index(path: str | Path, bin_bytes: int | None = None) -> StoreIndex:
    """Read and check an `.idx` file.

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
    sizes, pointers, starts = _arrays(path, sequences, documents)
    tokens = _check_sizes(path, sizes)
    dtype = _token_type(code, sizes, pointers, tokens, bin_bytes)
    _check_pointers(path, sizes, pointers, dtype.itemsize)
    _check_documents(path, starts, sequences)
    if bin_bytes is not None and bin_bytes != tokens * dtype.itemsize:
        raise StoreError(
            f"{path}: its sizes add up to {tokens:,} {dtype.name} tokens = "
            f"{tokens * dtype.itemsize:,} bytes, but the .bin file has {bin_bytes:,}; "
            "one of the two is truncated or belongs to another store"
        )
    return StoreIndex(dtype, sizes, pointers, starts, tokens)


def write_index(
    file: BinaryIO,
    dtype: np.dtype[Any],
    sizes: npt.NDArray[np.int32],
    documents: npt.NDArray[np.int64],
) -> None:
    """Write the index of sequences that lie one after the other in their `.bin` file."""
    file.write(HEADER.pack(MAGIC, VERSION, CODES[dtype], len(sizes), len(documents)))
    for _, block in _blocks(sizes):
        file.write(block.astype("<i4").tobytes())
    end = 0
    for _, block in _blocks(sizes):
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


def _arrays(
    path: Path, sequences: int, documents: int
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.int64], npt.NDArray[np.int64]]:
    after_sizes = HEADER.size + 4 * sequences
    return (
        _mapped(path, "<i4", HEADER.size, sequences),
        _mapped(path, "<i8", after_sizes, sequences),
        _mapped(path, "<i8", after_sizes + 8 * sequences, documents),
    )


def _mapped(path: Path, dtype: str, offset: int, count: int) -> npt.NDArray[Any]:
    if count == 0:
        return np.empty(0, dtype)
    try:
        mapped = np.memmap(path, dtype=dtype, mode="r", offset=offset, shape=(count,))
    except (OSError, ValueError) as error:
        raise StoreError(f"{path}: cannot be memory-mapped ({error})") from error
    return np.asarray(mapped)


def _blocks(array: npt.NDArray[Any]) -> Iterator[tuple[int, npt.NDArray[Any]]]:
    for start in range(0, len(array), _BLOCK):
        yield start, array[start : start + _BLOCK]


def _check_sizes(path: Path, sizes: npt.NDArray[np.int32]) -> int:
    tokens = 0
    for start, block in _blocks(sizes):
        if int(block.min()) < 0:
            at = int(np.argmax(block < 0))
            raise StoreError(
                f"{path}: sizes[{start + at}] is {int(block[at])}, expected 0 tokens or more"
            )
        tokens += int(block.sum(dtype=np.int64))
    return tokens


def _token_type(
    code: int,
    sizes: npt.NDArray[np.int32],
    pointers: npt.NDArray[np.int64],
    tokens: int,
    bin_bytes: int | None,
) -> np.dtype[Any]:
    dtype = DTYPES[code]
    if dtype.kind != "f" or tokens == 0:
        return dtype
    before_last = tokens - int(sizes[-1])
    if before_last:
        width = int(pointers[-1]) / before_last
    else:
        width = dtype.itemsize if bin_bytes is None else bin_bytes / tokens
    return _FLOATS.get(width, dtype)


def _check_pointers(
    path: Path,
    sizes: npt.NDArray[np.int32],
    pointers: npt.NDArray[np.int64],
    token_bytes: int,
) -> None:
    begin = 0
    for start, block in _blocks(sizes):
        ends = begin + np.cumsum(block, dtype=np.int64)
        expected = (ends - block) * token_bytes
        got = pointers[start : start + len(block)]
        wrong = got != expected
        if wrong.any():
            at = int(np.argmax(wrong))
            raise StoreError(
                f"{path}: pointers[{start + at}] is {int(got[at])}, expected {int(expected[at])} "
                "bytes, where the sequences before it end; out of order or damaged"
            )
        begin = int(ends[-1])


def _check_documents(path: Path, documents: npt.NDArray[np.int64], sequences: int) -> None:
    before = 0
    for start, block in _blocks(documents):
        wrong = np.diff(block, prepend=np.int64(before)) < 0
        wrong |= (block < 0) | (block > sequences)
        if wrong.any():
            at = int(np.argmax(wrong))
            raise StoreError(
                f"{path}: documents[{start + at}] is {int(block[at])}, expected ascending "
                f"sequence numbers of 0 to {sequences}"
            )
        before = int(block[-1])
