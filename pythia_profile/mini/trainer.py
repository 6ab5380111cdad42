"""Worker process that trains one mini size to its end.

    python -m pythia_profile.mini.trainer FOLDER SIZE

Prints the number of steps finished since the last line. Goes on at the last checkpoint that is
there; ends when nobody reads its lines any more.
"""

import signal
import sys
from pathlib import Path

import torch
from transformers.utils import logging as transformers_logging

from data_order import TokenRows
from pythia_profile.mini.config import MiniConfig
from pythia_profile.mini.train import (
    initial_state,
    latest_step,
    load_state,
    save_checkpoint,
    train_on,
)
from pythia_profile.store import read_json

REPORT_EVERY = 8


def train(home: Path, size: str) -> None:
    """Train `size` from its last checkpoint, or from step 0, to the end."""
    config = MiniConfig(**read_json(home / "config.json"))
    start = latest_step(home, size, config)
    if start is None:
        state = initial_state(size, config)
        save_checkpoint(state, home, size)
        start = 0
    else:
        state = load_state(home, size, start, config)
        report(start)
    store = TokenRows.open(home / "document", row_tokens=config.row_tokens)
    rows = store[start * config.batch_size : config.training_rows]
    for step in train_on(state, rows, config):
        if step in config.checkpoints:
            save_checkpoint(state, home, size)
        if step % REPORT_EVERY == 0:
            report(REPORT_EVERY)


def report(steps: int) -> None:
    """Tell the parent how many more steps are done."""
    sys.stdout.write(f"{steps}\n")
    sys.stdout.flush()


def quiet_and_single_threaded() -> None:
    """Leave interruption to the parent, one thread to the arithmetic, and stderr to errors."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
    transformers_logging.set_verbosity_error()
    transformers_logging.disable_progress_bar()


if __name__ == "__main__":
    quiet_and_single_threaded()
    try:
        train(Path(sys.argv[1]), sys.argv[2])
    except BrokenPipeError:
        sys.exit(1)
