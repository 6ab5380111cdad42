"""Units of three tiny checkpoints, and what scoring them leaves."""

import hashlib
import json
from pathlib import Path

from pythia_profile.scoring import engine
from pythia_profile.scoring.engine import Session
from pythia_profile.scoring.settings import Scoring
from pythia_profile.scoring.units import Unit, Work
from tests.scoring.killed_at import hashes_in

SETTINGS = Scoring(batch_tokens=64)


def score_units(works, rows, scores, settings=SETTINGS, advance=lambda _: None, chunk_rows=8):
    session = Session(
        rows=rows, scores=scores, settings=settings, chunk_rows=chunk_rows, advance=advance
    )
    engine.score_units(works, session)


def works_of(checkpoints: Path) -> list[Work]:
    return [
        Work(
            Unit(suite="t", size="s", seed=0, checkpoint=step, weights=hashes_in(folder)),
            folder,
        )
        for step, folder in enumerate(sorted(checkpoints.iterdir()))
    ]


def tables(scores: Path) -> dict[Path, str]:
    """Hash of every table and the record of every finished unit."""
    hashes = {}
    for path in sorted(scores.glob("t/**/*")):
        if path.suffix == ".parquet":
            hashes[path.relative_to(scores)] = hashlib.sha256(path.read_bytes()).hexdigest()
        elif path.suffix == ".json":
            record = json.loads(path.read_text())
            record.pop("speed")  # how long it took is no result
            hashes[path.relative_to(scores)] = json.dumps(record)
    return hashes
