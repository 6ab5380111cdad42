"""Files that appear whole or not at all, and tables read and written under their contract.

A write goes to a temporary name in the same folder, is flushed to the disk, and then takes the
final name in one step, so a process killed at any moment leaves either the old file or the new one.
"""

import errno
import hashlib
import json
import os
import re
import socket
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

import polars as pl
from filelock import FileLock, Timeout

from pythia_profile.errors import MissingTableError, StudyError, TableError
from pythia_profile.tables import Table, conform

__all__ = [
    "atomic_write",
    "can_write",
    "digest",
    "file_sha256",
    "lease",
    "make_folder",
    "of_file",
    "read_json",
    "read_table",
    "remove_leftovers",
    "write_json",
    "write_table",
    "write_text",
]

_UNFINISHED = ".part"
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO}
"""Errors of the disk: nothing that was asked for was wrong."""
_LEFTOVER = re.compile(r"\..*~(?P<host>[^~]*)~(?P<process>\d{1,9})~[0-9a-f]{8}\.part", re.DOTALL)


@contextmanager
def atomic_write(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file that becomes `path` when the block ends without an error.

    Raises
    ------
    StudyError
        The folder cannot be written to, or the disk is full; `path` is as it was before.
    """
    unfinished = path.with_name(
        f".{path.name}~{socket.gethostname()}~{os.getpid()}~{uuid.uuid4().hex[:8]}{_UNFINISHED}"
    )
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with unfinished.open("xb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
        _flush_folder(path.parent)
    except OSError as error:
        raise _unwritable(path, error) from error
    except Exception as error:
        if os.strerror(errno.ENOSPC) in str(error):  # libraries that wrap what the disk said
            raise _unwritable(path, OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))) from error
        raise
    finally:
        with suppress(OSError):
            unfinished.unlink(missing_ok=True)


def make_folder(path: Path) -> Path:
    """Make a folder that can be written to; return it.

    Raises
    ------
    StudyError
        It cannot be made, or not be written to.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(path, error) from error
    if not os.access(path, os.W_OK):
        raise StudyError(f"cannot write to '{path}': permission denied; nothing was changed")
    return path


def can_write(folder: Path) -> bool:
    """Whether files can be made in a folder; False on a medium that is read-only."""
    return os.access(folder, os.W_OK)


@contextmanager
def lease(path: Path) -> Iterator[bool]:
    """Hold a piece of work while the block runs; False where another process holds it.

    A lease saves work and nothing else: it ends with its process, and where the file system knows
    no locks everybody gets it.
    """
    lock = FileLock(path)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        yield False
        return
    except OSError:
        yield True
        return
    try:
        yield True
    finally:
        lock.release()


def write_text(text: str, path: Path) -> None:
    """Write `text` as UTF-8, whole or not at all."""
    with atomic_write(path) as file:
        file.write(text.encode())


def write_json(value: Any, path: Path) -> None:
    """Write `value` as indented JSON, whole or not at all."""
    write_text(json.dumps(value, indent=2, sort_keys=True) + "\n", path)


def read_json(path: Path, kind: type[dict[str, Any]] | type[list[Any]] = dict) -> Any:
    """Read a JSON file that holds an object, or a list where that is wanted.

    Raises
    ------
    StudyError
        The file cannot be read, is not JSON, or holds something else.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:120]
        raise StudyError(f"{path} is not valid JSON ({reason}); delete it and run again") from error
    except OSError as error:
        raise StudyError(f"{path} cannot be read: {error.strerror}") from error
    if not isinstance(content, kind):
        raise StudyError(
            f"{path} holds a JSON {type(content).__name__}, expected a {kind.__name__}; delete it "
            "and run again"
        )
    return content


def write_table(frame: pl.DataFrame, path: Path, table: Table) -> pl.DataFrame:
    """Check `frame` against its contract and write it as parquet; return it as written."""
    checked = conform(frame, table)
    with atomic_write(path) as file:
        checked.write_parquet(file, compression="zstd", statistics=True)
    return checked


def read_table(
    path: Path, table: Table, stage: str, *, where: pl.Expr | None = None
) -> pl.DataFrame:
    """Read a table that `stage` writes, and check it against its contract.

    Parameters
    ----------
    where : read only these lines; others are not checked.

    Raises
    ------
    MissingTableError
        The file is not there; the message names the verb that writes it.
    TableError
        The file cannot be read as parquet, or does not conform.
    """
    if not path.exists():
        raise MissingTableError(
            f"no {path.name} in '{path.parent}'; run `pythia-profile {stage} {path.parent}` first"
        )
    try:
        lines = pl.scan_parquet(path)
        names = lines.collect_schema().names()
        if where is not None and {*where.meta.root_names()} <= {*names}:
            lines = lines.filter(where)
        frame = lines.collect()
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise TableError(
            f"{path} cannot be read as parquet ({reason}); run `pythia-profile {stage} "
            f"{path.parent}` again"
        ) from error
    with of_file(path, f"; delete it and run `pythia-profile {stage} {path.parent}`"):
        return conform(frame, table)


@contextmanager
def of_file(path: Path, advice: str = "") -> Iterator[None]:
    """Name the file whose table is wrong, and say what to do about it."""
    try:
        yield
    except TableError as error:
        if str(path) in str(error):
            raise
        raise TableError(f"'{path}': {error}{advice}") from error


def file_sha256(path: Path) -> str:
    """Sha256 of a file's bytes, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest(value: Any) -> str:
    """Sha256 of a JSON-able value, independent of the order of keys.

    Examples
    --------
    >>> digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
    True
    """
    text = json.dumps(value, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()


def remove_leftovers(folder: Path) -> None:
    """Delete temporary files of processes that were killed while writing in `folder` or below."""
    for leftover in folder.rglob(f".*~*{_UNFINISHED}"):
        found = _LEFTOVER.fullmatch(leftover.name)
        if found and found["host"] == socket.gethostname() and not _is_alive(int(found["process"])):
            with suppress(OSError):  # one that cannot be deleted does no harm
                leftover.unlink(missing_ok=True)


def _is_alive(process: int) -> bool:
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        return True
    return True


def _unwritable(path: Path, error: OSError) -> StudyError:
    found = StudyError(f"cannot write '{path}': {error.strerror or error}; nothing was changed")
    if error.errno in _FULL:
        found.exit_code = 1
    return found


def _flush_folder(folder: Path) -> None:
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
