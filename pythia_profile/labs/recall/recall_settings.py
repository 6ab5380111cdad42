"""Settings of the lab: how long prompts and continuations are, and what the demo trains."""

from typing import Self

from pydantic import Field, model_validator

from pythia_profile.settings import Settings
from pythia_profile.training.planted import PlantedSettings
from pythia_profile.training.shapes import ModelShape

__all__ = ["Lengths", "RecallSettings"]


class Lengths(Settings):
    """How much of a row is read, and how much is to be given back.

    Examples
    --------
    >>> Lengths(prompt=16, continuation=8).scorers(exact_only=False)
    ('exact_16_8', 'recall_16_8')
    """

    prompt: int = Field(32, ge=1, description="tokens that the model reads")
    continuation: int = Field(32, ge=1, description="tokens after them that it is to give back")

    @property
    def exact(self) -> str:
        """Scorer of whole matches and of the continuation's probability, by one forward pass."""
        return f"exact_{self.prompt}_{self.continuation}"

    @property
    def recall(self) -> str:
        """Scorer that decodes: share of matching tokens, whole matches, leading ones."""
        return f"recall_{self.prompt}_{self.continuation}"

    def scorers(self, *, exact_only: bool) -> tuple[str, ...]:
        """Scorers that are needed; nothing is decoded where whole matches are enough."""
        return (self.exact,) if exact_only else (self.exact, self.recall)


class RecallSettings(Settings):
    """What the demo trains and prompts."""

    corpus: PlantedSettings = Field(PlantedSettings(), description="The planted corpus.")
    sizes: tuple[ModelShape, ...] = Field(
        (
            ModelShape(width=16, layers=2),
            ModelShape(width=32, layers=2),
            ModelShape(width=64, layers=2),
            ModelShape(width=96, layers=3),
        ),
        min_length=1,
        description="shapes that are trained on it",
    )
    steps: int = Field(1500, ge=10, description="optimizer steps of each")
    checkpoints: int = Field(4, ge=1, description="kept of each run after its start")
    lengths: Lengths = Field(
        Lengths(prompt=16, continuation=16), description="Prompt and continuation."
    )
    draws: int = Field(64, ge=1, description="samples of each sequence, to check the closed form")

    @model_validator(mode="after")
    def _fits_into_a_row(self) -> Self:
        needed = self.lengths.prompt + self.lengths.continuation
        if needed > self.corpus.tokens:
            raise ValueError(
                f"lengths: got {needed} tokens of prompt and continuation, rows have "
                f"{self.corpus.tokens}"
            )
        return self
