"""A worker process: takes one unit at a time, calls the function with it, sends the result back.

Imports nothing heavy before the number of threads is set, and nothing of the caller's main module.
Ends as soon as the process that started it is gone.
"""

import logging
import os
import pickle
import queue
import signal
import sys
import threading
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing.connection import Connection
from typing import Any

from pythia_profile.redaction import redact

__all__ = ["Failure", "Progress", "Record", "Result", "Setup", "Worker", "main"]

_FORWARDED = ("data_order", "pythia_profile")


@dataclass(frozen=True, slots=True)
class Worker:
    """The worker that a function runs in.

    Attributes
    ----------
    device : `cpu`, `cuda:0`, ...
    threads : arithmetic threads that it may use.
    advance : tells the caller how much more of the unit is done.
    """

    device: str
    threads: int
    advance: Callable[[int], None]


@dataclass(frozen=True, slots=True)
class Setup:
    """What a worker is told first: where modules are, its device, and what to log."""

    path: list[str]
    device: str
    threads: int
    level: int


@dataclass(frozen=True, slots=True)
class Progress:
    """More of a unit is done."""

    amount: int


@dataclass(frozen=True, slots=True)
class Record:
    """A log record, formatted and without tokens."""

    logger: str
    level: int
    message: str


@dataclass(frozen=True, slots=True)
class Result:
    """What the function returned."""

    value: Any


@dataclass(frozen=True, slots=True)
class Failure:
    """The function raised: one line, the exit code it asks for, and the traceback."""

    message: str
    exit_code: int
    trace: str


def main(descriptor: int) -> None:
    """Serve units that arrive on an inherited connection until the caller closes it."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the caller ends its workers itself
    connection = Connection(descriptor)
    setup: Setup = connection.recv()
    sys.path[:] = setup.path
    sending = threading.Lock()

    def send(message: Any) -> None:
        with sending:
            connection.send(message)

    _forward_logs(send, setup.level)
    worker = Worker(setup.device, setup.threads, lambda amount: send(Progress(amount)))
    calls: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    busy = threading.Event()
    threading.Thread(target=_receive, args=(connection, calls, busy), daemon=True).start()
    while (call := calls.get()) is not None:
        send(_answer(call, worker))
        busy.clear()


def _receive(
    connection: Connection, calls: "queue.SimpleQueue[bytes | None]", busy: threading.Event
) -> None:
    try:
        while True:
            call = connection.recv_bytes()
            busy.set()
            calls.put(call)
    except (EOFError, OSError):
        if busy.is_set():  # nobody waits for the result any more
            os._exit(1)
        calls.put(None)


def _answer(call: bytes, worker: Worker) -> Result | Failure:
    try:
        function, unit = pickle.loads(call)
        return Result(function(unit, worker))
    except Exception as error:
        own = getattr(error, "exit_code", None)
        message = str(error) if own is not None else f"{type(error).__name__}: {error}"
        return Failure(redact(message), own or 1, redact(traceback.format_exc()))


class _Forwarder(logging.Handler):
    def __init__(self, send: Callable[[Any], None]) -> None:
        super().__init__()
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        self._send(Record(record.name, record.levelno, redact(self.format(record))))


def _forward_logs(send: Callable[[Any], None], level: int) -> None:
    for name in _FORWARDED:
        logger = logging.getLogger(name)
        logger.setLevel(level)
        logger.addHandler(_Forwarder(send))
        logger.propagate = False
