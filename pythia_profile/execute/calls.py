"""Calls, progress and answers as files of a folder that all machines see.

    00003.call        the function and its unit, pickled
    00003.progress    lines: how much more of it is done, of which part
    00003.answer      what it returned, or why it failed

An engine (Ray, SLURM) only has to start `serve` somewhere; nothing else passes between machines, so
a call that is started twice, because its node was lost, ends with the same file. The folder holds
pickles: it is made for its owner alone.
"""

import contextlib
import logging
import pickle
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pythia_profile.execute.worker import Failure, Result, Worker, WorkerError, answered
from pythia_profile.store import atomic_write

__all__ = ["Calls", "OnPart", "OnProgress", "main", "serve"]

OnProgress = Callable[[int], None]
OnPart = Callable[[str, int, int], None]

_SECONDS_BETWEEN_NOTES = 0.5


@dataclass(frozen=True, slots=True)
class Calls:
    """Calls that were written to a folder, by number.

    Attributes
    ----------
    folder : seen by all machines under this path.
    count : of the calls.
    """

    folder: Path
    count: int

    @classmethod
    def write(
        cls, folder: Path, function: Callable[[Any, Worker], Any], units: Sequence[Any]
    ) -> "Calls":
        """Write a call for each unit.

        Raises
        ------
        WorkerError
            A unit cannot be pickled.
        """
        folder.mkdir(parents=True, exist_ok=True)
        folder.chmod(0o700)
        for number, unit in enumerate(units, 1):
            try:
                call = pickle.dumps((function, unit))
            except (pickle.PicklingError, AttributeError, TypeError) as error:
                raise WorkerError(f"units cannot be sent to another process: {error}") from error
            _write(folder / f"{number:05d}.call", call)
        level = logging.getLogger("pythia_profile").getEffectiveLevel()
        _write(folder / "setup", pickle.dumps((list(sys.path), level)))
        return cls(folder, len(units))

    @property
    def numbers(self) -> range:
        """Number of each call, from 1 on."""
        return range(1, self.count + 1)

    def tell(self, seen: dict[int, int], on_progress: OnProgress, on_part: OnPart) -> None:
        """Pass on what the calls have written of their progress since the last time.

        Parameters
        ----------
        seen : of each call, how many bytes of its progress are known; updated.
        on_progress, on_part : as of `map_units`.
        """
        for number in self.numbers:
            path = self.folder / f"{number:05d}.progress"
            news = path.read_bytes()[seen.get(number, 0) :] if path.exists() else b""
            lines = news[: news.rfind(b"\n") + 1]  # the last one may be half written
            seen[number] = seen.get(number, 0) + len(lines)
            for line in lines.decode().splitlines():
                amount, _, part = line.partition("\t")
                on_progress(int(amount))
                on_part(part or f"unit {number}", int(amount), number - 1)

    def missing(self) -> list[int]:
        """Numbers of the calls without an answer."""
        return [number for number in self.numbers if not self._answer(number).exists()]

    def check(self) -> None:
        """Raise the failure of a call that failed.

        Raises
        ------
        WorkerError
            In one line, with the exit code that the function asked for.
        """
        for number in self.numbers:
            path = self._answer(number)
            answer = pickle.loads(path.read_bytes()) if path.exists() else None
            if isinstance(answer, Failure):
                logging.getLogger(__name__).debug("%s", answer.trace)
                raise WorkerError(answer.message, answer.exit_code)

    def results(self) -> list[Any]:
        """Return what the function returned, in the order of the units."""
        self.check()
        answers = [pickle.loads(self._answer(n).read_bytes()) for n in self.numbers]
        return [answer.value for answer in answers]

    def _answer(self, number: int) -> Path:
        return self.folder / f"{number:05d}.answer"


def serve(folder: str, number: int, device: str, threads: int) -> None:
    """Answer one call of a folder, on any machine; a call that has an answer is left alone."""
    answer = Path(folder, f"{number:05d}.answer")
    if answer.exists():
        return
    path, level = pickle.loads(Path(folder, "setup").read_bytes())
    sys.path[:] = [*path, *(one for one in sys.path if one not in path)]
    for name in ("data_order", "pythia_profile"):
        logging.getLogger(name).setLevel(level)
    progress = _Notes(Path(folder, f"{number:05d}.progress"))
    call = Path(folder, f"{number:05d}.call").read_bytes()
    worker = Worker(device, threads, progress.advance, progress.begin)
    found: Result | Failure = answered(call, worker)
    progress.write()
    _write(answer, pickle.dumps(found))


class _Notes:
    """Progress of one call, written twice a second at most."""

    def __init__(self, path: Path) -> None:
        self._path, self._amount, self._part, self._next = path, 0, "", 0.0

    def begin(self, part: str) -> None:
        self.write()
        self._part = " ".join(part.split())
        self.write(even_nothing=True)

    def advance(self, amount: int) -> None:
        self._amount += amount
        if time.monotonic() >= self._next:
            self.write()

    def write(self, *, even_nothing: bool = False) -> None:
        if self._amount or even_nothing:
            with contextlib.suppress(OSError), self._path.open("a", encoding="utf-8") as file:
                file.write(f"{self._amount}\t{self._part}\n")  # progress is a courtesy
        self._amount, self._next = 0, time.monotonic() + _SECONDS_BETWEEN_NOTES


def _write(path: Path, content: bytes) -> None:
    with atomic_write(path) as file:
        file.write(content)


def main() -> None:
    """Answer the call that the arguments name: folder, number, device, threads."""
    folder, number, device, threads = sys.argv[1:]
    serve(folder, int(number), device, int(threads))


if __name__ == "__main__":
    main()
