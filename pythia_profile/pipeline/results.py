"""What a study found, in one table, and how to cite it: what `run`, `demo` and `cite` print.

In: a study's folder. Out: one line a size and outcome; text to copy. Nothing is computed here.
"""

from pathlib import Path

import polars as pl

from pythia_profile.pipeline.inputs import read_tables
from pythia_profile.report.citations import bibtex, methods
from pythia_profile.report.words import summary
from pythia_profile.study import FILE_NAME, open_study, read_lock
from pythia_profile.tables import TABLES

__all__ = ["study_citations", "study_summary"]


def study_summary(folder: Path) -> pl.DataFrame:
    """Effects of each size at the next checkpoint, on average later and at the last one.

    Returns
    -------
    Columns `size`, `at once`, `later`, `at the end` (each with its standard error), `kept` (what is
    left at the end, of the effect at once), `p before reading` (of the placebo test) and `unit`.
    """
    study = open_study(folder)
    return summary(read_tables(folder, study), study.outcomes)


def study_citations(folder: Path) -> dict[str, str]:
    """Return the paragraph of methods and the BibTeX of what the study in `folder` used.

    In this folder, where it holds no study, the BibTeX of what every study uses.

    Raises
    ------
    StudyError
        Another folder holds no study.
    """
    if folder == Path() and not (folder / FILE_NAME).exists():
        return {"methods": "", "bibtex": bibtex()}
    study = open_study(folder)
    paths = {table.name: folder / f"{table.name}.parquet" for table in TABLES}
    tables = {
        name: pl.read_parquet(path, n_rows=1) for name, path in paths.items() if path.exists()
    }
    return {"methods": methods(study, read_lock(folder), tables), "bibtex": bibtex(study, tables)}
