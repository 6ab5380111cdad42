"""Every run's checkpoints dated by their memory, as a table and in sentences.

In: rows and scores, or estimates. Out: `Dated`. Finds a checkpoint that holds the weights of
another step where hashes cannot: of a branch whose files are whole and its own. Exploratory.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from pythia_profile.did.diagnostics.memory_dates import date_checkpoints
from pythia_profile.did.settings import DEFAULT, Estimation
from pythia_profile.profiles.estimates import Estimates, Frame, estimates_of
from pythia_profile.tables import MEMORY_DATES, conform

__all__ = ["Dated", "memory_dates"]

_COLUMNS = ("lower", "upper", "correlation", "rank_correlation", "distance", "far")


@dataclass(frozen=True, slots=True, repr=False)
class Dated:
    """Dates of the checkpoints of each run; `print` it for the sentences.

    Attributes
    ----------
    table : the table `MEMORY_DATES`.
    sentences : what it shows, run by run.
    """

    table: pl.DataFrame
    sentences: tuple[str, ...]

    def __str__(self) -> str:
        return "\n".join(self.sentences)

    def __repr__(self) -> str:
        return f"Dated: table ({len(self.table)} checkpoints, {self.table['far'].sum()} far)"


def memory_dates(
    rows: Frame | Estimates,
    scores: Frame | None = None,
    settings: Estimation = DEFAULT,
    *,
    outcomes: str | Sequence[str] = ("log_likelihood",),
) -> Dated:
    """Date the checkpoints of every run by what they remember of the rows.

    Parameters
    ----------
    rows, scores, settings, outcomes : as in `estimate`; or in place of all, what it returned.

    Raises
    ------
    PanelShapeError, NoControlError
        A run has too few checkpoints or never-treated rows, or gaps.
    """
    tables, said = [], []
    for one in estimates_of(rows, scores, settings, outcomes).runs:
        found = date_checkpoints(one.panel)
        columns = {name: getattr(found, name) for name in _COLUMNS}
        lines = pl.DataFrame({"checkpoint": found.labels, "date": found.dates, **columns})
        tables.append(conform(one.named(lines), MEMORY_DATES))
        name = f"{one.panel.run[1]}, {one.panel.outcome}"
        said += [f"{name}: {sentence}" for sentence in found.sentences()]
    return Dated(pl.concat(tables), tuple(said))
