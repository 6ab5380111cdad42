"""Tables that a study holds beside those of its stages: each shown alike, where it exists.

In: every table of a study, by name. Out: `Extra`, one for each table that no other section shows.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import polars as pl

from pythia_profile.report.experiments import SHOWN
from pythia_profile.report.sheets import Sheet, sheet
from pythia_profile.tables import CHECKS

__all__ = ["Extra", "extras"]

MOST_LINES = 60
"""Lines of a table that the page prints; the download has all."""

_SHOWN = frozenset(
    {
        *("att", "placebo", "profiles", "agreement", "counterfactual", "counterfactual_summary"),
        *("remembered", *(table.name for table in CHECKS)),
        *SHOWN,
    }
)
_HEADINGS = {
    "precision": "Precision at equal covariates",
    "estimands": "Estimands that do not depend on the checkpoints",
    "findings": "Numbers behind the findings",
    "prediction": "Large models predicted from small ones",
    "prediction_skill": "How good the predictions are",
    "decay": "How fast effects fade",
    "bits": "Bits remembered",
    "across": "Sizes and training seeds together",
    "memory_dates": "Checkpoints dated by their memory (exploratory)",
    "noise": "Noise floor of scoring",
}


@dataclass(frozen=True, slots=True)
class Extra:
    """One table with its heading.

    Attributes
    ----------
    name : of the table.
    heading : its heading.
    note : what all lines have in common, and how many are not printed.
    sheet : its lines, without columns that are the same everywhere.
    """

    name: str
    heading: str
    note: str
    sheet: Sheet


def extras(tables: Mapping[str, pl.DataFrame], outcomes: Sequence[str]) -> list[Extra]:
    """Lay out every table that has lines and is shown nowhere else, in the order given."""
    found = []
    for name, table in tables.items():
        if name in _SHOWN:
            continue
        of_study = (
            table.filter(pl.col("outcome").is_in([*outcomes]))
            if "outcome" in table.columns
            else table
        )
        if of_study.is_empty():
            continue
        heading = _HEADINGS.get(name, name.replace("_", " ").capitalize())
        plain = [column for column in of_study.columns if not of_study.schema[column].is_nested()]
        constant = [
            column
            for column in ("suite", "size", "seed", "outcome")
            if column in plain and of_study[column].n_unique() == 1
        ]
        common = [f"{column} {of_study[column].item(0)}" for column in constant]
        more = len(of_study) - MOST_LINES
        notes = [", ".join(common)] + ([f"{more:,} more lines in the download"] if more > 0 else [])
        shown = of_study.head(MOST_LINES).select(c for c in plain if c not in constant)
        found.append(Extra(name, heading, "; ".join(filter(None, notes)), sheet(shown)))
    return found
