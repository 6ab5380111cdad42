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
import tempfile
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection, Pipe, wait
from typing import IO, Any, TypeVar

from pythia_profile.execute.resources import Resources
from pythia_profile.execute.worker import (
    Begun,
    Failure,
    Progress,
    Record,
    Result,
    Setup,
    Worker,
    WorkerError,
)
from pythia_profile.redaction import redact

__all__ = ["map_locally"]

U = TypeVar("U")
R = TypeVar("R")

_GRACE_SECONDS = 5.0
_SERVE = "import sys; from pythia_profile.execute.worker import main; main(int(sys.argv[1]))"


def map_locally(
    function: Callable[[U, Worker], R],
    units: Sequence[U],
    resources: Resources,
    on_progress: Callable[[int], None] = lambda _: None,
    on_part: Callable[[str, int, int], None] = lambda *_: None,
) -> list[R]:
    """Call `function(unit, worker)` for every unit, one process a device, one unit at a time.

    Log records of the workers appear in this process, without tokens.

    Parameters, results and errors are those of `executors.map_units`.
    """
    try:
        calls = deque(enumerate(pickle.dumps((function, unit)) for unit in units))
    except (pickle.PicklingError, AttributeError, TypeError) as error:
        raise WorkerError(f"units cannot be sent to another process: {error}") from error
    results: dict[int, R] = {}
    with _started(resources, len(calls)) as processes:
        busy: dict[Any, _Process] = {process.connection: process for process in processes}
        for process in processes:
            process.give(*calls.popleft())
        while busy:
            for connection in wait(list(busy)):
                process = busy[connection]
                match process.received(units):
                    case Begun(part):
                        process.part = part
                        on_part(part, 0, processes.index(process))
                    case Progress(amount):
                        on_progress(amount)
                        name = process.part or _name(units[process.unit])
                        on_part(name, amount, processes.index(process))
                    case Record(logger, level, text):
                        logging.getLogger(logger).log(level, "%s", text)
                    case Failure(text, exit_code, trace):
                        logging.getLogger(__name__).debug("%s", trace)
                        raise WorkerError(text, exit_code)
                    case Result(value):
                        results[process.unit] = value
                        if calls:
                            process.give(*calls.popleft())
                        else:
                            del busy[connection]
                            process.connection.close()
    return [results[number] for number in range(len(units))]


@dataclass(slots=True)
class _Process:
    """A worker process, what it has written, and the number of the unit it is at."""

    process: subprocess.Popen[bytes]
    connection: Connection
    output: IO[bytes]
    unit: int = 0
    part: str = ""

    def give(self, number: int, call: bytes) -> None:
        self.unit, self.part = number, ""
        with suppress(OSError):  # it ended; its last words are found when it is listened to
            self.connection.send_bytes(call)

    def received(self, units: Sequence[object]) -> Any:
        try:
            return self.connection.recv()
        except (EOFError, OSError) as error:
            name = _name(units[self.unit])
            code = self.process.wait()
            if code < 0:
                raise WorkerError(
                    f"the worker at {name} was killed by signal {-code} (out of memory, perhaps); "
                    "run again to go on where it stopped"
                ) from error
            self.output.seek(0)
            lines = [
                line for line in self.output.read().decode(errors="replace").split("\n") if line
            ]
            last = lines[-1].strip() if lines else "it ended without a message"
            raise WorkerError(redact(f"the worker at {name} ended: {last}"), code or 1) from error


def _name(unit: object) -> str:
    return str(getattr(unit, "name", type(unit).__name__))


@contextmanager
def _started(resources: Resources, units: int) -> Iterator[list[_Process]]:
    """Have a process for each device, at most one a unit; none is left when the block ends."""
    processes: list[_Process] = []
    with ExitStack() as files:
        try:
            for device in resources.devices[:units]:
                output = files.enter_context(tempfile.TemporaryFile())
                processes.append(_start(device, resources.threads, output))
            yield processes
        except BaseException:
            for one in processes:
                one.process.terminate()
            raise
        finally:
            for one in processes:
                one.connection.close()  # a worker without work ends when it sees this
            for one in processes:
                try:
                    one.process.wait(_GRACE_SECONDS)
                except subprocess.TimeoutExpired:
                    one.process.kill()
                    one.process.wait()


def _start(device: str, threads: int, output: IO[bytes]) -> _Process:
    ours, theirs = Pipe()
    limits = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-c", _SERVE, str(theirs.fileno())],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            pass_fds=[theirs.fileno()],
            env={**os.environ, **limits, "TOKENIZERS_PARALLELISM": "false"},
        )
    level = logging.getLogger("pythia_profile").getEffectiveLevel()
    with suppress(OSError):
        ours.send(Setup(list(sys.path), device, threads, level))
    return _Process(process, ours, output)
