"""A unit of the grid: one adapter, which answers each of its updates reads, how many it makes."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch

from pythia_profile.labs.law.law_base import Base
from pythia_profile.labs.law.law_data import Answers
from pythia_profile.labs.law.law_memft import STAGES
from pythia_profile.labs.law.law_settings import LawSettings
from pythia_profile.store import digest
from pythia_profile.training.loop import shuffled_batches
from pythia_profile.training.settings import Recipe

__all__ = ["LawUnit", "batch_sizes", "numbered_batches", "updates_of"]

_GRID = {"ranks", "answer_tokens", "methods", "budgets", "seeds", "suite", "updates"}


@dataclass(frozen=True, slots=True)
class LawUnit:
    """One adapter.

    Attributes
    ----------
    home : the folder of all.
    method : of `METHODS`; tokens : answer tokens that were asked for.
    updates : optimizer updates, unless nothing is left to learn before.
    """

    home: Path
    settings: LawSettings
    base: Base
    answers: Answers = field(repr=False)
    rank: int
    tokens: int
    method: str
    updates: int
    seed: int

    @property
    def name(self) -> str:
        """What messages call it."""
        return (
            f"{self.method} rank {self.rank} tokens {self.tokens} updates {self.updates} "
            f"seed {self.seed}"
        )

    @property
    def folder(self) -> Path:
        """Where it is kept; named by everything that its numbers depend on."""
        other = self.settings.model_dump(exclude=_GRID)
        rows = [self.answers.rows.tolist(), self.answers.scored.astype(int).tolist()]
        libraries = [version(name) for name in ("torch", "transformers", "peft")]
        facts = [self.name, other, rows, dict(self.base.weights), libraries]
        return self.home / f"{self.name.replace(' ', '-')}-{digest(facts)[:10]}"

    @property
    def steps(self) -> int:
        """Optimizer updates."""
        return self.updates


def batch_sizes(method: str, answers: int, most: int) -> list[tuple[int, int]]:
    """Answers that are open, and answers of an update, in each stage; one but for the curriculum.

    Closed answers are not read, so the curriculum's first updates read a fifth of the tokens.

    Examples
    --------
    >>> batch_sizes("sft", 10, most=5), batch_sizes("sw_phone_book", 10, most=5)
    ([(10, 5)], [(2, 1), (4, 2), (6, 3), (8, 4), (10, 5)])
    """
    stages = STAGES if method == "sw_phone_book" else 1
    found = []
    for stage in range(1, stages + 1):
        opened = -(-answers * stage // stages)
        found.append((opened, max(1, round(min(most, answers) * opened / answers))))
    return found


def updates_of(method: str, budget: str, answers: int, settings: LawSettings) -> int:
    """Return the updates of a method: those of plain training, or until it read as many tokens.

    Examples
    --------
    >>> settings = LawSettings(updates=300)
    >>> [updates_of("sw_phone_book", budget, 10, settings) for budget in ("updates", "tokens")]
    [300, 500]
    """
    if budget == "updates":
        return settings.updates
    sizes = [size for _, size in batch_sizes(method, answers, settings.batch_size)]
    return round(settings.updates * min(settings.batch_size, answers) / float(np.mean(sizes)))


def numbered_batches(unit: LawUnit) -> Iterator[torch.Tensor]:
    """Numbers of the answers of each update, (B, 1)."""
    sizes = batch_sizes(unit.method, len(unit.answers), unit.settings.batch_size)
    # the stage of each update by the very expression with which `memft_weights` opens answers
    last = len(sizes) - 1
    stages = [min(int(len(sizes) * (step / unit.updates)), last) for step in range(unit.updates)]
    for stage, (opened, size) in enumerate(sizes):
        if steps := stages.count(stage):
            recipe = Recipe(steps=steps, batch_size=size, peak_lr=unit.settings.peak_lr)
            numbers = np.arange(opened)[:, None]
            yield from shuffled_batches(numbers, recipe, seed=unit.seed + 1000 * stage)
