"""One file of a pinned commit: fetched, checked byte for byte, or a named error.

A file is asked for by commit, in parallel ranges, taken up again where an earlier process left it,
and believed only when its sha256 is the one in the listing. Wrong bytes are fetched once more;
wrong again, the checkpoint is not usable.
"""

import hashlib
import logging
import threading
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from data_order.errors import RemoteError
from data_order.hub.access import Hub, HubFile
from data_order.hub.client import RemoteFile, WrongBytesError
from data_order.hub.download import Hash, download
from pythia_profile.checkpoints.listing import LARGEST_JSON, is_safe
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
    """Bring one file into `folder`; nothing is asked for where its bytes are right already.

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
    remote = RemoteFile(hub, "model", repository, commit, file)
    expected = file.sha256 or file.blob
    seen: list[str] = []
    for _ in range(2):
        try:
            seen.append(download(remote, unfinished, _hash_of(file), stop=stop, advance=advance))
        except RemoteError as error:
            if isinstance(error.__cause__, WrongBytesError):
                raise CheckpointError(str(error)) from error
            raise
        if seen[-1] == expected or not expected or _is_agreed(seen, file):
            unfinished.replace(path)
            return path
        unfinished.unlink()
        log.warning("%s: %s; fetching it anew", remote.what, _difference(seen[-1], file))
    raise CheckpointError(
        f"{remote.what} is not the file of the listing, also after fetching it twice: "
        f"{_difference(seen[-1], file)}"
    )


def is_whole(path: Path, file: HubFile) -> bool:
    """Whether the file exists with the size and the hash of the listing."""
    with suppress(OSError):
        if path.stat().st_size != file.size:
            return False
        digest = _hash_of(file)()
        with path.open("rb") as content:
            while block := content.read(1 << 20):
                digest.update(block)
        return digest.hexdigest() == (file.sha256 or file.blob or digest.hexdigest())
    return False


def _hash_of(file: HubFile) -> Callable[[], Hash]:
    """Hash of the kind that the listing has of this file."""
    if file.sha256:
        return hashlib.sha256
    header = f"blob {file.size}\0".encode()
    return lambda: hashlib.sha1(header, usedforsecurity=False)


def _difference(got: str, file: HubFile) -> str:
    kind = "sha256" if file.sha256 else "git"
    return f"got {kind} {got}, expected {kind} {file.sha256 or file.blob}"


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
