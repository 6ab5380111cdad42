"""A planted corpus, of which it is known how often each sequence occurs, and models trained on it.

In: settings. Out: rows of a bigram language in which some sequences of the same language occur
1, 2, 4, … times, others never; and a run of checkpoints for each shape of a model. What a model
recalls of a sequence can then be set beside how often it was read, everything else being equal.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Self

import numpy as np
import numpy.typing as npt
from pydantic import Field, model_validator

from pythia_profile.execute.worker import Worker
from pythia_profile.settings import Settings
from pythia_profile.store import digest, write_json
from pythia_profile.training.languages import Bigram, Rows, plant
from pythia_profile.training.settings import Recipe
from pythia_profile.training.shapes import ModelShape, tiny_model
from pythia_profile.training.units import RESULT, run_units

__all__ = [
    "PlantedCorpus",
    "PlantedSettings",
    "PlantedUnit",
    "planted_corpus",
    "saved_steps",
    "train_planted",
    "train_planted_unit",
]


class PlantedSettings(Settings):
    """A bigram language, and how often sequences of it are planted."""

    vocabulary: int = Field(64, ge=2, description="token ids of the language")
    tokens: int = Field(32, ge=4, description="tokens of a row, and of a planted sequence")
    frequencies: tuple[int, ...] = Field(
        (1, 2, 4, 8, 16, 32, 64), min_length=1, description="copies of a planted sequence"
    )
    sequences: int = Field(24, ge=1, description="planted sequences of each frequency")
    background: int = Field(1048, ge=0, description="rows of the language beside the copies")
    held_out: int = Field(168, ge=1, description="sequences of the language that are never read")
    concentration: float = Field(
        0.1, gt=0, description="of the Dirichlet of transitions; the smaller, the more predictable"
    )
    batch_size: int = Field(32, ge=1, description="rows of an optimizer step")
    peak_lr: float = Field(5e-3, gt=0, description="learning rate, which falls to 0 linearly")
    seed: int = Field(0, ge=0, description="of language, sequences, places, order and weights")

    @model_validator(mode="after")
    def _ascending(self) -> Self:
        if self.frequencies[0] < 1 or list(self.frequencies) != sorted({*self.frequencies}):
            raise ValueError(
                f"frequencies: got {self.frequencies}, expected ascending counts from 1 on"
            )
        return self

    @property
    def rows(self) -> int:
        """Rows of the corpus: the background's own and all copies."""
        return self.background + self.sequences * sum(self.frequencies)

    def recipe(self, steps: int) -> Recipe:
        """How every shape is trained."""
        return Recipe(
            steps=steps,
            batch_size=self.batch_size,
            peak_lr=self.peak_lr,
            warmup_steps=steps // 50,
        )


@dataclass(frozen=True, slots=True)
class PlantedCorpus:
    """The corpus: n rows of T tokens, k planted sequences, m held-out ones.

    Attributes
    ----------
    rows : (n, T) training rows, copies included.
    which : (n,) planted sequence that a row is a copy of; -1 for the background's own.
    planted : (k, T) planted sequences, by frequency.
    frequency : (k,) rows that are copies of each.
    held_out : (m, T) sequences of the same language that no row is a copy of.
    """

    rows: Rows
    which: Rows
    planted: Rows
    frequency: npt.NDArray[np.int64]
    held_out: Rows


def planted_corpus(settings: PlantedSettings) -> PlantedCorpus:
    """Draw the corpus.

    Examples
    --------
    >>> corpus = planted_corpus(PlantedSettings(frequencies=(1, 3), sequences=2, background=4))
    >>> len(corpus.rows), corpus.frequency.tolist(), np.bincount(corpus.which + 1).tolist()
    (12, [1, 1, 3, 3], [4, 1, 1, 3, 3])
    """
    frequency = np.repeat(settings.frequencies, settings.sequences).astype(np.int64)
    language = Bigram.draw(
        settings.vocabulary, seed=settings.seed, concentration=settings.concentration
    )
    drawn = language.rows(
        settings.rows + len(frequency) + settings.held_out, settings.tokens, seed=settings.seed + 1
    )
    background, planted, held_out = np.split(drawn, [settings.rows, settings.rows + len(frequency)])
    rows, which = plant(background, planted, frequency, seed=settings.seed + 2)
    return PlantedCorpus(rows, which, planted, frequency, held_out)


def saved_steps(steps: int, checkpoints: int) -> tuple[int, ...]:
    """Return the steps after which weights are kept: the start, and equal parts of the run.

    Examples
    --------
    >>> saved_steps(100, 4)
    (0, 25, 50, 75, 100)
    """
    return tuple(sorted({round(steps * part / checkpoints) for part in range(checkpoints + 1)}))


@dataclass(frozen=True, slots=True)
class PlantedUnit:
    """One shape, trained on the corpus of `settings` below `home`."""

    home: Path
    settings: PlantedSettings
    shape: ModelShape
    steps: int
    saved: tuple[int, ...]

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"planted {self.shape.name}"

    @property
    def folder(self) -> Path:
        """Where its checkpoints are: `step0` to the last one."""
        return self.home / self.shape.name

    @property
    def last(self) -> Path:
        """Folder of its last checkpoint."""
        return self.folder / f"step{self.steps}"


def train_planted(
    settings: PlantedSettings,
    shapes: Sequence[ModelShape],
    folder: Path,
    *,
    steps: int,
    checkpoints: int = 4,
    workers: int | None = None,
) -> dict[str, Path]:
    """Train each shape on the corpus, from where it was; return its last checkpoint by its name.

    Earlier checkpoints lie beside the last one, `step0` first. Each model is trained on one thread,
    so that no number depends on how many there are at a time.

    Parameters
    ----------
    folder : of all corpora; each has a folder of its own, named by what its numbers depend on.
    steps : optimizer steps of each shape; the rows are read `steps * batch_size / rows` times.
    checkpoints : that are kept of each run after its start, at equal distances.
    workers : processes at a time; as many as cores by default.
    """
    libraries = [version(name) for name in ("torch", "transformers")]
    home = folder / f"planted-{digest([settings.model_dump(), steps, libraries])[:10]}"
    units = [
        PlantedUnit(home, settings, shape, steps, saved_steps(steps, checkpoints))
        for shape in sorted(shapes, key=lambda one: -one.parameters(settings.vocabulary))
    ]
    title = "training on the planted corpus"
    run_units(units, train_planted_unit, title=title, workers=workers)
    return {unit.shape.name: unit.last for unit in reversed(units)}


def train_planted_unit(unit: PlantedUnit, worker: Worker) -> None:
    """Train one shape to its end in a worker process, from where its folder was left."""
    from pythia_profile.training.loop import resume_or_start, save_state, shuffled_batches, train

    settings, recipe = unit.settings, unit.settings.recipe(unit.steps)
    state = resume_or_start(
        unit.folder,
        unit.saved,
        recipe,
        lambda: tiny_model(unit.shape, settings.vocabulary, settings.tokens, seed=settings.seed),
    )
    worker.advance(state.step)
    rows = planted_corpus(settings).rows
    for update in train(
        state, shuffled_batches(rows, recipe, seed=settings.seed, done=state.step), recipe
    ):
        if update.step in unit.saved:
            save_state(state, unit.folder)
        worker.advance(1)
    write_json({"checkpoint": unit.last.name}, unit.folder / RESULT)
