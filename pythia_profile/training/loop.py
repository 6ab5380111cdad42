"""The training loop: AdamW over given batches, resumed or forked from any checkpoint.

In: a model and batches of token rows. Out: the model, updated; checkpoints on disk.

The same rows in the same order give the same bits: every number depends on the recipe alone, never
on how many models train beside this one. A run is a folder,

    step0 ... step512                 Hugging Face folders, named as the hub names revisions
    optimizer/step32.safetensors      AdamW's two moments of every parameter

so that a killed run goes on where it was, and another run can fork from any of its checkpoints.
"""

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import load_file, save_file
from torch.nn.functional import cross_entropy
from transformers.modeling_utils import PreTrainedModel

from pythia_profile.checkpoints.load import CheckpointLoader
from pythia_profile.errors import ProfileError
from pythia_profile.training.settings import Recipe

__all__ = [
    "DivergedError",
    "Loss",
    "TrainingError",
    "TrainingState",
    "Update",
    "batches_in_order",
    "checkpoint_folder",
    "diverged",
    "late_gain",
    "load_state",
    "next_token_loss",
    "resume_or_start",
    "save_state",
    "shuffled_batches",
    "start",
    "token_losses",
    "train",
]

Loss = Callable[[PreTrainedModel, torch.Tensor], torch.Tensor]
"""From a model and token rows (B, T) to the scalar whose gradient is followed."""


class TrainingError(ProfileError):
    """A run cannot go on: no batch left, no step left, or a loss that is not finite."""


class DivergedError(TrainingError):
    """A loss is not finite: the settings ask for too high a learning rate."""

    exit_code = 2


def diverged(step: int) -> DivergedError:
    """Error of a run whose loss is not finite at an update."""
    return DivergedError(f"diverged at step {step}: its loss is not finite; lower peak_lr")


@dataclass(slots=True)
class TrainingState:
    """A model, its optimizer, and how many updates both have made."""

    model: PreTrainedModel
    optimizer: torch.optim.AdamW
    step: int


@dataclass(frozen=True, slots=True)
class Update:
    """One update: its 1-based step, and the loss of its batch before it (nats, on the device)."""

    step: int
    loss: torch.Tensor


def start(model: PreTrainedModel, recipe: Recipe, *, step: int = 0) -> TrainingState:
    """Give a model a fresh optimizer over the parameters that ask for a gradient.

    The moments have the parameters' own precision: for bfloat16 training, pass
    `model.to(torch.bfloat16)`.
    """
    optimizer = torch.optim.AdamW(
        [parameter for parameter in model.parameters() if parameter.requires_grad],
        lr=recipe.peak_lr,
        betas=(recipe.beta1, recipe.beta2),
        weight_decay=recipe.weight_decay,
        fused=True,
    )
    return TrainingState(model, optimizer, step)


def next_token_loss(model: PreTrainedModel, rows: torch.Tensor) -> torch.Tensor:
    """Mean surprisal of the T - 1 targets of each of `rows` (B, T), nats per token."""
    logits = model(input_ids=rows[:, :-1]).logits
    return cross_entropy(logits.flatten(0, 1), rows[:, 1:].flatten())


def train(
    state: TrainingState,
    batches: Iterable[torch.Tensor],
    recipe: Recipe,
    *,
    loss: Loss = next_token_loss,
) -> Iterator[Update]:
    """Update the state in place, one batch (B, T) after the other; yield after each update.

    Whoever reads the updates may evaluate the model between them: the next update puts it back in
    training mode.

    Raises
    ------
    TrainingError
        There are more batches than steps left, or a loss is not finite.
    """
    rates = recipe.rates().tolist()
    parameters = [p for group in state.optimizer.param_groups for p in group["params"]]
    for batch in batches:
        if state.step >= recipe.steps:
            raise TrainingError(f"a batch for step {state.step + 1} of {recipe.steps}")
        state.model.train()
        state.optimizer.param_groups[0]["lr"] = rates[state.step]
        value = loss(state.model, batch.to(state.model.device))
        if not torch.isfinite(value):
            raise diverged(state.step + 1)
        value.backward()  # type: ignore[no-untyped-call]
        torch.nn.utils.clip_grad_norm_(parameters, recipe.clip)
        state.optimizer.step()
        state.optimizer.zero_grad()
        state.step += 1
        yield Update(state.step, value.detach())


def batches_in_order(rows: npt.NDArray[np.integer[Any]], batch_size: int) -> Iterator[torch.Tensor]:
    """Batches of `rows` (n, T) in the order in which they lie; the last may be smaller."""
    content = torch.from_numpy(rows.astype(np.int64))
    for first in range(0, len(content), batch_size):
        yield content[first : first + batch_size]


