"""Progress: bars on a terminal, a line that moves in a notebook, a plain line a minute elsewhere.

Everything goes to stderr. A bar shows what is done, the rate and the time left; a line carries the
same in words. `logging.getLogger("pythia_profile").setLevel("WARNING")` silences all of it, as
`--quiet` does; where a program has set up logging of its own, lines go there, from INFO on.
"""

import logging
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
)
from rich.progress import Task as RichTask
from rich.text import Text

from pythia_profile.execute.time_left import Part, Schedule
from pythia_profile.text import duration

__all__ = ["Task", "track"]

log = logging.getLogger(__name__)
package = logging.getLogger("pythia_profile")

LINE_EVERY_SECONDS = 60.0
NOTEBOOK_EVERY_SECONDS = 1.0


class _Rate(ProgressColumn):
    def render(self, task: RichTask) -> Text:
        return Text(f"{task.speed or 0:,.0f} {task.fields['unit']}/s")


class _Left(ProgressColumn):
    def render(self, task: RichTask) -> Text:
        left = task.fields["work"].seconds_left()
        return Text("" if left is None or task.finished else f"{duration(left)} left")


@dataclass(slots=True)
class Task:
    """One piece of work that knows how far it is.

    Attributes
    ----------
    title : what is being done, `training l` for instance.
    total : how much there is, in `unit`.
    done : how much of it is finished; what an earlier run had finished counts as done.
    schedule : of its units, where these take unequal time.
    """

    title: str
    total: int
    unit: str
    done: int = 0
    schedule: Schedule | None = None
    _bar: Progress | None = None
    _write: Callable[[str], None] = field(default_factory=lambda: _to_log)
    _every: float = LINE_EVERY_SECONDS
    _started: float = field(default_factory=lambda: time.monotonic())
    _begun_at: int = 0
    _next_line: float = 0.0
    _id: int = 0

    def advance(self, amount: int = 1) -> None:
        """Count `amount` more units as done."""
        self.done += amount
        if self._bar is not None:
            self._bar.update(self._id, completed=self.done)  # type: ignore[arg-type]
        elif time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + self._every
            self._write(self.line())

    def advance_part(self, name: str, amount: int, worker: int) -> None:
        """Count more of a unit of the schedule as done; 0 when it begins."""
        if self.schedule is not None:
            now = time.monotonic()
            if amount:
                self.schedule.advance(name, amount, worker, now)
            else:
                self.schedule.begin(name, worker, now)
        if amount:
            self.advance(amount)

    def seconds_left(self) -> float | None:
        """Time left, by the schedule or at the mean rate; None where nothing is known."""
        now = time.monotonic()
        if self.schedule is not None:
            return self.schedule.seconds_left(now)
        fresh = self.done - self._begun_at
        return (self.total - self.done) * (now - self._started) / fresh if fresh else None

    def line(self) -> str:
        """Say how far the work is, at what rate, and how long it may still take."""
        elapsed = max(time.monotonic() - self._started, 1e-9)
        rate, seconds = (self.done - self._begun_at) / elapsed, self.seconds_left()
        left = "" if seconds is None else f", {duration(seconds)} left"
        if self.done >= self.total:
            left = f" in {duration(elapsed)}"
        speed = f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"
        return f"{self.title}: {self.done:,} of {self.total:,} {self.unit}{left} ({speed}/s)"


@contextmanager
def track(
    title: str,
    total: int,
    unit: str,
    done: int = 0,
    parts: Sequence[Part] = (),
    workers: int = 1,
) -> Iterator[Task]:
    """Show the progress of one piece of work while the block runs.

    Parameters
    ----------
    title, unit : what is done, and in what it is counted.
    total, done : how much there is, and how much an earlier run has left finished.
    parts, workers : units of unequal time that are to do, in the order in which they are handed
        out, and how many are done at a time; the time left is then that of their schedule.
    """
    schedule = Schedule(parts, workers) if parts else None
    task = Task(title, total, unit, done, schedule, _begun_at=done)
    kind = _kind()
    if kind == "bar":
        with _bars() as bar:
            task._bar = bar
            task._id = bar.add_task(title, total=total, completed=done, unit=unit, work=task)
            yield task
        return
    if kind != "log":
        task._write = {"notebook": _to_notebook, "lines": _to_stderr}[kind]
    task._every = NOTEBOOK_EVERY_SECONDS if kind == "notebook" else LINE_EVERY_SECONDS
    task._next_line = task._started + task._every
    yield task
    task._write(task.line() + "\n" * (kind == "notebook"))


def _kind() -> str:
    """Choose how progress is shown: by the level of the package's logger, else by where it runs."""
    if package.level != logging.NOTSET or logging.getLogger().handlers:
        return "bar" if log.isEnabledFor(logging.INFO) and sys.stderr.isatty() else "log"
    if "ipykernel" in sys.modules:
        return "notebook"
    return "bar" if sys.stderr.isatty() else "lines"


def _to_log(line: str) -> None:
    log.info("%s", line)


def _to_stderr(line: str) -> None:
    sys.stderr.write(f"{line}\n")


def _to_notebook(line: str) -> None:
    sys.stderr.write(f"\r{line:<100}" if not line.endswith("\n") else f"\r{line}")
    sys.stderr.flush()


def _bars() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        _Left(),
        console=Console(stderr=True),
    )
