"""Ask again, a bounded number of times, when a server fails in a way that may pass."""

import logging
import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeVar

from data_order.errors import RemoteError

log = logging.getLogger(__name__)

T = TypeVar("T")

_LONG_SECONDS = 5.0

TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Status codes after which the same request may succeed."""


class TransientError(Exception):
    """A failure that may pass; `wait` is what the server asked for, in seconds."""

    def __init__(self, message: str, wait: float | None = None) -> None:
        """Say what failed."""
        super().__init__(message)
        self.wait = wait


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often to ask again, and for how long.

    Attributes
    ----------
    retries : requests after the first one.
    first_wait : seconds before the first of them, at most; twice as long before each next one.
    longest_wait : seconds between two requests, at most, unless the server asks for more.
    total_wait : seconds of waiting in all; a server that asks for more is an error at once.
    """

    retries: int = 5
    first_wait: float = 0.5
    longest_wait: float = 16.0
    total_wait: float = 600.0


def retrying(
    ask: Callable[[], T], what: str, policy: RetryPolicy, stop: threading.Event | None = None
) -> T:
    """Call `ask` until it raises no `TransientError`.

    Waiting times are drawn at random below their bound, so that many readers do not come back at
    the same moment; a `Retry-After` of the server is obeyed to the second. Waiting ends when
    `stop` is set.

    Raises
    ------
    RemoteError
        It did not succeed within the policy; the last failure is its cause.
    """
    waited, tries, started = 0.0, 0, time.monotonic()
    while True:
        try:
            return ask()
        except TransientError as failure:
            tries += 1
            if tries > policy.retries:
                raise RemoteError(
                    f"{what}: {failure}; gave up after {tries} tries, try again later"
                ) from failure
            bound = min(policy.first_wait * 2 ** (tries - 1), policy.longest_wait)
            wait = bound * (0.5 + random.random() / 2) if failure.wait is None else failure.wait
            waited += wait
            if waited > policy.total_wait:
                raise RemoteError(
                    f"{what}: {failure}; waiting {wait:.0f} s more would be {waited:.0f} s in "
                    f"all, expected at most {policy.total_wait:.0f} s; try again later"
                ) from failure
            # What takes long enough in all for somebody to wonder is said aloud.
            long = time.monotonic() - started + wait > _LONG_SECONDS
            level = logging.WARNING if long else logging.INFO
            log.log(level, "%s: %s; asking again in %.1f s", what, failure, wait)
            if _sleep(wait, stop):
                raise RemoteError(
                    f"{what}: {failure}; given up, because another part failed"
                ) from failure


def _sleep(seconds: float, stop: threading.Event | None) -> bool:
    """Wait; True where `stop` was set meanwhile."""
    return (stop or threading.Event()).wait(seconds)
