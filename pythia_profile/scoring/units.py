"""Units of scoring work: one checkpoint, one set of rows, one set of numerical settings.

A unit's key is the hash of everything that could change a number, so scores made under different
settings never meet in one table, and a unit that is done is recognized by any later process.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import polars as pl

from pythia_profile.checkpoints.grid import Grid
from pythia_profile.checkpoints.prefetch import Source
from pythia_profile.scoring.settings import Scoring
from pythia_profile.store import digest
from pythia_profile.suites.model import Suite

__all__ = [
    "SCORING_VERSION",
    "Unit",
    "Work",
    "rows_sha256",
    "token_folder",
    "unit_key",
    "units_of",
    "work_folder",
]

SCORING_VERSION = 1
"""Raised whenever the same weights and rows would get other numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """One checkpoint to score.

    Attributes
    ----------
    suite, size, seed, checkpoint : name of the checkpoint.
    weights : file name -> sha256 of each weight file and of config.json.
    """

    suite: str
    size: str
    seed: int
    checkpoint: int
    weights: Mapping[str, str]

    @property
    def path(self) -> Path:
        """Folder of the unit's table below `scores`; its name is no source of facts.

        The table itself has a column for each of its parts. Folders named `size=xs` would make some
        readers of parquet add the columns a second time.
        """
        return Path(self.suite, self.size, f"seed{self.seed}", f"step{self.checkpoint}")

    @property
    def name(self) -> str:
        """What messages call the unit."""
        return f"{self.size} step {self.checkpoint}"


@dataclass(frozen=True, slots=True)
class Work:
    """One unit and where its checkpoint is.

    Attributes
    ----------
    unit, checkpoint : what to score, and where it is.
    shape : layers, width and heads by the suite; empty where the suite does not state them.
    fault : why it cannot be loaded, where that is known beforehand.
    """

    unit: Unit
    checkpoint: Source
    shape: tuple[int, ...] = ()
    fault: str = ""


def units_of(suite: Suite, grid: Grid, faulty: str = "refuse") -> list[Work]:
    """List the units of a grid of checkpoints, by the user's choice on faulty ones."""
    return [
        Work(
            Unit(
                suite=suite.name,
                size=located.size,
                seed=suite.seed,
                checkpoint=located.step,
                weights=located.weights,
            ),
            located.source,
            suite.size(located.size).shape,
            located.fault,
        )
        for located in grid.chosen(faulty)
    ]


def work_folder(scores: Path) -> Path:
    """Folder beside `scores` for what is not finished; removed when everything is."""
    return scores.with_name(f".{scores.name}")


def token_folder(scores: Path) -> Path:
    """Folder beside `scores` for the statistics of single tokens."""
    return scores.with_name("tokens")


def unit_key(unit: Unit, rows: str, settings: Scoring) -> str:
    """Hash of everything that could change a number of this unit.

    Parameters
    ----------
    rows : hash of the rows, from `rows_sha256`.
    """
    facts: dict[str, Any] = {
        "unit": [unit.suite, unit.size, unit.seed, unit.checkpoint],
        "weights": dict(unit.weights),
        "rows": rows,
        "settings": settings.numerics,
        "libraries": {name: version(name) for name in ("torch", "transformers")},
        "scoring": SCORING_VERSION,
    }
    return digest(facts)


def rows_sha256(rows: pl.DataFrame) -> str:
    """Hash of row ids and tokens, in their order."""
    checksum = hashlib.sha256()
    for column in (rows["row_id"], rows["tokens"].list.len(), rows["tokens"].explode()):
        checksum.update(column.to_numpy().astype("<i8").tobytes())
    return checksum.hexdigest()
