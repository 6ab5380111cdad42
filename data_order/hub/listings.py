"""What a repository holds: commits of its branches, files of a commit; asked once, then kept.

A branch can move at any time; a commit cannot change. The commit that a dataset's revision names is
asked for once and kept, so that a branch that moves cannot change rows between two runs; the files
of a commit are kept for good. All of it lies in one folder, `listings` in the cache.
"""

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

from huggingface_hub import is_offline_mode

from data_order.errors import OrderError, RemoteError, StoreError
from data_order.hub.access import Hub, HubFile, Kind
from data_order.hub.client import get_json, size_at, wrong_form
from data_order.store.files import replacing

log = logging.getLogger(__name__)

_MOST_PAGES = 20

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Pinned:
    """A repository at one commit.

    Attributes
    ----------
    repository : "owner/name".
    commit : full commit id.
    files : every file, in order of name.
    """

    repository: str
    commit: str
    files: tuple[HubFile, ...]


def pinned_dataset(repository: str, revision: str, hub: Hub) -> Pinned:
    """Commit of a dataset's revision and its files: one request, or none where they are known.

    Raises
    ------
    RemoteNotFoundError
        There is no such dataset or revision, or it is not shown to us.
    RemoteError
        The hub does not answer.
    """
    what = f"dataset '{repository}' at '{revision}'"

    def ask() -> list[Any]:
        address = f"{_api(hub, 'dataset', repository)}/revision/{quote(revision, safe='')}"
        facts, _ = get_json(hub, "dataset", address, {"blobs": "true"}, what)
        with wrong_form(what):
            files = [_sibling(entry, what) for entry in facts["siblings"]]
            return [_commit(facts, "sha", what), sorted(files)]

    known = _known(hub, f"{repository} revision {revision}")
    commit, files = _once(known, ask, lambda found: (str(found[0]), _files(found[1])), hub.refresh)
    return Pinned(repository, commit, files)


def list_branches(repository: str, hub: Hub, kind: Kind = "model") -> dict[str, str]:
    """Commit of each branch; one request. In offline mode, as the hub last said.

    Raises
    ------
    RemoteNotFoundError
        There is no such repository, or it is not shown to us.
    RemoteError
        The hub does not answer.
    """
    what = f"branches of {kind} '{repository}'"
    known = _known(hub, f"{repository} branches")
    if is_offline_mode() and known is not None and known.is_file():
        log.warning("offline: branches of %s are those of an earlier listing", repository)
        with wrong_form(str(known)):
            return {str(name): str(commit) for name, commit in _read(known).items()}
    facts, _ = get_json(hub, kind, f"{_api(hub, kind, repository)}/refs", {}, what)
    commits = {}
    with wrong_form(what):
        for branch in facts["branches"]:
            commits[_text(branch, "name")] = _commit(branch, "targetCommit", what)
    _keep(known, commits)
    return commits


def list_files(
    repository: str,
    commit: str,
    hub: Hub,
    kind: Kind = "model",
    only: Callable[[str], bool] = lambda _: True,
) -> tuple[HubFile, ...]:
    """Files in the root folder of a commit; one request for each thousand, none where known.

    Parameters
    ----------
    only : tells by name which of them matter; the others are not kept.

    Raises
    ------
    RemoteError
        The hub does not answer, or has no such commit.
    """
    what = f"files of {kind} '{repository}' at {commit[:12]}"

    def ask() -> list[Any]:
        address: str | None = f"{_api(hub, kind, repository)}/tree/{commit}"
        query = {"recursive": "false", "expand": "false"}
        files: list[Any] = []
        for _ in range(_MOST_PAGES):
            if address is None:
                return sorted(file for file in files if only(file[0]))
            entries, address = get_json(hub, kind, address, query, what)
            with wrong_form(what):
                files += [_entry(entry, what) for entry in entries if entry["type"] == "file"]
            query = {}
        raise RemoteError(f"{what}: more than {_MOST_PAGES} pages")

    return _once(_known(hub, f"{repository} {commit}"), ask, _files)


