"""Scoring of a study: its settings and its lock file -> its units, scored.

In: the settings and the `ROWS` table of a study. Out: `scores/` in its folder, and in the lock file
what was pinned, what the audit found, and what the user chose to do about it.
"""

from pathlib import Path

from pythia_profile.checkpoints.pinned import study_grid
from pythia_profile.schema import ROWS
from pythia_profile.scoring.run import Shard, score
from pythia_profile.scoring.tables import scoring_settings
from pythia_profile.scoring.units import units_of
from pythia_profile.store import read_table
from pythia_profile.study import Study
from pythia_profile.suites.model import Suite

__all__ = ["score_study"]


def score_study(
    folder: Path,
    study: Study,
    suite: Suite,
    *,
    workers: int | None = None,
    retry: bool = False,
    shard: Shard | None = None,
) -> str:
    """Score what a study asks for and does not have; returns one line that says what is there.

    Parameters
    ----------
    workers, retry, shard : as `score` takes them.

    Raises
    ------
    RefusedError
        Checkpoints are faulty and the study says to refuse them, or the disk has no room.
    UnfinishedError
        Some checkpoints could not be scored; the others' tables are kept.
    """
    rows = read_table(folder / "rows.parquet", ROWS, "sample")
    grid = study_grid(folder, study, suite)
    scores = score(
        suite,
        rows,
        settings=scoring_settings(study),
        folder=folder / "scores",
        workers=workers,
        grid=grid,
        faulty=study.faulty,
        retry=retry,
        shard=shard,
    )
    there = scores.select("size", "checkpoint").unique().height
    said = f"score: {len(rows):,} rows at {there:,} checkpoints of {len(study.sizes)} sizes"
    if shard is not None:
        whole = len(units_of(suite, grid, study.faulty))
        said = (
            f"score: {len(rows):,} rows at {there:,} of {whole:,} checkpoints, part {shard[0]} of "
            f"{shard[1]}"
        )
    notes = [
        *([f"{len(grid.missing)} checkpoints are missing"] if grid.missing else []),
        *([f"{len(grid.faulty)} faulty: {_CHOSEN[study.faulty]}"] if grid.faulty else []),
    ]
    return said + (f" ({'; '.join(notes)})" if notes else "")


_CHOSEN = {"skip": "left out", "accept": "scored all the same", "refuse": "refused"}
