"""Interventions on a model's forward pass, as context managers that always undo themselves.

A hook acts on every forward pass inside its `with` block and is removed after it, also by an error.
Hidden states are (B, T, width). All of them act on what a module is given, not on what an attention
implementation returns, so that eager, sdpa and flash attention are treated alike.

    residuals      record the residual stream before every block and before the final norm
    perturb        move it, before the first block, in a random direction
    ablate_heads   replace heads of a layer by the mean of the layer's other heads
    changed_input  any other change; on the output head it steers
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from transformers.modeling_utils import PreTrainedModel

from pythia_profile.errors import ProfileError

__all__ = [
    "InterventionError",
    "LowRank",
    "Parts",
    "ablate_heads",
    "changed_input",
    "parts_of",
    "perturb",
    "residuals",
]

Change = Callable[[torch.Tensor], torch.Tensor]

_BLOCKS = ("layers", "h")
_NORMS = ("final_layer_norm", "norm", "ln_f")
_PROJECTIONS = ("attention.dense", "self_attn.o_proj", "attn.c_proj")


class InterventionError(ProfileError):
    """A model has not the parts that an intervention needs, or is asked for one it cannot have."""

    exit_code = 2


@dataclass(frozen=True, slots=True)
class Parts:
    """Where interventions act, of a decoder with a residual stream.

    Attributes
    ----------
    blocks : L transformer blocks; what each is given is the residual stream before it.
    norm, head : the final norm and the output head; of tied weights the head is a module, too.
    projections : the attention's output projection of each block; it is given all heads side by
        side, whatever the attention implementation.
    heads : attention heads of a block.
    """

    blocks: tuple[nn.Module, ...]
    norm: nn.Module
    head: nn.Module
    projections: tuple[nn.Module, ...]
    heads: int


def parts_of(model: PreTrainedModel) -> Parts:
    """Find the parts of a model: GPT-NeoX, Llama, OLMo 1 to 3, GPT-2, GPT-BigCode and their kin.

    Raises
    ------
    InterventionError
        A part is missing, or the projection is not given whole heads.
    """
    base = model.base_model
    blocks = tuple(_part(model, base, _BLOCKS).children())
    head: nn.Module | None = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    projections = tuple(_part(model, block, _PROJECTIONS) for block in blocks)
    heads = int(getattr(model.config, "num_attention_heads", 0))
    widths = {_given_width(projection) for projection in projections}
    if head is None or not blocks or not heads or any(width % heads for width in widths):
        raise InterventionError(
            f"{type(model).__name__}: got {len(blocks)} blocks, {heads} heads and attention of "
            f"width {', '.join(map(str, sorted(widths)))}, expected blocks of whole heads and an "
            "output head; load it as a causal language model"
        )
    return Parts(blocks, _part(model, base, _NORMS), head, projections, heads)


def _part(model: PreTrainedModel, parent: nn.Module, names: Sequence[str]) -> nn.Module:
    for name in names:
        try:
            return parent.get_submodule(name)
        except AttributeError:
            continue
    raise InterventionError(
        f"{type(model).__name__}: no part named {' or '.join(names)} in {type(parent).__name__}; "
        "interventions know GPT-NeoX, Llama, OLMo, OLMo 2 and 3, GPT-2 and GPT-BigCode"
    )


def _given_width(projection: nn.Module) -> int:
    """Entries that a projection is given; GPT-2's weights lie the other way round than Linear's."""
    if isinstance(projection, nn.Linear):
        return projection.in_features
    weight = projection.get_parameter("weight")
    return int(weight.shape[0])


@contextmanager
def residuals(model: PreTrainedModel) -> Iterator[list[torch.Tensor]]:
    """Record the residual stream: L + 1 states (B, T, width) a forward pass, detached, not copied.

    The first is the stream after the embedding, the last is what the final norm is given.
    """
    parts, found = parts_of(model), list[torch.Tensor]()

    def record(_: nn.Module, inputs: tuple[Any, ...]) -> None:
        found.append(inputs[0].detach())

    modules = (*parts.blocks, parts.norm)
    handles = [module.register_forward_pre_hook(record) for module in modules]
    try:
        yield found
    finally:
        for handle in handles:
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
def perturb(model: PreTrainedModel, directions: torch.Tensor, strength: float) -> Iterator[None]:
    """Move the residual stream after the embedding: x ← x + strength · ‖x‖ · u at each position.

    Parameters
    ----------
    directions : (T, width) or (B, T, width) unit vectors u, one for each position of a text, also
        where earlier positions are kept in a cache and only the newest is passed.
    strength : α; 0 leaves the model as it is, bit for bit.

    Raises
    ------
    InterventionError
        In a forward pass: there are fewer directions than positions, or of another width.
    """
    if not strength:
        yield
        return
    first = [0]

    def count(_: nn.Module, __: tuple[Any, ...], named: dict[str, Any]) -> None:
        cache = named.get("past_key_values")
        first[0] = 0 if cache is None else int(cache.get_seq_length())

    def move(states: torch.Tensor) -> torch.Tensor:
        length = strength * torch.linalg.vector_norm(states, dim=-1, keepdim=True)
        here = directions[..., first[0] : first[0] + states.shape[-2], :].to(states)
        if here.shape[-2:] != states.shape[-2:]:
            raise InterventionError(
                f"directions: got {tuple(directions.shape)}, expected "
                f"{first[0] + states.shape[-2]} positions or more of width {states.shape[-1]}"
            )
        moved: torch.Tensor = states + length * here
        return moved

    counting = model.base_model.register_forward_pre_hook(count, with_kwargs=True)
    try:
        with changed_input(parts_of(model).blocks[0], move):
            yield
    finally:
        counting.remove()


@contextmanager
def ablate_heads(model: PreTrainedModel, layer: int, heads: Sequence[int]) -> Iterator[None]:
    """Replace heads of a layer by the mean of the layer's other heads, as these are unablated.

    Parameters
    ----------
    layer, heads : 0-based; no heads leave the model as it is, bit for bit.

    Raises
    ------
    InterventionError
        There is no such layer or head, or the layer has one head only.

    Source: Chen, Han and Miyao (2026), arXiv 2603.21658.
    """
    parts = parts_of(model)
    if not 0 <= layer < len(parts.blocks) or not all(0 <= one < parts.heads for one in heads):
        raise InterventionError(
            f"got heads {list(heads)} of layer {layer}, expected layers 0 to "
            f"{len(parts.blocks) - 1} and heads 0 to {parts.heads - 1}"
        )
    if parts.heads == 1 and heads:
        raise InterventionError("a layer of one head has no others whose mean could replace it")

    def replace(states: torch.Tensor) -> torch.Tensor:
        split = states.reshape(*states.shape[:-1], parts.heads, -1)
        changed = split.clone()
        changed[..., list(heads), :] = _mean_of_others(split)[..., list(heads), :]
        return changed.flatten(-2)

    with changed_input(parts.projections[layer], replace) if heads else nullcontext():
        yield


def _mean_of_others(split: torch.Tensor) -> torch.Tensor:
    """Of each of H heads (..., H, d) the mean of the other H - 1; (..., H, d).

    Examples
    --------
    >>> _mean_of_others(torch.tensor([[1.0], [2.0], [6.0]])).flatten().tolist()
    [4.0, 3.5, 1.5]
    """
    others: torch.Tensor = split.sum(dim=-2, keepdim=True) - split
    return others / (split.shape[-2] - 1)


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
