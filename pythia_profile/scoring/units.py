"""Units of scoring work: one checkpoint, one set of rows, one way of computing.

A unit's key is the hash of everything that could change a number, so scores made in two ways never
meet in one table, and a unit that is done is recognized as done by any later process.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import polars as pl

from pythia_profile.checkpoints.grid import Grid
from pythia_profile.checkpoints.supply import Source
from pythia_profile.store import digest, file_sha256, read_json
from pythia_profile.suites.model import Suite

__all__ = [
    "SCORING_VERSION",
    "ScoringSettings",
    "Unit",
    "Work",
    "is_done",
    "rows_sha256",
    "token_folder",
    "unit_key",
    "units_of",
    "work_folder",
]

SCORING_VERSION = 1
"""Raised whenever the same weights and rows would get other numbers."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoringSettings:
    """How every unit of a panel is computed.

    Attributes
    ----------
    dtype, attention : of the forward pass.
    device : `cpu`, `cuda`, or `auto`: a GPU where there is one.
    batch_tokens : tokens in one forward pass, in whole rows.
    outcomes : sets of columns beyond the base ones, as in `pythia_profile.scoring.outcomes`.
    keep_tokens : whether every token's statistics are kept too.
    chunk_rows : rows committed at a time; no number depends on it.
    """

    dtype: str = "float32"
    attention: str = "sdpa"
    device: str = "auto"
    batch_tokens: int = 4096
    outcomes: tuple[str, ...] = ()
    keep_tokens: bool = False
    chunk_rows: int = 1024


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
    def place(self) -> Path:
        """Folder of the unit's table below `scores`; its name is no source of facts.

        The table itself has a column for each of its parts. Folders named `size=xs` would make some
        readers of parquet add the columns a second time.
        """
        return Path(self.suite, self.size, f"seed{self.seed}", f"step{self.checkpoint}")

    @property
    def name(self) -> str:
        """How messages call the unit."""
        return f"{self.size} step {self.checkpoint}"


@dataclass(frozen=True, slots=True)
class Work:
    """One unit and where its checkpoint is.

    Attributes
    ----------
    unit, checkpoint : what to score, and where it is.
    shape : layers, width and heads that the suite says it has; empty where nothing is said.
    """

    unit: Unit
    checkpoint: Source
    shape: tuple[int, ...] = ()


def units_of(suite: Suite, grid: Grid, faulty: str = "refuse") -> list[Work]:
    """List the units of a grid of checkpoints, by the user's choice on faulty ones."""
    return [
        Work(
            Unit(
                suite=suite.name,
                size=place.size,
                seed=suite.seed,
                checkpoint=place.step,
                weights=place.weights,
            ),
            place.source,
            suite.size(place.size).shape,
        )
        for place in grid.chosen(faulty)
    ]


def work_folder(scores: Path) -> Path:
    """Folder beside `scores` for what is not finished; removed when everything is."""
    return scores.with_name(f".{scores.name}")


def token_folder(scores: Path) -> Path:
    """Folder beside `scores` for the statistics of single tokens."""
    return scores.with_name("tokens")


def unit_key(unit: Unit, rows: str, settings: ScoringSettings) -> str:
    """Hash of everything that could change a number of this unit.

    Parameters
    ----------
    rows : hash of the rows, from `rows_sha256`.
    """
    ways = asdict(settings)
    ways.pop("chunk_rows")
    facts: dict[str, Any] = {
        "unit": [unit.suite, unit.size, unit.seed, unit.checkpoint],
        "weights": dict(unit.weights),
        "rows": rows,
        "settings": ways,
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


def is_done(scores: Path, unit: Unit, key: str) -> bool:
    """Whether the unit's table is there, whole, and made in just this way."""
    folder = scores / unit.place
    record, table = folder / "done.json", folder / "scores.parquet"
    if not (record.exists() and table.exists()):
        return False
    done = read_json(record)
    return bool(done.get("key") == key and done.get("sha256") == file_sha256(table))
