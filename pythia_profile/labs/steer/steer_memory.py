"""Is memory a direction? Steers trained on rows that were read, or memorized, and on others.

In: models, and rows with a label true or false. Half of the rows train a steer; on the other half
its evidence is set beside the loss attack, and beside steers trained on permuted labels. Out:
tables of attacks, of steers moved between sizes, and of what suppressing the direction costs.
Exploratory: nothing here has been shown before, and no direction is an outcome, too.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from pydantic import Field
from transformers.modeling_utils import PreTrainedModel

from pythia_profile.execute.worker import Worker
from pythia_profile.labs.steer.steer_auc import auc_gain, auc_interval, null_interval
from pythia_profile.labs.steer.steer_map import Steer, read_steer
from pythia_profile.labs.steer.steer_models import load_model
from pythia_profile.labs.steer.steer_move import moved_steer
from pythia_profile.labs.steer.steer_read import token_evidence
from pythia_profile.labs.steer.steer_settings import SteerError, SteerSettings
from pythia_profile.labs.steer.steer_texts import Labelled, Tokens, text_losses
from pythia_profile.labs.steer.steer_train import train_steer
from pythia_profile.settings import Settings
from pythia_profile.store import atomic_write, digest, file_sha256, write_json
from pythia_profile.training.units import RESULT, run_units

__all__ = [
    "MemorySettings",
    "MemoryTask",
    "MemoryUnit",
    "halves",
    "memory_attacks",
    "memory_summary",
    "memory_transfers",
    "random_steer",
    "write_task",
]


class MemorySettings(Settings):
    """How the memory steer is looked for."""

    steer: SteerSettings = Field(
        SteerSettings(steps=120, batch_size=16, scale=0.5), description="How steers are trained."
    )
    permutations: int = Field(4, ge=0, description="steers of permuted labels, for each task")
    rows: int = Field(1024, ge=8, description="rows of each label at most, of which half train")
    strengths: tuple[float, ...] = Field(
        (-2.0, -1.0, -0.5, 0.0, 0.5, 1.0, 2.0), description="ε of the suppression curve"
    )
    given_back: int = Field(128, ge=2, description="held-out rows of each label on that curve")
    prompt: float = Field(0.5, gt=0, lt=1, description="share of a row that is given to extract it")
    seed: int = Field(0, ge=0, description="of halves, permutations and random steers")


@dataclass(frozen=True, slots=True)
class MemoryTask:
    """One model and what its rows are asked for.

    Attributes
    ----------
    size : what tables call the model; model : its folder.
    label : what tables call the question, such as `read`.
    rows : file of a table with `row_id`, `tokens` and `inside` (true or false).
    permutations : steers of permuted labels; as the settings say unless given.
    """

    size: str
    model: Path
    label: str
    rows: Path
    permutations: int | None = None


@dataclass(frozen=True, slots=True)
class MemoryUnit:
    """One steer: of the labels, or of a permutation of them.

    Attributes
    ----------
    home : the folder of all units.
    permutation : 0 for the labels as they are.
    sources : hashes of model and rows.
    """

    home: Path
    task: MemoryTask
    permutation: int
    settings: MemorySettings
    sources: tuple[str, ...]

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"{self.task.size} {self.task.label} {self.permutation or 'labels'}"

    @property
    def folder(self) -> Path:
        """Where it is kept; named by everything that its numbers depend on."""
        libraries = [version(name) for name in ("torch", "transformers")]
        used = self.settings.model_dump(include={"steer", "rows", "seed"})
        own = [self.task.label, self.permutation, used, *self.sources, *libraries]
        return self.home / f"{self.name.replace(' ', '-')}-{digest(own)[:10]}"

    @property
    def steps(self) -> int:
        """Updates of the steer."""
        return self.settings.steer.steps


@dataclass(frozen=True, slots=True)
class Halves:
    """Rows that train a steer, and rows that it is judged by.

    Attributes
    ----------
    texts : all rows; inside : (n,) their labels, permuted or not.
    train, test : indices; of both labels half in each.
    """

    texts: list[Tokens]
    inside: npt.NDArray[np.bool_]
    train: npt.NDArray[np.int64]
    test: npt.NDArray[np.int64]

    def tested(self, *, inside: bool) -> list[Tokens]:
        """Rows of the second half with that label."""
        return [self.texts[one] for one in self.test if self.inside[one] == inside]


def halves(rows: pl.DataFrame, settings: MemorySettings, permutation: int = 0) -> Halves:
    """Draw equally many rows of both labels, and split both in half.

    All permutations have the same rows; which of them count as inside is drawn anew, so that the
    labels of both halves say nothing.

    Raises
    ------
    SteerError
        A label has fewer than four rows.
    """
    rng = np.random.default_rng([settings.seed, 0])
    labels = rows["inside"].to_numpy()
    counts = int(labels.sum()), int((~labels).sum())
    most = min(*counts, settings.rows) // 2 * 2
    if most < 4:
        raise SteerError(
            f"rows: {counts[0]} inside and {counts[1]} outside, expected four or more of each"
        )
    groups = [rng.permutation(np.flatnonzero(labels == one))[:most] for one in (True, False)]
    chosen = np.concatenate(groups)
    if permutation:
        chosen = np.random.default_rng([settings.seed, permutation]).permutation(chosen)
    texts = [np.array(one) for one in rows["tokens"].gather(chosen).to_list()]
    first, second = np.arange(most), np.arange(most, 2 * most)
    half = most // 2
    return Halves(
        texts,
        np.arange(2 * most) < most,
        np.concatenate([first[:half], second[:half]]),
        np.concatenate([first[half:], second[half:]]),
    )


def memory_attacks(
    home: Path,
    tasks: Sequence[MemoryTask],
    settings: MemorySettings,
    *,
    workers: int | None = None,
) -> tuple[pl.DataFrame, dict[tuple[str, str], Steer]]:
    """Train a steer of each task, and one of each permutation; judge all on the other half.

    Parameters
    ----------
    home : folder of the units; what is there is read, not repeated.

    Returns
    -------
    Table of attacks: `size`, `label`, `permutation`, `rows` (of the tested half), `auc`, `lower`,
    `upper` of the steer's evidence; `loss_auc`, `loss_lower`, `loss_upper` of the likelihood;
    `gain`, `gain_lower`, `gain_upper`, the first less the second. And the steer of each size and
    label.
    """
    hashes = {task: (_model_sha256(task.model), file_sha256(task.rows)) for task in tasks}
    units = [
        MemoryUnit(home, task, permutation, settings, hashes[task])
        for task in tasks
        for permutation in range(1 + _permutations(task, settings))
    ]
    title = f"training {len(units)} memory steers"
    lines = run_units(units, attack_unit, title=title, workers=workers)
    steers = {
        (unit.task.size, unit.task.label): read_steer(unit.folder / "steer.safetensors")
        for unit in units
        if not unit.permutation
    }
    return pl.DataFrame(lines), steers


def _permutations(task: MemoryTask, settings: MemorySettings) -> int:
    return settings.permutations if task.permutations is None else task.permutations


def attack_unit(unit: MemoryUnit, worker: Worker) -> None:
    """Train one steer and judge it; its folder holds the steer and the line of the table."""
    model, task = load_model(unit.task.model), unit.task
    split = halves(pl.read_parquet(task.rows), unit.settings, unit.permutation)
    data = Labelled(
        [split.texts[one] for one in split.train], np.where(split.inside[split.train], 1.0, -1.0)
    )
    settings = unit.settings.steer.replace(seed=unit.settings.steer.seed + unit.permutation)
    steer = train_steer(model, data, settings, advance=worker.advance).steer
    steer.save(unit.folder / "steer.safetensors")
    facts = {"size": task.size, "label": task.label, "permutation": unit.permutation}
    write_json(facts | judged(model, steer, split), unit.folder / RESULT)


def judged(model: PreTrainedModel, steer: Steer, split: Halves) -> dict[str, Any]:
    """AUC of a steer's evidence and of the likelihood on the half that it was not trained on."""
    texts = [split.texts[one] for one in split.test]
    inside = split.inside[split.test]
    evidence = np.array([one.mean(dtype=float) for one in token_evidence(model, steer, texts)])
    likely = -np.array([one.mean(dtype=float) for one in text_losses(model, texts)])
    of_steer, of_loss = ((one[inside], one[~inside]) for one in (evidence, likely))
    named = [
        ("", "auc", auc_interval(*of_steer)),
        ("loss_", "loss_auc", auc_interval(*of_loss)),
        ("gain_", "gain", auc_gain(of_steer, of_loss)),
    ]
    line: dict[str, Any] = {"rows": len(texts)}
    for prefix, name, (value, lower, upper) in named:
        line |= {name: value, f"{prefix}lower": lower, f"{prefix}upper": upper}
    return line


