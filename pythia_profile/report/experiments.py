"""What other orders of the same rows and planted texts show: sentences, and a table of each.

In: every table of a study, by name. Out: `Experiment`, one for each of the two that the study has.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import polars as pl

from pythia_profile.profiles.inserted import insertion_sentences
from pythia_profile.profiles.two_orders import crossover_sentences
from pythia_profile.report.sheets import Sheet, sheet
from pythia_profile.tables import CROSSOVER_MEANS, INSERTIONS

__all__ = ["SHOWN", "Experiment", "experiments"]

SHOWN = frozenset({CROSSOVER_MEANS.name, INSERTIONS.name})
"""Tables that this section shows."""


@dataclass(frozen=True, slots=True)
class Experiment:
    """One kind of experiment.

    Attributes
    ----------
    heading : what it compares.
    sentences : what came out, a line a run and outcome.
    caption : of its table.
    sheet : the means it rests on.
    """

    heading: str
    sentences: list[str]
    caption: str
    sheet: Sheet


def experiments(tables: Mapping[str, pl.DataFrame]) -> list[Experiment]:
    """Lay out what a study holds of other orders of its rows and of planted texts."""
    found = []
    if (means := tables.get(CROSSOVER_MEANS.name)) is not None:
        found.append(
            Experiment(
                "Other orders of the same rows",
                crossover_sentences(means),
                "Mean effects by each estimator. did's error is that over the same cells; the gain "
                "is how many times the rows did would need for the estimator's standard error.",
                sheet(_gains(means), {"gain": 1}),
            )
        )
    if (planted := tables.get(INSERTIONS.name)) is not None:
        columns = ["size", "outcome", "arm", "window", "kind", "items", "att", "se"]
        columns += ["experiment", "experiment_se", "difference", "difference_se"]
        found.append(
            Experiment(
                "Planted texts",
                insertion_sentences(planted),
                "Effects of planting a text by did, and by the run without it as control.",
                sheet(planted.select(columns)),
            )
        )
    return found


def _gains(means: pl.DataFrame) -> pl.DataFrame:
    """Means over all cohorts, with the rows that an estimator is worth: did's variance by its."""
    columns = ["size", "outcome", "kind", "estimator", "att", "se", "did_se"]
    gain = (pl.col("ratio") ** -2).alias("gain")
    return means.filter(pl.col("cohort").is_null()).select(*columns, gain)
