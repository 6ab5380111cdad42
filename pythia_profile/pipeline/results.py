"""What a study found, in one table: the line that `run` and `demo` end with, and `Study.summary`.

In: a study's folder. Out: one line a size and outcome. Nothing is computed here.
"""

from pathlib import Path

import polars as pl

from pythia_profile.pipeline.inputs import read_tables
from pythia_profile.report.words import summary
from pythia_profile.study import open_study

__all__ = ["study_summary"]


def study_summary(folder: Path) -> pl.DataFrame:
    """Effects of each size at the next checkpoint, on average later and at the last one.

    Returns
    -------
    Columns `size`, `at once`, `later`, `at the end` (each with its standard error), `kept` (what is
    left at the end, of the effect at once), `p before reading` (of the placebo test) and `unit`.
    """
    study = open_study(folder)
    return summary(read_tables(folder, study), study.outcomes)
