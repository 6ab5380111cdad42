"""Training a steer: the likelihood of each text, steered by its label, is made as large as it gets.

The model is frozen. Beside the steer, whose strength is a text's label, a second one of constant
strength 1 learns what all texts have in common, so that the first need not.

Source: Han et al. (2024), arXiv 2305.12798, section 3; padding is left out of the loss, unlike in
the released code.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from hashlib import sha256
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn
from transformers.modeling_utils import PreTrainedModel

from pythia_profile.labs.steer.steer_map import Steer, output_head
from pythia_profile.labs.steer.steer_settings import SteerError, SteerSettings
from pythia_profile.labs.steer.steer_texts import (
    Labelled,
    Tokens,
    cut_to_context,
    padded,
    target_losses,
)
from pythia_profile.training.hooks import LowRank, changed_input
from pythia_profile.training.loop import shuffled_batches

__all__ = ["TrainedSteer", "train_steer"]


@dataclass(frozen=True, slots=True)
class TrainedSteer:
    """What training gives.

    Attributes
    ----------
    steer : at 1 and −1 as strong as for texts of these labels.
    domain : the steer of constant strength: what the texts differ in from the model's own.
    losses : (steps,) nats per token of each update's batch, before the update.
    notes : what was done to the texts.
    """

    steer: Steer
    domain: Steer
    losses: npt.NDArray[np.float64]
    notes: list[str]


def train_steer(
    model: PreTrainedModel,
    data: Labelled,
    settings: SteerSettings | None = None,
    *,
    advance: Callable[[int], None] | None = None,
) -> TrainedSteer:
    """Train a steer of `model` on labelled texts; the model is as before.

    Parameters
    ----------
    advance : called with 1 after every update.

    Raises
    ------
    SteerError
        The model has no output matrix, or the texts are not its.
    """
    settings = settings or SteerSettings()
    head = output_head(model)
    if settings.rank > (width := head.weight.shape[1]):
        raise SteerError(f"rank: got {settings.rank:,}, expected at most the width, {width:,}")
    texts, notes = cut_to_context(model, data.texts, settings.longest)
    pair = _Pair(head.weight.shape[1], settings).to(model.device)
    with _frozen(model):
        losses = _fit(model, pair, texts, data.labels, settings, advance or (lambda _: None))
    facts = _facts(model, data, settings, losses, notes)
    state = (pair.total / pair.count).cpu()
    steer, domain = (
        Steer(
            (settings.strength * one.down).detach().cpu(),
            one.up.detach().cpu(),
            state,
            {**facts, "part": part},
        )
        for one, part in ((pair.label, "label"), (pair.domain, "domain"))
    )
    return TrainedSteer(steer, domain, np.array(losses), notes)


class _Pair(nn.Module):
    """The steer and the one of constant strength, and the sum of the states that they are given."""

    total: torch.Tensor

    def __init__(self, width: int, settings: SteerSettings) -> None:
        super().__init__()
        self.label, self.domain = (
            LowRank(width, settings.rank, seed=2 * settings.seed + number, sd=settings.sd)
            for number in range(2)
        )
        self.strength = settings.strength
        self.register_buffer("total", torch.zeros(width))
        self.count = 0

    def moved(self, states: torch.Tensor, values: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        """Move states (B, T − 1, width), of which some are real, by a value for each text (B,)."""
        wide = states.float()
        self.total += wide[real].sum(dim=0)
        self.count += int(real.sum())
        added = values[:, None, None] * self.label(wide) + self.domain(wide)
        moved: torch.Tensor = states + (self.strength * added).to(states)
        return moved


@contextmanager
def _frozen(model: PreTrainedModel) -> Iterator[None]:
    """Keep a model as it is, dropout off, and leave it as it was."""
    was_training = model.training
    asked = [parameter for parameter in model.parameters() if parameter.requires_grad]
    model.train(False).requires_grad_(False)
    try:
        yield
    finally:
        model.train(was_training)
        for parameter in asked:
            parameter.requires_grad_(True)


def _fit(
    model: PreTrainedModel,
    pair: _Pair,
    texts: list[Tokens],
    labels: npt.NDArray[np.float64],
    settings: SteerSettings,
    advance: Callable[[int], None],
) -> list[float]:
    """Make the updates; return the loss of each batch, nats per real token."""
    recipe, head, losses = settings.recipe, output_head(model), []
    betas = (recipe.beta1, recipe.beta2)
    optimizer = torch.optim.AdamW(pair.parameters(), betas=betas, weight_decay=0.0)
    values = torch.tensor(labels, dtype=torch.float32, device=model.device)
    places = shuffled_batches(np.arange(len(texts))[:, None], recipe, seed=settings.seed)
    for rate, place in zip(recipe.rates().tolist(), places, strict=True):
        chosen = place[:, 0].tolist()
        ids, real = padded([texts[one] for one in chosen], model.device)
        with changed_input(head, partial(pair.moved, values=values[chosen], real=real)):
            loss = target_losses(model, ids)[real].mean()
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        losses.append(float(loss.detach()))
        if not np.isfinite(losses[-1]):
            raise SteerError(
                f"diverged at step {len(losses)}: its loss is not finite; lower learning_rate"
            )
        advance(1)
    # what the last update made is in no loss; as large as it is, W must be a number
    sizes = [one.down.norm() * one.up.norm() for one in (pair.label, pair.domain)]
    if not all(bool(size.isfinite()) for size in sizes):
        raise SteerError(
            f"diverged at step {len(losses)}: the steer is not finite; lower learning_rate"
        )
    return losses


def _facts(
    model: PreTrainedModel,
    data: Labelled,
    settings: SteerSettings,
    losses: list[float],
    notes: list[str],
) -> dict[str, Any]:
    head = output_head(model).weight
    content = head.detach().float().cpu().contiguous().numpy().tobytes()
    tied = model.get_input_embeddings().weight is head
    return {
        "model": type(model).__name__,
        "vocabulary": head.shape[0],
        "width": head.shape[1],
        "tied": tied,
        "output_matrix_sha256": sha256(content).hexdigest(),
        "texts": len(data.texts),
        "labels": [float(data.labels.min()), float(data.labels.max())],
        "notes": notes,
        "settings": settings.model_dump(mode="json"),
        "loss": [losses[0], losses[-1]],
    }
