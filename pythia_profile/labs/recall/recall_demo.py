"""The demonstration: a planted corpus, a few sizes, and every analysis of the lab on them.

In: settings. Out: models, a table of recall by size, checkpoint and sequence, and what follows from
it. The models are scored as a suite of the core is, by its own units.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from pythia_profile.checkpoints.load import CheckpointLoader
from pythia_profile.labs.recall.recall_counts import SuffixArray
from pythia_profile.labs.recall.recall_errors import RecallError
from pythia_profile.labs.recall.recall_fits import fit_table
from pythia_profile.labs.recall.recall_prompts import shortest_suffix
from pythia_profile.labs.recall.recall_sampling import chance_of_extraction, sampled_hits
from pythia_profile.labs.recall.recall_scores import last_checkpoints, recall_of
from pythia_profile.labs.recall.recall_sets import (
    overlap,
    rate_by_frequency,
    threshold_frequency,
    transitions,
)
from pythia_profile.labs.recall.recall_settings import RecallSettings
from pythia_profile.scoring.run import score
from pythia_profile.scoring.settings import RunOptions, Scoring
from pythia_profile.suites.model import Size, Suite
from pythia_profile.tables import ROWS, conform
from pythia_profile.training.planted import (
    PlantedCorpus,
    planted_corpus,
    saved_steps,
    train_planted,
)

__all__ = ["RecallTables", "planted_suite", "prompted_rows", "recall_tables"]


@dataclass(frozen=True, slots=True, kw_only=True)
class RecallTables:
    """What the demo finds.

    Attributes
    ----------
    recall : a line a size, checkpoint and sequence; `frequency` 0 of held-out ones.
    rates : a line a size and frequency, at the last checkpoint: share given back whole, interval.
    sizes : a line a size: `parameters`, `threshold` frequency, `held_out` rate, planted sequences
        `memorized` of `rows`.
    fits : rate against size, as `recall_fits.fit_table` has it; empty where the sizes allow none.
    suffixes : a line a size and sequence that it gives back: shortest `suffix` of the prompt, and
        `compressibility`, that ÷ the prompt.
    steps, between : transitions from checkpoint to checkpoint of each size, and from size to size.
    shared : overlap of the sizes' memorized sets.
    sampled : a line a size: how many sequences are among so many samples, by the closed form and
        by sampling.
    counted : of the planted sequences, how many have the planted number of copies by exact count.
    """

    recall: pl.DataFrame
    rates: pl.DataFrame
    sizes: pl.DataFrame
    fits: pl.DataFrame
    suffixes: pl.DataFrame
    steps: pl.DataFrame
    between: pl.DataFrame
    shared: pl.DataFrame
    sampled: pl.DataFrame
    counted: int

    def frames(self) -> dict[str, pl.DataFrame]:
        """All tables, by the name of their files."""
        names = ("recall", "rates", "sizes", "fits", "suffixes", "steps", "between", "shared")
        return {name: getattr(self, name) for name in (*names, "sampled")}


def recall_tables(
    settings: RecallSettings, out: Path, *, workers: int | None = None
) -> RecallTables:
    """Train what is missing, score it, and compute every table.

    Parameters
    ----------
    out : folder of `models/` and `scores/`.
    workers : processes at a time; no number depends on it.
    """
    lasts = train_planted(
        settings.corpus,
        settings.sizes,
        out / "models",
        steps=settings.steps,
        checkpoints=settings.checkpoints,
        workers=workers,
    )
    corpus, suite = planted_corpus(settings.corpus), planted_suite(settings, lasts)
    prompted = np.concatenate([corpus.planted, corpus.held_out])
    scores = score(
        suite,
        prompted_rows(prompted),
        settings=Scoring(device="cpu", scorers=settings.lengths.scorers(exact_only=False)),
        options=RunOptions(workers=workers),
        folder=out / "scores",
    )
    frequency = np.concatenate([corpus.frequency, np.zeros(len(corpus.held_out), np.int64)])
    recall = recall_of(scores, settings.lengths).with_columns(
        frequency=pl.col("row_id").replace_strict(np.arange(len(frequency)), frequency)
    )
    last = last_checkpoints(recall)
    rates = _by_size(last, suite, lambda one: rate_by_frequency(one["frequency"], one["full"]))
    sizes = _sizes(rates, suite)
    return RecallTables(
        recall=recall,
        rates=rates,
        sizes=sizes,
        fits=_fits(sizes),
        suffixes=_suffixes(settings, lasts, last, prompted),
        steps=_by_size(recall, suite, _along_checkpoints),
        between=transitions(_flags(last, suite), list(suite.sizes)),
        shared=overlap(dict(zip(suite.sizes, _flags(last, suite).T, strict=True))),
        sampled=_sampled(settings, lasts, last, prompted),
        counted=_counted(settings, corpus),
    )


def planted_suite(settings: RecallSettings, lasts: Mapping[str, Path]) -> Suite:
    """Describe the models as a suite, so that the core can score them."""
    corpus, recipe = settings.corpus, settings.corpus.recipe(settings.steps)
    return Suite(
        name="planted",
        title="tiny GPT-NeoX models trained on a planted corpus",
        batch_size=corpus.batch_size,
        steps=settings.steps,
        row_tokens=corpus.tokens,
        vocabulary=corpus.vocabulary,
        schedule=recipe.schedule,
        warmup_steps=recipe.warmup_steps,
        seed=corpus.seed,
        root=next(iter(lasts.values())).parents[1],
        sizes={
            shape.name: Size(
                name=shape.name,
                layers=shape.layers,
                width=shape.width,
                heads=shape.heads,
                parameters=shape.parameters(corpus.vocabulary),
                peak_lr=corpus.peak_lr,
                min_lr=0.0,
                precision="float32",
                weights=shape.name,
                checkpoints=saved_steps(settings.steps, settings.checkpoints),
            )
            for shape in sorted(settings.sizes, key=lambda one: one.parameters(corpus.vocabulary))
        },
    )


def prompted_rows(rows: npt.NDArray[np.int64]) -> pl.DataFrame:
    """Lay out sequences as rows of the core; when they are read is not one step, hence not said."""
    return conform(
        pl.DataFrame(
            {
                "row_id": np.arange(len(rows)),
                "treatment_step": None,
                "batch": None,
                "tokens": rows.tolist(),
                "earlier_exposure": 0.0,
            },
            schema_overrides=ROWS.columns,
        ),
        ROWS,
    )


def _by_size(
    recall: pl.DataFrame, suite: Suite, table: Callable[[pl.DataFrame], pl.DataFrame]
) -> pl.DataFrame:
    """Compute a table of each size's lines."""
    return pl.concat(
        [
            table(recall.filter(pl.col("size") == size)).select(
                pl.lit(size).alias("size"), pl.all()
            )
            for size in suite.sizes
        ]
    )


