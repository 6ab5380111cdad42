"""The models of the mini suite, and the unit of work that trains one of them to its end."""

from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM
from transformers.utils import logging as transformers_logging

from data_order import TokenRows
from pythia_profile.execute.worker import Worker
from pythia_profile.mini.config import MINI_SIZES, MiniConfig, shape
from pythia_profile.store import read_json
from pythia_profile.training.loop import batches_in_order, resume_or_start, save_state, train

__all__ = ["TrainingUnit", "architecture", "initial_model", "train_size"]


@dataclass(frozen=True, slots=True)
class TrainingUnit:
    """One size of the suite in the folder `home`."""

    home: Path
    size: str

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"mini {self.size}"


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


def initial_model(size: str, config: MiniConfig) -> GPTNeoXForCausalLM:
    """Weights drawn from the seed and the size, no update made."""
    torch.manual_seed(1000 * config.seed + list(MINI_SIZES).index(size))
    return GPTNeoXForCausalLM(architecture(size, config))


def train_size(unit: TrainingUnit, worker: Worker) -> None:
    """Train a size from its last checkpoint, or from step 0, to the end."""
    config = MiniConfig(**read_json(unit.home / "config.json"))
    run = unit.home / unit.size
    torch.set_num_threads(worker.threads)
    transformers_logging.disable_progress_bar()
    state = resume_or_start(
        run, config.checkpoints, config.recipe, lambda: initial_model(unit.size, config)
    )
    worker.advance(state.step)
    store = TokenRows.open(unit.home / "document", row_tokens=config.row_tokens)
    rows = store[state.step * config.batch_size : config.training_rows]
    for update in train(state, batches_in_order(rows, config.batch_size), config.recipe):
        if update.step in config.checkpoints:
            save_state(state, run)
        worker.advance(1)
