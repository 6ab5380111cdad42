"""Score a study, killed at given file operations: `killed_at.py ROOT ROWS CHECKPOINTS N N ...`.

For each N a forked process scores into ROOT/N and sends itself SIGKILL right before (even N) or
after (odd N) its N/2-th file operation; a second one then scores what is left. With N = 0 nothing
is killed, and the number of file operations is printed. The parent uses no thread pool, so forking
it is safe.
"""

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import polars as pl
import torch

from pythia_profile.checkpoints.weights import find_weights
from pythia_profile.scoring import engine, forward, surprisal  # noqa: F401 (before the forks)
from pythia_profile.scoring.settings import Scoring
from pythia_profile.scoring.units import Unit, Work
from pythia_profile.store import file_sha256

OPERATIONS = ("fsync", "replace", "open", "unlink", "rmdir", "mkdir")


def counted(on_operation: Callable[[int, bool], None]) -> None:
    """Call `on_operation(number, is_over)` before and after each file operation."""
    number = 0

    def wrapped(operation):
        def call(*arguments, **named):
            nonlocal number
            number += 1
            this = number
            on_operation(this, False)
            try:
                return operation(*arguments, **named)
            finally:
                on_operation(this, True)

        return call

    for name in OPERATIONS:
        setattr(os, name, wrapped(getattr(os, name)))


def kill_at(point: int) -> None:
    def kill(number: int, is_over: bool) -> None:
        if number == point // 2 and is_over == bool(point % 2):
            os.kill(os.getpid(), signal.SIGKILL)

    counted(kill)


def score(scores: Path, table: Path, checkpoints: Path) -> None:
    works = [
        Work(
            Unit(suite="t", size="s", seed=0, checkpoint=step, weights=hashes_in(folder)),
            folder,
        )
        for step, folder in enumerate(sorted(checkpoints.iterdir()))
    ]
    settings = Scoring(batch_tokens=64, token_table=True)
    table_rows = pl.read_parquet(table)
    session = engine.Session(rows=table_rows, scores=scores, settings=settings, chunk_rows=8)
    engine.score_units(works, session)


def hashes_in(folder: Path) -> dict[str, str]:
    """Sha256 of each weight file and of the config of a checkpoint, by file name."""
    files = (*find_weights(folder).paths, folder / "config.json")
    return {path.name: file_sha256(path) for path in files}


def forked(action: Callable[[], None]) -> str:
    child = os.fork()
    if child == 0:
        action()
        sys.stdout.flush()
        os._exit(0)
    _, status = os.waitpid(child, 0)
    return "killed" if os.WIFSIGNALED(status) else f"exit {os.WEXITSTATUS(status)}"


def main(root: Path, table: Path, checkpoints: Path, points: list[int]) -> None:
    def finish(scores: Path) -> None:
        score(scores, table, checkpoints)

    def killed(scores: Path, point: int) -> None:
        kill_at(point)
        finish(scores)

    def unbroken(scores: Path) -> None:
        total = []
        counted(lambda number, _: total.append(number))
        finish(scores)
        sys.stdout.write(f"{total[-1]}\n")

    for point in points:
        scores = root / str(point) / "scores"
        if point == 0:
            forked(lambda scores=scores: unbroken(scores))
            continue
        first = forked(lambda scores=scores, point=point: killed(scores, point))
        second = forked(lambda scores=scores: finish(scores))
        sys.stdout.write(f"{point} {first}, {second}\n")
        sys.stdout.flush()


if __name__ == "__main__":
    torch.set_num_threads(1)
    main(*(Path(word) for word in sys.argv[1:4]), [int(word) for word in sys.argv[4:]])
