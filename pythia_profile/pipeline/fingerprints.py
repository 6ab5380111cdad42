"""Hashes of a study's files without reading them again while they stay as they are.

    .hashes.json    path -> size, time of change, hash

A file of the remembered size and time is taken to be the remembered one; any other is read. A table
of scores is known by its `done.json`, so that finished scores are not even read once. Reading a
table for its numbers always checks all its bytes against the record.
"""

from contextlib import suppress
from pathlib import Path
from typing import Any

from pythia_profile.errors import StudyError
from pythia_profile.store import digest, file_sha256, read_json, write_json

__all__ = ["Fingerprints"]

INDEX = ".hashes.json"
MISSING = "missing"


class Fingerprints:
    """Hashes of files and folders of one study.

    Parameters
    ----------
    afresh : read every byte, whatever is remembered or recorded.
    """

    def __init__(self, folder: Path, *, afresh: bool = False) -> None:
        self.folder, self._afresh = folder, afresh
        self._known: dict[str, Any] = {}
        with suppress(StudyError):  # a damaged index is made anew
            if (folder / INDEX).exists():
                self._known = read_json(folder / INDEX)
        self._changed = False

    def of(self, names: tuple[str, ...]) -> dict[str, str]:
        """Hash of each file; of a folder, over its files; `missing` where there is none."""
        found = {name: self._of_path(self.folder / name) for name in names}
        if self._changed:
            with suppress(StudyError):  # a folder that cannot be written to can still be read
                write_json(self._known, self.folder / INDEX)
            self._changed = False
        return found

    def _of_path(self, path: Path) -> str:
        if not path.is_dir():
            return self._of_file(path) if path.exists() else MISSING
        files = sorted(p for p in path.rglob("*") if p.is_file() and not _is_hidden(p, path))
        return digest([(str(p.relative_to(path)), self._of_file(p)) for p in files])

    def _of_file(self, path: Path) -> str:
        if self._afresh:
            return file_sha256(path)
        inside = path.is_relative_to(self.folder)
        name, stat = str(path.relative_to(self.folder) if inside else path), path.stat()
        state = [stat.st_size, stat.st_mtime_ns]
        known = self._known.get(name)
        if isinstance(known, list) and known[:2] == state and isinstance(known[-1], str):
            return known[-1]
        # a new table of scores is what its record says; one that has changed since is read
        recorded = None if known else _recorded(path)
        found = recorded or file_sha256(path)
        self._known[name], self._changed = [*state, found], True
        return found


def _recorded(path: Path) -> str | None:
    """Hash of a table of scores, from the record of its unit."""
    record = path.with_name("done.json")
    if path.name != "scores.parquet" or not record.exists():
        return None
    with suppress(StudyError):
        content = read_json(record)
        if content.get("bytes", path.stat().st_size) == path.stat().st_size:
            return str(content.get("sha256")) or None
    return None


def _is_hidden(path: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in path.relative_to(root).parts)
