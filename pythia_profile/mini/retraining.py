"""Counterfactual retraining: the same run without one cohort.

A retraining forks from the checkpoint before the cohort, weights and optimizer state alike; the
cohort's rows are replaced by spare rows, and training goes on as it did. At every checkpoint on the
way, the sampled rows of the cohort and the never-treated rows are scored. The retrained model never
read the cohort; nothing else differs.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl
import torch

from data_order import TokenRows
from data_order.order import cohort_of_steps
from pythia_profile.errors import NotFoundError
from pythia_profile.execute.executors import Cluster, map_units
from pythia_profile.execute.resources import on_cores
from pythia_profile.execute.time_left import Part
from pythia_profile.execute.worker import Worker
from pythia_profile.mini.build import config_of
from pythia_profile.mini.config import MiniConfig
from pythia_profile.mini.settings import Audit
from pythia_profile.progress import track
from pythia_profile.scoring.forward import score_checkpoint
from pythia_profile.store import atomic_write, digest, read_json, write_table
from pythia_profile.suites.model import Suite
from pythia_profile.tables import NEVER, ROWS
from pythia_profile.training.loop import batches_in_order, load_state, train

__all__ = ["RetrainingUnit", "audited_cohorts", "retrain"]


@dataclass(frozen=True, slots=True)
class RetrainingUnit:
    """One retraining of a size of the suite in `home`: without `cohort`, until step `last`.

    `rows` and `out` are the files of the rows to score and of their scores. With `peers`, only the
    cohort's rows that are not scored are left out.
    """

    home: Path
    size: str
    cohort: int
    last: int
    rows: Path
    out: Path
    peers: bool = False

    @property
    def name(self) -> str:
        """What messages call it."""
        what = "the peers of cohort" if self.peers else "cohort"
        return f"mini {self.size} without {what} {self.cohort}"


def audited_cohorts(suite: Suite, count: int) -> list[int]:
    """`count` different cohorts spread evenly over the run, without its first quarter.

    There the loss falls fastest and the rows' trends differ most, so that a cell of 96 rows says
    least about the estimator: its error has a standard error of .02 to .05 nats, against .003 to
    .02 later (xs, seeds 1 and 2). Where more are asked for than the rest has, they are spread over
    the whole run.

    Examples
    --------
    >>> [4 + place * 12 // 5 for place in range(5)]  # of 16 cohorts
    [4, 6, 8, 11, 13]
    """
    cohorts = config_of(suite).checkpoints[1:]
    if not 1 <= count <= len(cohorts):
        raise NotFoundError(f"{count} cohorts asked for, the suite has {len(cohorts)}")
    if count <= len(cohorts) - len(cohorts) // 4:
        cohorts = cohorts[len(cohorts) // 4 :]
    return [cohorts[place * len(cohorts) // count] for place in range(count)]


def retrain(
    suite: Suite,
    audit: Audit,
    rows: pl.DataFrame,
    *,
    folder: Path,
    workers: int | None = None,
    cluster: Cluster | None = None,
) -> pl.DataFrame:
    """Retrain a size once without each audited cohort; score the rows that tell the effect.

    Parameters
    ----------
    rows : the `ROWS` table.
    folder : where the scores of finished retrainings are kept and found again.
    workers, cluster : processes of this machine, or machines that see `folder` and the suite.

    Returns
    -------
    `SCORES` of the retrainings, with columns that say what was left out: `cohort`, and `peers`,
    whether only its rows that are not scored were.
    """
    config, root, folder = config_of(suite), suite.root or Path(), folder.resolve()
    suite.size(audit.size)
    steps = rows["treatment_step"].fill_null(NEVER).to_numpy()
    of_row = pl.Series(cohort_of_steps(steps, config.checkpoints))
    units = []
    for cohort in audited_cohorts(suite, audit.cohorts):
        scored = rows.filter((of_row == cohort) | (of_row == NEVER))
        last = last_checkpoint(config.checkpoints, cohort, audit.horizon)
        for peers in (False, True) if audit.interference else (False,):
            facts = [audit.size, cohort, audit.horizon, scored["row_id"].to_list(), root.name]
            key = digest([*facts, "peers"] if peers else facts)[:16]
            out = folder / audit.size / f"cohort{cohort}" / f"{key}.parquet"
            unit = RetrainingUnit(
                root, audit.size, cohort, last, out.with_name("rows.parquet"), out, peers
            )
            if not out.exists():
                write_table(scored, unit.rows, ROWS)
            units.append(unit)
    if missing := [unit for unit in units if not unit.out.exists()]:
        total = sum(unit.last - base_of(config, unit.cohort) for unit in missing)
        title = f"retraining {audit.size} {len(missing)} times"
        parts = [
            Part(unit.name, unit.size, unit.last - base_of(config, unit.cohort)) for unit in missing
        ]
        executor = cluster or on_cores(workers)
        with track(title, total, "steps", parts=parts, workers=executor.slots) as task:
            map_units(retrain_one, missing, executor, on_part=task.advance_part)
    found = [
        pl.read_parquet(unit.out).with_columns(
            cohort=pl.lit(unit.cohort, pl.Int64), peers=pl.lit(unit.peers)
        )
        for unit in units
    ]
    return pl.concat(found).with_columns(
        suite=pl.lit(suite.name), size=pl.lit(audit.size), seed=pl.lit(suite.seed, pl.Int64)
    )


def retrain_one(unit: RetrainingUnit, worker: Worker) -> None:
    """Write the scores of the unit's rows at the cohort and at every later checkpoint."""
    config = MiniConfig(**read_json(unit.home / "config.json"))
    torch.set_num_threads(worker.threads)
    base = base_of(config, unit.cohort)
    state = load_state(unit.home / unit.size, base, config.recipe)
    document = TokenRows.open(unit.home / "document", row_tokens=config.row_tokens)
    spare = TokenRows.open(unit.home / "spare", row_tokens=config.row_tokens)
    rows, parts = pl.read_parquet(unit.rows), []
    content = document[base * config.batch_size : unit.last * config.batch_size]
    ids = np.arange(base * config.batch_size, unit.cohort * config.batch_size)
    scored = np.isin(ids, rows["row_id"].to_numpy())
    left_out = ~scored if unit.peers else np.full(len(ids), True)
    content[: len(left_out)][left_out] = spare[: int(left_out.sum())]
    batches = batches_in_order(content, config.batch_size)
    for update in train(state, batches, config.recipe):
        if update.step in config.checkpoints:
            state.model.train(False)
            scores = score_checkpoint(state.model, rows)
            parts.append(scores.with_columns(checkpoint=pl.lit(update.step, pl.Int64)))
        worker.advance(1)
    with atomic_write(unit.out) as file:
        pl.concat(parts).write_parquet(file, compression="zstd")


def base_of(config: MiniConfig, cohort: int) -> int:
    """Return the checkpoint before a cohort, from which its retraining forks."""
    return max(step for step in config.checkpoints if step < cohort)


def last_checkpoint(checkpoints: Sequence[int], cohort: int, horizon: int) -> int:
    """Return the checkpoint at which the retraining without a cohort ends.

    Examples
    --------
    >>> last_checkpoint([0, 32, 64, 96], 32, 1), last_checkpoint([0, 32, 64, 96], 32, 0)
    (64, 96)
    """
    later = [step for step in checkpoints if step >= cohort]
    return later[-1] if not horizon else later[: horizon + 1][-1]
