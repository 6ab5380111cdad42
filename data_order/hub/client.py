"""The hub's HTTP, for both packages: JSON answers, and exact byte ranges of files.

One HEAD per file tells where its bytes lie, and every read is an exact range of it. An
answer is believed only if it is 206 with the very range and length that were asked for, or 200
where that is the whole file. The user's token goes to the hub and to no other host.

Requests go through `huggingface_hub`'s session, so its settings (proxies, certificates, token,
`HF_ENDPOINT`, offline mode) hold here too. Its own listing and download calls are not used: they
wait without end on a silent server, and check no content. Here every request has a timeout, and
all waiting a bound.
"""

import json
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any
from urllib.parse import urljoin

import httpx2
from huggingface_hub import get_hf_file_metadata, get_session, hf_hub_url
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
from huggingface_hub.utils import (  # type: ignore[attr-defined]
    build_hf_headers,
    hf_raise_for_status,
)

from data_order.errors import RemoteError, RemoteNotFoundError
from data_order.hub.access import Hub, HubFile, Kind, origin
from data_order.hub.retry import TRANSIENT, TransientError, retrying

TIMEOUT = httpx2.Timeout(10.0)
"""Silence after which a request is given up and made again, which a log line then says. Short,
because a range that was broken off is taken up where it stopped."""

LARGEST_ANSWER = 32 * 2**20
"""Bytes of the largest JSON answer that is read; the branches of a Pythia model take 20 kB."""

_RATE_LIMIT = re.compile(r"r=0\s*;.*?\bt=(\d+)")
_FORM = "the hub's answer is not in the form that it should have"


class WrongBytesError(TransientError):
    """What came has not the length or the range that was asked for."""


class NoRangesError(RemoteError):
    """The server answers 200 and the whole file where a part is asked for, again and again."""


class _IgnoredRangeError(TransientError):
    """The server answered 200 and the whole file, perhaps only for now."""


class _ExpiredError(Exception):
    """The address of a file is no longer good."""


