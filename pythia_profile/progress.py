"""Progress: bars on a terminal, a plain line a minute elsewhere, nothing when asked to be quiet.

Everything goes to stderr. A bar shows what is done, the rate and the time left; a line carries the
same in words. The level of the logger `pythia_profile` decides: above INFO there is neither.
"""

import logging
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    TextColumn,
    TimeRemainingColumn,
)
from rich.progress import Task as RichTask
from rich.text import Text

__all__ = ["Task", "track"]

log = logging.getLogger(__name__)

LINE_EVERY_SECONDS = 60.0


class _Rate(ProgressColumn):
    def render(self, task: RichTask) -> Text:
        return Text(f"{task.speed or 0:,.0f} {task.fields['unit']}/s")


@dataclass(slots=True)
class Task:
    """One piece of work that knows how far it is.

    Attributes
    ----------
    title : what is being done, `training l` for instance.
    total : how much there is, in `unit`.
    done : how much of it is finished; what an earlier run had finished counts as done.
    """

    title: str
    total: int
    unit: str
    done: int = 0
    _bar: Progress | None = None
    _started: float = field(default_factory=time.monotonic)
    _begun_at: int = 0
    _next_line: float = 0.0
    _id: int = 0

    def advance(self, amount: int = 1) -> None:
        """Count `amount` more units as done."""
        self.done += amount
        if self._bar is not None:
            self._bar.update(self._id, completed=self.done)  # type: ignore[arg-type]
        elif time.monotonic() >= self._next_line:
            self._next_line = time.monotonic() + LINE_EVERY_SECONDS
            log.info("%s", self.line())

    def line(self) -> str:
        """Say how far the work is, at what rate, and how long it may still take."""
        elapsed = max(time.monotonic() - self._started, 1e-9)
        rate = (self.done - self._begun_at) / elapsed
        left = f", {(self.total - self.done) / rate:,.0f} s left" if rate > 0 else ""
        if self.done >= self.total:
            left = f" in {elapsed:,.1f} s"
        return f"{self.title}: {self.done:,} of {self.total:,} {self.unit}{left} ({rate:,.0f}/s)"


@contextmanager
def track(title: str, total: int, unit: str, done: int = 0) -> Iterator[Task]:
    """Show the progress of one piece of work while the block runs.

    Parameters
    ----------
    title, unit : what is done, and in what it is counted.
    total, done : how much there is, and how much an earlier run has left finished.
    """
    task = Task(title, total, unit, done, _begun_at=done)
    task._next_line = task._started + LINE_EVERY_SECONDS
    if log.isEnabledFor(logging.INFO) and sys.stderr.isatty():
        with _bars() as bar:
            task._bar = bar
            task._id = bar.add_task(title, total=total, completed=done, unit=unit)
            yield task
    else:
        yield task
        log.info("%s", task.line())


def _bars() -> Progress:
    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        _Rate(),
        TimeRemainingColumn(),
        console=Console(stderr=True),
    )
