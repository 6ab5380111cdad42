"""Scores of rows that were scored in parts, put together as if they had been scored at once."""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from pythia_profile.scoring.records import is_done, read_record
from pythia_profile.scoring.settings import Scoring
from pythia_profile.scoring.units import Work, rows_sha256, unit_key
from pythia_profile.store import atomic_write, file_sha256, read_json, write_json
from pythia_profile.tables import SCORES, conform

__all__ = ["assemble"]


def assemble(
    parts: Sequence[Path],
    rows: pl.DataFrame,
    works: Sequence[Work],
    scores: Path,
    settings: Scoring,
) -> None:
    """Write the table and the record of every unit from those of its parts.

    The numbers are those of the parts: a row's batch was another one, so that the last bits of
    float32 may differ from a run over all rows.

    Parameters
    ----------
    parts : folders of scores; every row is in exactly one of them, at every unit.
    rows : the `ROWS` table of all of them together.
    """
    checksum = rows_sha256(rows)
    for work in works:
        key = unit_key(work.unit, checksum, settings)
        if is_done(scores, work.unit, key):
            continue
        records = [read_record(part / work.unit.path / "done.json") for part in parts]
        found = pl.concat([record.table() for record in records])
        ordered = rows.select("row_id").join(found, on="row_id", how="left", maintain_order="left")
        table = conform(ordered.select(found.columns), SCORES)
        folder = scores / work.unit.path
        with atomic_write(folder / "scores.parquet") as file:
            table.write_parquet(file, compression="zstd")
        speed = {name: sum(one.speed.get(name, 0.0) for one in records) for name in _SUMMED}
        record = {
            **read_json(records[-1].folder / "done.json"),
            "key": key,
            "sha256": file_sha256(folder / "scores.parquet"),
            "rows": len(table),
            "rows_sha256": checksum,
            "finite": {n: int(table[n].is_finite().sum()) for n in records[-1].finite},
            "speed": {**records[-1].speed, **speed},
        }
        write_json(record, folder / "done.json")
        for name in ("quarantine.json", "failed.json"):
            (folder / name).unlink(missing_ok=True)


_SUMMED = ("rows", "seconds")
