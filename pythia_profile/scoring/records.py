"""Records of scored units, and their tables, read without checkpoints and without torch.

    scores/mini/xs/seed0/step32/scores.parquet    the unit's table
                                done.json         its key, hashes and counts
                                quarantine.json   instead, when it needs a person
                                failed.json       instead, when a later run may succeed

What has been scored is known from the small records alone; a table is read when it is needed, and
then its hash is compared with the record.
"""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Self, TypeVar

import polars as pl
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from pythia_profile.errors import MissingTableError, StudyError, TableError
from pythia_profile.scoring.settings import Scoring
from pythia_profile.scoring.units import Unit, token_folder
from pythia_profile.settings import fault_of
from pythia_profile.store import file_sha256, read_json
from pythia_profile.tables import SCORES, conform

__all__ = ["UnitRecord", "is_done", "read_record", "read_scores", "scored_units", "unfinished"]

_OF_A_PANEL = ("dtype", "attention", "batch_tokens", "outcomes")
"""Settings that every unit of a panel must share; the device may differ between machines."""

_Count = Annotated[int, Field(ge=0, lt=2**63)]


class _Done(BaseModel):
    """What `done.json` holds; other facts pass."""

    model_config = ConfigDict(strict=True, allow_inf_nan=False)

    key: str
    sha256: str
    rows: _Count
    rows_sha256: str
    finite: dict[str, _Count] = {}
    settings: dict[str, Any] = {}
    architecture: dict[str, Any] = {}
    speed: dict[str, Annotated[float, Field(ge=0)]] = {}
    weights: dict[str, str] = {}
    device: str = ""

    @model_validator(mode="after")
    def _possible(self) -> Self:
        for name, count in self.finite.items():
            if count > self.rows:
                raise ValueError(f"finite.{name}: got {count} of {self.rows} rows")
        return self


class _GivenUp(BaseModel):
    """What `quarantine.json` and `failed.json` hold."""

    model_config = ConfigDict(strict=True)

    key: str
    reason: str = ""


Record = TypeVar("Record", bound=BaseModel)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnitRecord:
    """What the record of a scored unit states.

    Attributes
    ----------
    folder : of the record and the table.
    suite, size, seed, checkpoint : of the unit.
    key, sha256 : hash of everything that it depends on; hash of its table.
    rows, rows_sha256 : how many, and their hash.
    finite : outcome -> number of finite values.
    settings, architecture, speed, weights : as the record has them.
    device : where it was scored, `cpu` or `cuda`; empty where the record does not say.
    """

    folder: Path
    suite: str
    size: str
    seed: int
    checkpoint: int
    key: str
    sha256: str
    rows: int
    rows_sha256: str
    finite: dict[str, int]
    settings: dict[str, Any]
    architecture: dict[str, Any]
    speed: dict[str, float]
    weights: dict[str, str]
    device: str = ""

    def fits(self, rows_sha256: str, settings: Scoring) -> bool:
        """Whether the unit belongs to a panel of these rows and settings."""
        wanted = settings.numerics
        return rows_sha256 == self.rows_sha256 and all(
            self.settings.get(name) == wanted[name] for name in _OF_A_PANEL
        )

    def table(self) -> pl.DataFrame:
        """Read the table.

        Raises
        ------
        StudyError
            It is not the one that was written.
        TableError
            It is no table of scores.
        """
        path = self.folder / "scores.parquet"
        if not path.exists() or file_sha256(path) != self.sha256:
            raise StudyError(
                f"'{path}' is not the table that was written there; run `score` to make it again"
            )
        try:
            return conform(pl.read_parquet(path), SCORES)
        except (TableError, pl.exceptions.PolarsError, OSError) as error:
            reason = str(error).splitlines()[0][:120]
            raise TableError(
                f"'{path}' is no table of scores ({reason}); delete its folder and run `score` "
                "again"
            ) from None

    def tokens(self) -> pl.DataFrame:
        """Read what was kept of the unit's tokens, row by row.

        Raises
        ------
        MissingTableError
            Nothing was kept.
        """
        scores = self.folder.parents[3]
        kept = token_folder(scores) / self.folder.relative_to(scores) / self.key[:16]
        if not (tables := sorted(kept.glob("*.parquet"))):
            raise MissingTableError(
                f"no statistics of single tokens in '{kept}'; set score.token_table = true and run "
                "`score`"
            )
        return pl.concat([pl.read_parquet(path) for path in tables])


