"""What a model says of answers: every token under teacher forcing, and what it writes by itself.

n answers, T tokens of a row; results are (n, T - 1), one entry a target, and mean nothing where a
target is not of the answer.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch.nn.functional import cross_entropy

from pythia_profile.labs.law.law_data import Answers
from pythia_profile.labs.law.law_threshold import token_facts

__all__ = ["LOGITS_BYTES", "Forced", "answer_losses", "forced", "written"]

_LOGITS = 2**26
"""Entries of logits that one pass may make: a quarter of a GB."""

LOGITS_BYTES = 2**30
"""Of a pass: logits, what the softmax makes of them, and the attention beside."""


@dataclass(frozen=True, slots=True)
class Forced:
    """Facts of every target, of one pass in float32.

    Attributes
    ----------
    loss : (n, T - 1) nats; p, margin, greedy : (n, T - 1) as `TokenFacts`.
    """

    loss: npt.NDArray[np.float32]
    p: npt.NDArray[np.float32]
    margin: npt.NDArray[np.float32]
    greedy: npt.NDArray[np.bool_]


def answer_losses(model: Any, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Losses (B, T - 1) of all targets, with gradient, and the float32 logits (B, T - 1, V)."""
    logits = model(input_ids=rows[:, :-1]).logits.float()
    return cross_entropy(logits.transpose(1, 2), rows[:, 1:], reduction="none"), logits


@torch.no_grad()
def forced(model: Any, answers: Answers) -> Forced:
    """Read all answers under teacher forcing."""
    parts: dict[str, list[Any]] = {name: [] for name in ("loss", "p", "margin", "greedy")}
    for rows in _batches(model, answers):
        loss, logits = answer_losses(model, rows)
        facts = token_facts(logits.flatten(0, 1), rows[:, 1:].flatten())
        parts["loss"].append(loss.cpu().numpy())
        for name in ("p", "margin", "greedy"):
            parts[name].append(getattr(facts, name).reshape(loss.shape))
    return Forced(**{name: np.concatenate(found) for name, found in parts.items()})


@torch.no_grad()
def written(model: Any, answers: Answers) -> npt.NDArray[np.bool_]:
    """Let the model write each answer by itself, greedily; (n, T - 1) whether a token is right.

    What it wrote stands in for the answer from then on. Keys and values of earlier tokens are kept,
    so the arithmetic is another than that of one pass over all tokens.
    """
    parts = []
    given = torch.from_numpy(~answers.scored)
    for rows, fixed in zip(_batches(model, answers), _split(model, answers, given), strict=True):
        first = int(fixed.int().argmin(dim=1).min())  # nobody writes before the earliest answer
        wrote = rows.clone()
        past, at = None, 0
        for target in range(first + 1, rows.shape[1]):
            found = model(input_ids=wrote[:, at:target], past_key_values=past, use_cache=True)
            past, at = found.past_key_values, target
            choice = found.logits[:, -1].float().argmax(dim=-1)
            wrote[:, target] = torch.where(fixed[:, target - 1], rows[:, target], choice)
        parts.append((wrote == rows)[:, 1:].cpu().numpy())
    return np.concatenate(parts)


def _batches(model: Any, answers: Answers) -> tuple[torch.Tensor, ...]:
    return _split(model, answers, torch.from_numpy(answers.rows))


def _split(model: Any, answers: Answers, values: torch.Tensor) -> tuple[torch.Tensor, ...]:
    entries = answers.rows.shape[1] * model.config.vocab_size
    found: tuple[torch.Tensor, ...] = torch.split(
        values.to(model.device), max(1, _LOGITS // entries)
    )
    return found
