"""Texts planted into a study's run, as an audit of its estimator; run when asked for.

In: a study of the mini suite. Out: `insertions.parquet` in its folder, one block of lines for each
outcome, and `inserted/`, the log of what went where and the scores.
"""

from pathlib import Path

import polars as pl

from pythia_profile.errors import StudyError
from pythia_profile.pipeline.inputs import ready_suite
from pythia_profile.profiles.inserted import InsertionEffects, insertion_effects
from pythia_profile.store import write_table
from pythia_profile.study import open_study
from pythia_profile.tables import INSERTIONS

__all__ = ["insertions_of"]


def insertions_of(
    folder: Path,
    *,
    size: str | None = None,
    windows: int = 1,
    seed: int = 123,
    workers: int | None = None,
) -> InsertionEffects:
    """Train a size again with planted texts, and estimate what planting did, both ways.

    Raises
    ------
    StudyError
        The suite cannot be trained here.
    """
    from pythia_profile.mini.build import config_of
    from pythia_profile.mini.inject import Injection, injected

    study = open_study(folder)
    suite = ready_suite(folder, study)
    if suite.root is None or not (suite.root / "config.json").is_file():
        raise StudyError(
            f"insertions: suite '{suite.name}' cannot be trained again here; of a published run, "
            "score the planted texts in it and in the run without them, and call "
            "pythia_profile.insertion_effects"
        )
    plan = Injection.usual(config_of(suite).spare, windows=windows, seed=seed)
    tables = injected(
        suite, size or study.sizes[0], plan, folder=folder / "inserted", workers=workers
    )
    found = [
        insertion_effects(*tables, study.estimate, outcome=outcome)
        for outcome in study.outcomes
        if outcome in tables[1].columns
    ]
    table = pl.concat([one.table for one in found])
    write_table(table, folder / "insertions.parquet", INSERTIONS)
    return InsertionEffects(table, tuple(note for one in found for note in one.notes))
