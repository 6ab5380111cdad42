"""What was scored, counted: checkpoints, rows, missing and quarantined ones.

In: a study's folder and settings. Out: a frame, one line for each size.
"""

from pathlib import Path
from typing import Any

import polars as pl

from pythia_profile.scoring.records import read_record
from pythia_profile.study import Study

__all__ = ["quality"]


def quality(folder: Path, study: Study) -> pl.DataFrame:
    """Count what was scored, by size: checkpoints, rows, missing and quarantined, dtype.

    Scores of another training seed that lie in the folder are no part of the study.
    """
    if imported := _imported_quality(folder / "scores", study):
        return pl.DataFrame(imported)
    lines = []
    for size in study.sizes:
        run = f"*/{size}/seed{study.training_seed}/*"
        done = [read_record(path) for path in (folder / "scores").glob(f"{run}/done.json")]
        bad = list((folder / "scores").glob(f"{run}/quarantine.json"))
        dtypes = {str(record.settings.get("dtype", "not stated")) for record in done}
        hashes = [str(sorted(record.weights.items())) for record in done]
        lines.append(
            {
                "size": size,
                "checkpoints": len(done),
                "quarantined": len(bad),
                "equal weights": len(hashes) - len(set(hashes)),
                "rows": "–".join(sorted({f"{record.rows:,}" for record in done})),
                "scores not finite": sum(
                    record.rows - count for record in done for count in record.finite.values()
                ),
                "dtype": ", ".join(sorted(dtypes)),
            }
        )
    return pl.DataFrame(lines)


def _imported_quality(folder: Path, study: Study) -> list[dict[str, Any]]:
    """Count tables of scores that were not scored here; empty where any was, or there are none."""
    paths = [p for p in sorted(folder.rglob("*.parquet")) if not p.name.startswith(".")]
    if not paths or any(folder.rglob("done.json")):
        return []
    columns = ["size", "seed", "checkpoint", "row_id", *study.outcomes]
    scores = pl.concat(pl.read_parquet(path, columns=columns) for path in paths)
    lines = []
    for size in study.sizes:
        some = scores.filter(size=size, seed=study.training_seed)
        rows = some.group_by("checkpoint").len()["len"].unique().sort()
        values = some.select(pl.col(study.outcomes).cast(pl.Float64))
        finite = values.select(pl.all().is_finite().fill_null(value=False).sum()).row(0)
        lines.append(
            {
                "size": size,
                "checkpoints": some["checkpoint"].n_unique(),
                "rows": "–".join(f"{count:,}" for count in rows),
                "scores not finite": sum(len(some) - count for count in finite),
                "source": "imported",
            }
        )
    return lines
