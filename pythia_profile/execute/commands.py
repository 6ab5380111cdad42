"""Superseded by `local.map_units`; goes when training has moved to it.

Worker processes of our own modules, a bounded number at a time, each reporting by lines.

A worker is `python -m MODULE ARGUMENTS`, so it needs nothing from the caller's main module and
works from scripts, notebooks and the command line alike. Each runs its arithmetic on the threads it
is told, so results do not depend on how many run at once. A worker whose parent is gone ends at its
next line, because nobody reads it.
"""

import os
import queue
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from io import StringIO

from pythia_profile.errors import ProfileError
from pythia_profile.redaction import redact

__all__ = ["WorkerError", "run_workers"]

_GRACE_SECONDS = 5.0


class WorkerError(ProfileError):
    """A worker process failed; its last words are the message."""


@dataclass(slots=True)
class _Worker:
    process: subprocess.Popen[str]
    last_words: deque[str] = field(default_factory=lambda: deque(maxlen=20))


def run_workers(
    commands: Sequence[Sequence[str]],
    *,
    workers: int,
    on_line: Callable[[str], None],
    threads: int = 1,
) -> None:
    """Run `python -m` commands, `workers` at a time, in the given order of start.

    Parameters
    ----------
    commands : module and arguments of each worker.
    on_line : called in this thread with each line that a worker prints.
    threads : arithmetic threads of each worker.

    Raises
    ------
    WorkerError
        A worker failed or was killed; the others have been ended.
    """
    waiting = deque(commands)
    lines: queue.Queue[tuple[_Worker, str | None]] = queue.Queue()
    running: list[_Worker] = []
    with _ended_in_any_case(running):
        while waiting or running:
            while waiting and len(running) < workers:
                running.append(_start(waiting.popleft(), threads, lines))
            worker, line = lines.get()
            if line is not None:
                on_line(line)
                continue
            running.remove(worker)
            _check_end(worker)


def _start(
    command: Sequence[str], threads: int, lines: "queue.Queue[tuple[_Worker, str | None]]"
) -> _Worker:
    settings = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    process = subprocess.Popen(
        [sys.executable, "-m", *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        text=True,
        env={**os.environ, **settings, "TOKENIZERS_PARALLELISM": "false"},
    )
    worker = _Worker(process)
    listener = threading.Thread(target=_keep_last_words, args=(worker,), daemon=True)
    listener.start()
    threading.Thread(target=_forward, args=(worker, listener, lines), daemon=True).start()
    return worker


def _forward(
    worker: _Worker,
    listener: threading.Thread,
    lines: "queue.Queue[tuple[_Worker, str | None]]",
) -> None:
    with worker.process.stdout or StringIO() as said:
        for line in said:
            lines.put((worker, line.rstrip("\n")))
    listener.join()
    worker.process.wait()
    lines.put((worker, None))


def _keep_last_words(worker: _Worker) -> None:
    with worker.process.stderr or StringIO() as said:
        worker.last_words.extend(line.strip() for line in said if line.strip())


def _check_end(worker: _Worker) -> None:
    code = worker.process.returncode
    if code == 0:
        return
    name = " ".join(str(part) for part in worker.process.args[2:])  # type: ignore[index]
    if code < 0:
        raise WorkerError(
            f"worker '{name}' was killed by signal {-code} (out of memory, perhaps); run again "
            "to go on where it stopped"
        )
    said = worker.last_words[-1] if worker.last_words else "without a word"
    failure = WorkerError(redact(said.removeprefix("error: ")))
    failure.exit_code = code
    raise failure


@contextmanager
def _ended_in_any_case(running: list[_Worker]) -> Iterator[None]:
    try:
        yield
    finally:
        for worker in running:
            worker.process.terminate()
        for worker in running:
            try:
                worker.process.wait(_GRACE_SECONDS)
            except subprocess.TimeoutExpired:
                worker.process.kill()
                worker.process.wait()
