"""One model measured: its groups of rows, layers, noise and heads, as tables in a folder.

In: the table of material and a checkpoint. Out, in the unit's folder: `groups` (a line a row),
`balance` (a line a covariate), `measures` (a line a group, measure, strength and layer),
`differences` (the same of two groups), `heads` (a line a head and domain), `overlap` (of two
domains), each a parquet file, and `result.json`.
"""

from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
from transformers.modeling_utils import PreTrainedModel

from pythia_profile.checkpoints.load import CheckpointLoader
from pythia_profile.execute.worker import Worker
from pythia_profile.labs.internals.internals_groups import covariates
from pythia_profile.labs.internals.internals_measures import (
    directions,
    head_drops,
    lens,
    recalled,
    recovery,
)
from pythia_profile.labs.internals.internals_selection import chosen_groups, rows_for_heads
from pythia_profile.labs.internals.internals_settings import Measuring
from pythia_profile.labs.internals.internals_tables import contrasts, head_tables, means, members
from pythia_profile.labs.internals.internals_translators import train_translators
from pythia_profile.store import atomic_write, digest, file_sha256, write_json
from pythia_profile.training.hooks import perturb
from pythia_profile.training.languages import Rows
from pythia_profile.training.units import RESULT

__all__ = ["TABLES", "InternalsUnit", "measure_unit"]

TABLES = ("groups", "balance", "measures", "differences", "heads", "overlap")
"""Tables of a unit."""

Values = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class InternalsUnit:
    """One checkpoint, measured on the rows of a table.

    Attributes
    ----------
    home : folder of all units; material : file of the rows.
    size, step, layers, heads : which checkpoint, and its shape.
    checkpoint : its folder; identity : what names its weights for ever.
    """

    home: Path
    material: Path
    checkpoint: Path
    identity: str
    size: str
    step: int
    layers: int
    heads: int
    settings: Measuring

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"{self.size} step {self.step}"

    @property
    def folder(self) -> Path:
        """Where it is kept; named by everything that its numbers depend on."""
        libraries = [version(name) for name in ("torch", "transformers")]
        own = [self.identity, file_sha256(self.material), self.settings.model_dump(), libraries]
        return self.home / f"{self.size}-step{self.step}-{digest(own)[:10]}"

    @property
    def steps(self) -> int:
        """Recall, lenses, each strength of noise, each head."""
        return 2 + len(self.settings.strengths) + self.layers * self.heads


def measure_unit(unit: InternalsUnit, worker: Worker) -> None:
    """Measure one checkpoint, in a worker process; write its tables, then its result."""
    settings = unit.settings
    material = pl.read_parquet(unit.material)
    rows = np.array(material["tokens"].to_list(), np.int64)
    model = CheckpointLoader(settings.dtype, worker.device).load(unit.checkpoint)
    match = recalled(model, rows, settings.prompt).mean(axis=1)
    worker.advance(1)
    frequency = np.bincount(rows.ravel(), minlength=int(model.config.vocab_size))
    traits = covariates(rows, frequency)
    groups, comparisons, balanced = chosen_groups(material, match, traits, settings)
    used = np.unique(np.concatenate([[], *groups.values()]).astype(np.int64))
    measured = _measured(model, rows, used, settings, worker)
    of_group = {
        name: {
            measure: values[np.searchsorted(used, places)] for measure, values in measured.items()
        }
        for name, places in groups.items()
    }
    chosen = rows_for_heads(material, match, settings)
    drops = head_drops(model, rows[chosen], settings.prompt, lambda: worker.advance(1))
    heads, overlap = head_tables(*drops, material["domain"].to_numpy()[chosen], settings)
    tables = {
        "groups": members(material, match, traits, groups),
        "balance": balanced,
        "measures": means(of_group, settings),
        "differences": contrasts(comparisons, of_group, settings),
        "heads": heads,
        "overlap": overlap,
    }
    for name in TABLES:
        with atomic_write(unit.folder / f"{name}.parquet") as file:
            _of_run(unit, tables[name]).write_parquet(file)
    line = {
        "size": unit.size,
        "checkpoint": unit.step,
        "parameters": model.num_parameters(),
        "layers": unit.layers,
        "heads": unit.heads,
        "head_rows": len(chosen),
        **_rates(material, match),
    }
    write_json(line, unit.folder / RESULT)


def _of_run(unit: InternalsUnit, table: pl.DataFrame) -> pl.DataFrame:
    """Say of each line which checkpoint it is of."""
    step = pl.lit(unit.step, pl.Int64)
    return table.select(pl.lit(unit.size).alias("size"), step.alias("checkpoint"), "*")


def _rates(material: pl.DataFrame, match: Values) -> dict[str, float | int | None]:
    """Rows that are given back whole: how many of those read, what share of those never read."""
    read, never = ((material["exposure"] == kind).to_numpy() for kind in ("read", "never"))
    whole = match == 1
    return {
        "read": int(read.sum()),
        "memorized": int(whole[read].sum()),
        "never_read": int(never.sum()),
        "never_whole": float(whole[never].mean()) if never.any() else None,
    }


def _measured(
    model: PreTrainedModel, rows: Rows, used: Places, settings: Measuring, worker: Worker
) -> dict[str, Values]:
    """Measure the rows of the groups; (n, strengths or 1, layers or 1), as `MEASURES` says."""
    prompt, chosen = settings.prompt, rows[used]
    others = np.delete(rows, used, axis=0)
    found: dict[str, Values] = {"lens": lens(model, chosen, prompt)[:, None]}
    if settings.tuned_steps and len(others):
        tuned = train_translators(model, others, steps=settings.tuned_steps, seed=settings.seed)
        found["tuned_lens"] = lens(model, chosen, prompt, tuned)[:, None]
    worker.advance(1)
    width = int(model.config.hidden_size)
    noise = directions(settings.noise_draws, rows.shape[1], width, seed=settings.seed)
    alike, kept = [], []
    for strength in settings.strengths:
        alike.append(recovery(model, chosen, noise, (strength,))[:, 0])
        of_draw = []
        for drawn in noise:
            with perturb(model, drawn, strength):
                of_draw.append(recalled(model, chosen, prompt).mean(axis=1))
        kept.append(np.stack(of_draw).mean(axis=0))
        worker.advance(1)
    found["recovery"] = np.stack(alike, axis=1)
    found["match"] = np.stack(kept, axis=1)[:, :, None]
    early: npt.NDArray[np.bool_] = found["lens"][..., :-1] > 0.5
    found["passes_half"] = np.any(early, axis=2, keepdims=True).astype(np.float64)
    return found
