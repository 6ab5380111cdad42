"""What the lab measures, and on what: everything on which one of its numbers depends."""

from typing import Literal, Self

from pydantic import Field, model_validator

from pythia_profile.settings import Settings
from pythia_profile.training.planted import PlantedSettings
from pythia_profile.training.shapes import ModelShape

__all__ = ["InternalsSettings", "Measuring", "demo_settings"]


class Measuring(Settings):
    """How rows are told apart, and what is measured of them."""

    prompt: int = Field(32, ge=1, description="tokens of a row that are given")
    continuation: int = Field(32, ge=1, description="tokens after them that are compared")
    unmemorized: float = Field(
        0.5, ge=0, lt=1, description="a row is not memorized where M is this or less"
    )
    most_rows: int = Field(128, ge=8, description="rows of a group, drawn where there are more")
    candidates: int = Field(
        1024, ge=8, description="rows of each kind (read, not yet, never) that are looked at"
    )
    strengths: tuple[float, ...] = Field(
        (0.1, 0.3, 0.5), min_length=1, description="α of noise, in lengths of the residual stream"
    )
    noise_draws: int = Field(2, ge=1, description="directions of noise; means are taken over them")
    tuned_steps: int = Field(
        200, ge=0, description="updates of the tuned lens; 0 leaves the tuned lens out"
    )
    top_share: float = Field(0.2, gt=0, lt=1, description="heads that count as important")
    relabelings: int = Field(199, ge=19, description="of the test of two domains")
    dtype: Literal["float32", "bfloat16", "float16"] = Field(
        "float32", description="precision in which a model is run"
    )
    seed: int = Field(0, ge=0, description="of noise, draws of rows, halves and relabelings")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if any(strength <= 0 for strength in self.strengths):
            raise ValueError(f"strengths: got {self.strengths}, expected numbers above 0")
        return self

    @property
    def tokens(self) -> int:
        """Tokens of a row that are looked at."""
        return self.prompt + self.continuation


class InternalsSettings(Settings):
    """Models of a planted corpus, and what is measured inside them."""

    sizes: tuple[ModelShape, ...] = Field(
        (
            ModelShape(width=16, layers=2, heads=4),
            ModelShape(width=32, layers=3, heads=4),
            ModelShape(width=64, layers=3, heads=8),
            ModelShape(width=96, layers=3, heads=8),
        ),
        min_length=1,
        description="shapes",
    )
    steps: int = Field(1000, ge=10, description="optimizer steps of each shape")
    planted: PlantedSettings = Field(PlantedSettings(), description="The corpus.")
    measure: Measuring = Field(
        Measuring(prompt=16, continuation=16), description="What is measured."
    )

    @model_validator(mode="after")
    def _long_enough(self) -> Self:
        if self.planted.tokens < self.measure.tokens:
            raise ValueError(
                f"planted.tokens: got {self.planted.tokens}, expected {self.measure.tokens} or "
                "more, measure.prompt and measure.continuation together"
            )
        if alone := [size.name for size in self.sizes if size.heads == 1]:
            raise ValueError(
                f"sizes: {alone[0]} has one head in a layer, expected 2 or more: a head is "
                "replaced by the mean of the others"
            )
        names = [size.name for size in self.sizes]
        if len({*names}) < len(names):
            raise ValueError(f"sizes: got {', '.join(names)}, expected each width and depth once")
        return self


def demo_settings(seed: int) -> InternalsSettings:
    """Return the demo's settings: four sizes, 24 sequences at each of 1, 2, 4, …, 64 copies."""
    measure = Measuring(prompt=16, continuation=16, seed=seed)
    # enough rows that were never read to find partners of the memorized ones
    return InternalsSettings(planted=PlantedSettings(seed=seed, held_out=600), measure=measure)
