"""A run that never read the sampled rows: the clean reference model of the mini suite.

Its outcome on a row says how hard the row is for a model like the study's own, but not whether the
row was read: as a covariate it takes off most of the noise of an effect.
"""

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import polars as pl
import torch

from data_order import TokenRows
from pythia_profile.errors import StudyError
from pythia_profile.execute.executors import map_units
from pythia_profile.execute.resources import on_cores
from pythia_profile.execute.worker import Worker
from pythia_profile.mini.build import config_of
from pythia_profile.mini.config import MiniConfig
from pythia_profile.mini.train import initial_model
from pythia_profile.progress import track
from pythia_profile.scoring.forward import score_checkpoint
from pythia_profile.store import atomic_write, digest, read_json, write_table
from pythia_profile.suites.model import Suite
from pythia_profile.tables import ROWS
from pythia_profile.training.loop import batches_in_order, start, train

__all__ = ["ReferenceUnit", "held_out_scores"]


@dataclass(frozen=True, slots=True)
class ReferenceUnit:
    """A run of a size on the rows of the suite in `home` that are not in the file `rows`."""

    home: Path
    size: str
    rows: Path
    out: Path

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"mini {self.size} without the sampled rows"


def held_out_scores(
    suite: Suite, size: str, rows: pl.DataFrame, *, folder: Path, workers: int | None = None
) -> pl.DataFrame:
    """Scores of `rows` at the last step of a run that read every other row, and none of them.

    Parameters
    ----------
    rows : the `ROWS` table; treated and never-treated rows alike stay unread.
    folder : where the scores are kept and found again.

    Returns
    -------
    `row_id` and the columns of `score_checkpoint`.

    Raises
    ------
    StudyError
        The sample leaves too few rows for a run.
    """
    suite.size(size)
    ids = rows["row_id"].sort().to_list()
    key = digest([size, ids, str(suite.root and suite.root.name)])[:16]
    out = folder / f"{size}-{key}.parquet"
    if not out.exists():
        unit = ReferenceUnit(Path(str(suite.root)), size, folder / "rows.parquet", out)
        steps = steps_of(config_of(suite), len(unread(config_of(suite), rows)))
        write_table(rows, unit.rows, ROWS)
        with track(f"training {unit.name}", steps, "steps") as task:
            map_units(train_reference, [unit], on_cores(workers), task.advance)
    return pl.read_parquet(out)


def train_reference(unit: ReferenceUnit, worker: Worker) -> None:
    """Train on the rows that are left, in an order of their own, and score the sampled ones."""
    config = MiniConfig(**read_json(unit.home / "config.json"))
    torch.set_num_threads(worker.threads)
    rows = pl.read_parquet(unit.rows)
    stored = TokenRows.open(unit.home / "document", row_tokens=config.row_tokens)
    spare = TokenRows.open(unit.home / "spare", row_tokens=config.row_tokens)
    left = np.concatenate([stored[: config.training_rows][unread(config, rows)], spare[:]])
    left = left[np.random.default_rng([config.seed, 2]).permutation(len(left))]
    own = replace(config, seed=config.seed + 1, steps=steps_of(config, len(left) - len(spare)))
    state = start(initial_model(unit.size, own), own.recipe)
    batches = batches_in_order(left[: own.training_rows], own.batch_size)
    for _ in train(state, batches, own.recipe):
        worker.advance(1)
    state.model.train(False)
    with atomic_write(unit.out) as file:
        score_checkpoint(state.model, rows).write_parquet(file, compression="zstd")


def unread(config: MiniConfig, rows: pl.DataFrame) -> np.ndarray:
    """Row ids that the suite's runs read and the sample does not hold."""
    return np.setdiff1d(np.arange(config.training_rows), rows["row_id"].to_numpy())


def steps_of(config: MiniConfig, left: int) -> int:
    """Return for how many steps the rows that are left, and the spare ones, last."""
    steps = (left + config.spare) // config.batch_size // config.interval * config.interval
    if not steps:
        raise StudyError(
            f"the sample leaves {left:,} of {config.training_rows:,} rows, too few to train a "
            "reference model on; sample fewer rows, or leave the reference out"
        )
    return steps
