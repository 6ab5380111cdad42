"""One file of a pinned commit: fetched, checked byte for byte, or a named error.

A file is asked for by commit, read in one stream, taken up again where a stream broke off (also one
of an earlier process), and believed only when its sha256 is the one in the listing. Wrong bytes are
fetched once more; wrong again, the checkpoint is not usable.

The pieces are `huggingface_hub`'s (addresses, metadata, session, token); its whole-file download is
not used, because it waits as long as a server asks for, asks again at once when told to wait, and
checks no content.
"""

import hashlib
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO

from httpx2 import Response
from huggingface_hub import get_hf_file_metadata, get_session, hf_hub_url
from huggingface_hub.utils import build_hf_headers  # type: ignore[attr-defined]

from data_order.errors import RemoteError, RemoteNotFoundError
from data_order.hub.client import TIMEOUT, asked_wait, hub_errors, origin
from data_order.hub.retry import TRANSIENT, Fault, persist
from pythia_profile.checkpoints.api import HubFile
from pythia_profile.checkpoints.listing import LARGEST_JSON, is_safe
from pythia_profile.checkpoints.pins import Hub
from pythia_profile.errors import CheckpointError

__all__ = ["fetch_file", "is_whole"]

log = logging.getLogger(__name__)

UNFINISHED = ".part"


def fetch_file(
    repository: str,
    commit: str,
    file: HubFile,
    folder: Path,
    hub: Hub,
    *,
    stop: threading.Event | None = None,
    advance: Callable[[int], None] = lambda _: None,
) -> Path:
    """Bring one file into `folder`; nothing is asked for where its bytes are there already.

    Parameters
    ----------
    stop : ends waiting and reading when it is set.
    advance : called with the bytes of each block.

    Raises
    ------
    CheckpointError
        The bytes are not those of the listing, also after fetching them anew; or the name would
        lead out of the folder.
    RemoteError
        The hub does not give the file, also after trying again.
    """
    path = folder / _checked_name(repository, file)
    if is_whole(path, file):
        return path
    unfinished = path.with_name(path.name + UNFINISHED)
    what, expected = f"{repository}/{file.name} at {commit[:12]}", _expected(file)
    seen: list[str] = []
    for _ in range(2):
        _download(repository, commit, file, unfinished, hub, stop, advance)
        seen.append(_digest(unfinished, file))
        if seen[-1] == expected or _is_agreed(seen, file):
            unfinished.replace(path)
            return path
        unfinished.unlink()
        log.warning("%s: got %s, expected %s; %s", what, seen[-1], expected, "fetching it anew")
    raise CheckpointError(
        f"{what} is not the file of the listing, also after fetching it twice: got {seen[-1]}, "
        f"expected {expected}"
    )


def is_whole(path: Path, file: HubFile) -> bool:
    """Whether the file is there with the size and the hash of the listing."""
    with suppress(OSError):
        return path.stat().st_size == file.size and _digest(path, file) == _expected(file)
    return False


def _is_agreed(seen: list[str], file: HubFile) -> bool:
    """Whether a small file that the listing has no sha256 of came twice with the same bytes.

    Mirrors of the hub are known to list no true git ids; what came twice alike was not damaged on
    its way.
    """
    agreed = file.name.endswith(".json") and not file.sha256 and seen == seen[:1] * 2
    if agreed:
        log.warning("%s: the listing has another git id (%s)", file.name, file.blob)
    return agreed


def _checked_name(repository: str, file: HubFile) -> str:
    if not is_safe(file.name) or "/" in file.name:
        raise CheckpointError(f"{repository} names '{file.name}', a file outside its folder")
    if file.name.endswith(".json") and file.size > LARGEST_JSON:
        raise CheckpointError(
            f"{repository}/{file.name} has {file.size:,} bytes, expected at most {LARGEST_JSON:,}"
        )
    return file.name


def _expected(file: HubFile) -> str:
    return f"sha256 {file.sha256}" if file.sha256 else f"git {file.blob}" if file.blob else ""


