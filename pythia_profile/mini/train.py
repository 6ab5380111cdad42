"""Training one mini model: GPT-NeoX by transformers, AdamW, Pythia's schedule, one thread.

The same rows in the same order give the same bits: every number depends on the settings alone,
never on how many models train beside this one. State (weights, both moments, step) is kept at
every checkpoint, so a killed run goes on where it was and a twin run can fork from any of them.
"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM
from transformers.modeling_utils import PreTrainedModel

from pythia_profile.checkpoints.load import CheckpointLoader
from pythia_profile.mini.config import MINI_SIZES, MiniConfig, shape
from pythia_profile.suites.schedule import neox_v1

__all__ = [
    "TrainingState",
    "architecture",
    "initial_state",
    "latest_step",
    "load_state",
    "save_checkpoint",
    "train_on",
]


@dataclass(slots=True)
class TrainingState:
    """A model, its optimizer, and how many updates both have made."""

    model: PreTrainedModel
    optimizer: torch.optim.AdamW
    step: int


def architecture(size: str, config: MiniConfig) -> GPTNeoXConfig:
    """Return the GPT-NeoX configuration of a mini size."""
    form = shape(size)
    return GPTNeoXConfig(
        vocab_size=config.vocabulary,
        hidden_size=form.width,
        num_hidden_layers=form.layers,
        num_attention_heads=form.heads,
        intermediate_size=4 * form.width,
        max_position_embeddings=config.row_tokens - 1,
        bos_token_id=0,
        eos_token_id=0,
        use_cache=False,
        dtype="float32",
    )


def initial_state(size: str, config: MiniConfig) -> TrainingState:
    """Weights drawn from the seed and the size, no update made."""
    torch.manual_seed(1000 * config.seed + list(MINI_SIZES).index(size))
    return _with_optimizer(GPTNeoXForCausalLM(architecture(size, config)), config, step=0)


def train_on(
    state: TrainingState, rows: npt.NDArray[np.uint16], config: MiniConfig
) -> Iterator[int]:
    """Update the state in place, one batch after the other; yield the step after each update.

    Parameters
    ----------
    rows : (k * batch_size, row_tokens) the rows of the next k updates, in the order they are read.
    """
    batches = torch.from_numpy(rows.astype(np.int64)).split(config.batch_size)
    rates = neox_v1(
        np.arange(state.step + 1, state.step + 1 + len(batches)),
        peak=config.peak_lr,
        minimum=config.min_lr,
        warmup=config.warmup_steps,
        total=config.steps,
    )
    state.model.train()
    for batch, rate in zip(batches, rates.tolist(), strict=True):
        state.optimizer.param_groups[0]["lr"] = rate
        logits = state.model(input_ids=batch[:, :-1]).logits
        loss = torch.nn.functional.cross_entropy(logits.flatten(0, 1), batch[:, 1:].flatten())
        loss.backward()
        torch.nn.utils.clip_grad_norm_(state.model.parameters(), config.clip)
        state.optimizer.step()
        state.optimizer.zero_grad()
        state.step += 1
        yield state.step


def checkpoint_folder(suite: Path, size: str, step: int) -> Path:
    """Folder in which `size`'s weights after `step` updates lie, as the hub names revisions."""
    return suite / size / f"step{step}"


def save_checkpoint(state: TrainingState, suite: Path, size: str) -> None:
    """Keep the optimizer's state, then the weights as a Hugging Face folder, atomically."""
    moments = {
        f"{name}.{moment}": state.optimizer.state[parameter][moment]
        for name, parameter in state.model.named_parameters()
        for moment in ("exp_avg", "exp_avg_sq")
        if parameter in state.optimizer.state
    }
    target = checkpoint_folder(suite, size, state.step)
    unfinished = target.with_name(f".{target.name}.part")
    shutil.rmtree(unfinished, ignore_errors=True)
    state.model.save_pretrained(unfinished)
    _state_file(suite, size, state.step).parent.mkdir(parents=True, exist_ok=True)
    save_file(moments, unfinished / "moments")
    (unfinished / "moments").replace(_state_file(suite, size, state.step))
    shutil.rmtree(target, ignore_errors=True)
    unfinished.rename(target)


def load_state(suite: Path, size: str, step: int, config: MiniConfig) -> TrainingState:
    """Model and optimizer as they were after `step` updates."""
    model = CheckpointLoader().load(checkpoint_folder(suite, size, step))
    state = _with_optimizer(model.requires_grad_(True), config, step)
    moments = load_file(_state_file(suite, size, step))
    for name, parameter in model.named_parameters():
        if f"{name}.exp_avg" in moments:
            state.optimizer.state[parameter] = {
                "step": torch.tensor(float(step)),
                "exp_avg": moments[f"{name}.exp_avg"],
                "exp_avg_sq": moments[f"{name}.exp_avg_sq"],
            }
    return state


def latest_step(suite: Path, size: str, config: MiniConfig) -> int | None:
    """Last step of which both weights and optimizer state are here; None if there is none."""
    here = [
        step
        for step in config.checkpoints
        if checkpoint_folder(suite, size, step).is_dir() and _state_file(suite, size, step).exists()
    ]
    return max(here, default=None)


def _state_file(suite: Path, size: str, step: int) -> Path:
    return suite / size / "optimizer" / f"step{step}.safetensors"


def _with_optimizer(model: PreTrainedModel, config: MiniConfig, step: int) -> TrainingState:
    optimizer = torch.optim.AdamW(
        model.parameters(),
        lr=config.peak_lr,
        betas=(config.beta1, config.beta2),
        weight_decay=config.weight_decay,
        fused=True,
    )
    return TrainingState(model, optimizer, step)