def scored_units(scores: Path) -> list[UnitRecord]:
    """Read the records of all scored units below `scores`, by suite, size, seed and checkpoint.

    Quarantined units are left out. No table is opened; a thousand units take a tenth of a second.

    Raises
    ------
    StudyError
        A record is damaged.
    """
    found = [
        read_record(path)
        for path in scores.glob("*/*/seed*/step*/done.json")
        if not path.with_name("quarantine.json").exists()
    ]
    return sorted(found, key=lambda one: (one.suite, one.size, one.seed, one.checkpoint))


def read_scores(
    scores: Path,
    rows_sha256: str,
    *,
    suite: str,
    sizes: Sequence[str],
    seed: int,
    settings: Scoring | None = None,
) -> pl.DataFrame:
    """Read what has been scored of some sizes into one `SCORES` table, without the checkpoints.

    Units made from other rows or under other settings are passed over, as are quarantined ones;
    which checkpoints the table has is for its reader to see.

    Parameters
    ----------
    rows_sha256 : hash of the rows, from `units.rows_sha256`.

    Raises
    ------
    MissingTableError
        One of the sizes has no scores.
    StudyError
        A table is not the one that was written, or a checkpoint is of another architecture than
        the others of its size.
    """
    settings = settings or Scoring()
    fitting = [
        unit
        for unit in scored_units(scores)
        if (unit.suite, unit.seed) == (suite, seed) and unit.fits(rows_sha256, settings)
    ]
    tables = []
    for size in sizes:
        of_size = [unit for unit in fitting if unit.size == size]
        _check_architectures(of_size, size)
        if not of_size:
            study = scores.parent
            raise MissingTableError(
                f"no scores of {size} for these rows in '{study}'; run `pythia-profile score "
                f"{study}` first"
            )
        tables += [unit.table() for unit in of_size]
    return conform(pl.concat(tables, how="diagonal_relaxed"), SCORES)


def is_done(scores: Path, unit: Unit, key: str) -> bool:
    """Whether the unit's table is whole, and made from exactly what the key stands for."""
    folder = scores / unit.path
    record, table = folder / "done.json", folder / "scores.parquet"
    if not (record.exists() and table.exists()):
        return False
    done = _checked(_Done, record)
    return done.key == key and done.sha256 == file_sha256(table)


def unfinished(scores: Path, unit: Unit, key: str) -> tuple[str, str] | None:
    """`quarantined` or `failed`, and the reason, where an earlier run gave this very unit up."""
    for state, name in (("quarantined", "quarantine.json"), ("failed", "failed.json")):
        path = scores / unit.path / name
        given_up = _checked(_GivenUp, path) if path.exists() else None
        if given_up is not None and given_up.key == key:
            return state, given_up.reason
    return None


def read_record(path: Path) -> UnitRecord:
    """Read the record of a scored unit, its `done.json`.

    Raises
    ------
    StudyError
        It is damaged, or in a folder that no unit has.
    """
    content = _checked(_Done, path)
    suite, size, seed, step = path.parent.parts[-4:]
    numbers = seed.removeprefix("seed"), step.removeprefix("step")
    if not all(n.isascii() and n.isdecimal() and int(n) < 2**63 for n in numbers):
        raise _damaged(path, "its folder is none of seed{N}/step{N}")
    return UnitRecord(
        folder=path.parent,
        suite=suite,
        size=size,
        seed=int(numbers[0]),
        checkpoint=int(numbers[1]),
        **dict(content),
    )


def _checked(kind: type[Record], path: Path) -> Record:
    try:
        return kind.model_validate(read_json(path))
    except ValidationError as error:
        raise _damaged(path, fault_of(error)) from None


def _damaged(path: Path, fault: str) -> StudyError:
    return StudyError(
        f"'{path}' is no record of a unit ({fault}); delete its folder and run `score` again"
    )


def _check_architectures(units: Sequence[UnitRecord], size: str) -> None:
    """Refuse a checkpoint whose configuration differs from those of the others of its size."""
    known = Counter(json.dumps(one.architecture, sort_keys=True) for one in units)
    known.pop("{}", None)
    if len(known) < 2:
        return
    usual = json.loads(known.most_common(1)[0][0])
    for unit in units:
        own = unit.architecture
        differing = sorted(name for name in {*usual, *own} if own.get(name) != usual.get(name))
        if own and differing:
            name = differing[0]
            raise StudyError(
                f"step{unit.checkpoint} of {size} is of another architecture than the other "
                f"checkpoints: {name} is {own.get(name)!r}, elsewhere {usual.get(name)!r}; repair "
                "its config.json, or leave it out of the study's checkpoints"
            )