class RemoteFile:
    """Bytes of one file of a commit; safe to use from many threads.

    Attributes
    ----------
    what : how messages call it.
    file : its name, size and hashes, as listed.
    """

    def __init__(self, hub: Hub, kind: Kind, repository: str, commit: str, file: HubFile) -> None:
        """Keep what is asked for; nothing is requested yet."""
        self.file = file
        self._path = f"{repository}/{file.name}"
        self.what = f"{self._path} at {commit[:12]}"
        self._hub, self._kind = hub, kind
        self._url = hf_hub_url(
            repository, file.name, repo_type=kind, revision=commit, endpoint=hub.endpoint
        )
        self._address: str | None = None
        self._lock = threading.Lock()

    def read(self, first: int, length: int, stop: threading.Event) -> bytes:
        """Bytes `first : first + length`; no more waiting once `stop` is set.

        Raises
        ------
        RemoteError
            The server does not give exactly these bytes, also after trying again.
        """
        body = bytearray()
        self.stream(first, first + length, body.extend, stop)
        return bytes(body)

    def stream(
        self, first: int, end: int, take: Callable[[bytes], Any], stop: threading.Event
    ) -> None:
        """Hand the bytes `first : end` to `take` as they come, each exactly once.

        A connection that breaks off is taken up where it stopped.

        Raises
        ------
        NoRangesError
            The server does not serve ranges, also after trying again.
        RemoteError
            The server does not give exactly these bytes, also after trying again.
        """
        renewed, position = False, first

        def counted(block: bytes) -> None:
            nonlocal position
            take(block)
            position += len(block)

        def ask() -> None:
            nonlocal renewed
            if position == end:  # all came, and then more: there is nothing left to ask for
                raise RemoteError(f"{self._path}: the server sends more bytes than are asked for")
            address = self._located(stop)
            try:
                self._get(address, position, end, counted, stop)
            except _ExpiredError:
                if renewed:
                    raise RemoteNotFoundError(
                        f"{self.what}: refused (403) also at a new address; check your access"
                    ) from None
                renewed = True
                self._forget(address)
                ask()

        what = f"{self._path}, bytes {first} to {end - 1}"
        try:
            retrying(ask, what, self._hub.retry, stop)
        except RemoteError as error:
            if isinstance(error.__cause__, _IgnoredRangeError):
                raise NoRangesError(str(error)) from error
            raise

    def _located(self, stop: threading.Event) -> str:
        """Where the bytes lie; one HEAD for a large file, whatever the number of threads.

        Small files (those without a sha256 in the listing) the hub serves itself.
        """
        with self._lock:
            if self._address is None:
                self._address = self._ask_address(stop) if self.file.sha256 else self._url
            return self._address

    def _gone(self) -> RemoteNotFoundError:
        """Say that what the listing has the hub has no more."""
        return RemoteNotFoundError(
            f"{self.what}: the hub no longer has the pinned commit, its branch was deleted or "
            "rewritten; pin anew: a study by deleting 'checkpoints' in its lock.json, rows with "
            "Hub(refresh=True)"
        )

    def _forget(self, address: str) -> None:
        with self._lock:
            if self._address == address:
                self._address = None

    def _ask_address(self, stop: threading.Event) -> str:
        def ask() -> str:
            with hub_errors(self.what, self._kind):
                try:
                    found = get_hf_file_metadata(self._url, timeout=10, endpoint=self._hub.endpoint)
                except (RevisionNotFoundError, EntryNotFoundError) as error:
                    raise self._gone() from error
            if found.size != self.file.size:
                raise RemoteError(
                    f"{self.what}: has {found.size} bytes, the listing says {self.file.size}"
                )
            return found.location

        return retrying(ask, self.what, self._hub.retry, stop)

    def _get(
        self,
        address: str,
        first: int,
        end: int,
        take: Callable[[bytes], None],
        stop: threading.Event,
    ) -> None:
        at_home = origin(address) == origin(self._hub.endpoint)  # the token goes nowhere else
        asked = {"Range": f"bytes={first}-{end - 1}", "Accept-Encoding": "identity"}
        headers = build_hf_headers(token=None if at_home else False, headers=asked)
        missing = end - first
        with (
            hub_errors(self.what, self._kind),
            get_session().stream("GET", address, headers=headers, timeout=TIMEOUT) as response,
        ):
            self._check(response, first, end)
            for block in response.iter_raw():  # as it comes, so that little is lost of a break
                if stop.is_set():
                    raise RemoteError(f"{self.what}: given up, because it is not needed any more")
                if len(block) > missing:
                    raise WrongBytesError(f"got more than {end - first} bytes, as were asked for")
                take(block)
                missing -= len(block)
        if missing:
            got = end - first - missing
            raise WrongBytesError(f"got {got} bytes, expected {end - first}")

    def _check(self, response: httpx2.Response, first: int, end: int) -> None:
        """Refuse an answer that is not exactly the range; a 200 is one if all was asked for."""
        status = response.status_code
        if status in (401, 403):
            raise _ExpiredError
        if status == 404 and str(response.url).startswith(self._hub.endpoint):
            raise self._gone()
        if status in TRANSIENT:
            raise TransientError(f"the server answered {status}", asked_wait(response.headers))
        if status == 200 and (first, end) == (0, self.file.size):
            return
        if status == 200:
            raise _IgnoredRangeError(
                "the server ignored the range and answered 200 with the whole file"
            )
        if status != 206:
            raise TransientError(f"the server answered {status}, expected 206")
        expected = f"bytes {first}-{end - 1}/{self.file.size}"
        got = response.headers.get("Content-Range", "nothing")
        if got != expected:
            raise WrongBytesError(f"the server sent '{got}', expected '{expected}'")


class UrlFile(RemoteFile):
    """Bytes of a file at an address of any host; it is not given the user's token."""

    def __init__(self, hub: Hub, address: str, size: int) -> None:
        """Keep what is asked for; nothing is requested yet."""
        self.file = HubFile(address, size)
        self._path = self.what = self._url = address
        self._hub, self._kind = hub, "dataset"
        self._address = address
        self._lock = threading.Lock()


