"""Texts planted at random into a run of the mini suite, and the same texts in the run without them.

In: a size of the suite, and how many texts have how many copies. Out: the items with the log of
what went where, and their scores in the planted run and in the real one, which never read them:
Hubble's experiment in small. Items are spare rows; a copy takes the place of a training row, drawn
as Hubble's script draws. Placebo items take a place too, but their labels are masked: they are read
and move no weight.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from torch.nn.functional import cross_entropy
from transformers.modeling_utils import PreTrainedModel

from data_order import TokenRows
from data_order.insertions import insertion_rows
from pythia_profile.errors import StudyError
from pythia_profile.execute.executors import map_units
from pythia_profile.execute.resources import on_cores
from pythia_profile.execute.worker import Worker
from pythia_profile.mini.build import config_of
from pythia_profile.mini.config import MiniConfig
from pythia_profile.progress import track
from pythia_profile.scoring.forward import score_checkpoint
from pythia_profile.store import atomic_write, digest, read_json
from pythia_profile.suites.model import Suite
from pythia_profile.training.loop import batches_in_order, load_state, train

__all__ = ["Injection", "InjectionUnit", "injected", "insertion_log", "item_table"]

PLACEBO = "placebo"
NOT_PLANTED = "not planted"


@dataclass(frozen=True, slots=True, kw_only=True)
class Injection:
    """How many texts are planted how often.

    Attributes
    ----------
    copies : number of copies -> number of items; 0 copies are the controls.
    placebo : items planted once with masked labels.
    windows : shares of the run; each window gets an equal part of every arm's items.
    seed : of the draw.
    """

    copies: Mapping[int, int]
    placebo: int = 0
    windows: Sequence[tuple[float, float]] = ((0.0, 1.0),)
    seed: int = 123

    def __post_init__(self) -> None:
        if min(self.copies, default=0) < 0 or min(self.copies.values(), default=0) < 0:
            raise StudyError(f"injection: got {dict(self.copies)}, expected counts from 0 on")
        if not self.copies.get(0) or not any(n for copy, n in self.copies.items() if copy):
            raise StudyError(
                f"injection: got {dict(self.copies)}, expected items with 0 copies, as controls, "
                "and items with 1 or more"
            )

    @property
    def items(self) -> int:
        """All items."""
        return sum(self.copies.values()) + self.placebo

    @classmethod
    def usual(cls, spare: int, *, windows: int = 1, seed: int = 123) -> "Injection":
        """Return a plan that uses all of some spare rows: three eighths of them controls."""
        eighth = spare // 8
        edges = np.linspace(0, 1, windows + 1).tolist()
        return cls(
            copies={0: 3 * eighth, 1: 2 * eighth, 2: eighth, 4: eighth},
            placebo=eighth,
            windows=tuple(pairwise(edges)),
            seed=seed,
        )


@dataclass(frozen=True, slots=True)
class InjectionUnit:
    """A run of a size of the suite in `home`: planted by the `log`, or real where that is None.

    `items` and `out` are the files of the items to score and of their scores.
    """

    home: Path
    size: str
    items: Path
    out: Path
    log: Path | None

    @property
    def name(self) -> str:
        """What messages call it."""
        return f"mini {self.size} with{'out' if self.log is None else ''} planted texts"


def injected(
    suite: Suite,
    size: str,
    plan: Injection,
    *,
    folder: Path,
    workers: int | None = None,
) -> tuple[pl.DataFrame, pl.DataFrame, pl.DataFrame]:
    """Train a size again with planted texts, from the same weights; score them in both runs.

    Parameters
    ----------
    folder : where the log and the scores are kept and found again; `inserted.parquet` in it says
        what went where.

    Returns
    -------
    Items, as `item_table` lays them out; `SCORES` of the planted run, whose `seed` is that of the
    plan; and of the real run.

    Raises
    ------
    StudyError
        More items than spare rows.
    """
    config = config_of(suite)
    suite.size(size)
    root = Path(str(suite.root))
    log = insertion_log(config, plan)
    items = item_table(config, plan, log, TokenRows.open(root / "spare", config.row_tokens)[:])
    key = digest([asdict(plan) | {"copies": sorted(plan.copies.items())}, size, str(root)])[:16]
    home = folder / f"{size}-{key}"
    home.mkdir(parents=True, exist_ok=True)
    for frame, name in ((items, "items"), (log, "inserted")):
        with atomic_write(home / f"{name}.parquet") as file:
            frame.write_parquet(file)
    units = [
        InjectionUnit(root, size, home / "items.parquet", home / f"{name}.parquet", used)
        for name, used in (("planted", home / "inserted.parquet"), ("real", None))
    ]
    if missing := [unit for unit in units if not unit.out.exists()]:
        with track(f"training {size} with planted texts", config.steps, "steps") as task:
            map_units(run_unit, missing, on_cores(workers), task.advance)
    named = {"suite": pl.lit(suite.name), "size": pl.lit(size)}
    planted, real = (
        pl.read_parquet(unit.out).with_columns(**named, seed=pl.lit(seed, pl.Int64))
        for unit, seed in zip(units, (plan.seed, suite.seed), strict=True)
    )
    return items, planted, real


def insertion_log(config: MiniConfig, plan: Injection) -> pl.DataFrame:
    """Draw the places of all copies: `item`, `arm`, `window`, `row`, `step`, one line a copy."""
    if plan.items > config.spare:
        raise StudyError(
            f"injection: {plan.items:,} items, the suite has {config.spare:,} spare rows; plant "
            "fewer"
        )
    arm, copies = _arms(plan)
    window = np.arange(plan.items) % len(plan.windows)
    parts, taken = [], np.empty(0, np.int64)
    for number, share in enumerate(plan.windows):
        here = np.flatnonzero((window == number) & (copies > 0))
        item = np.repeat(here, copies[here])
        found = insertion_rows(
            {"items": np.full(len(item), config.row_tokens)},
            steps=config.steps,
            seed=plan.seed + number,
            window=share,
            batch_size=config.batch_size,
        )
        if np.isin(found.row, taken).any():
            raise StudyError("injection: windows overlap; expected each row in one of them")
        taken = np.append(taken, found.row)
        name = f"{share[0]:.0%} to {share[1]:.0%}"
        parts.append(
            pl.DataFrame({"item": item, "row": found.row, "step": found.step}).with_columns(
                arm=pl.Series(arm[item], dtype=pl.String), window=pl.lit(name)
            )
        )
    return pl.concat(parts)


def _arms(plan: Injection) -> tuple[npt.NDArray[np.str_], npt.NDArray[np.int64]]:
    """Arm of each item, and its copies."""
    counts = [*sorted(plan.copies.items()), (1, plan.placebo)]
    names = [f"{n} {'copy' if n == 1 else 'copies'}" if n else NOT_PLANTED for n, _ in counts]
    names[-1] = PLACEBO
    sizes = [size for _, size in counts]
    return np.repeat(np.array(names), sizes), np.repeat([n for n, _ in counts], sizes)


def item_table(
    config: MiniConfig, plan: Injection, log: pl.DataFrame, spare: npt.NDArray[np.integer]
) -> pl.DataFrame:
    """`ROWS` of the items: their first step, and columns `arm` and `window` ("all" if unplanted).

    Ids begin where the suite's own rows end.
    """
    arm, _ = _arms(plan)
    first = log.group_by("item").agg(pl.col("step").min(), pl.col("window").first())
    items = pl.DataFrame(
        {
            "item": np.arange(plan.items),
            "row_id": config.rows + np.arange(plan.items),
            "tokens": pl.Series(spare[: plan.items].tolist(), dtype=pl.List(pl.UInt16)),
            "arm": pl.Series(arm.tolist()),
        }
    ).join(first, on="item", how="left", maintain_order="left")
    return items.select(
        "row_id",
        treatment_step=pl.col("step").cast(pl.Int64),
        batch=pl.col("step").cast(pl.Int64) - 1,
        tokens="tokens",
        earlier_exposure=pl.lit(0.0),
        arm="arm",
        window=pl.col("window").fill_null("all"),
    )


def run_unit(unit: InjectionUnit, worker: Worker) -> None:
    """Score the items at every checkpoint of the real run, or of the planted one as it trains."""
    config = MiniConfig(**read_json(unit.home / "config.json"))
    torch.set_num_threads(worker.threads)
    items, parts = pl.read_parquet(unit.items), []

    def keep_scores(model: PreTrainedModel, step: int) -> None:
        model.train(False)
        scores = score_checkpoint(model, items)
        parts.append(scores.with_columns(checkpoint=pl.lit(step, pl.Int64)))

    if unit.log is None:
        for step in config.checkpoints:
            keep_scores(load_state(unit.home / unit.size, step, config.recipe).model, step)
    else:
        state = load_state(unit.home / unit.size, 0, config.recipe)
        keep_scores(state.model, 0)
        content = _with_planted(unit, config, items, pl.read_parquet(unit.log))
        batches = batches_in_order(content, config.batch_size)
        for update in train(state, batches, config.recipe, loss=masked_loss):
            if update.step in config.checkpoints:
                keep_scores(state.model, update.step)
            worker.advance(1)
    with atomic_write(unit.out) as file:
        pl.concat(parts).write_parquet(file, compression="zstd")


def _with_planted(
    unit: InjectionUnit, config: MiniConfig, items: pl.DataFrame, log: pl.DataFrame
) -> npt.NDArray[np.int64]:
    """Training rows with the copies in their places; in a last column, 1 for masked labels."""
    document = TokenRows.open(unit.home / "document", row_tokens=config.row_tokens)
    content = document[: config.training_rows].astype(np.int64)
    tokens = np.array(items["tokens"].to_list(), dtype=np.int64)
    content[log["row"].to_numpy()] = tokens[log["item"].to_numpy()]
    masked = np.zeros((len(content), 1), np.int64)
    masked[log.filter(arm=PLACEBO)["row"].to_numpy()] = 1
    return np.hstack([content, masked])


def masked_loss(model: PreTrainedModel, rows: torch.Tensor) -> torch.Tensor:
    """Mean surprisal of the targets, those of masked rows left out but counted, as in OLMo.

    Parameters
    ----------
    rows : (B, T + 1) token ids, and 1 in the last column of a masked row.
    """
    ids, kept = rows[:, :-1], rows[:, -1] == 0
    logits = model(input_ids=ids[:, :-1]).logits
    losses = cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    total: torch.Tensor = (losses.reshape(len(ids), -1) * kept[:, None]).mean()
    return total
