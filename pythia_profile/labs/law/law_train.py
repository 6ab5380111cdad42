"""One adapter trained on some answers by one method: a unit of the grid.

A unit is a folder: `adapter/` in peft's format, `tokens.parquet` (a line an answer token and
evaluation), `result.json`. It is done when the last is there.
"""

from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, field
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
import torch

from pythia_profile.checkpoints.load import CheckpointLoader
from pythia_profile.execute.worker import Worker
from pythia_profile.labs.law.law_adapter import frozen_digest, save_adapter, with_adapter
from pythia_profile.labs.law.law_base import Base
from pythia_profile.labs.law.law_data import Answers
from pythia_profile.labs.law.law_memft import STAGES, MemftState, memft_loss, memft_weights
from pythia_profile.labs.law.law_pass import answer_losses, forced, written
from pythia_profile.labs.law.law_settings import LawSettings
from pythia_profile.labs.law.law_tables import last_facts, token_lines
from pythia_profile.labs.law.law_threshold import threshold, token_facts
from pythia_profile.store import atomic_write, digest, write_json
from pythia_profile.training.loop import shuffled_batches, start, train
from pythia_profile.training.settings import Recipe

__all__ = ["LawUnit", "batch_sizes", "train_unit", "updates_of"]

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
    >>> batch_sizes("sft", 10, most=64), batch_sizes("sw_phone_book", 10, most=5)
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


def train_unit(unit: LawUnit, worker: Worker) -> None:
    """Train one adapter and keep what it does to every answer token."""
    settings = unit.settings
    model = CheckpointLoader(device=worker.device).load(unit.base.folder)
    before = frozen_digest(model)
    adapted = with_adapter(
        model,
        unit.rank,
        layers=settings.layers,
        modules=settings.modules,
        scaling=settings.scaling,
        seed=unit.seed,
    )
    recipe = Recipe(
        steps=unit.updates,
        batch_size=settings.batch_size,
        peak_lr=settings.peak_lr,
        schedule="linear",
        beta2=0.999,  # AdamW's own default, which the source does not change
    )
    learning = _Learning.of(unit, worker.device)
    shown = {round(unit.updates * part) for part in np.linspace(0, 1, settings.evaluations + 1)}
    tables = [learning.lines(adapted)]
    state = start(adapted, recipe)
    try:
        for update in train(state, _batches(unit), recipe, loss=learning):
            worker.advance(1)
            if update.step in shown:
                tables.append(learning.lines(adapted.eval()))
    except _NothingLeft:
        worker.advance(unit.updates - state.step)
    adapted.eval()
    if tables[-1]["step"][0] != state.step:
        tables.append(learning.lines(adapted))
    right = pl.Series(written(adapted, unit.answers)[unit.answers.scored])
    frame = pl.concat([*tables[:-1], tables[-1].with_columns(written=right)], how="diagonal")
    with atomic_write(unit.folder / "tokens.parquet") as file:
        frame.write_parquet(file)
    save_adapter(adapted, unit.folder / "adapter")
    result = {
        "base": unit.base.name,
        "method": unit.method,
        "rank": unit.rank,
        "tokens_asked": unit.tokens,
        "answer_tokens": unit.answers.tokens,
        "answers": len(unit.answers),
        "seed": unit.seed,
        "updates": unit.updates,
        "made": state.step,
        **last_facts(frame),
        **learning.counts(frame),
        "parameters": sum(p.numel() for p in adapted.parameters() if p.requires_grad),
        "base_unchanged": frozen_digest(adapted) == before,
    }
    write_json(result, unit.folder / "result.json")


class _NothingLeft(Exception):
    """No answer token is below the threshold."""


@dataclass(slots=True)
class _Learning:
    """The loss of a batch of answers by their numbers, and a count of what it read.

    Attributes
    ----------
    idle : answers in a row of which no token had a weight.
    read, trained : answer tokens read, and the sum of their weights.
    above, violations : of them with p > 1/2, and of these not the greedy choice.
    """

    unit: LawUnit
    rows: torch.Tensor
    scored: torch.Tensor
    memory: MemftState
    step: int = 0
    idle: int = 0
    read: int = 0
    trained: float = 0.0
    above: int = 0
    violations: int = 0

    @classmethod
    def of(cls, unit: LawUnit, device: str) -> "_Learning":
        rows, scored = (
            torch.from_numpy(part).to(device) for part in (unit.answers.rows, unit.answers.scored)
        )
        return cls(unit, rows, scored, MemftState(samples=len(rows)))

    def __call__(self, model: Any, numbers: torch.Tensor) -> torch.Tensor:
        chosen = numbers[:, 0]
        rows, scored = self.rows[chosen], self.scored[chosen]
        losses, logits = answer_losses(model, rows)
        facts = token_facts(logits[scored], rows[:, 1:][scored])
        wrong = torch.zeros_like(scored)
        wrong[scored] = torch.from_numpy(~facts.greedy).to(wrong.device)
        self.memory.progress = self.step / self.unit.updates
        self.memory.rows, self.memory.answer, self.memory.wrong = chosen, scored, wrong
        weights = memft_weights(losses, self.unit.method, self.memory)
        self._count(facts, weights)
        if self._is_idle(weights):
            raise _NothingLeft
        self.step += 1
        return memft_loss(losses[scored], weights[scored], when_empty=self.unit.settings.when_empty)

    def _count(self, facts: Any, weights: torch.Tensor) -> None:
        found = threshold(facts.p, facts.greedy)
        self.read += found.tokens
        self.above += found.above
        self.violations += found.violations
        self.trained += float(weights.sum())

    def _is_idle(self, weights: torch.Tensor) -> bool:
        """Whether nothing is left: as many answers in a row as there are had no weight."""
        stages = len(batch_sizes(self.unit.method, len(self.rows), 1))
        all_open = stages * self.memory.progress >= stages - 1
        self.idle = 0 if weights.any() or not all_open else self.idle + len(weights)
        return self.idle >= len(self.rows) and self.unit.settings.when_empty == "stop"

    def lines(self, model: Any) -> pl.DataFrame:
        """Evaluate all answers as they stand; what the method remembers does not change."""
        answers, found = self.unit.answers, forced(model, self.unit.answers)
        memory = deepcopy(self.memory)
        memory.rows = torch.arange(len(answers))
        memory.answer = torch.from_numpy(answers.scored)
        memory.wrong = torch.from_numpy(~found.greedy)
        weights = memft_weights(torch.from_numpy(found.loss), self.unit.method, memory)
        return token_lines(answers, found, weights.numpy(), self.step)

    def counts(self, frame: pl.DataFrame) -> dict[str, Any]:
        """Tokens of training and of evaluation, and those that break the threshold's promise."""
        shown = threshold(frame["p"].to_numpy(), frame["greedy"].to_numpy())
        return {
            "tokens_read": self.read,
            "tokens_trained": self.trained,
            "checked": self.read + shown.tokens,
            "above": self.above + shown.above,
            "violations": self.violations + shown.violations,
        }


def _batches(unit: LawUnit) -> Iterator[torch.Tensor]:
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
