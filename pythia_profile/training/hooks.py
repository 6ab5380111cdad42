"""Interventions on a model's forward pass, as context managers that always undo themselves.

A hook acts on every forward pass inside its `with` block and is removed after it, also by an error.
Hidden states are (B, T, width).
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from transformers.modeling_utils import PreTrainedModel

__all__ = [
    "LowRank",
    "blocks",
    "changed_input",
    "changed_output",
    "recorded_outputs",
    "without_head",
]

Change = Callable[[torch.Tensor], torch.Tensor]


def blocks(model: PreTrainedModel) -> list[nn.Module]:
    """Return the transformer blocks; the output of each is the residual stream behind it."""
    found: nn.ModuleList = model.base_model.get_submodule("layers")  # type: ignore[assignment]
    return list(found)


@contextmanager
def recorded_outputs(modules: list[nn.Module]) -> Iterator[list[torch.Tensor]]:
    """Record what `modules` give out, in the order in which they run; detached, not copied."""
    found: list[torch.Tensor] = []

    def record(_: nn.Module, __: Any, output: Any) -> None:
        found.append(_first(output).detach())

    handles = [module.register_forward_hook(record) for module in modules]
    try:
        yield found
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def changed_output(module: nn.Module, change: Change) -> Iterator[None]:
    """Replace what a module gives out by `change` of it: noise, an ablation, an adapter."""

    def replace(_: nn.Module, __: Any, output: Any) -> Any:
        changed = change(_first(output))
        return (changed, *output[1:]) if isinstance(output, tuple) else changed

    handle = module.register_forward_hook(replace)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def changed_input(module: nn.Module, change: Change) -> Iterator[None]:
    """Replace the first input of a module by `change` of it.

    On the output head this steers: `changed_input(head, lambda c: c + strength * low_rank(c))`.
    """

    def replace(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
        return (change(inputs[0]), *inputs[1:])

    handle = module.register_forward_pre_hook(replace)
    try:
        yield
    finally:
        handle.remove()


@contextmanager
def without_head(projection: nn.Module, head: int, heads: int) -> Iterator[None]:
    """Replace an attention head's output by the mean of the layer's other heads.

    Parameters
    ----------
    projection : the layer's output projection, whose input is all heads side by side.
    head, heads : which one, of how many.
    """

    def replace(states: torch.Tensor) -> torch.Tensor:
        split = states.reshape(*states.shape[:-1], heads, -1).clone()
        own = split[..., head, :]
        split[..., head, :] = (split.sum(dim=-2) - own) / (heads - 1)
        return split.flatten(-2)

    with changed_input(projection, replace):
        yield


class LowRank(nn.Module):
    """The map x ↦ (x P₁) P₂ of low rank, both factors drawn with a small standard deviation.

    Attributes
    ----------
    down, up : (width, rank) and (rank, width), P₁ and P₂.
    """

    def __init__(self, width: int, rank: int, *, seed: int = 0, sd: float = 1e-2) -> None:
        super().__init__()
        generator = torch.Generator().manual_seed(seed)
        self.down = nn.Parameter(sd * torch.randn(width, rank, generator=generator))
        self.up = nn.Parameter(sd * torch.randn(rank, width, generator=generator))

    def forward(self, states: torch.Tensor) -> torch.Tensor:
        """Map states (..., width) to (..., width)."""
        mapped: torch.Tensor = states @ self.down @ self.up
        return mapped


def _first(output: Any) -> torch.Tensor:
    """Return the hidden states of an output: itself, or the first of a tuple."""
    found: torch.Tensor = output[0] if isinstance(output, tuple) else output
    return found
