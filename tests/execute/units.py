"""Units of work for processes anywhere: to be imported by their names."""

import os
import time
from dataclasses import dataclass
from pathlib import Path

from pythia_profile.errors import RefusedError
from pythia_profile.execute.executors import Worker


@dataclass(frozen=True)
class Number:
    value: int
    folder: Path = Path()
    seconds: float = 0.0


def square(unit: Number, worker: Worker) -> int:
    worker.advance(unit.value)
    return unit.value**2


def refuse_two(unit: Number, worker: Worker) -> int:
    if unit.value == 2:
        raise RefusedError("out of paper; Bearer secret-of-mine")
    return unit.value


def leave(unit: Number, worker: Worker) -> None:
    os.write(1, b"the last thing I saw\n")
    os._exit(7)


def slow_square(unit: Number, worker: Worker) -> int:
    """Leave a file that says who was at the unit, then take time."""
    (unit.folder / f"{unit.value}-{os.getpid()}").touch()
    time.sleep(unit.seconds)
    worker.advance(1)
    return unit.value**2


def score_slowly(share, worker: Worker) -> None:
    """Score a share with a pause before each chunk of rows."""
    from pythia_profile.scoring import engine
    from pythia_profile.scoring.run import score_share

    original = engine.score_rows

    def pausing(*arguments, **named):
        time.sleep(0.15)
        return original(*arguments, **named)

    engine.score_rows = pausing
    try:
        score_share(share, worker)
    finally:
        engine.score_rows = original
