"""One adapter trained on some answers by one method.

A unit is a folder: `adapter/` in peft's format, `tokens.parquet` (a line an answer token and
evaluation), `result.json`. It is done when the last is there.
"""

import numpy as np
import polars as pl

from pythia_profile.checkpoints.load import CheckpointLoader
from pythia_profile.execute.worker import Worker
from pythia_profile.labs.law.law_adapter import frozen_digest, save_adapter, with_adapter
from pythia_profile.labs.law.law_learning import Learning, NothingLeftError
from pythia_profile.labs.law.law_pass import written
from pythia_profile.labs.law.law_tables import last_facts
from pythia_profile.labs.law.law_unit import LawUnit, numbered_batches
from pythia_profile.store import atomic_write, write_json
from pythia_profile.training.loop import start, train
from pythia_profile.training.settings import Recipe

__all__ = ["train_unit"]


def train_unit(unit: LawUnit, worker: Worker) -> None:
    """Train one adapter and keep what it does to every answer token."""
    settings = unit.settings
    model = CheckpointLoader(device=worker.device).load(unit.base.folder)
    before = frozen_digest(model)
    adapted = with_adapter(
        model,
        unit.rank,
        layers=settings.layers,
        modules=settings.modules,
        scaling=settings.scaling,
        seed=unit.seed,
    )
    recipe = Recipe(
        steps=unit.updates,
        batch_size=settings.batch_size,
        peak_lr=settings.peak_lr,
        schedule="linear",
        beta2=0.999,  # AdamW's own default, which the source does not change
    )
    learning = Learning.of(unit, worker.device)
    shown = {round(unit.updates * part) for part in np.linspace(0, 1, settings.evaluations + 1)}
    tables = [learning.lines(adapted)]
    state = start(adapted, recipe)
    try:
        for update in train(state, numbered_batches(unit), recipe, loss=learning):
            worker.advance(1)
            if update.step in shown:
                tables.append(learning.lines(adapted.eval()))
    except NothingLeftError:
        worker.advance(unit.updates - state.step)
    adapted.eval()
    if tables[-1]["step"][0] != state.step:
        tables.append(learning.lines(adapted))
    right = pl.Series(written(adapted, unit.answers)[unit.answers.scored])
    frame = pl.concat([*tables[:-1], tables[-1].with_columns(written=right)], how="diagonal")
    with atomic_write(unit.folder / "tokens.parquet") as file:
        frame.write_parquet(file)
    save_adapter(adapted, unit.folder / "adapter")
    result = {
        "base": unit.base.name,
        "method": unit.method,
        "rank": unit.rank,
        "tokens_asked": unit.tokens,
        "answer_tokens": unit.answers.tokens,
        "answers": len(unit.answers),
        "seed": unit.seed,
        "updates": unit.updates,
        "made": state.step,
        **last_facts(frame),
        **learning.counts(frame),
        "parameters": sum(p.numel() for p in adapted.parameters() if p.requires_grad),
        "base_unchanged": frozen_digest(adapted) == before,
    }
    write_json(result, unit.folder / "result.json")
