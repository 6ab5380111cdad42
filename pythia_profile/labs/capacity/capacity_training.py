"""One model trained on rows until it knows them as well as it can, and what it then gives back."""

import shutil
from collections.abc import Callable
from math import isfinite
from pathlib import Path

import torch
from transformers import PreTrainedModel

from pythia_profile.execute.worker import Worker
from pythia_profile.store import read_json, write_json
from pythia_profile.training.languages import Rows
from pythia_profile.training.loop import (
    diverged,
    late_gain,
    resume_or_start,
    save_state,
    shuffled_batches,
    token_losses,
    train,
)
from pythia_profile.training.settings import Recipe

__all__ = ["extracted", "remove_checkpoints", "train_by_heart"]

_PARTS = 10
"""Evaluations of a run, at equal distances; the last fifth is then two of them."""


def train_by_heart(
    folder: Path,
    rows: Rows,
    recipe: Recipe,
    initial: Callable[[], PreTrainedModel],
    worker: Worker,
    *,
    seed: int,
    dtype: str = "float32",
) -> tuple[PreTrainedModel, float]:
    """Train a model on `rows` (n, T) over and over, from where the folder was left.

    Parameters
    ----------
    folder : of its last checkpoint and its losses; `remove_checkpoints` when all is measured.
    initial : makes the model of the start, of that dtype and on the worker's device.
    seed : of the order of the rows, a permutation of them each time.

    Returns
    -------
    The model, and `late_gain`: the share of the fall of its loss in the last fifth of training.
    """
    checkpoints = [round(recipe.steps * part / _PARTS) for part in range(_PARTS + 1)]
    noted = folder / "losses.json"
    losses = read_json(noted) if noted.exists() else {}
    state = resume_or_start(folder, checkpoints, recipe, initial, dtype=dtype, device=worker.device)
    worker.advance(state.step)
    losses |= {"0": losses.get("0") or _mean_loss(state.model, rows)}
    batches = shuffled_batches(rows, recipe, seed=seed, done=state.step)
    for update in train(state, batches, recipe):
        if update.step in checkpoints:
            # the loss first: a checkpoint that is resumed from then has all losses before it
            losses[str(update.step)] = _mean_loss(state.model, rows)
            if not isfinite(losses[str(update.step)]):
                raise diverged(update.step)
            write_json(losses, noted)
            save_state(state, folder)
            remove_checkpoints(folder, keep=update.step)
        worker.advance(1)
    state.model.train(False)
    return state.model, late_gain([losses[str(step)] for step in checkpoints])


def _mean_loss(model: PreTrainedModel, rows: Rows) -> float:
    return float(token_losses(model, rows, batch_size=512).mean())


def remove_checkpoints(folder: Path, keep: int | None = None) -> None:
    """Remove all checkpoints of a run but one, weights and moments."""
    for path in folder.glob("step*"):
        if path.name != f"step{keep}":
            shutil.rmtree(path, ignore_errors=True)
            (folder / "optimizer" / f"{path.name}.safetensors").unlink(missing_ok=True)


@torch.no_grad()
def extracted(
    model: PreTrainedModel, rows: Rows, prefix: int, following: int | None = None
) -> float:
    """Share of rows whose next tokens follow greedily from their first `prefix`.

    Parameters
    ----------
    rows : (n, T) token ids.
    following : how many tokens must be right; all that are left by default.
    """
    ids = torch.from_numpy(rows).to(model.device)
    end = rows.shape[1] if following is None else min(prefix + following, rows.shape[1])
    found = ids[:, :prefix]
    for _ in range(end - prefix):
        chosen = model(input_ids=found).logits[:, -1:].argmax(dim=-1)
        found = torch.cat([found, chosen], dim=1)
    return float((found == ids[:, :end]).all(dim=1).float().mean())