def size_at(hub: Hub, address: str) -> int:
    """Bytes of the file at an address; one HEAD.

    Raises
    ------
    RemoteNotFoundError
        The server has no such file.
    RemoteError
        The server does not answer, or does not say how long the file is.
    """
    headers = build_hf_headers(token=False, headers={"Accept-Encoding": "identity"})

    def ask() -> int:
        with hub_errors(address, "dataset"):
            response = get_session().head(
                address, headers=headers, timeout=TIMEOUT, follow_redirects=True
            )
        if response.status_code in TRANSIENT:
            wait = asked_wait(response.headers)
            raise TransientError(f"the server answered {response.status_code}", wait)
        if response.status_code != 200:
            raise RemoteNotFoundError(f"{address}: the server answered {response.status_code}")
        length = response.headers.get("Content-Length", "")
        if not length.isdecimal():
            raise RemoteError(f"{address}: the server does not say how long the file is")
        return int(length)

    return retrying(ask, address, hub.retry)


def get_json(
    hub: Hub, kind: Kind, address: str, query: Mapping[str, str], what: str
) -> tuple[Any, str | None]:
    """Content of a JSON answer, and the address of the next page.

    Raises
    ------
    RemoteNotFoundError
        The hub has no such thing, or does not show it to us.
    RemoteError
        The hub does not answer, or with something else than JSON of a bounded size.
    """

    def ask() -> tuple[Any, str | None]:
        with (
            hub_errors(what, kind),
            get_session().stream(
                "GET", address, params=dict(query), headers=build_hf_headers(), timeout=TIMEOUT
            ) as response,
        ):
            if response.status_code >= 400:
                response.read()
            hf_raise_for_status(response)
            body = bytearray()
            for block in response.iter_bytes():
                body += block
                if len(body) > LARGEST_ANSWER:
                    raise RemoteError(f"{what}: the answer has more than {LARGEST_ANSWER:,} bytes")
            following = response.links.get("next", {}).get("url")
        try:
            return json.loads(bytes(body)), following
        except (ValueError, RecursionError) as error:
            raise TransientError(_FORM) from error

    content, following = retrying(ask, what, hub.retry)
    if following is None:
        return content, None
    with wrong_form(what):
        following = urljoin(address, following)
        if origin(following) != origin(hub.endpoint):
            raise RemoteError(f"{what}: the next page lies on another host; refused")
    return content, following


@contextmanager
def wrong_form(what: str) -> Iterator[None]:
    """Turn what a malformed answer raises where it is taken apart into one line."""
    try:
        yield
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise RemoteError(f"{what}: {_FORM}") from error


@contextmanager
def transport_errors(what: str) -> Iterator[None]:
    """Turn a failed connection into a failure that may pass."""
    try:
        yield
    except httpx2.ConnectError as error:
        host = "the hub"
        with suppress(RuntimeError):  # raised where the request is not known
            host = error.request.url.host
        raise TransientError(f"cannot reach {host} (is there a network?)") from error
    except httpx2.TooManyRedirects as error:
        raise RemoteError(f"{what}: the hub redirects in a circle") from error
    except httpx2.RequestError as error:
        raise TransientError(f"the connection failed ({type(error).__name__})") from error
    except httpx2.InvalidURL as error:
        raise RemoteError("the hub gave an address that is none") from error
    except OfflineModeIsEnabled as error:
        raise RemoteError("offline mode is on (HF_HUB_OFFLINE), and not all is cached") from error


@contextmanager
def hub_errors(what: str, kind: Kind) -> Iterator[None]:
    """Turn what the hub's client raises into one line, or into a failure that may pass.

    Parameters
    ----------
    what : what was asked for; the line begins with it.
    """
    try:
        with transport_errors(what):
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
            raise TransientError(f"the hub answered {status}", wait) from error
        if status in (401, 403):
            raise RemoteNotFoundError(
                f"{what}: the hub answered {status}, access is denied; log in with `hf auth login`"
            ) from error
        raise RemoteError(f"{what}: the hub answered {status}") from error
    except (FileMetadataError, ValueError, TypeError, KeyError) as error:
        raise TransientError(_FORM) from error


def asked_wait(headers: Mapping[str, str]) -> float | None:
    """Seconds that the server asked to wait: `Retry-After`, or the reset of a rate limit."""
    after = headers.get("Retry-After", "").strip()
    if re.fullmatch(r"\d+(\.\d+)?", after):
        return float(after)
    limit = _RATE_LIMIT.search(headers.get("RateLimit", ""))
    return float(limit[1]) + 1 if limit else None
