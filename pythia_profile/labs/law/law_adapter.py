"""LoRA adapters by `peft`: put beside frozen weights, kept in peft's format, loaded again.

Source: Hu et al. (2022), LoRA, arXiv 2106.09685.
"""

import hashlib
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers.modeling_utils import PreTrainedModel

from pythia_profile.errors import StudyError
from pythia_profile.training.hooks import parts_of

__all__ = ["adapted_modules", "frozen_digest", "load_adapter", "save_adapter", "with_adapter"]

KINDS = {"mlp": ("mlp",), "attention": ("attention", "self_attn", "attn")}


def adapted_modules(model: PreTrainedModel, layers: Sequence[int], modules: str) -> list[str]:
    """Full names of the linear maps of some layers: those of the MLP, of attention, or all."""
    parts = KINDS.get(modules, (*KINDS["mlp"], *KINDS["attention"]))
    blocks = parts_of(model).blocks
    chosen = [blocks[layer] for layer in layers]
    wanted = {
        id(module)
        for block in chosen
        for name, module in block.named_modules()
        if isinstance(module, nn.Linear) and name.partition(".")[0] in parts
    }
    return [name for name, module in model.named_modules() if id(module) in wanted]


def with_adapter(
    model: PreTrainedModel,
    rank: int,
    *,
    layers: Sequence[int] = (0,),
    modules: str = "mlp",
    scaling: float = 1.0,
    seed: int = 0,
) -> Any:
    """Put a fresh adapter into a model, which then gives what it gave before.

    Parameters
    ----------
    rank : of each adapter's map; scaling : of its output, LoRA's alpha ÷ rank.
    seed : of the initial values of the first factor; the second is 0.

    Returns
    -------
    peft's model around `model`; only the adapter asks for a gradient.

    Raises
    ------
    StudyError
        peft is not installed.
    """
    with _peft() as peft:
        config = peft.LoraConfig(
            r=rank,
            lora_alpha=scaling * rank,
            target_modules=adapted_modules(model, layers, modules),
        )
        with torch.random.fork_rng():
            torch.manual_seed(seed)
            return peft.get_peft_model(model, config)


def save_adapter(adapted: Any, folder: Path) -> None:
    """Write an adapter as peft does: adapter_config.json and adapter_model.safetensors."""
    with _peft():
        adapted.save_pretrained(str(folder), save_embedding_layers=False)


def load_adapter(model: PreTrainedModel, folder: Path) -> Any:
    """Put an adapter that was written into the same frozen model."""
    with _peft() as peft:
        return peft.PeftModel.from_pretrained(model, str(folder)).eval()


def frozen_digest(model: nn.Module) -> str:
    """sha256 of every parameter that asks for no gradient, in the model's order."""
    found = hashlib.sha256()
    for parameter in model.parameters():
        if not parameter.requires_grad:
            content = parameter.detach().cpu().contiguous().view(-1).view(torch.uint8)
            found.update(content.numpy().data)
    return found.hexdigest()


@contextmanager
def _peft() -> Iterator[Any]:
    """Give peft, silent about what it asks of newer transformers."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import peft

            yield peft
    except ModuleNotFoundError as error:
        if error.name != "peft":
            raise
        raise StudyError(
            "training adapters needs peft: pip install 'pythia-profile[labs]'"
        ) from None
