"""Worker process that trains a twin run without one cohort.

    python -m pythia_profile.mini.twin HOME SIZE COHORT LAST ROWS OUT

The run forks from the checkpoint before the cohort, weights and optimizer state alike; the
cohort's rows are replaced by spare rows, and training goes on to the checkpoint LAST. At every
checkpoint on the way the rows of ROWS are scored. The twin never read the cohort; nothing else
differs.
"""

import sys
from pathlib import Path

import numpy as np
import polars as pl

from data_order import TokenRows
from pythia_profile.mini.config import MiniConfig
from pythia_profile.mini.train import load_state, train_on
from pythia_profile.mini.trainer import REPORT_EVERY, quiet_and_single_threaded, report
from pythia_profile.scoring.rows import score_checkpoint
from pythia_profile.store import atomic_write, read_json


def train_twin(home: Path, size: str, cohort: int, last: int, rows: pl.DataFrame) -> pl.DataFrame:
    """Scores of `rows` at the cohort and every later checkpoint of the twin run, up to `last`.

    Returns
    -------
    `checkpoint` and the columns of `score_checkpoint`.
    """
    config = MiniConfig(**read_json(home / "config.json"))
    base = max(step for step in config.checkpoints if step < cohort)
    state = load_state(home, size, base, config)
    document = TokenRows.open(home / "document", row_tokens=config.row_tokens)
    spare = TokenRows.open(home / "spare", row_tokens=config.row_tokens)
    replaced = (cohort - base) * config.batch_size
    later = document[cohort * config.batch_size : last * config.batch_size]
    parts = []
    for step in train_on(state, np.concatenate([spare[:replaced], later]), config):
        if step in config.checkpoints:
            state.model.eval()
            frame = score_checkpoint(state.model, rows)
            parts.append(frame.with_columns(checkpoint=pl.lit(step, pl.Int64)))
            state.model.train()
        if step % REPORT_EVERY == 0:
            report(REPORT_EVERY)
    return pl.concat(parts)


if __name__ == "__main__":
    quiet_and_single_threaded()
    home, size, cohort, last, rows, out = sys.argv[1:7]
    try:
        scores = train_twin(Path(home), size, int(cohort), int(last), pl.read_parquet(rows))
    except BrokenPipeError:
        sys.exit(1)
    with atomic_write(Path(out)) as file:
        scores.write_parquet(file, compression="zstd")
