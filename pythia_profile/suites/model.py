"""A model suite as data: what was trained, on which order, at which rates, and where it lies."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy.typing as npt

from data_order.order import TrainingOrder
from pythia_profile.errors import not_found
from pythia_profile.suites.schedule import SCHEDULES, Rates

__all__ = ["Size", "Suite"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """One model of a suite.

    Attributes
    ----------
    name : as the suite calls it, `70m` for instance.
    layers, width, heads : shape of the transformer.
    parameters : all parameters, embeddings and head included.
    peak_lr, min_lr : highest rate and floor of the schedule.
    precision : dtype in which the weights are stored.
    weights : hub repository, or folder relative to the suite's own.
    checkpoints : steps at which weights exist, ascending.
    """

    name: str
    layers: int
    width: int
    heads: int
    parameters: int
    peak_lr: float
    min_lr: float
    precision: str
    weights: str
    checkpoints: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Suite:
    """Models trained on one order of rows.

    Attributes
    ----------
    name, title : how it is named on the command line; one line that says what it is.
    batch_size, steps : rows per optimizer step; optimizer steps of the run.
    row_tokens : tokens of a row, the last target included (Pythia: 2049).
    vocabulary : number of token ids.
    schedule, warmup_steps : name in `SCHEDULES`; optimizer steps of warm-up.
    seed : training seed, the third part of a run's name.
    sizes : by name, smallest first.
    root : folder of a suite that lies on this machine; None for one on the hub.
    store : prefix of the .bin and .idx with the rows in training order, relative to `root`; rows
        past the last step are never-treated.
    tokenizer : `tokenizer.json`, relative to `root`.
    single_pass : whether no text is read twice within the run.
    """

    name: str
    title: str
    batch_size: int
    steps: int
    row_tokens: int
    vocabulary: int
    schedule: str
    warmup_steps: int
    seed: int
    sizes: Mapping[str, Size] = field(repr=False)
    root: Path | None = None
    store: str | None = None
    tokenizer: str | None = None
    single_pass: bool = False

    @property
    def order(self) -> TrainingOrder:
        """Which rows each optimizer step read."""
        return TrainingOrder(self.batch_size, self.steps)

    def size(self, name: str) -> Size:
        """Return the size called `name`; a typo is answered with near matches."""
        if name not in self.sizes:
            raise not_found(f"size in suite '{self.name}':", name, list(self.sizes))
        return self.sizes[name]

    def learning_rate(self, size: str, updates: npt.ArrayLike) -> Rates:
        """Rate of each update (n,), 1-based, for one size."""
        model = self.size(size)
        return SCHEDULES[self.schedule](
            updates,
            peak=model.peak_lr,
            minimum=model.min_lr,
            warmup=self.warmup_steps,
            total=self.steps,
        )
