"""A study together with studies of the same suite's other training seeds.

In: folders of studies that have been scored. Out: `across.parquet` in the first one's folder.
"""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from pythia_profile.errors import StudyError
from pythia_profile.findings.across import across
from pythia_profile.pipeline.kept import study_estimates
from pythia_profile.store import read_table, write_table
from pythia_profile.study import open_study
from pythia_profile.tables import ACROSS, ROWS

__all__ = ["across_of"]


def across_of(folder: Path, others: Sequence[Path] = ()) -> pl.DataFrame:
    """Estimate over the sizes and seeds of several studies; keep the table with the first.

    Raises
    ------
    StudyError
        The studies are of several suites, or two of the same training seed.
    """
    folders = [folder, *others]
    studies = [open_study(path) for path in folders]
    if len({one.suite for one in studies}) > 1:
        named = ", ".join(dict.fromkeys(one.suite for one in studies))
        raise StudyError(f"across: got studies of {named}; expected one suite")
    if len(seeds := {one.training_seed for one in studies}) < len(studies):
        known = ", ".join(map(str, sorted(seeds)))
        raise StudyError(
            f"across: {len(studies)} studies are of training seeds {known}; expected each once"
        )
    rows = [read_table(path / "rows.parquet", ROWS, "sample") for path in folders]
    found = [study_estimates(path, one) for path, one in zip(folders, studies, strict=True)]
    table = across(found, same_rows=all(_same_texts(rows[0], other) for other in rows[1:]))
    return write_table(table, folder / "across.parquet", ACROSS)


def _same_texts(rows: pl.DataFrame, other: pl.DataFrame) -> bool:
    """Whether row ids that both have name the same tokens."""
    if "tokens" not in rows.columns or "tokens" not in other.columns:
        return False
    both = rows.select("row_id", "tokens").join(
        other.select("row_id", others="tokens"), on="row_id"
    )
    return bool(len(both)) and both["tokens"].to_list() == both["others"].to_list()