def shuffled_batches(
    rows: npt.NDArray[np.integer[Any]], recipe: Recipe, *, seed: int, done: int = 0
) -> Iterator[torch.Tensor]:
    """Batches of the updates after `done`, from one permutation of `rows` (n, T) a pass.

    Passes follow each other without a cut, so that every row is read equally often, to one. A
    resumed run, with `done` its step, reads what it would have read.
    """
    content = torch.from_numpy(rows.astype(np.int64))
    order, current = np.empty(0, np.int64), -1
    for step in range(done, recipe.steps):
        place = np.arange(step * recipe.batch_size, (step + 1) * recipe.batch_size)
        chosen = np.empty(len(place), np.int64)
        for number in np.unique(place // len(rows)).tolist():
            if number != current:
                order, current = (
                    np.random.default_rng([seed, number]).permutation(len(rows)),
                    number,
                )
            here = place // len(rows) == number
            chosen[here] = order[place[here] % len(rows)]
        yield content[torch.from_numpy(chosen)]


@torch.no_grad()
def token_losses(
    model: PreTrainedModel, rows: npt.NDArray[np.integer[Any]], *, batch_size: int = 64
) -> npt.NDArray[np.float32]:
    """Surprisal of every target, from float32 logits whatever the weights' precision.

    Parameters
    ----------
    rows : (n, T) token ids.
    batch_size : rows of a forward pass.

    Returns
    -------
    (n, T - 1) nats. The model is left in the mode (training or not) in which it came.
    """
    was_training = model.training
    model.train(False)
    parts = []
    for batch in batches_in_order(rows, batch_size):
        ids = batch.to(model.device)
        logits = model(input_ids=ids[:, :-1]).logits.float()
        losses = cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
        parts.append(losses.reshape(len(ids), -1).cpu().numpy())
    model.train(was_training)
    return np.concatenate(parts)


def late_gain(losses: npt.ArrayLike, share: float = 0.2) -> float:
    """Share of the whole fall of the loss that fell in the last `share` of training.

    A run has converged where this is small; .2 in the last fifth is a fall in a straight line.

    Parameters
    ----------
    losses : (n,) evaluated at equal distances, the first before training.

    Examples
    --------
    >>> round(late_gain([6.0, 5.0, 4.0, 3.0, 2.0, 1.0]), 3)
    0.2
    """
    values = np.asarray(losses, dtype=np.float64)
    if values.ndim != 1 or len(values) < 2 or not np.isfinite(values).all():
        raise TrainingError("losses: expected two or more finite numbers")
    late = values[round((len(values) - 1) * (1 - share))]
    fall = values[0] - values[-1]
    return float((late - values[-1]) / fall) if fall > 0 else 1.0


def checkpoint_folder(run: Path, step: int) -> Path:
    """Folder of a run's weights after `step` updates."""
    return run / f"step{step}"


def save_state(state: TrainingState, run: Path) -> None:
    """Keep the optimizer's moments, then the weights as a Hugging Face folder, atomically."""
    moments = {
        f"{name}.{moment}": state.optimizer.state[parameter][moment]
        for name, parameter in state.model.named_parameters()
        for moment in ("exp_avg", "exp_avg_sq")
        if parameter in state.optimizer.state
    }
    target = checkpoint_folder(run, state.step)
    unfinished = target.with_name(f".{target.name}.part")
    shutil.rmtree(unfinished, ignore_errors=True)
    state.model.save_pretrained(unfinished)
    _moments_file(run, state.step).parent.mkdir(parents=True, exist_ok=True)
    save_file(moments, unfinished / "moments")
    # moments first: a folder of weights then always has its moments beside it
    (unfinished / "moments").replace(_moments_file(run, state.step))
    shutil.rmtree(target, ignore_errors=True)
    unfinished.rename(target)


def load_state(
    run: Path, step: int, recipe: Recipe, *, dtype: str = "float32", device: str = "cpu"
) -> TrainingState:
    """Model and optimizer as they were after `step` updates of the run: resume or fork from it."""
    model = CheckpointLoader(dtype=dtype, device=device).load(checkpoint_folder(run, step))
    state = start(model.requires_grad_(True), recipe, step=step)
    moments = load_file(_moments_file(run, step), device=device)
    for name, parameter in model.named_parameters():
        if f"{name}.exp_avg" in moments:
            state.optimizer.state[parameter] = {
                "step": torch.tensor(float(step), device=device),
                "exp_avg": moments[f"{name}.exp_avg"],
                "exp_avg_sq": moments[f"{name}.exp_avg_sq"],
            }
    return state


def resume_or_start(
    run: Path,
    checkpoints: Sequence[int],
    recipe: Recipe,
    initial: Callable[[], PreTrainedModel],
    *,
    dtype: str = "float32",
    device: str = "cpu",
) -> TrainingState:
    """Return the state at the last of the `checkpoints` that is on disk, else the start, saved.

    Parameters
    ----------
    initial : makes the model of the start, of that dtype and on that device.
    """
    kept = [
        step
        for step in checkpoints
        if checkpoint_folder(run, step).is_dir() and _moments_file(run, step).exists()
    ]
    if kept:
        return load_state(run, max(kept), recipe, dtype=dtype, device=device)
    state = start(initial(), recipe)
    save_state(state, run)
    return state


def _moments_file(run: Path, step: int) -> Path:
    return run / "optimizer" / f"step{step}.safetensors"
