"""The grid: rank × length × method × budget on one frozen checkpoint, each adapter trained once.

In: settings. Out: tables `runs` (a line an adapter and budget) and `tokens` (a line an answer token
and evaluation), in memory and as files beside the adapters.
"""

from pathlib import Path

import polars as pl
import tomli_w

from pythia_profile.execute.resources import available_cores, memory_of, resources_for
from pythia_profile.labs.law.law_base import opened_base
from pythia_profile.labs.law.law_data import answers_of
from pythia_profile.labs.law.law_pass import LOGITS_BYTES
from pythia_profile.labs.law.law_settings import LawSettings
from pythia_profile.labs.law.law_train import train_unit
from pythia_profile.labs.law.law_unit import LawUnit, updates_of
from pythia_profile.store import atomic_write, make_folder, write_text
from pythia_profile.training.units import run_units

__all__ = ["train_grid"]


def train_grid(
    settings: LawSettings, out: Path, *, device: str = "cpu", workers: int | None = None
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Train what is not trained yet; write and return the tables `runs` and `tokens`.

    Where both budgets give a method the same updates it is trained once, and stands in two lines.

    Parameters
    ----------
    out : folder of `adapters/`, `runs.parquet`, `tokens.parquet` and `law.toml`.
    device : `cpu` or `cuda`; numbers differ between them in their last digits.
    workers : processes at a time; no number depends on it.

    Raises
    ------
    NotFoundError, StudyError
        A suite, size, checkpoint or layer that does not exist; a rank above the width; an answer
        that is empty or longer than the context.
    RefusedError
        The checkpoint is not what it claims to be, or this machine has not the memory for it.
    """
    make_folder(out)
    write_text(tomli_w.dumps(settings.model_dump(mode="json", exclude_none=True)), out / "law.toml")
    with opened_base(settings) as base:
        sets = {seed: answers_of(settings, base, seed) for seed in settings.seeds}
        planned = [
            (
                budget,
                LawUnit(
                    home=out / "adapters",
                    settings=settings,
                    base=base,
                    answers=answers,
                    rank=rank,
                    tokens=tokens,
                    method=method,
                    updates=updates_of(method, budget, len(answers), settings),
                    seed=seed,
                ),
            )
            for seed, of_seed in sets.items()
            for tokens, answers in sorted(of_seed.items(), reverse=True)  # the longest first
            for rank in settings.ranks
            for method in settings.methods
            for budget in settings.budgets
        ]
        units = {unit.folder: unit for _, unit in planned}
        title = f"training {len(units)} adapters"
        needed = memory_of([base.parameters], "float32") + LOGITS_BYTES
        slots = resources_for(len(units), available_cores(), needed, device, workers).slots
        lines = run_units([*units.values()], train_unit, title=title, device=device, workers=slots)
    by_folder = dict(zip(units, lines, strict=True))
    runs = pl.DataFrame(
        [
            {"budget": budget, **by_folder[unit.folder], "adapter": unit.folder.name}
            for budget, unit in planned
        ]
    ).sort("method", "budget", "rank", "tokens_asked", "seed", maintain_order=True)
    tokens = pl.concat(
        pl.read_parquet(folder / "tokens.parquet").select(
            pl.lit(folder.name).alias("adapter"), pl.all()
        )
        for folder in units
    )
    for name, table in (("runs", runs), ("tokens", tokens)):
        with atomic_write(out / f"{name}.parquet") as file:
            table.write_parquet(file)
    return runs, tokens
