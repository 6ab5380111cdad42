"""Settings of the mini suite: tiny GPT-NeoX models trained on the spot, in Pythia's own formats.

Everything that a number could depend on; its hash, with the corpus and the library versions,
names the folder in the cache, so two settings never share a checkpoint.
"""

from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

from pythia_profile.errors import StudyError, check_kind, not_found
from pythia_profile.store import digest
from pythia_profile.training.settings import Recipe

__all__ = ["MINI_SIZES", "MiniConfig", "Shape"]

_FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Shape:
    """Width, layers and heads of one mini model; the inner width is four times the width."""

    width: int
    layers: int
    heads: int


MINI_SIZES: dict[str, Shape] = {
    "xs": Shape(width=32, layers=2, heads=2),
    "s": Shape(width=48, layers=2, heads=3),
    "m": Shape(width=64, layers=3, heads=4),
    "l": Shape(width=128, layers=4, heads=8),
}
"""The four sizes, smallest first: 91k, 155k, 281k and 1.06M parameters."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MiniConfig:
    """How the mini suite is made.

    Attributes
    ----------
    seed : of file order, row order and initial weights.
    vocabulary, row_tokens : entries of the byte-level BPE; tokens of a row, last target included.
    batch_size, steps, interval : rows a step; optimizer steps; steps between checkpoints.
    never_treated, spare : rows that no step reads, as controls and as replacements.
    peak_lr, min_lr, warmup_steps : of the schedule `neox_v1`.
    beta1, beta2, weight_decay, clip : AdamW, and the largest norm of a gradient.
    duplicate_share, duplicate_grams : a row is dropped when this share of its token n-grams of
        this length occur in another row.
    """

    seed: int = 0
    vocabulary: int = 1024
    row_tokens: int = 65
    batch_size: int = 16
    steps: int = 512
    interval: int = 32
    never_treated: int = 1024
    spare: int = 512
    peak_lr: float = 6e-3
    min_lr: float = 6e-4
    warmup_steps: int = 5
    beta1: float = 0.9
    beta2: float = 0.95
    weight_decay: float = 0.01
    clip: float = 1.0
    duplicate_share: float = 0.3
    duplicate_grams: int = 12

    def __post_init__(self) -> None:
        if self.seed < 0:
            raise StudyError(f"seed: got {self.seed}, expected a whole number from 0 on")
        if self.steps % self.interval:
            raise StudyError(
                f"steps: got {self.steps}, expected a multiple of the interval {self.interval}"
            )

    @property
    def checkpoints(self) -> tuple[int, ...]:
        """Steps at which weights are kept, 0 and the last one included."""
        return tuple(range(0, self.steps + 1, self.interval))

    @property
    def recipe(self) -> Recipe:
        """How each size is trained."""
        return Recipe(
            steps=self.steps,
            batch_size=self.batch_size,
            peak_lr=self.peak_lr,
            min_lr=self.min_lr,
            warmup_steps=self.warmup_steps,
            schedule="neox_v1",
            beta1=self.beta1,
            beta2=self.beta2,
            weight_decay=self.weight_decay,
            clip=self.clip,
        )

    @property
    def training_rows(self) -> int:
        """Rows that some step reads."""
        return self.batch_size * self.steps

    @property
    def rows(self) -> int:
        """All rows of the store: read, never-treated, spare."""
        return self.training_rows + self.never_treated + self.spare

    def key(self, corpus_sha256: str) -> str:
        """Name of this suite in the cache: settings, corpus and the libraries that train it."""
        libraries = {name: version(name) for name in ("torch", "transformers", "tokenizers")}
        facts: dict[str, Any] = {**asdict(self), "corpus": corpus_sha256, "format": _FORMAT}
        return digest(facts | libraries)[:16]


def shape(size: str) -> Shape:
    """Return the shape of a mini size; a typo is answered with near matches."""
    check_kind(size, str, "size", "the name of one")
    if size not in MINI_SIZES:
        raise not_found("size in suite 'mini':", size, list(MINI_SIZES))
    return MINI_SIZES[size]
