"""Reading what has been scored, without the checkpoints and without torch."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl

from pythia_profile.errors import MissingTableError, StudyError
from pythia_profile.scoring.settings import Scoring
from pythia_profile.scoring.units import ScoringSettings, rows_sha256
from pythia_profile.store import file_sha256, read_json
from pythia_profile.tables import SCORES, conform

__all__ = ["read_scores", "scoring_settings"]

_OF_A_PANEL = ("dtype", "attention", "batch_tokens", "outcomes")
"""Settings that every unit of a panel must share; the device may differ between machines."""


def read_scores(
    scores: Path,
    rows: pl.DataFrame,
    *,
    suite: str,
    sizes: Sequence[str],
    seed: int,
    settings: ScoringSettings | None = None,
) -> pl.DataFrame:
    """Read what has been scored of some sizes into one `SCORES` table, without the checkpoints.

    Units made from other rows or in another way are passed over, as are quarantined ones; which
    checkpoints are there is for the reader of the table to see.

    Raises
    ------
    MissingTableError
        Nothing is there of one of the sizes.
    StudyError
        A table is not the one that was written, or a checkpoint is of another architecture than
        the others of its size.
    """
    ways, checksum = asdict(settings or ScoringSettings()), rows_sha256(rows)
    tables = []
    for size in sizes:
        records = {
            path.parent: read_json(path)
            for path in sorted(scores.glob(f"{suite}/{size}/seed{seed}/*/done.json"))
        }
        found = {
            place: record
            for place, record in records.items()
            if _matches(record, checksum, ways) and not (place / "quarantine.json").exists()
        }
        _check_architectures(found, size)
        if not found:
            study = scores.parent
            raise MissingTableError(
                f"no scores of {size} for these rows in '{study}'; run `pythia-profile score "
                f"{study}` first"
            )
        parts = [_read_unit(place, record) for place, record in found.items()]
        together = pl.concat(parts, how="diagonal_relaxed")
        tables.append(together.sort("checkpoint", maintain_order=True))
    return conform(pl.concat(tables, how="diagonal_relaxed"), SCORES)


def scoring_settings(chosen: Scoring) -> ScoringSettings:
    """How a study scores every unit."""
    return ScoringSettings(
        dtype=chosen.dtype,
        attention=chosen.attention,
        device=chosen.device,
        outcomes=chosen.scorers,
        keep_tokens=chosen.token_table,
    )


def _read_unit(place: Path, record: dict[str, Any]) -> pl.DataFrame:
    table = place / "scores.parquet"
    if not table.exists() or file_sha256(table) != record.get("sha256"):
        raise StudyError(
            f"'{table}' is not the table that was written there; run `score` to make it again"
        )
    return pl.read_parquet(table)


def _check_architectures(found: dict[Path, dict[str, Any]], size: str) -> None:
    """Refuse a checkpoint whose configuration differs from those of the others of its size."""
    known = {place: record.get("architecture") for place, record in found.items()}
    texts = Counter(json.dumps(kind, sort_keys=True) for kind in known.values() if kind)
    if len(texts) < 2:
        return
    usual = json.loads(texts.most_common(1)[0][0])
    for place, kind in known.items():
        differing = sorted(
            name for name in {*usual, *(kind or {})} if kind and kind.get(name) != usual.get(name)
        )
        if differing:
            name = differing[0]
            raise StudyError(
                f"{place.name} of {size} is of another architecture than the other checkpoints: "
                f"{name} is {kind and kind.get(name)!r}, elsewhere {usual.get(name)!r}; repair its "
                "config.json, or leave it out of the study's checkpoints"
            )


def _matches(record: dict[str, Any], checksum: str, ways: dict[str, Any]) -> bool:
    settings = record.get("settings", {})
    made = {**settings} if isinstance(settings, dict) else {}
    made["outcomes"] = tuple(made.get("outcomes", ()))
    same = all(made.get(name) == ways[name] for name in _OF_A_PANEL)
    return bool(same and record.get("rows_sha256") == checksum)
