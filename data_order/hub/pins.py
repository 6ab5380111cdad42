"""Which commit of a dataset to read, and how: addresses, settings, and what was asked before.

The commit that a revision names is asked for once and then kept on disk, so that a branch that
moves cannot change rows between two runs; `refresh` asks anew.
"""

import hashlib
import json
import logging
import re
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import NamedTuple, TypedDict

from platformdirs import user_cache_path

from data_order.errors import OrderError, RemoteNotFoundError, StoreError
from data_order.hub.retry import Patience
from data_order.order import positive
from data_order.store.files import replacing

log = logging.getLogger(__name__)

Progress = Callable[[int, int], None]
"""Called with (bytes read, bytes to read) while a read goes on."""

_NAME = r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*"
_ADDRESS = re.compile(
    rf"hf://datasets/(?P<repository>{_NAME})(?:@(?P<revision>[^/]+))?(?:/(?P<stem>.+))?"
)


@dataclass(frozen=True, slots=True)
class Pinned:
    """A dataset repository at one commit.

    Attributes
    ----------
    repository : "owner/name".
    commit : full commit id.
    files : (name, bytes) of every file, in order of name.
    """

    repository: str
    commit: str
    files: tuple[tuple[str, int], ...]


class Address(NamedTuple):
    """Parts of an address; `revision` and `stem` (of the shards) may be missing."""

    repository: str
    revision: str | None
    stem: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Remote:
    """How to read from the hub.

    Attributes
    ----------
    revision : branch, tag or commit of the dataset.
    endpoint : address of the hub; by default `HF_ENDPOINT`, else the public one.
    cache : folder for what has been read; by default `pythia-profile` in the user's cache folder;
        False keeps nothing.
    refresh : ask the hub for the commit of the revision, even if it is known.
    parallel : requests under way at once.
    patience : how often to ask again.
    progress : called with (bytes read, bytes to read) while a read goes on.
    """

    revision: str = "main"
    endpoint: str | None = None
    cache: str | Path | bool = True
    refresh: bool = False
    parallel: int = 16
    patience: Patience = field(default_factory=Patience)
    progress: Progress | None = None

    def __post_init__(self) -> None:
        positive(self.parallel, "parallel")

    def folder(self, repository: str) -> Path | None:
        """Where what is read of a repository is kept."""
        if self.cache is False:
            return None
        own = user_cache_path("pythia-profile")
        root = own if self.cache is True else Path(self.cache).expanduser()
        return root / "rows" / repository.replace("/", "--")


class RemoteOptions(TypedDict, total=False):
    """The attributes of `Remote`, as keyword arguments."""

    revision: str
    endpoint: str | None
    cache: str | Path | bool
    refresh: bool
    parallel: int
    patience: Patience
    progress: Progress | None


def is_address(where: str) -> bool:
    """Tell an address on the hub from a place on disk, which may not exist.

    "owner/name" is an address unless there is a folder "owner" here.

    Examples
    --------
    >>> is_address("EleutherAI/pile-deduped-pythia-preshuffled"), is_address("hf://datasets/a/b")
    (True, True)
    >>> is_address("./rows/document"), is_address("rows"), is_address("/data/rows/document")
    (False, False, False)
    """
    if where.startswith("hf://"):
        return True
    return bool(re.fullmatch(_NAME, where)) and not Path(where).parent.is_dir()


def parse_address(where: str) -> Address:
    """Take "owner/name" or "hf://datasets/owner/name@revision/prefix" apart.

    Raises
    ------
    RemoteNotFoundError
        It is neither.

    Examples
    --------
    >>> parse_address("hf://datasets/owner/name@v1/document")
    Address(repository='owner/name', revision='v1', stem='document')
    """
    match = _ADDRESS.fullmatch(where if where.startswith("hf://") else f"hf://datasets/{where}")
    if match is None:
        raise RemoteNotFoundError(
            f"'{where}': expected owner/name, or hf://datasets/owner/name@revision/prefix"
        )
    return Address(match["repository"], match["revision"], match["stem"])


def pinned(repository: str, revision: str, endpoint: str, remote: Remote) -> Pinned:
    """Return the commit of a revision and its files, from an earlier run if there was one.

    Raises
    ------
    RemoteError
        The hub has no such dataset or revision, or does not answer.
    """
    key = hashlib.sha256(json.dumps([endpoint, repository, revision]).encode()).hexdigest()[:32]
    folder = remote.folder(repository)
    known = None if folder is None else folder / f"{key}.json"
    if known is not None and known.is_file() and not remote.refresh:
        try:
            return _checked(json.loads(known.read_text()))
        except (OSError, ValueError, KeyError, TypeError, OrderError):
            log.warning("%s: cannot be read; the hub is asked anew", known)
    from data_order.hub.client import pin

    found = pin(repository, revision, endpoint, remote.patience)
    if known is not None:
        try:
            with replacing(known) as file:
                file.write(json.dumps({**asdict(found), "revision": revision}).encode())
        except StoreError as error:
            log.warning("%s; the commit is not kept", error)
    return found


def _checked(said: dict[str, object]) -> Pinned:
    files = said["files"]
    if not isinstance(files, list):
        raise TypeError("files")
    pairs = tuple((str(name), int(size)) for name, size in files)
    return Pinned(str(said["repository"]), str(said["commit"]), pairs)
