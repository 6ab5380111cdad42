"""A steer: a low-rank map added to a model's output embeddings, at any strength.

The logit of token v after the last state c is cᵀe_v + ε cᵀ W e_v (and a bias, where the matrix has
one). That is the output matrix applied to c + ε Wᵀc, so nothing of the model is copied or changed,
input embeddings that are tied to the matrix stay as they are, and at ε = 0 the states are the
model's own, bit for bit.

Source: Han et al. (2024), Word Embeddings Are Steers for Language Models, arXiv 2305.12798.
"""

import json
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import nn
from torch.nn.functional import linear
from transformers import LogitsProcessor
from transformers.modeling_utils import PreTrainedModel

from pythia_profile.labs.steer.steer_settings import SteerError
from pythia_profile.store import atomic_write
from pythia_profile.training.hooks import changed_input

__all__ = ["Steer", "SteerProcessor", "output_head", "read_steer", "steered"]

_FORMAT = "pythia-profile steer 1"
_AFTER_HEAD = ("final_logit_softcapping", "logit_scale", "logits_scaling")


@dataclass(frozen=True, slots=True)
class Steer:
    """W = `down` @ `up`, acting on output embeddings from the left: cᵀ W e.

    Steers of one model add up, and can be multiplied by numbers: `2 * polite - formal`.

    Attributes
    ----------
    down, up : (width, rank) and (rank, width), float32.
    state : (width,) mean of the states on which it was trained; says which way a direction points.
    facts : plain values: of what, on what and how it was trained.
    """

    down: torch.Tensor
    up: torch.Tensor
    state: torch.Tensor
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def width(self) -> int:
        """Width of the models that it steers."""
        return len(self.down)

    @property
    def matrix(self) -> torch.Tensor:
        """W, (width, width)."""
        return self.down @ self.up

    def __mul__(self, number: float) -> "Steer":
        return replace(self, down=number * self.down)

    __rmul__ = __mul__

    def __neg__(self) -> "Steer":
        return -1.0 * self

    def __add__(self, other: "Steer") -> "Steer":
        if self.width != other.width:
            raise SteerError(
                f"steers of widths {self.width} and {other.width} cannot be added; "
                "transfer one to the other's model"
            )
        return Steer(
            # (P1 | Q1) (P2 over Q2) = P1 P2 + Q1 Q2: the sum, without a full matrix
            torch.cat([self.down, other.down], dim=1),
            torch.cat([self.up, other.up], dim=0),
            (self.state + other.state) / 2,
            {"sum_of": [dict(self.facts), dict(other.facts)]},
        )

    def __sub__(self, other: "Steer") -> "Steer":
        return self + -other

    def moved(self, states: torch.Tensor, value: float | torch.Tensor = 1.0) -> torch.Tensor:
        """Move last states (…, width) by `value` W; a tensor has one value for each first index."""
        if not isinstance(value, torch.Tensor):
            return states if value == 0 else states + (value * self._map(states)).to(states)
        value = value.to(states.device).reshape(-1, *[1] * (states.ndim - 1))
        return states + (value * self._map(states)).to(states)

    def _map(self, states: torch.Tensor) -> torch.Tensor:
        mapped: torch.Tensor = (
            states.float() @ self.down.to(states.device) @ self.up.to(states.device)
        )
        return mapped

    def processor(self, model: PreTrainedModel, value: float = 1.0) -> "SteerProcessor":
        """Return what steers any generation with `model`, as one of its logits processors."""
        return SteerProcessor(model, self, value)

    def save(self, path: Path) -> Path:
        """Write the factors and facts as safetensors, whole or not at all."""
        tensors = {"down": self.down, "up": self.up, "state": self.state}
        facts = {"format": _FORMAT, "facts": json.dumps(dict(self.facts), sort_keys=True)}
        content = save({name: one.contiguous() for name, one in tensors.items()}, facts)
        with atomic_write(path) as file:
            file.write(content)
        return path


