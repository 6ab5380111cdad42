"""The loss that an adapter follows, with a check of the threshold in every pass that it makes."""

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import polars as pl
import torch

from pythia_profile.errors import ProfileError
from pythia_profile.labs.law.law_memft import MemftState, memft_loss, memft_weights
from pythia_profile.labs.law.law_pass import answer_losses, forced
from pythia_profile.labs.law.law_tables import token_lines
from pythia_profile.labs.law.law_threshold import threshold, token_facts
from pythia_profile.labs.law.law_unit import LawUnit, batch_sizes
from pythia_profile.training.loop import diverged

__all__ = ["Learning", "NothingLeftError"]


class NothingLeftError(ProfileError):
    """No answer token is below the threshold."""


@dataclass(slots=True)
class Learning:
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
    def of(cls, unit: LawUnit, device: str) -> "Learning":
        """Begin with nothing read."""
        rows, scored = (
            torch.from_numpy(part).to(device) for part in (unit.answers.rows, unit.answers.scored)
        )
        return cls(unit, rows, scored, MemftState(samples=len(rows)))

    def __call__(self, model: Any, numbers: torch.Tensor) -> torch.Tensor:
        """Loss of the answers `numbers` (B, 1), a scalar.

        Raises
        ------
        NothingLeftError
            No answer has a token that the method still trains; unless the plain mean was chosen.
        """
        chosen = numbers[:, 0]
        rows, scored = self.rows[chosen], self.scored[chosen]
        losses, logits = answer_losses(model, rows)
        if not torch.isfinite(losses[scored]).all():  # else none is above the threshold: all done
            raise diverged(self.step + 1)
        facts = token_facts(logits[scored], rows[:, 1:][scored])
        wrong = torch.zeros_like(scored)
        wrong[scored] = torch.from_numpy(~facts.greedy).to(wrong.device)
        self.memory.progress = self.step / self.unit.updates
        self.memory.rows, self.memory.answer, self.memory.wrong = chosen, scored, wrong
        weights = memft_weights(losses, self.unit.method, self.memory)
        self._count(facts, weights)
        if self._is_idle(weights):
            raise NothingLeftError
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
        if not np.isfinite(found.loss[answers.scored]).all():
            raise diverged(self.step)
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