def memory_summary(attacks: pl.DataFrame) -> pl.DataFrame:
    """Set each steer's AUC beside those of permuted labels.

    Returns
    -------
    A line for each size and label: the attack's columns, and `null`, `null_lower`, `null_upper`
    (mean AUC of permuted labels, and where 95 % of such AUCs fall) and `p_value`, the share of
    permutations, the labels themselves included, whose AUC is as far from .5.
    """
    lines = []
    for line in attacks.filter(pl.col("permutation") == 0).iter_rows(named=True):
        null = attacks.filter(
            (pl.col("size") == line["size"])
            & (pl.col("label") == line["label"])
            & (pl.col("permutation") > 0)
        )["auc"].to_numpy()
        mean, lower, upper = null_interval(null) if len(null) else (None, None, None)
        as_far = int((np.abs(null - 0.5) >= abs(line["auc"] - 0.5)).sum())
        found = {"null": mean, "null_lower": lower, "null_upper": upper}
        lines.append({**line, **found, "p_value": (1 + as_far) / (1 + len(null))})
    return pl.DataFrame(lines).drop("permutation")


def memory_transfers(
    tasks: Sequence[MemoryTask],
    steers: dict[tuple[str, str], Steer],
    settings: MemorySettings,
) -> pl.DataFrame:
    """Judge each size's steer in the other sizes that are asked the same of the same rows.

    Halves are the same in all of them, so the tested rows trained the steer nowhere.

    Returns
    -------
    A line for each pair: `label`, `source`, `target`, `r2` of the embeddings, `auc`, `lower`,
    `upper`.
    """
    lines = []
    for target in tasks:
        split = halves(pl.read_parquet(target.rows), settings)
        for source in tasks:
            same = (source.label, source.rows) == (target.label, target.rows)
            if not same or source.size == target.size:
                continue
            theirs, ours = load_model(source.model), load_model(target.model)
            steer = moved_steer(steers[source.size, source.label], theirs, ours)
            line = judged(ours, steer, split)
            kept = {name: line[name] for name in ("auc", "lower", "upper")}
            pair = {"label": target.label, "source": source.size, "target": target.size}
            lines.append({**pair, "r2": steer.facts["r2"], **kept})
    names = ("label", "source", "target", "r2", "auc", "lower", "upper")
    return pl.DataFrame(lines, schema=None if lines else dict.fromkeys(names, pl.Float64))


def random_steer(steer: Steer, seed: int) -> Steer:
    """Return a steer of the same singular values whose directions are drawn at random."""
    import torch

    generator = torch.Generator().manual_seed(seed)
    values = torch.linalg.svdvals(steer.matrix.double())[: steer.down.shape[1]]
    left, right = (
        torch.linalg.qr(
            torch.randn(steer.width, len(values), generator=generator, dtype=torch.float64)
        ).Q
        for _ in range(2)
    )
    return Steer((left * values).float(), right.T.float(), steer.state, {"random": seed})


def _model_sha256(folder: Path) -> str:
    return digest([file_sha256(one) for one in sorted(folder.glob("*.safetensors"))])


def write_task(path: Path, rows: pl.DataFrame) -> Path:
    """Keep the rows of a task; return the file."""
    with atomic_write(path) as file:
        rows.select("row_id", "tokens", "inside").write_parquet(file)
    return path
