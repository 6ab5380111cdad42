"""Exact bytes of files in a dataset repository on the Hugging Face hub.

One request tells the commit and all file sizes, one HEAD per file tells where it lies, and every
read is an exact range at that place. An answer is believed only if it is 206 with the very range
and length that were asked for. The user's token goes to the hub and to no other host.

Requests go through `huggingface_hub`'s session, so its settings (proxies, certificates, token,
`HF_ENDPOINT`, offline mode) hold here too.
"""

import os
import re
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from urllib.parse import urlsplit

import httpx2
from huggingface_hub import (
    HfApi,
    constants,
    get_hf_file_metadata,
    get_session,
    get_token,
    hf_hub_url,
)
from huggingface_hub.errors import (
    EntryNotFoundError,
    FileMetadataError,
    GatedRepoError,
    HfHubHTTPError,
    HFValidationError,
    OfflineModeIsEnabled,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from data_order.errors import RemoteError, RemoteNotFoundError
from data_order.hub.pins import Pinned
from data_order.hub.retry import TRANSIENT, Fault, Patience, persist

TIMEOUT = httpx2.Timeout(30.0, connect=10.0)
_RATE_LIMIT = re.compile(r"r=0\s*;.*?\bt=(\d+)")


def hub_endpoint(endpoint: str | None = None) -> str:
    """Address of the hub: the argument, else `HF_ENDPOINT`, else the public one."""
    return (endpoint or os.environ.get("HF_ENDPOINT") or constants.ENDPOINT).rstrip("/")


def pin(repository: str, revision: str, endpoint: str, patience: Patience) -> Pinned:
    """Ask which commit a revision of a dataset is, and which files it has: one request.

    Raises
    ------
    RemoteNotFoundError
        There is no such dataset or revision, or it is not shown to us.
    RemoteError
        The hub does not answer.
    """
    what = f"dataset '{repository}' at '{revision}'"

    def ask() -> Pinned:
        with hub_errors(what):
            info = HfApi(endpoint=endpoint).dataset_info(
                repository, revision=revision, files_metadata=True, timeout=30
            )
        files = sorted((file.rfilename, file.size or 0) for file in info.siblings or [])
        if not info.sha or any(not 0 <= size < 2**56 for _, size in files):
            raise Fault("the hub named no commit, or files of impossible sizes")
        return Pinned(repository, info.sha, tuple(files))

    return persist(ask, what, patience)


class HubFiles:
    """Reader of byte ranges of the files of a pinned dataset; safe to use from many threads.

    Attributes
    ----------
    pinned : the repository at its commit.
    endpoint : address of the hub.
    """

    def __init__(self, pinned: Pinned, endpoint: str, patience: Patience) -> None:
        """Keep what is asked for; nothing is requested yet."""
        self.pinned = pinned
        self.endpoint = endpoint
        self._patience = patience
        self._sizes = dict(pinned.files)
        self._locations: dict[str, str] = {}
        self._locks = {name: threading.Lock() for name in self._sizes}

    def read(self, name: str, first: int, length: int, stop: threading.Event) -> bytes:
        """Bytes `first : first + length` of a file; no more waiting once `stop` is set.

        Raises
        ------
        RemoteError
            The server does not give exactly these bytes, also after trying again.
        """
        what = f"{self.pinned.repository}/{name}, bytes {first} to {first + length - 1}"
        renewed = False

        def ask() -> bytes:
            nonlocal renewed
            address = self._location(name, stop)
            try:
                return self._get(address, first, length, self._sizes[name])
            except _Expired:
                if renewed:
                    raise RemoteError(
                        f"{what}: refused (403) also at a new address; check your access"
                    ) from None
                renewed = True
                self._forget(name, address)
                return ask()

        return persist(ask, what, self._patience, stop)

    def _location(self, name: str, stop: threading.Event) -> str:
        """Address of a file; one HEAD for each file, whatever the number of threads."""
        with self._locks[name]:
            if name not in self._locations:
                self._locations[name] = self._ask_location(name, stop)
            return self._locations[name]

    def _forget(self, name: str, address: str) -> None:
        with self._locks[name]:
            if self._locations.get(name) == address:
                del self._locations[name]

    def _ask_location(self, name: str, stop: threading.Event) -> str:
        what = f"{self.pinned.repository}/{name} at {self.pinned.commit[:12]}"
        url = hf_hub_url(
            self.pinned.repository,
            name,
            repo_type="dataset",
            revision=self.pinned.commit,
            endpoint=self.endpoint,
        )

        def ask() -> str:
            with hub_errors(what):
                found = get_hf_file_metadata(url, timeout=30, endpoint=self.endpoint)
            if found.size != self._sizes[name]:
                raise RemoteError(
                    f"{what}: has {found.size} bytes, the listing says {self._sizes[name]}"
                )
            return found.location

        return persist(ask, what, self._patience, stop)

    def _get(self, address: str, first: int, length: int, size: int) -> bytes:
        headers = {"Range": f"bytes={first}-{first + length - 1}", "Accept-Encoding": "identity"}
        if origin(address) == origin(self.endpoint) and (token := hub_token()):
            headers["Authorization"] = f"Bearer {token}"
        body = bytearray()
        with (
            transport_errors(),
            get_session().stream(
                "GET", address, headers=headers, timeout=TIMEOUT, follow_redirects=False
            ) as response,
        ):
            _check_answer(response, first, length, size)
            for block in response.iter_raw():
                body += block
                if len(body) > length:
                    break
        if len(body) != length:
            more = "more than " if len(body) > length else ""
            raise Fault(f"got {more}{min(len(body), length)} bytes, expected {length}")
        return bytes(body)


class _Expired(Exception):
    """The address of a file is no longer good."""


def _check_answer(response: httpx2.Response, first: int, length: int, size: int) -> None:
    status = response.status_code
    if status in (401, 403):
        raise _Expired
    if status in TRANSIENT:
        raise Fault(f"the server answered {status}", asked_wait(response.headers))
    if status == 200:
        raise Fault("the server ignored the range and answered 200 with the whole file")
    if status != 206:
        raise Fault(f"the server answered {status}, expected 206")
    expected = f"bytes {first}-{first + length - 1}/{size}"
    got = response.headers.get("Content-Range", "nothing")
    if got != expected:
        raise Fault(f"the server sent '{got}', expected '{expected}'")


@contextmanager
def transport_errors() -> Iterator[None]:
    """Turn a failed connection into a fault that may pass."""
    try:
        yield
    except httpx2.ConnectError as error:
        host = "the hub"
        with suppress(RuntimeError):  # raised where the request is not known
            host = error.request.url.host
        raise Fault(f"cannot reach {host} (is there a network?)") from error
    except httpx2.TransportError as error:
        raise Fault(f"the connection failed ({type(error).__name__})") from error
    except httpx2.InvalidURL as error:
        raise RemoteError("the hub gave an address that is none") from error
    except OfflineModeIsEnabled as error:
        raise RemoteError("offline mode is on (HF_HUB_OFFLINE), and not all is cached") from error


@contextmanager
def hub_errors(what: str, kind: str = "dataset") -> Iterator[None]:
    """Turn what the hub's client raises into one line, or into a fault that may pass.

    Parameters
    ----------
    what : what was asked for; the line begins with it.
    kind : "dataset" or "model".
    """
    try:
        with transport_errors():
            yield
    except GatedRepoError as error:
        raise RemoteNotFoundError(
            f"{what}: access is restricted; ask for it on the hub and log in with `hf auth login`"
        ) from error
    except RevisionNotFoundError as error:
        raise RemoteNotFoundError(f"{what}: the hub has no such revision") from error
    except RepositoryNotFoundError as error:
        raise RemoteNotFoundError(
            f"{what}: the hub has no such {kind}, or does not show it to us; check the name, "
            "or log in with `hf auth login`"
        ) from error
    except EntryNotFoundError as error:
        raise RemoteNotFoundError(f"{what}: the hub has no such file") from error
    except HFValidationError as error:
        raise RemoteNotFoundError(f"{what}: no {kind} can have this name") from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status in TRANSIENT:
            wait = asked_wait(error.response.headers)
            raise Fault(f"the hub answered {status}", wait) from error
        if status in (401, 403):
            raise RemoteNotFoundError(
                f"{what}: the hub answered {status}, access is denied; log in with `hf auth login`"
            ) from error
        raise RemoteError(f"{what}: the hub answered {status}") from error
    except (FileMetadataError, ValueError, TypeError, KeyError) as error:
        raise Fault("the hub's answer is not in the form that it should have") from error


def asked_wait(headers: Mapping[str, str]) -> float | None:
    """Seconds that the server asked to wait: `Retry-After`, or the reset of a rate limit."""
    after = headers.get("Retry-After", "").strip()
    if re.fullmatch(r"\d+(\.\d+)?", after):
        return float(after)
    limit = _RATE_LIMIT.search(headers.get("RateLimit", ""))
    return float(limit[1]) + 1 if limit else None


def hub_token() -> str | None:
    """Token of the user, from the environment or the hub's own file; for the hub only."""
    return None if constants.HF_HUB_DISABLE_IMPLICIT_TOKEN else get_token()


def origin(address: str) -> tuple[str, str | None, int | None]:
    """Scheme, host and port: the token goes to one of these and to no other."""
    parts = urlsplit(address)
    return parts.scheme, parts.hostname, parts.port or {"http": 80, "https": 443}.get(parts.scheme)
