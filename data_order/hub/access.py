"""How to reach the hub, and how its data sets are named: loads no network library."""

import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple
from urllib.parse import urlsplit

from platformdirs import user_cache_path

from data_order.errors import RemoteNotFoundError
from data_order.hub.retry import RetryPolicy
from data_order.order import positive

Kind = Literal["dataset", "model"]
Progress = Callable[[int, int], None]
"""Called with (bytes read, bytes to read) while a read goes on."""

_NAME = r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*"
_ADDRESS = re.compile(
    rf"hf://datasets/(?P<repository>{_NAME})(?:@(?P<revision>[^/]+))?(?:/(?P<stem>.+))?"
)


def hub_endpoint(endpoint: str | None = None) -> str:
    """Address of the hub: the argument, else `HF_ENDPOINT`, else the public one.

    Raises
    ------
    RemoteNotFoundError
        It is no http address.
    """
    from huggingface_hub import constants

    address = (endpoint or os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")
    try:
        scheme, host, _ = origin(address)
    except ValueError:  # a port that is none
        scheme, host = "", None
    if scheme not in ("http", "https") or not host or re.search(r"\s", address):
        raise RemoteNotFoundError(
            f"the hub's address is '{address}', expected http://... or https://...; "
            "set HF_ENDPOINT, or unset it for the public hub"
        )
    return address


@dataclass(frozen=True, slots=True, kw_only=True)
class Hub:
    """How to reach the hub, and where to keep what it gave.

    Attributes
    ----------
    endpoint : address; by default `HF_ENDPOINT`, else the public one.
    cache : folder for what has been read; by default `pythia-profile` in the user's cache folder;
        False keeps nothing of rows and listings.
    refresh : ask for the commit of a dataset's revision, even if it is known.
    parallel : requests under way at once.
    retry : how often to ask again, and how long to wait.
    progress : called with (bytes read, bytes to read) while rows are read.
    """

    endpoint: str = field(default_factory=hub_endpoint)
    cache: str | Path | bool = True
    refresh: bool = False
    parallel: int = 16
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    progress: Progress | None = None

    def __post_init__(self) -> None:
        positive(self.parallel, "parallel")

    @property
    def root(self) -> Path:
        """Folder under which everything is kept."""
        if isinstance(self.cache, bool):
            return user_cache_path("pythia-profile")
        return Path(self.cache).expanduser()

    def kept(self, *parts: str) -> Path | None:
        """Path below the root, or None where nothing is to be kept."""
        return None if self.cache is False else self.root.joinpath(*parts)


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file of one commit.

    Attributes
    ----------
    name : path in the repository, as the hub says it; it may be hostile.
    size : bytes.
    sha256 : of the content, where the hub says it (files in large-file storage); else empty.
    blob : git's id of the content, or of the pointer to it.
    """

    name: str
    size: int
    sha256: str = ""
    blob: str = ""


class Address(NamedTuple):
    """Parts of an address; `revision` and `stem` (of the shards) may be missing."""

    repository: str
    revision: str | None
    stem: str | None


def is_address(where: str) -> bool:
    """Tell an address on the hub from a path on disk, which may not exist.

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


def origin(address: str) -> tuple[str, str | None, int | None]:
    """Scheme, host and port: the token goes to one of these and to no other."""
    parts = urlsplit(address)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)
