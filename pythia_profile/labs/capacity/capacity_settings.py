"""What the capacity experiment trains: everything on which one of its numbers depends."""

import os
from typing import Any, Literal, Self

from pydantic import Field, model_validator

from pythia_profile.errors import RefusedError
from pythia_profile.settings import Settings
from pythia_profile.training.settings import Recipe
from pythia_profile.training.shapes import ModelShape

__all__ = ["CapacitySettings", "TextSettings", "demo_settings"]

STEPS_A_MINUTE = 0.05
"""Steps a parameter that the demo gets for each minute of two idle cores; fixed, never measured, so
that equal minutes mean equal numbers on every machine."""


class CapacitySettings(Settings):
    """Sizes times numbers of rows of uniform tokens, each trained alone."""

    sizes: tuple[ModelShape, ...] = Field(
        (ModelShape(width=12, layers=2), ModelShape(width=20, layers=2)),
        min_length=1,
        description="shapes; models of one layer hold less a parameter the wider they are",
    )
    vocabulary: int = Field(64, ge=2, description="V, tokens that occur, all alike")
    tokens: int = Field(16, ge=3, description="S, tokens of a row")
    bits_per_parameter: tuple[float, ...] = Field(
        (0.25, 0.5, 1.0, 1.5, 2.0, 3.0, 4.5),
        description="data bits for each parameter; gives the numbers of rows of each size",
    )
    rows: tuple[int, ...] = Field((), description="numbers of rows, in place of the above")
    steps_per_parameter: float = Field(0.25, gt=0, description="optimizer steps, by parameters")
    steps: int | None = Field(None, ge=10, description="optimizer steps, in place of the above")
    batch_size: int = Field(64, ge=1, description="rows of a step")
    peak_lr: float = Field(1e-2, gt=0, description="learning rate, which falls to 0 linearly")
    dtypes: tuple[Literal["float32", "bfloat16"], ...] = Field(
        ("float32",), min_length=1, description="precisions of the weights"
    )
    seeds: tuple[int, ...] = Field((0,), min_length=1, description="of data and initial weights")
    test_rows: int = Field(512, ge=10, description="rows that no model reads")
    converged: float = Field(
        0.02, gt=0, lt=1, description="largest share of the gain in the last fifth of training"
    )

    @model_validator(mode="after")
    def _possible(self) -> Self:
        for name, values in (("rows", self.rows), ("bits_per_parameter", self.bits_per_parameter)):
            if any(value <= 0 for value in values) or not (self.rows or self.bits_per_parameter):
                raise ValueError(f"{name}: got {values}, expected numbers above 0")
        if any(seed < 0 for seed in self.seeds):
            raise ValueError(f"seeds: got {self.seeds}, expected whole numbers from 0 on")
        most, kinds = max(map(max, map(self.rows_of, self.sizes))), self.vocabulary**self.tokens
        if 2 * (most + self.test_rows) > kinds:
            raise ValueError(
                f"rows: got {most:,} and {self.test_rows:,} to test, expected at most half of the "
                f"{kinds:,} different rows of {self.tokens} tokens out of {self.vocabulary}"
            )
        return self

    def rows_of(self, size: ModelShape) -> tuple[int, ...]:
        """Numbers of rows that a size is trained on, ascending."""
        from math import log2

        data = self.tokens * log2(self.vocabulary)
        wanted = self.rows or [
            max(2, round(bits * size.parameters(self.vocabulary) / data))
            for bits in self.bits_per_parameter
        ]
        return tuple(sorted({*wanted}))

    def recipe(self, size: ModelShape) -> Recipe:
        """How a size is trained, on whatever number of rows."""
        by_size = max(10, round(self.steps_per_parameter * size.parameters(self.vocabulary)))
        steps = self.steps or by_size
        return Recipe(
            steps=steps,
            batch_size=self.batch_size,
            peak_lr=self.peak_lr,
            warmup_steps=steps // 50,
        )

    def check_memory(self, workers: int) -> None:
        """Refuse what cannot fit.

        Raises
        ------
        RefusedError
            The rows of all workers need more than half of this machine's memory.
        """
        most = max(max(self.rows_of(size)) for size in self.sizes)
        # rows drawn, sorted and as a tensor; losses of every token; all in 8 bytes
        needed = workers * 4 * 8 * (most + self.test_rows) * self.tokens
        there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
        if needed > there // 2:
            raise RefusedError(
                f"rows: {most:,} rows of {self.tokens:,} tokens need {needed / 1e9:,.1f} GB for "
                f"{workers} workers, this machine has {there / 1e9:,.1f} GB; take fewer rows, "
                "shorter ones, or fewer --workers"
            )


def demo_settings(minutes: float, seed: int) -> CapacitySettings:
    """Return the demo's settings: two sizes, seven numbers of rows each."""
    values: dict[str, Any] = {"steps_per_parameter": STEPS_A_MINUTE * minutes, "seeds": (seed,)}
    return CapacitySettings(**values)


class TextSettings(Settings):
    """Rows of Python's own sources: numbers of them that a model learns, and its references."""

    size: ModelShape = Field(ModelShape(width=32), description="shape of the target")
    larger: ModelShape = Field(
        ModelShape(width=64, layers=2, heads=4), description="shape of the larger reference"
    )
    rows: tuple[int, ...] = Field(
        (32, 128, 512, 2048), min_length=1, description="numbers of rows that a target reads"
    )
    superset: int = Field(
        4096, ge=2, description="rows that both references read; a target's are the first of them"
    )
    test_rows: int = Field(512, ge=10, description="rows that no model reads")
    vocabulary: int = Field(1024, ge=300, description="V, entries of the byte-level BPE")
    tokens: int = Field(65, ge=9, description="S, tokens of a row")
    steps: int = Field(1000, ge=10, description="optimizer steps of every model")
    batch_size: int = Field(32, ge=1, description="rows of a step")
    peak_lr: float = Field(5e-3, gt=0, description="learning rate, which falls to 0 linearly")
    prefixes: tuple[int, ...] = Field(
        (8, 16, 32), min_length=1, description="tokens that are given for the next ones"
    )
    following: int = Field(8, ge=1, description="next tokens that must be right")
    seed: int = Field(0, ge=0, description="of files, rows and initial weights")

    @model_validator(mode="after")
    def _possible(self) -> Self:
        if min(self.rows) < 2 or max(self.rows) >= self.superset:
            raise ValueError(
                f"rows: got {self.rows}, expected numbers from 2 on, below the superset's "
                f"{self.superset:,}"
            )
        if min(self.prefixes) < 1 or max(self.prefixes) + self.following > self.tokens:
            raise ValueError(
                f"prefixes: got {self.prefixes} with {self.following} following tokens, expected "
                f"at most the {self.tokens} tokens of a row together"
            )
        return self

    @property
    def recipe(self) -> Recipe:
        """How every model is trained."""
        return Recipe(
            steps=self.steps,
            batch_size=self.batch_size,
            peak_lr=self.peak_lr,
            warmup_steps=self.steps // 50,
        )
