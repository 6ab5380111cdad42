"""Reading what has been scored, without the checkpoints and without torch."""

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import polars as pl

from pythia_profile.errors import MissingTableError
from pythia_profile.schema import SCORES, conform
from pythia_profile.scoring.units import ScoringSettings, rows_sha256
from pythia_profile.store import read_json
from pythia_profile.study import Study, read_lock

__all__ = ["read_scores", "scoring_settings", "study_scores"]

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
    """
    ways, checksum = asdict(settings or ScoringSettings()), rows_sha256(rows)
    tables = []
    for size in sizes:
        records = scores.glob(f"{suite}/{size}/seed{seed}/*/done.json")
        found = [
            record.parent / "scores.parquet"
            for record in records
            if _matches(read_json(record), checksum, ways)
        ]
        if not found:
            study = scores.parent
            raise MissingTableError(
                f"no scores of {size} for these rows in '{study}'; run `pythia-profile score "
                f"{study}` first"
            )
        tables.append(pl.concat([pl.read_parquet(path) for path in found]))
        tables[-1] = tables[-1].sort("checkpoint", maintain_order=True)
    return conform(pl.concat(tables), SCORES)


def scoring_settings(study: Study) -> ScoringSettings:
    """How a study scores every unit."""
    return ScoringSettings(
        dtype=study.dtype,
        attention=study.attention,
        device=study.device,
        outcomes=study.scorers,
        keep_tokens=study.token_table,
    )


def study_scores(folder: Path, study: Study, suite: str, rows: pl.DataFrame) -> pl.DataFrame:
    """Read the `SCORES` of a study, without those of checkpoints that it leaves out as faulty.

    Parameters
    ----------
    suite : name of the suite, as its scores carry it.
    """
    scores = read_scores(
        folder / "scores",
        rows,
        suite=suite,
        sizes=study.sizes,
        seed=study.training_seed,
        settings=scoring_settings(study),
    )
    audit = read_lock(folder).get("audit", {})
    faulty = audit.get("faulty", []) if study.faulty == "skip" else []
    for line in faulty:
        scores = scores.filter(
            (pl.col("size") != line["size"]) | (pl.col("checkpoint") != line["step"])
        )
    return scores


def _matches(record: dict[str, Any], checksum: str, ways: dict[str, Any]) -> bool:
    made = {**record.get("settings", {})}
    made["outcomes"] = tuple(made.get("outcomes", ()))
    same = all(made.get(name) == ways[name] for name in _OF_A_PANEL)
    return bool(same and record.get("rows_sha256") == checksum)
