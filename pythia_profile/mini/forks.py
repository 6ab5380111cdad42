"""Runs of the mini suite from one checkpoint on, over the same rows in other orders.

A fork begins at a checkpoint of the real run, weights and optimizer state alike, and reads the rows
that are left once more shuffled: OLMo-2's second stage in small. At every checkpoint from there on
the study's rows are scored, so that each row is its own counterfactual while only one run has read
it. Other training seeds begin at step 0 with weights of their own, and read the same rows, too.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import torch

from data_order import TokenRows
from pythia_profile.errors import NotFoundError
from pythia_profile.execute.executors import Cluster, map_units
from pythia_profile.execute.resources import Resources, on_cores
from pythia_profile.execute.worker import Worker
from pythia_profile.mini.build import config_of
from pythia_profile.mini.config import MiniConfig
from pythia_profile.mini.train import initial_model
from pythia_profile.progress import track
from pythia_profile.scoring.forward import score_checkpoint
from pythia_profile.store import atomic_write, digest, read_json, write_table
from pythia_profile.suites.model import Suite
from pythia_profile.tables import ROWS
from pythia_profile.training.loop import batches_in_order, load_state, start, train

__all__ = ["ForkUnit", "fork_order", "forked", "rows_in_fork", "training_seeds"]


@dataclass(frozen=True, slots=True)
class ForkUnit:
    """A fork of a size of the suite in `home` after step `at`, in the order of a seed.

    `rows` and `out` are the files of the rows to score and of their scores; with `fresh` weights
    it is another training seed, and `at` is 0.
    """

    home: Path
    size: str
    at: int
    seed: int
    rows: Path
    out: Path
    fresh: bool = False

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"mini {self.size} from step {self.at} in order {self.seed}"


def forked(
    suite: Suite,
    size: str,
    rows: pl.DataFrame,
    *,
    folder: Path,
    at: int | None = None,
    seeds: Sequence[int] = (1,),
    workers: int | None = None,
    cluster: Cluster | None = None,
) -> list[tuple[pl.DataFrame, pl.DataFrame]]:
    """Train forks of a size, and score the rows at every checkpoint from the fork on.

    Parameters
    ----------
    rows : the `ROWS` table of the real run.
    folder : where the scores of finished forks are kept and found again.
    at : checkpoint at which they begin; a quarter of the run by default.
    seeds : of the orders, one fork each.
    workers, cluster : processes of this machine, or machines that see `folder` and the suite.

    Returns
    -------
    Of each fork the `ROWS` table, with its own steps and batches, and `SCORES`, whose `seed` is
    that of the order.

    Raises
    ------
    NotFoundError
        `at` is no checkpoint with rows left to read.
    """
    config = config_of(suite)
    suite.size(size)
    start = config.checkpoints[(len(config.checkpoints) - 1) // 4] if at is None else at
    if start not in config.checkpoints[:-1]:
        known = ", ".join(map(str, config.checkpoints[:-1]))
        raise NotFoundError(f"no checkpoint {start} to fork mini {size} from; known: {known}")
    units = []
    for seed in seeds:
        key = digest([size, start, seed, rows["row_id"].to_list(), str(suite.root)])[:16]
        out = folder.resolve() / size / f"order{seed}-{key}.parquet"
        units.append(
            ForkUnit(Path(str(suite.root)), size, start, seed, out.with_suffix(".rows"), out)
        )
    return _trained(suite, rows, units, cluster or on_cores(workers))


def training_seeds(
    suite: Suite,
    size: str,
    rows: pl.DataFrame,
    *,
    folder: Path,
    seeds: Sequence[int] = (1, 2, 3),
    workers: int | None = None,
    cluster: Cluster | None = None,
) -> list[tuple[pl.DataFrame, pl.DataFrame]]:
    """Train a size again under other seeds: other initial weights, the same rows in another order.

    Parameters
    ----------
    rows : the `ROWS` table of the real run.
    folder : where the scores of finished runs are kept and found again.
    seeds : one run each; not the suite's own.
    workers, cluster : as for `forked`.

    Returns
    -------
    Of each run the `ROWS` table, with its own steps and batches, and `SCORES`, whose `seed` is that
    of the run. A row has the same id in all of them.

    Raises
    ------
    NotFoundError
        A seed is the suite's own.
    """
    suite.size(size)
    if suite.seed in seeds:
        raise NotFoundError(
            f"training seed {suite.seed} of mini {size} is the suite's own run; choose others"
        )
    units = []
    for seed in seeds:
        key = digest([size, "seed", seed, rows["row_id"].to_list(), str(suite.root)])[:16]
        out = folder.resolve() / size / f"seed{seed}-{key}.parquet"
        place = Path(str(suite.root)), size, 0, seed, out.with_suffix(".rows"), out
        units.append(ForkUnit(*place, fresh=True))
    return _trained(suite, rows, units, cluster or on_cores(workers))


def _trained(
    suite: Suite, rows: pl.DataFrame, units: Sequence[ForkUnit], executor: Resources | Cluster
) -> list[tuple[pl.DataFrame, pl.DataFrame]]:
    """Train the units that are not on disk; return rows and scores of all."""
    config = config_of(suite)
    if missing := [unit for unit in units if not unit.out.exists()]:
        for unit in missing:
            write_table(rows, unit.rows, ROWS)
        title = f"training {len(missing)} more runs of {missing[0].size}"
        steps = sum(config.steps - unit.at for unit in missing)
        with track(title, steps, "steps") as task:
            map_units(train_fork, missing, executor, task.advance)
    return [
        (rows_in_fork(rows, config, unit.at, unit.seed), _scores(suite, unit)) for unit in units
    ]


def _scores(suite: Suite, unit: ForkUnit) -> pl.DataFrame:
    named = {"suite": pl.lit(suite.name), "size": pl.lit(unit.size)}
    return pl.read_parquet(unit.out).with_columns(**named, seed=pl.lit(unit.seed, pl.Int64))


def fork_order(config: MiniConfig, at: int, seed: int) -> npt.NDArray[np.int64]:
    """Rows that the updates after `at` read, in their order; (rows left,)."""
    first = at * config.batch_size
    shuffled = np.random.default_rng([config.seed, 3, seed]).permutation(
        config.training_rows - first
    )
    return first + shuffled


def rows_in_fork(rows: pl.DataFrame, config: MiniConfig, at: int, seed: int) -> pl.DataFrame:
    """Return the rows with the steps and batches at which a fork reads them."""
    ids = rows["row_id"].to_numpy()
    left = (ids >= at * config.batch_size) & (ids < config.training_rows)
    place = np.argsort(fork_order(config, at, seed))[ids[left] - at * config.batch_size]
    batch = rows["treatment_step"].to_numpy().astype(np.float64) - 1
    batch[left] = at + place // config.batch_size
    known = pl.Series(batch).fill_nan(None).cast(pl.Int64)
    return rows.with_columns(treatment_step=known + 1, batch=known)


def train_fork(unit: ForkUnit, worker: Worker) -> None:
    """Train from the fork to the end; write the scores of the unit's rows at each checkpoint."""
    config = MiniConfig(**read_json(unit.home / "config.json"))
    torch.set_num_threads(worker.threads)
    if unit.fresh:
        # far from the seeds of the suite's own sizes, which are below 1,000 times its seed and 4
        model = initial_model(unit.size, replace(config, seed=config.seed + 10**6 * unit.seed))
        state = start(model, config.recipe)
    else:
        state = load_state(unit.home / unit.size, unit.at, config.recipe)
    document = TokenRows.open(unit.home / "document", row_tokens=config.row_tokens)
    content = document[: config.training_rows][fork_order(config, unit.at, unit.seed)]
    rows, parts = pl.read_parquet(unit.rows), []

    def keep_scores() -> None:
        state.model.train(False)
        scores = score_checkpoint(state.model, rows)
        parts.append(scores.with_columns(checkpoint=pl.lit(state.step, pl.Int64)))

    keep_scores()
    for update in train(state, batches_in_order(content, config.batch_size), config.recipe):
        if update.step in config.checkpoints:
            keep_scores()
        worker.advance(1)
    with atomic_write(unit.out) as file:
        pl.concat(parts).write_parquet(file, compression="zstd")
