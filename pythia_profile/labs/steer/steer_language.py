"""A language of two styles, of which it is known what a steer of a model of it should find.

Tokens 0 to 7 belong to the one style and 8 to 15 to the other; the rest are a bigram language that
both share, and all tokens are about equally frequent. Some rows are planted so often that models
know them by heart; which ones is random.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import numpy as np
import numpy.typing as npt
from pydantic import Field

from pythia_profile.execute.worker import Worker
from pythia_profile.labs.steer.steer_texts import Labelled
from pythia_profile.settings import Settings
from pythia_profile.store import digest, write_json
from pythia_profile.training.languages import Bigram, Rows, plant
from pythia_profile.training.loop import shuffled_batches, start, train
from pythia_profile.training.settings import Recipe
from pythia_profile.training.shapes import ModelShape, tiny_model
from pythia_profile.training.units import RESULT, run_units

__all__ = ["TwoStyles", "TwoStylesCorpus", "speakers", "two_styles", "two_styles_corpus"]

LEXICON = 8
"""Tokens of each style's lexicon."""


class TwoStyles(Settings):
    """The language, the corpus, and how models are trained on it."""

    vocabulary: int = Field(64, ge=24, description="token ids; 16 of them are lexicons")
    tokens: int = Field(24, ge=8, description="tokens of a row")
    share: float = Field(0.21, gt=0, lt=1, description="of tokens from the row's own lexicon")
    other_share: float = Field(0.04, ge=0, lt=1, description="of tokens from the other lexicon")
    rows: int = Field(8192, ge=64, description="rows of the corpus, copies included")
    planted: int = Field(64, ge=2, description="rows drawn alike, of which half are planted")
    copies: int = Field(80, ge=1, description="of each planted row")
    steps: int = Field(700, ge=1, description="updates of a model")
    batch_size: int = Field(64, ge=1, description="rows of an update")
    peak_lr: float = Field(5e-3, gt=0, description="highest learning rate")
    seed: int = Field(0, ge=0, description="of language, rows and weights")

    @property
    def lexicons(self) -> dict[str, list[int]]:
        """Token ids of the style of label 1, and of that of label −1."""
        return {"plus": [*range(LEXICON)], "minus": [*range(LEXICON, 2 * LEXICON)]}

    @property
    def recipe(self) -> Recipe:
        """How a model is trained on the corpus."""
        return Recipe(
            steps=self.steps, batch_size=self.batch_size, peak_lr=self.peak_lr, warmup_steps=20
        )


def two_styles(language: TwoStyles, rows: int, *, seed: int) -> Labelled:
    """Draw rows of both styles, half and half, labelled 1 and −1.

    Examples
    --------
    >>> drawn = two_styles(TwoStyles(), 1000, seed=1)
    >>> plus = np.array(drawn.texts)[drawn.labels > 0]
    >>> round(float((plus < 8).mean()), 2), round(float(((plus >= 8) & (plus < 16)).mean()), 2)
    (0.21, 0.04)
    """
    rng = np.random.default_rng([language.seed, seed, 1])
    shared = Bigram.draw(
        language.vocabulary - 2 * LEXICON, seed=language.seed, concentration=0.3
    ).rows(rows, language.tokens, seed=int(rng.integers(2**31)))
    labels = np.where(np.arange(rows) % 2, -1, 1)
    draw = rng.random(shared.shape)
    own = (labels[:, None] < 0) * LEXICON + rng.integers(LEXICON, size=shared.shape)
    other = (own + LEXICON) % (2 * LEXICON)
    words = np.where(draw < language.share, own, other)
    spoken = draw < language.share + language.other_share
    found = np.where(spoken, words, shared + 2 * LEXICON)
    return Labelled(list(found.astype(np.int64)), labels.astype(np.float64))


@dataclass(frozen=True, slots=True)
class TwoStylesCorpus:
    """What models are trained on.

    Attributes
    ----------
    rows : (n, T), in no order.
    candidates : (m, T) rows drawn alike, half of them planted.
    read : (m,) which were planted, by a fair draw; the others are in no row.
    """

    rows: Rows
    candidates: Rows
    read: npt.NDArray[np.bool_]


def two_styles_corpus(language: TwoStyles) -> TwoStylesCorpus:
    """Draw the corpus of a language."""
    background = np.array(two_styles(language, language.rows, seed=0).texts)
    candidates = np.array(two_styles(language, language.planted, seed=1).texts)
    drawn = np.random.default_rng([language.seed, 2]).permutation(language.planted)
    read = np.zeros(language.planted, dtype=bool)
    read[drawn[: language.planted // 2]] = True
    rows, _ = plant(background, candidates[read], language.copies, seed=language.seed)
    return TwoStylesCorpus(rows, candidates, read)


@dataclass(frozen=True, slots=True)
class SpeakerUnit:
    """A model of the language, in a folder of `home`."""

    home: Path
    language: TwoStyles
    shape: ModelShape

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"speaker {self.shape.name}"

    @property
    def folder(self) -> Path:
        """Where it is kept; named by everything that its weights depend on."""
        libraries = [version(name) for name in ("torch", "transformers")]
        own = [self.language.model_dump(), self.shape.model_dump(), libraries]
        return self.home / f"speaker-{self.shape.name}-{digest(own)[:10]}"

    @property
    def model(self) -> Path:
        """Folder of the trained model."""
        return self.folder / "model"

    @property
    def steps(self) -> int:
        """Updates."""
        return self.language.steps


def speakers(
    home: Path, language: TwoStyles, shapes: Sequence[ModelShape], *, workers: int | None = None
) -> list[Path]:
    """Train a model of each shape on the corpus; return their folders."""
    units = [SpeakerUnit(home, language, shape) for shape in shapes]
    run_units(units, train_speaker, title="training models of two styles", workers=workers)
    return [unit.model for unit in units]


def train_speaker(unit: SpeakerUnit, worker: Worker) -> None:
    """Train one model; its folder is whole before the unit is done."""
    language, recipe = unit.language, unit.language.recipe
    rows = two_styles_corpus(language).rows
    model = tiny_model(unit.shape, language.vocabulary, language.tokens, seed=language.seed)
    losses = []
    batches = shuffled_batches(rows, recipe, seed=language.seed)
    for update in train(start(model, recipe), batches, recipe):
        losses.append(update.loss)
        worker.advance(1)
    model.save_pretrained(unit.model)
    last = sum(float(loss) for loss in losses[-20:]) / len(losses[-20:])
    write_json({"model": unit.shape.name, "loss": last}, unit.folder / RESULT)
