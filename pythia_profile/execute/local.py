"""Units mapped over processes of this machine.

Processes are started here rather than by `multiprocessing`, whose `spawn` imports the caller's main
module again (a script without a guard would start itself anew), gives all children one environment
and loses what a killed child wrote last. Calls and results are typed objects all the same.

Results do not depend on how many processes there are: each unit is computed on the threads it is
given, and results come back in the order of the units.
"""

import logging
import os
import pickle
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import BytesIO
from multiprocessing.connection import Connection, Pipe, wait
from typing import Any, TypeVar

from pythia_profile.errors import ProfileError
from pythia_profile.execute.resources import Resources
from pythia_profile.execute.worker import Failure, Progress, Record, Result, Setup, Worker
from pythia_profile.redaction import redact

__all__ = ["Worker", "WorkerError", "map_units"]

U = TypeVar("U")
R = TypeVar("R")

_GRACE_SECONDS = 5.0
_SERVE = "import sys; from pythia_profile.execute.worker import main; main(int(sys.argv[1]))"


class WorkerError(ProfileError):
    """A unit failed, or its process was killed; its last words are the message."""


def map_units(
    function: Callable[[U, Worker], R],
    units: Sequence[U],
    resources: Resources,
    on_progress: Callable[[int], None] = lambda _: None,
) -> list[R]:
    """Call `function(unit, worker)` for every unit, one process a device, one unit at a time.

    Log records of the workers appear in this process, without tokens.

    Parameters
    ----------
    function : found by its name in an importable module.
    units : frozen dataclasses that can be pickled, in the order in which they are handed out.
    resources : devices, one process each, and threads of each.
    on_progress : called in this thread with what `worker.advance` was given.

    Returns
    -------
    What the function returned, in the order of the units.

    Raises
    ------
    WorkerError
        A unit failed, or its process was killed; the other processes have been ended.
    """
    try:
        calls = [(_name(unit), pickle.dumps((function, unit))) for unit in units]
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise WorkerError(f"units cannot be sent to another process: {error}") from error
    waiting = deque(enumerate(calls))
    results: dict[int, R] = {}
    with _started(resources, len(calls)) as processes:
        for process in processes:
            process.give(waiting.popleft())
        busy = {process.connection: process for process in processes}
        while busy:
            for connection in wait(list(busy)):
                process = busy[connection]  # type: ignore[index]
                message = process.received()
                if isinstance(message, Progress):
                    on_progress(message.amount)
                elif isinstance(message, Record):
                    logging.getLogger(message.logger).log(message.level, "%s", message.message)
                elif isinstance(message, Failure):
                    logging.getLogger(__name__).debug("%s", message.trace)
                    raise _failure(message.message, message.exit_code)
                elif isinstance(message, Result):
                    results[process.unit] = message.value
                    if waiting:
                        process.give(waiting.popleft())
                    else:
                        del busy[process.connection]
                        process.connection.close()
    return [results[number] for number in range(len(calls))]


@dataclass(slots=True)
class _Process:
    """A worker process, the unit it is at, and the last lines that it wrote."""

    process: subprocess.Popen[bytes]
    connection: Connection
    listener: threading.Thread
    last_words: deque[str] = field(default_factory=lambda: deque(maxlen=20))
    unit: int = -1
    name: str = ""

    def give(self, numbered: tuple[int, tuple[str, bytes]]) -> None:
        self.unit, (self.name, call) = numbered
        try:
            self.connection.send_bytes(call)
        except OSError as error:
            raise self._end() from error

    def received(self) -> Any:
        try:
            return self.connection.recv()
        except (EOFError, OSError) as error:
            raise self._end() from error

    def _end(self) -> WorkerError:
        code = self.process.wait()
        self.listener.join(_GRACE_SECONDS)
        if code < 0:
            return WorkerError(
                f"the worker at {self.name} was killed by signal {-code} (out of memory, perhaps); "
                "run again to go on where it stopped"
            )
        last = self.last_words[-1] if self.last_words else "it ended without a message"
        return _failure(redact(f"the worker at {self.name} ended: {last}"), code or 1)


def _name(unit: object) -> str:
    return str(getattr(unit, "name", type(unit).__name__))


def _failure(message: str, exit_code: int) -> WorkerError:
    failure = WorkerError(message)
    failure.exit_code = exit_code
    return failure


@contextmanager
def _started(resources: Resources, units: int) -> Iterator[list[_Process]]:
    """Have a process for each device, at most one a unit; none is left when the block ends."""
    processes: list[_Process] = []
    try:
        for device in resources.devices[:units]:
            processes.append(_start(device, resources.threads))
        yield processes
    except BaseException:
        for process in processes:
            process.process.terminate()
        raise
    finally:
        for process in processes:
            process.connection.close()
        for process in processes:
            try:
                process.process.wait(_GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                process.process.kill()
                process.process.wait()


def _start(device: str, threads: int) -> _Process:
    ours, theirs = Pipe()
    limits = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    descriptor = theirs.fileno()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-c", _SERVE, str(descriptor)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            pass_fds=[descriptor],
            env={**os.environ, **limits, "TOKENIZERS_PARALLELISM": "false"},
        )
    last_words: deque[str] = deque(maxlen=20)
    listener = threading.Thread(target=_keep_last_words, args=(process, last_words), daemon=True)
    listener.start()
    level = logging.getLogger("pythia_profile").getEffectiveLevel()
    started = _Process(process, ours, listener, last_words)
    ours.send(Setup(list(sys.path), device, threads, level))
    return started


def _keep_last_words(process: subprocess.Popen[bytes], last_words: deque[str]) -> None:
    with process.stdout or BytesIO() as output:
        for line in output:
            if line.strip():
                last_words.append(line.decode(errors="replace").strip())