def _along_checkpoints(recall: pl.DataFrame) -> pl.DataFrame:
    wide = recall.pivot("checkpoint", index="row_id", values="full", sort_columns=False)
    steps = sorted(map(int, wide.columns[1:]))
    return transitions(wide.select(map(str, steps)).to_numpy(), steps)


def _flags(last: pl.DataFrame, suite: Suite) -> npt.NDArray[np.bool_]:
    """(sequences, sizes) whether each size gives each sequence back, at its last checkpoint."""
    wide = last.sort("row_id").pivot("size", index="row_id", values="full")
    found: npt.NDArray[np.bool_] = wide.select(list(suite.sizes)).to_numpy()
    return found


def _sizes(rates: pl.DataFrame, suite: Suite) -> pl.DataFrame:
    lines = []
    for name, size in suite.sizes.items():
        own = rates.filter(pl.col("size") == name)
        planted = own.filter(pl.col("frequency") > 0)
        lines.append(
            {
                "size": name,
                "parameters": size.parameters,
                "threshold": threshold_frequency(planted),
                "held_out": float(own.filter(pl.col("frequency") == 0)["rate"][0]),
                "memorized": int(planted["memorized"].sum()),
                "rows": int(planted["sequences"].sum()),
            }
        )
    return pl.DataFrame(lines, schema_overrides={"threshold": pl.Int64})


def _fits(sizes: pl.DataFrame) -> pl.DataFrame:
    try:
        return fit_table(sizes)
    except RecallError:  # too few sizes for a law
        return pl.DataFrame()


def _suffixes(
    settings: RecallSettings,
    lasts: Mapping[str, Path],
    last: pl.DataFrame,
    rows: npt.NDArray[np.int64],
) -> pl.DataFrame:
    """Shortest suffix of the prompt of every sequence that a size gives back."""
    prompt, count = settings.lengths.prompt, settings.lengths.continuation
    found = []
    for size, folder in lasts.items():
        own = last.filter((pl.col("size") == size) & pl.col("full"))["row_id"].to_numpy()
        suffix = shortest_suffix(CheckpointLoader().load(folder), rows[own], prompt, count)
        found.append(
            pl.DataFrame(
                {"size": [size] * len(own), "row_id": own, "suffix": suffix},
                schema={"size": pl.String, "row_id": pl.Int64, "suffix": pl.Int64},
            )
        )
    return pl.concat(found).with_columns(compressibility=pl.col("suffix") / prompt)


def _sampled(
    settings: RecallSettings,
    lasts: Mapping[str, Path],
    last: pl.DataFrame,
    rows: npt.NDArray[np.int64],
) -> pl.DataFrame:
    """Sequences among `draws` samples, by the closed form and by drawing."""
    lengths, draws = settings.lengths, settings.draws
    lines = []
    for number, (size, folder) in enumerate(lasts.items()):
        own = last.filter((pl.col("size") == size) & (pl.col("frequency") > 0)).sort("row_id")
        drawn = sampled_hits(
            CheckpointLoader().load(folder),
            rows[own["row_id"].to_numpy()],
            lengths.prompt,
            lengths.continuation,
            draws=draws,
            seed=settings.corpus.seed + number,
        )
        chance = chance_of_extraction(own["log_p"].to_numpy(), draws)
        lines.append(
            {
                "size": size,
                "draws": draws,
                "sequences": len(own),
                "greedy": int(own["full"].sum()),
                "closed_form": float(chance.sum()),
                "closed_form_sd": float(np.sqrt((chance * (1 - chance)).sum())),
                "sampled": int((drawn > 0).sum()),
            }
        )
    return pl.DataFrame(lines)


def _counted(settings: RecallSettings, corpus: PlantedCorpus) -> int:
    """Planted sequences whose exact count in the corpus is the planted number of copies."""
    index = SuffixArray.of(corpus.rows, settings.corpus.tokens)
    return int((index.count(corpus.planted) == corpus.frequency).sum())
