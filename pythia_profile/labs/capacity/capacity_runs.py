"""Models trained on uniform tokens, one process each, and what each of them holds.

In: settings. Out: tables `capacity` (a line a run) and `samples` (a line a row of a run). A run is
a folder of the output named by what it depends on; a run that was killed goes on from its last
tenth, and one that is finished is read, not repeated.
"""

from dataclasses import asdict, dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from transformers import PreTrainedModel

from pythia_profile.execute.resources import available_cores
from pythia_profile.execute.worker import Worker
from pythia_profile.labs.capacity.capacity_membership import membership
from pythia_profile.labs.capacity.capacity_numbers import account, unintended_bits
from pythia_profile.labs.capacity.capacity_settings import CapacitySettings
from pythia_profile.labs.capacity.capacity_training import (
    extracted,
    remove_checkpoints,
    train_by_heart,
)
from pythia_profile.store import atomic_write, digest, write_json
from pythia_profile.training.languages import Rows, uniform_rows
from pythia_profile.training.loop import token_losses
from pythia_profile.training.shapes import ModelShape, tiny_model
from pythia_profile.training.units import RESULT, run_units

__all__ = ["CapacityUnit", "capacity_tables", "different_rows", "train_unit"]

_MOST_EXTRACTED = 256


@dataclass(frozen=True, slots=True)
class CapacityUnit:
    """One model and the rows that it learns by heart.

    Attributes
    ----------
    home : the folder of all runs.
    rows : how many.
    """

    home: Path
    settings: CapacitySettings
    size: ModelShape
    rows: int
    dtype: str
    seed: int

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"{self.size.name} {self.rows} rows {self.dtype} seed {self.seed}"

    @property
    def folder(self) -> Path:
        """Where it is kept; named by everything that its numbers depend on."""
        other = self.settings.model_dump(
            exclude={"sizes", "rows", "bits_per_parameter", "dtypes", "seeds", "converged"}
        )
        own = [self.size.model_dump(), self.rows, self.dtype, self.seed, other]
        libraries = [version(name) for name in ("torch", "transformers")]
        return self.home / f"{self.name.replace(' ', '-')}-{digest([own, libraries])[:10]}"

    @property
    def steps(self) -> int:
        """Optimizer steps."""
        return self.settings.recipe(self.size).steps


def capacity_tables(
    home: Path, settings: CapacitySettings, *, device: str = "cpu", workers: int | None = None
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Train what is not trained yet; return the lines of runs, and of their rows.

    Parameters
    ----------
    home : folder of the runs.
    device : `cpu` or `cuda`; numbers differ between them in their last digits.
    workers : processes at a time; no number depends on it.

    Raises
    ------
    RefusedError
        The rows do not fit into memory.
    """
    units = [
        CapacityUnit(home, settings, size, rows, dtype, seed)
        for size in sorted(settings.sizes, key=lambda one: -one.parameters(settings.vocabulary))
        for seed in settings.seeds
        for dtype in settings.dtypes
        for rows in settings.rows_of(size)
    ]
    if any(not (unit.folder / RESULT).exists() for unit in units):
        settings.check_memory(min(workers or available_cores(), len(units)))
    title = f"training {len(units)} models on uniform tokens"
    lines = run_units(units, train_unit, title=title, device=device, workers=workers)
    runs = pl.DataFrame(lines).with_columns(converged=pl.col("late_gain") <= settings.converged)
    samples = [
        pl.read_parquet(unit.folder / "samples.parquet").select(
            pl.lit(unit.size.name).alias("size"),
            pl.lit(unit.dtype).alias("dtype"),
            pl.lit(unit.seed).alias("seed"),
            pl.lit(unit.rows).alias("rows"),
            pl.all(),
        )
        for unit in units
    ]
    order = ["parameters", "dtype", "seed", "rows"]
    return runs.sort(order), pl.concat(samples)


def different_rows(rows: int, tokens: int, vocabulary: int, *, seed: int) -> Rows:
    """Draw uniform rows of which no two are the same; fewer rows are the first of more.

    Examples
    --------
    >>> different_rows(3, 2, 2, seed=0).tolist()
    [[1, 1], [1, 0], [0, 0]]
    """
    drawn, asked = np.empty((0, tokens), np.int64), rows
    while len(drawn) < rows:
        drawn = uniform_rows(asked, tokens, vocabulary, seed=seed)
        _, first = np.unique(drawn, axis=0, return_index=True)
        drawn, asked = drawn[np.sort(first)], 2 * asked
    return drawn[:rows]


def train_unit(unit: CapacityUnit, worker: Worker) -> None:
    """Train one model to its end and keep what it holds; from where it was, if it was begun."""
    settings, recipe = unit.settings, unit.settings.recipe(unit.size)
    drawn = different_rows(
        unit.rows + settings.test_rows, settings.tokens, settings.vocabulary, seed=unit.seed
    )
    rows, others = drawn[: unit.rows], drawn[unit.rows :]
    model, gain = train_by_heart(
        unit.folder,
        rows,
        recipe,
        lambda: tiny_model(
            unit.size,
            settings.vocabulary,
            settings.tokens,
            seed=unit.seed,
            dtype=unit.dtype,
            device=worker.device,
        ),
        worker,
        seed=unit.seed,
        dtype=unit.dtype,
    )
    line, samples = _measured(unit, model, rows, others)
    with atomic_write(unit.folder / "samples.parquet") as file:
        samples.write_parquet(file)
    write_json({**line, "late_gain": gain}, unit.folder / RESULT)
    remove_checkpoints(unit.folder)


def _measured(
    unit: CapacityUnit, model: PreTrainedModel, rows: Rows, others: Rows
) -> tuple[dict[str, Any], pl.DataFrame]:
    """Line of a run, and lines of its rows."""
    settings, recipe = unit.settings, unit.settings.recipe(unit.size)
    losses = token_losses(model, rows, batch_size=512).astype(np.float64)
    tested = token_losses(model, others, batch_size=512).astype(np.float64)
    nats, uniform = losses.sum(axis=1), np.log(settings.vocabulary)
    reference = np.full(len(rows), -settings.tokens * uniform)
    samples = pl.DataFrame(
        {
            "row": np.arange(len(rows)),
            "nats": nats,
            "bits": unintended_bits(-nats - uniform, reference),
            "mixture": unintended_bits(-nats - uniform, reference, code="mixture"),
        }
    )
    prefix = max(2, settings.tokens // 4)
    return {
        "size": unit.size.name,
        "parameters": model.num_parameters(),
        "dtype": unit.dtype,
        "seed": unit.seed,
        "rows": unit.rows,
        "tokens_per_parameter": unit.rows * settings.tokens / model.num_parameters(),
        "steps": recipe.steps,
        "epochs": recipe.steps * recipe.batch_size / unit.rows,
        **asdict(account(losses, settings.vocabulary)),
        "train_bits": float(losses.mean() / np.log(2)),
        "test_bits": float(tested.mean() / np.log(2)),
        **membership(-nats, -tested.sum(axis=1)),
        "extracted_train": extracted(model, rows[:_MOST_EXTRACTED], prefix),
        "extracted_test": extracted(model, others[:_MOST_EXTRACTED], prefix),
    }, samples