def read_steer(path: Path) -> Steer:
    """Read a steer from its file.

    Raises
    ------
    SteerError
        There is no such file, or it holds no steer.
    """
    if not path.is_file():
        raise SteerError(f"{path}: no such file, expected a steer; `lab steer train` writes one")
    try:
        with safe_open(path, framework="pt") as file:
            facts = file.metadata() or {}
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (SafetensorError, OSError) as error:
        raise SteerError(f"{path}: no safetensors file ({error})") from error
    if facts.get("format") != _FORMAT or {*tensors} != {"down", "up", "state"}:
        raise SteerError(
            f"{path}: holds {', '.join(sorted(tensors)[:4]) or 'nothing'}, expected a steer (down, "
            "up, state) as `lab steer train` writes it"
        )
    return Steer(tensors["down"], tensors["up"], tensors["state"], json.loads(facts["facts"]))


def output_head(model: nn.Module) -> nn.Linear:
    """Return the layer of a model that holds its output matrix, (vocabulary, width).

    Raises
    ------
    SteerError
        It has none.
    """
    ask = getattr(model, "get_output_embeddings", None)
    head = ask() if ask is not None else None
    if head is None or getattr(head, "weight", None) is None or head.weight.ndim != 2:
        raise SteerError(
            f"{type(model).__name__} has no output matrix, which a steer acts on; "
            "expected a model that predicts tokens, such as GPTNeoXForCausalLM"
        )
    found: nn.Linear = head
    return found


@contextmanager
def steered(
    model: PreTrainedModel, steer: Steer, value: float | torch.Tensor = 1.0
) -> Iterator[None]:
    """Steer every forward pass of `model` inside the block; whatever the pass is for.

    Parameters
    ----------
    value : ε, in units of the labels on which the steer was trained; a tensor has one for each row
        of the batch.

    Raises
    ------
    SteerError
        The model has no output matrix, or another width.
    """
    with changed_input(fitting_head(model, steer), lambda states: steer.moved(states, value)):
        yield


def fitting_head(model: PreTrainedModel, steer: Steer) -> nn.Linear:
    """Return the output layer of a model that the steer fits."""
    head = output_head(model)
    if head.weight.shape[1] != steer.width:
        raise SteerError(
            f"the steer has width {steer.width}, {type(model).__name__} {head.weight.shape[1]}; "
            "`lab steer transfer` moves a steer to another model"
        )
    return head


class SteerProcessor(LogitsProcessor):
    """Adds ε cᵀ W e_v to the scores of every token v, in any generation of one model.

    A logits processor is given scores and not the states c behind them. This one listens at the
    output matrix and keeps the last states that went into it, which are exactly those of the scores
    that it is given next. It listens until it is collected.

    Raises
    ------
    SteerError
        The steer does not fit the model, or the model changes its logits after the matrix, so that
        what is added would not be what `steered` adds.
    """

    def __init__(self, model: PreTrainedModel, steer: Steer, value: float = 1.0) -> None:
        head = fitting_head(model, steer)
        later = [
            name for name in _AFTER_HEAD if getattr(model.config, name, None) not in (None, 1, 1.0)
        ]
        if later:
            raise SteerError(
                f"{type(model).__name__} changes its logits after the output matrix "
                f"({', '.join(later)}); generate inside `steered(model, steer, value)` instead"
            )
        self.steer, self.value, self._head = steer, value, head
        states: list[torch.Tensor] = []
        self._states = states

        def listen(_: nn.Module, inputs: tuple[Any, ...]) -> None:
            states[:] = [inputs[0].detach()]

        weakref.finalize(self, head.register_forward_pre_hook(listen).remove)

    @torch.no_grad()
    def __call__(
        self,
        input_ids: torch.LongTensor,  # noqa: ARG002 (the states have read them)
        scores: torch.FloatTensor,
    ) -> torch.FloatTensor:
        """Return the steered scores (B, V); at ε = 0 those that were given."""
        if self.value == 0:
            return scores
        if not self._states or self._states[0].shape[0] != len(scores):
            got = len(self._states[0]) if self._states else 0
            raise SteerError(
                f"scores of {len(scores)} rows, but {got} went through the steered model's output "
                "matrix; a steer's processor is for generation with the model that it was made for"
            )
        last = self._states[0][:, -1].float()
        added = linear(self.value * self.steer._map(last), self._head.weight.float())
        return scores + added.to(scores.device)  # type: ignore[return-value]
