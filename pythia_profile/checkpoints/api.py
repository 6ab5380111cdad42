"""Questions to the hub about a model repository: its branches, and the files of a commit.

Small answers, one request each (a page of a thousand files), through `huggingface_hub`'s session,
so that its settings hold: proxies, certificates, token, `HF_ENDPOINT`, offline mode. The client's
own listing calls wait without end on a silent server and as long as a server asks for; here every
request has a timeout and all waiting a bound, and the log says why one waits.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote, urljoin

from httpx2 import Response
from huggingface_hub import get_session
from huggingface_hub.utils import (  # type: ignore[attr-defined]
    build_hf_headers,
    hf_raise_for_status,
)

from data_order.errors import RemoteError
from data_order.hub.client import TIMEOUT, hub_errors, origin
from data_order.hub.retry import Fault, Patience, persist

__all__ = ["HubFile", "list_branches", "list_files"]

LARGEST_ANSWER = 32 * 2**20
"""Bytes of the largest listing that is read; the branches of a Pythia model take 20 kB."""

_MOST_PAGES = 20
_FORM = "the hub's answer is not in the form that it should have"


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
    sha256: str
    blob: str


def list_branches(repository: str, endpoint: str, patience: Patience) -> dict[str, str]:
    """Commit of each branch of a model repository; one request.

    Raises
    ------
    RemoteNotFoundError
        There is no such repository, or it is not shown to us.
    RemoteError
        The hub does not answer.
    """
    what = f"branches of model '{repository}'"
    address = f"{endpoint}/api/models/{_quoted(repository)}/refs"
    said = _ask(address, {}, what, patience)[0]
    branches = said.get("branches") if isinstance(said, dict) else None
    if not isinstance(branches, list):
        raise RemoteError(f"{what}: {_FORM}")
    commits = {}
    for branch in branches:
        name, commit = _text(branch, "name", what), _text(branch, "targetCommit", what)
        if not (commit.isalnum() and commit.isascii()):
            raise RemoteError(f"{what}: '{name}' has the commit {commit!r}, expected letters")
        commits[name] = commit
    return commits


def list_files(
    repository: str, commit: str, endpoint: str, patience: Patience
) -> tuple[HubFile, ...]:
    """Files in the root folder of a commit, with sizes and hashes; one request for each thousand.

    Raises
    ------
    RemoteError
        The hub does not answer, or has no such commit.
    """
    what = f"files of model '{repository}' at {commit[:12]}"
    address: str | None = f"{endpoint}/api/models/{_quoted(repository)}/tree/{commit}"
    query = {"recursive": "false", "expand": "false"}
    files: list[HubFile] = []
    for _ in range(_MOST_PAGES):
        if address is None:
            return tuple(sorted(files, key=lambda file: file.name))
        entries, following = _ask(address, query, what, patience)
        if not isinstance(entries, list):
            raise RemoteError(f"{what}: {_FORM}")
        files += [_file(entry, what) for entry in entries if _is_file(entry)]
        if following is not None and origin(following) != origin(endpoint):
            raise RemoteError(f"{what}: the next page lies on another host; refused")
        address, query = following, {}
    raise RemoteError(f"{what}: more than {_MOST_PAGES} pages")


def _ask(
    address: str, query: Mapping[str, str], what: str, patience: Patience
) -> tuple[Any, str | None]:
    """Content of a JSON answer, and the address of the next page."""

    def ask() -> tuple[Any, str | None]:
        with (
            hub_errors(what, "model"),
            get_session().stream(
                "GET", address, params=dict(query), headers=build_hf_headers(), timeout=TIMEOUT
            ) as response,
        ):
            if response.status_code >= 400:
                response.read()
            hf_raise_for_status(response)
            said = _json(_body(response, what))
            following = response.links.get("next", {}).get("url")
        return said, None if following is None else urljoin(address, following)

    return persist(ask, what, patience)


def _body(response: Response, what: str) -> bytes:
    body = bytearray()
    for block in response.iter_bytes():
        body += block
        if len(body) > LARGEST_ANSWER:
            raise RemoteError(f"{what}: the answer has more than {LARGEST_ANSWER:,} bytes")
    return bytes(body)


def _json(body: bytes) -> Any:
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise Fault(_FORM) from error


def _is_file(entry: Any) -> bool:
    return isinstance(entry, dict) and entry.get("type") == "file"


def _file(entry: dict[str, Any], what: str) -> HubFile:
    stored = entry.get("lfs")
    large = stored if isinstance(stored, dict) else {}
    size = large.get("size", entry.get("size"))
    if isinstance(size, bool) or not isinstance(size, int) or not 0 <= size < 2**50:
        raise RemoteError(f"{what}: {entry.get('path')!r} has the size {size!r}")
    sha256 = large.get("oid", "")
    return HubFile(
        name=_text(entry, "path", what),
        size=size,
        sha256=sha256 if isinstance(sha256, str) else "",
        blob=str(entry.get("oid", "")),
    )


def _text(entry: Any, name: str, what: str) -> str:
    value = entry.get(name) if isinstance(entry, dict) else None
    if not isinstance(value, str) or not value:
        raise RemoteError(f"{what}: {_FORM}")
    return value


def _quoted(repository: str) -> str:
    return quote(repository, safe="/")
