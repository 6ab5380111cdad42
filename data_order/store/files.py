"""Names of a store's files, and how they are mapped into memory and written."""

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from data_order.errors import StoreError, StoreNotFoundError


def store_prefix(path: str | Path) -> Path:
    """`path` without a final `.idx` or `.bin`."""
    path = Path(path)
    return path.with_suffix("") if path.suffix in (".idx", ".bin") else path


def idx_path(prefix: Path) -> Path:
    """Path of the index file."""
    return prefix.with_name(prefix.name + ".idx")


def bin_path(prefix: Path) -> Path:
    """Path of the token file."""
    return prefix.with_name(prefix.name + ".bin")


def mapped_bytes(path: Path) -> npt.NDArray[np.uint8]:
    """Return the whole file as read-only bytes in a memory map.

    Raises
    ------
    StoreError
        The file cannot be read.
    """
    try:
        if path.stat().st_size == 0:
            return np.empty(0, np.uint8)
        return np.asarray(np.memmap(path, dtype=np.uint8, mode="r"))
    except OSError as error:
        raise StoreError(f"{path}: cannot be read ({error.strerror})") from error


@dataclass(frozen=True, slots=True)
class NpyHeader:
    """What a `.npy` file of rows holds: where its data begin, their type and shape."""

    offset: int
    dtype: np.dtype[Any]
    shape: tuple[int, ...]


def read_npy_header(path: Path) -> NpyHeader:
    """Read the header of a `.npy` file of rows, and compare it with the file's length.

    Raises
    ------
    StoreNotFoundError
        There is no such file.
    StoreError
        It is no `.npy` file of whole numbers in rows, or is truncated.
    """
    if not path.is_file():
        raise StoreNotFoundError(f"{path}: no such file, expected rows of tokens")
    try:
        mapped = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise StoreError(f"{path}: is no .npy file of numbers, or truncated ({error})") from error
    little = mapped.dtype.kind in "iu" and mapped.dtype.newbyteorder("<") == mapped.dtype
    if mapped.ndim != 2 or not little or not mapped.flags.c_contiguous:
        raise StoreError(
            f"{path}: holds {mapped.dtype.str} of shape {mapped.shape}, expected rows of "
            "little-endian whole numbers, (n, row_tokens) in C order"
        )
    return NpyHeader(path.stat().st_size - mapped.nbytes, mapped.dtype, mapped.shape)


@contextmanager
def replacing(path: Path) -> Iterator[BinaryIO]:
    """Write a file under a temporary name; it gets its own when all has been written.

    Folders on the way are made. Two writers of one file do not meet: the last one wins.

    Raises
    ------
    StoreError
        The file cannot be written.
    """
    part = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with part.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        part.replace(path)
    except OSError as error:
        raise StoreError(f"{path}: cannot be written ({error.strerror})") from error
    finally:
        with suppress(OSError):
            part.unlink(missing_ok=True)
