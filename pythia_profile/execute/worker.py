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
from multiprocessing.connection import Connection
from typing import Any, NamedTuple

from pythia_profile.errors import ProfileError
from pythia_profile.redaction import redact

__all__ = [
    "Begun",
    "Failure",
    "Progress",
    "Record",
    "Result",
    "Setup",
    "Worker",
    "WorkerError",
    "answered",
    "main",
]


class WorkerError(ProfileError):
    """A unit failed, or its process was killed; its last words are the message."""

    def __init__(self, message: str, exit_code: int = 1) -> None:
        super().__init__(message)
        self.exit_code = exit_code


class Worker(NamedTuple):
    """What a function may use: a device (`cpu`, `cuda:0`), threads, and ways to tell progress.

    `begin` names what `advance` is about from now on, where a unit has parts.
    """

    device: str
    threads: int
    advance: Callable[[int], None]
    begin: Callable[[str], None] = lambda _: None


class Setup(NamedTuple):
    """What a worker is sent first: where modules are, its device and threads, the level of logs."""

    path: list[str]
    device: str
    threads: int
    level: int


class Progress(NamedTuple):
    """More of a unit is done."""

    amount: int


class Begun(NamedTuple):
    """A part of a unit begins."""

    part: str


class Record(NamedTuple):
    """A log record, formatted and without tokens."""

    logger: str
    level: int
    message: str


class Result(NamedTuple):
    """What the function returned."""

    value: Any


class Failure(NamedTuple):
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
    sending = threading.Lock()  # a log record of another thread must not fall into a message

    def send(message: NamedTuple) -> None:
        with sending:
            connection.send(message)

    forward = _Forward(send)
    for name in ("data_order", "pythia_profile"):
        logger = logging.getLogger(name)
        logger.setLevel(setup.level)
        logger.addHandler(forward)
        logger.propagate = False
    worker = Worker(
        setup.device,
        setup.threads,
        lambda amount: send(Progress(amount)),
        lambda part: send(Begun(part)),
    )
    calls: queue.SimpleQueue[bytes | None] = queue.SimpleQueue()
    busy = threading.Event()

    def receive() -> None:
        try:
            while True:
                call = connection.recv_bytes()
                busy.set()
                calls.put(call)
        except (EOFError, OSError):
            if busy.is_set():  # nobody waits for the result any more
                os._exit(1)
            calls.put(None)

    threading.Thread(target=receive, daemon=True).start()
    while (call := calls.get()) is not None:
        answer = answered(call, worker)
        busy.clear()  # before the answer, to which the next call may follow at once
        send(answer)


def answered(call: bytes, worker: Worker) -> Result | Failure:
    """Call a pickled function with its unit; an error becomes one line, without tokens."""
    try:
        function, unit = pickle.loads(call)
        return Result(function(unit, worker))
    except Exception as error:
        code = getattr(error, "exit_code", None)
        message = str(error) if code is not None else f"{type(error).__name__}: {error}"
        return Failure(redact(message), code or 1, redact(traceback.format_exc()))


class _Forward(logging.Handler):
    def __init__(self, send: Callable[[NamedTuple], None]) -> None:
        super().__init__()
        self._send = send

    def emit(self, record: logging.LogRecord) -> None:
        self._send(Record(record.name, record.levelno, redact(self.format(record))))