def _digest(path: Path, file: HubFile) -> str:
    """Hash of the bytes, of the kind that the listing has of this file; empty where it has none."""
    with path.open("rb") as content:
        if file.sha256:
            return f"sha256 {hashlib.file_digest(content, 'sha256').hexdigest()}"
        if not file.blob:
            return ""
        git = hashlib.sha1(f"blob {path.stat().st_size}\0".encode(), usedforsecurity=False)
        return f"git {hashlib.file_digest(content, lambda: git).hexdigest()}"


class _Expired(Exception):
    """The address of a file is no longer good."""


class _WrongBytes(Fault):
    """What came is not of the length that the listing says."""


def _download(
    repository: str,
    commit: str,
    file: HubFile,
    unfinished: Path,
    hub: Hub,
    stop: threading.Event | None,
    advance: Callable[[int], None],
) -> None:
    what = f"{repository}/{file.name} at {commit[:12]}"
    url = hf_hub_url(repository, file.name, revision=commit, endpoint=hub.endpoint)
    address: str | None = None
    renewed = False

    def ask() -> None:
        nonlocal address, renewed
        if address is None:
            address = _address(url, what, hub) if file.sha256 else url
        try:
            _stream(address, what, file, unfinished, hub, stop, advance)
        except _Expired:
            if renewed:
                raise RemoteNotFoundError(
                    f"{what}: refused (403) also at a new address; check your access"
                ) from None
            renewed, address = True, None
            ask()

    try:
        persist(ask, what, hub.patience, stop)
    except RemoteError as error:
        if isinstance(error.__cause__, _WrongBytes):
            raise CheckpointError(str(error)) from error
        raise


def _address(url: str, what: str, hub: Hub) -> str:
    """Where the bytes of a large file lie; one HEAD."""
    with hub_errors(what, "model"):
        return get_hf_file_metadata(url, timeout=30, endpoint=hub.endpoint).location


def _stream(
    address: str,
    what: str,
    file: HubFile,
    unfinished: Path,
    hub: Hub,
    stop: threading.Event | None,
    advance: Callable[[int], None],
) -> None:
    """Read what is still missing of the file."""
    unfinished.parent.mkdir(parents=True, exist_ok=True)
    with unfinished.open("ab") as out:
        there = out.tell()
        if there > file.size:
            out.truncate(0)
            there = 0
        if there == file.size and there:
            return
        at_home = origin(address) == origin(hub.endpoint)  # the token goes nowhere else
        asked = {"Range": f"bytes={there}-"} if there else {}
        headers = build_hf_headers(
            token=None if at_home else False, headers={"Accept-Encoding": "identity", **asked}
        )
        with (
            hub_errors(what, "model"),
            get_session().stream("GET", address, headers=headers, timeout=TIMEOUT) as response,
        ):
            if not _continues(response, there, file, what):
                out.truncate(0)
                there = 0
            _copy(response, out, file.size - there, what, stop, advance)


def _continues(response: Response, there: int, file: HubFile, what: str) -> bool:
    """Whether the answer goes on at byte `there`; False where it begins anew."""
    status = response.status_code
    if status in (401, 403):
        raise _Expired
    if status in TRANSIENT:
        raise Fault(f"the server answered {status}", asked_wait(response.headers))
    if status == 404:
        raise RemoteNotFoundError(f"{what}: the hub has no such file")
    if status == 206 and there:
        expected = f"bytes {there}-{file.size - 1}/{file.size}"
        got = response.headers.get("Content-Range", "nothing")
        if got != expected:
            raise _WrongBytes(f"the server sent '{got}', expected '{expected}'")
        return True
    if status != 200:
        raise Fault(f"the server answered {status}, expected {206 if there else 200}")
    return False


def _copy(
    response: Response,
    out: BinaryIO,
    missing: int,
    what: str,
    stop: threading.Event | None,
    advance: Callable[[int], None],
) -> None:
    """Write exactly `missing` bytes; what came of a broken stream is kept for the next one."""
    for block in response.iter_raw():  # as it comes, so that little is lost of a broken stream
        if stop is not None and stop.is_set():
            raise RemoteError(f"{what}: given up, because it is not needed any more")
        if len(block) > missing:
            out.seek(0)
            out.truncate(0)
            raise _WrongBytes(f"the server sent more bytes than the {missing} that were missing")
        out.write(block)
        missing -= len(block)
        advance(len(block))
    if missing:
        raise _WrongBytes(f"the server ended {missing} bytes too early")
