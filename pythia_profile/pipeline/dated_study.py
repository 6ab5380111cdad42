"""Checkpoints of a study dated by their memory: `memory_dates.parquet` in its folder."""

from collections.abc import Sequence
from pathlib import Path

from pythia_profile.pipeline.kept import study_estimates
from pythia_profile.profiles.dated import Dated, memory_dates
from pythia_profile.profiles.estimates import Estimates
from pythia_profile.store import write_table
from pythia_profile.study import open_study
from pythia_profile.tables import MEMORY_DATES

__all__ = ["dates_of"]


def dates_of(folder: Path, sizes: Sequence[str] | None = None) -> Dated:
    """Date the checkpoints of a study's first outcome, of some sizes or all.

    Raises
    ------
    StudyError
        There is no study in `folder`, or it has not been scored.
    """
    study = open_study(folder)
    found = study_estimates(folder, study)
    wanted = [*(sizes or study.sizes)]
    runs = [one for one in found.runs if one.panel.outcome == study.outcomes[0]]
    chosen = tuple(one for one in runs if one.panel.run[1] in wanted)
    dated = memory_dates(Estimates(chosen, found.settings))
    write_table(dated.table, folder / "memory_dates.parquet", MEMORY_DATES)
    return dated
