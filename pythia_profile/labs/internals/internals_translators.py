"""The tuned lens: an affine map for each layer, trained so that the lens says what the model says.

In: a model and token rows that are not evaluated. Out: maps h ↦ h + h A + b, the identity at first
and for the last layer always.

Source: Belrose et al. (2023), arXiv 2303.08112, equation 7; trained here by Adam.
"""

import torch
from torch import nn
from torch.nn.functional import kl_div
from transformers.modeling_utils import PreTrainedModel

from pythia_profile.training.hooks import parts_of, residuals
from pythia_profile.training.languages import Rows
from pythia_profile.training.loop import shuffled_batches
from pythia_profile.training.settings import Recipe

__all__ = ["Translators", "train_translators"]


class Translators(nn.Module):
    """Maps h ↦ h + h A_l + b_l of the layers before the last; the identity before training.

    Attributes
    ----------
    slope, shift : (L, width, width) and (L, width), A and b.
    """

    def __init__(self, layers: int, width: int) -> None:
        super().__init__()
        self.slope = nn.Parameter(torch.zeros(layers, width, width))
        self.shift = nn.Parameter(torch.zeros(layers, width))

    def forward(self, states: torch.Tensor, layer: int) -> torch.Tensor:
        """Map the states (..., width) of a layer; those of the last are returned as they are."""
        if layer == len(self.shift):
            return states
        wide = states.float()
        mapped: torch.Tensor = wide + wide @ self.slope[layer] + self.shift[layer]
        return mapped.to(states.dtype)


def train_translators(
    model: PreTrainedModel, rows: Rows, *, steps: int, seed: int, batch_size: int = 16
) -> Translators:
    """Minimize KL(model ‖ lens) of every layer over all positions of `rows` (n, T).

    The model's own weights stay as they are. The layers do not share parameters, so each is trained
    as if alone.
    """
    parts = parts_of(model)
    recipe = Recipe(steps=steps, batch_size=min(batch_size, len(rows)), peak_lr=3e-3)
    made = Translators(len(parts.blocks), model.config.hidden_size).to(model.device)
    optimizer = torch.optim.Adam(made.parameters(), lr=recipe.peak_lr)
    fall = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.05, steps)
    weights = [one for one in model.parameters() if one.requires_grad]
    for one in weights:
        one.requires_grad_(False)
    try:
        for batch in shuffled_batches(rows, recipe, seed=seed):
            with torch.no_grad(), residuals(model) as states:
                own = model(input_ids=batch.to(model.device), use_cache=False).logits
            target = own.float().log_softmax(dim=-1)
            loss = torch.zeros((), device=model.device)
            for layer, state in enumerate(states[:-1]):
                said = parts.head(parts.norm(made(state, layer))).float().log_softmax(dim=-1)
                kl = kl_div(
                    said.flatten(0, 1), target.flatten(0, 1), log_target=True, reduction="batchmean"
                )
                loss = loss + kl
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            optimizer.zero_grad()
            fall.step()
    finally:
        for one in weights:
            one.requires_grad_(True)
    return made.requires_grad_(False)
