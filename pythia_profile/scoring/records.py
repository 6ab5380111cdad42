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
from typing import Any

import polars as pl

from pythia_profile.errors import MissingTableError, StudyError
from pythia_profile.scoring.settings import Scoring
from pythia_profile.scoring.units import Unit
from pythia_profile.store import file_sha256, read_json
from pythia_profile.tables import SCORES, conform

__all__ = ["UnitRecord", "is_done", "read_scores", "scored_units", "unfinished"]

_OF_A_PANEL = ("dtype", "attention", "batch_tokens", "outcomes")
"""Settings that every unit of a panel must share; the device may differ between machines."""


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
    settings, architecture, speed : as the record has them.
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
        """
        path = self.folder / "scores.parquet"
        if not path.exists() or file_sha256(path) != self.sha256:
            raise StudyError(
                f"'{path}' is not the table that was written there; run `score` to make it again"
            )
        return pl.read_parquet(path)


def scored_units(scores: Path) -> list[UnitRecord]:
    """Read the records of all scored units below `scores`, by suite, size, seed and checkpoint.

    Quarantined units are left out. No table is opened; a thousand units take a tenth of a second.

    Raises
    ------
    StudyError
        A record is damaged.
    """
    found = [
        _record(path)
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
    done = read_json(record)
    return bool(done.get("key") == key and done.get("sha256") == file_sha256(table))


def unfinished(scores: Path, unit: Unit, key: str) -> tuple[str, str] | None:
    """`quarantined` or `failed`, and the reason, where an earlier run gave this very unit up."""
    for state, name in (("quarantined", "quarantine.json"), ("failed", "failed.json")):
        path = scores / unit.path / name
        content = read_json(path) if path.exists() else {}
        if content.get("key") == key:
            return state, str(content.get("reason", ""))
    return None


def _record(path: Path) -> UnitRecord:
    content = read_json(path)
    suite, size, seed, step = path.parent.parts[-4:]
    kinds = {"key": str, "sha256": str, "rows": int, "rows_sha256": str}
    wrong = [name for name, kind in kinds.items() if not isinstance(content.get(name), kind)]
    maps = {name: content.get(name, {}) for name in ("finite", "settings", "architecture", "speed")}
    wrong += [name for name, value in maps.items() if not isinstance(value, dict)]
    seed, step = seed.removeprefix("seed"), step.removeprefix("step")
    if wrong or not (seed.isdecimal() and step.isdecimal()):
        raise StudyError(
            f"'{path}' is no record of a scored unit ({', '.join(wrong) or 'folder name'}); delete "
            "its folder and run `score` again"
        )
    return UnitRecord(
        folder=path.parent,
        suite=suite,
        size=size,
        seed=int(seed),
        checkpoint=int(step),
        **{name: content[name] for name in kinds},
        **maps,
        device=str(content.get("device", "")),
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