def _api(hub: Hub, kind: Kind, repository: str) -> str:
    return f"{hub.endpoint}/api/{kind}s/{quote(repository, safe='/')}"


def _sibling(entry: dict[str, Any], what: str) -> list[Any]:
    """Return name, size, sha256 and git id of a file in the facts of a revision."""
    return _line(entry, "rfilename", "sha256", str(entry.get("blobId", "")), what)


def _entry(entry: dict[str, Any], what: str) -> list[Any]:
    """Return name, size, sha256 and git id of a file in a tree listing."""
    return _line(entry, "path", "oid", str(entry.get("oid", "")), what)


def _line(entry: dict[str, Any], name: str, hash_name: str, blob: str, what: str) -> list[Any]:
    large = entry.get("lfs") or {}
    size = large.get("size", entry.get("size"))
    if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size < 2**56:
        raise RemoteError(f"{what}: {entry.get(name)!r} has the size {size!r}")
    sha256 = large.get(hash_name, "")
    return [_text(entry, name), size, sha256 if isinstance(sha256, str) else "", blob]


def _commit(entry: dict[str, Any], name: str, what: str) -> str:
    commit = _text(entry, name)
    if not (commit.isalnum() and commit.isascii()):
        raise RemoteError(f"{what}: the commit is {commit!r}, expected letters and digits")
    return commit


def _text(entry: dict[str, Any], name: str) -> str:
    value = entry.get(name)
    if not isinstance(value, str) or not value:
        raise ValueError(name)
    return value


def _files(lines: Any) -> tuple[HubFile, ...]:
    return tuple(
        HubFile(str(name), int(size), str(sha256), str(blob)) for name, size, sha256, blob in lines
    )


def _known(hub: Hub, key: str) -> Path | None:
    digest = hashlib.sha256(f"{hub.endpoint} {key}".encode()).hexdigest()[:32]
    return hub.kept("listings", f"{digest}.json")


def file_sizes(addresses: Sequence[str], hub: Hub) -> list[int]:
    """Bytes of the files at some addresses of any host; one HEAD each, none where known.

    Raises
    ------
    RemoteError
        A server does not say it; what the others said is not kept.
    """
    different = list(dict.fromkeys(addresses))
    key = hashlib.sha256("\n".join(different).encode()).hexdigest()[:32]

    def ask() -> list[int]:
        with ThreadPoolExecutor(min(hub.parallel, len(different))) as pool:
            return list(pool.map(lambda address: size_at(hub, address), different))

    def read(found: Any) -> list[int]:
        if len(found) != len(different) or not all(isinstance(size, int) for size in found):
            raise ValueError(f"{len(found)} sizes of {len(different)} files")
        size_of = dict(zip(different, found, strict=True))
        return [size_of[address] for address in addresses]

    return _once(hub.kept("listings", f"sizes-{key}.json"), ask, read, hub.refresh)


def _once(
    known: Path | None, ask: Callable[[], Any], read: Callable[[Any], T], refresh: bool = False
) -> T:
    """Read what an earlier run kept, else what `ask` gives, and keep that."""
    if known is not None and known.is_file() and not refresh:
        try:
            return read(_read(known))
        except (OSError, ValueError, KeyError, TypeError, IndexError, OrderError):
            log.warning("%s: cannot be read; the hub is asked anew", known)
    found = ask()
    _keep(known, found)
    return read(found)


def _read(known: Path) -> Any:
    return json.loads(known.read_text(encoding="utf-8"))


def _keep(known: Path | None, facts: Any) -> None:
    if known is None:
        return
    try:
        with replacing(known) as file:
            file.write(json.dumps(facts).encode())
    except StoreError as error:
        log.warning("%s; the listing is not kept", error)
