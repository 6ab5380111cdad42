"""Analyses of scored studies: how memorized sets change, what they share, and what they hold.

In: studies with a table of recall (`lab recall score`). Out: tables, a question each.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from data_order import TokenRows
from pythia_profile.labs.recall.recall_counts import SuffixArray
from pythia_profile.labs.recall.recall_errors import RecallError
from pythia_profile.labs.recall.recall_kinds import DOMAINS, KINDS, composition, domain, kinds
from pythia_profile.labs.recall.recall_scores import last_checkpoints, read_recall, study_rows
from pythia_profile.labs.recall.recall_sets import overlap, rate_by_frequency, transitions
from pythia_profile.labs.recall.recall_settings import Lengths
from pythia_profile.study import open_study
from pythia_profile.suites.model import Suite
from pythia_profile.suites.registry import open_suite

__all__ = [
    "study_compressibility",
    "study_counts",
    "study_kinds",
    "study_models",
    "study_overlap",
    "study_transitions",
]


def study_models(folder: Path, lengths: Lengths) -> pl.DataFrame:
    """Count each size's memorized rows at its last checkpoint, as a rate against size needs them.

    Returns
    -------
    A line a size: `size`, `parameters`, `checkpoint`, `memorized`, `rows`, `rate`.
    """
    suite = _suite(folder)
    return (
        last_checkpoints(read_recall(folder, lengths))
        .group_by("size", "checkpoint", maintain_order=True)
        .agg(memorized=pl.col("full").sum(), rows=pl.len(), rate=pl.col("full").mean())
        .with_columns(
            parameters=pl.col("size").map_elements(
                lambda name: suite.size(name).parameters, return_dtype=pl.Int64
            )
        )
        .select("size", "parameters", "checkpoint", "memorized", "rows", "rate")
    )


def study_transitions(folder: Path, lengths: Lengths) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Count learned and forgotten rows along checkpoints of each size, and from size to size."""
    recall = read_recall(folder, lengths)
    along = []
    for (size,), part in recall.group_by("size", maintain_order=True):
        wide = part.pivot("checkpoint", index="row_id", values="full")
        steps = sorted(map(int, wide.columns[1:]))
        along.append(
            transitions(wide.select(map(str, steps)).to_numpy(), steps).select(
                pl.lit(size).alias("size"), pl.all()
            )
        )
    sizes = open_study(folder).sizes
    wide = last_checkpoints(recall).pivot("size", index="row_id", values="full")
    kept = [size for size in sizes if size in wide.columns]
    return pl.concat(along), transitions(wide.select(kept).to_numpy(), kept)


def study_overlap(sources: Sequence[Path], lengths: Lengths) -> pl.DataFrame:
    """Compare the memorized sets of all sizes of some studies or tables, at the last checkpoints.

    Rows are the same where their ids are: two families may be compared on the same texts, each with
    its own tokens, when both studies give a text the same `row_id`.

    Raises
    ------
    RecallError
        The studies have no row in common.
    """
    sets: dict[str, pl.DataFrame] = {}
    for source in sources:
        recall = last_checkpoints(read_recall(source, lengths))
        for (size,), part in recall.group_by("size", maintain_order=True):
            name = f"{source.resolve().stem} {size}" if len(sources) > 1 else str(size)
            sets[name] = part.select("row_id", "full")
    common: set[int] = set.intersection(*({*one["row_id"]} for one in sets.values()))
    if not common:
        raise RecallError(
            f"{', '.join(map(str, sources))}: no row_id in common; expected scores of one sample"
        )
    return overlap(
        {
            name: one.filter(pl.col("row_id").is_in(sorted(common)))
            .sort("row_id")["full"]
            .to_numpy()
            for name, one in sets.items()
        }
    )


def study_counts(folder: Path, lengths: Lengths) -> pl.DataFrame:
    """Share given back by how often the continuation had been read when the checkpoint was made.

    Counted exactly in all rows that the run reads; needs a suite whose rows are in its folder.

    Returns
    -------
    A line a size and number of readings: `size`, `frequency`, and the columns of
    `recall_sets.rate_by_frequency`, over all checkpoints.
    """
    recall, corpus = read_recall(folder, lengths), _corpus(folder)
    rows = study_rows(folder).sort("row_id")
    continuations = _tokens(rows)[:, lengths.prompt : lengths.prompt + lengths.continuation]
    checkpoints = recall["checkpoint"].unique().sort().to_numpy()
    index = SuffixArray.of(corpus.rows, lengths.continuation)
    counts = index.count_by_step(continuations, corpus.steps, checkpoints)
    read = pl.DataFrame(
        {
            "row_id": np.repeat(rows["row_id"].to_numpy(), len(checkpoints)),
            "checkpoint": np.tile(checkpoints, len(rows)),
            "read": counts.ravel(),
        }
    )
    joined = recall.join(read, on=["row_id", "checkpoint"])
    return pl.concat(
        [
            rate_by_frequency(part["read"], part["full"]).select(
                pl.lit(size).alias("size"), pl.all()
            )
            for (size,), part in joined.group_by("size", maintain_order=True)
        ]
    )


def study_kinds(
    folder: Path, lengths: Lengths, *, recited: int = 5
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Taxonomy and domains of the sampled rows and of those that each size gives back.

    Needs a suite whose rows and tokenizer are in its folder.

    Returns
    -------
    Kinds, and domains: a line a size and name, as `recall_kinds.composition` has them.
    """
    from tokenizers import Tokenizer

    suite, corpus = _suite(folder), _corpus(folder)
    if suite.root is None or not suite.tokenizer:
        raise RecallError(f"suite '{suite.name}' names no tokenizer; kinds and domains need text")
    decode = Tokenizer.from_file(str(suite.root / suite.tokenizer)).decode
    rows = study_rows(folder).sort("row_id")
    tokens = _tokens(rows)[:, : lengths.prompt + lengths.continuation]
    texts = [decode(row) for row in tokens.tolist()]
    index = SuffixArray.of(corpus.rows, tokens.shape[1])
    of_row = {
        "kinds": (kinds(index.count(tokens), tokens, texts, recited=recited).tolist(), KINDS),
        "domains": ([domain(text) for text in texts], DOMAINS),
    }
    last = last_checkpoints(read_recall(folder, lengths)).sort("row_id")
    found = {
        what: pl.concat(
            [
                composition(names, part["full"], known).select(pl.lit(size).alias("size"), pl.all())
                for (size,), part in last.group_by("size", maintain_order=True)
            ]
        )
        for what, (names, known) in of_row.items()
    }
    return found["kinds"], found["domains"]


def study_compressibility(folder: Path, lengths: Lengths, size: str) -> pl.DataFrame:
    """Shortest suffix of the prompt that is enough, for the rows that a size gives back.

    Needs checkpoints in a folder of this machine: the size's last one that was scored.

    Returns
    -------
    `row_id`, `suffix` (tokens), `compressibility` (`suffix` ÷ prompt).
    """
    from pythia_profile.checkpoints.load import CheckpointLoader
    from pythia_profile.labs.recall.recall_prompts import shortest_suffix

    suite = _suite(folder)
    last = last_checkpoints(read_recall(folder, lengths)).filter(pl.col("size") == size)
    if last.is_empty():
        raise RecallError(
            f"size '{size}' was not scored in '{folder}'; known: {', '.join(suite.sizes)}"
        )
    own = study_rows(folder).join(last.filter("full"), on="row_id", how="semi").sort("row_id")
    model = CheckpointLoader().load(suite.folder_of(size, int(last["checkpoint"][0])))
    suffix = (
        shortest_suffix(model, _tokens(own), lengths.prompt, lengths.continuation)
        if len(own)
        else np.empty(0, np.int64)
    )
    return own.select("row_id").with_columns(
        suffix=pl.Series(suffix, dtype=pl.Int64),
        compressibility=pl.Series(suffix / lengths.prompt, dtype=pl.Float64),
    )


@dataclass(frozen=True, slots=True)
class _Corpus:
    """All rows of a run in training order: (n, T) tokens, (n,) optimizer step that reads each."""

    rows: npt.NDArray[np.int64]
    steps: npt.NDArray[np.int64]


def _suite(folder: Path) -> Suite:
    study = open_study(folder)
    return open_suite(study.suite, study.sizes, study.training_seed, near=folder)


def _corpus(folder: Path) -> _Corpus:
    suite = _suite(folder)
    if suite.root is None or suite.store is None or suite.token_files is not None:
        raise RecallError(
            f"suite '{suite.name}' has no rows in a folder of this machine, in which to count; "
            "expected one with a store (`pythia-profile rows` writes it)"
        )
    stored = TokenRows.open(suite.root / suite.store, row_tokens=suite.row_tokens)
    read = min(suite.batch_size * suite.steps, len(stored))
    rows = np.asarray(stored[:read]).astype(np.int64)
    return _Corpus(rows, np.arange(read) // suite.batch_size + 1)


def _tokens(rows: pl.DataFrame) -> npt.NDArray[np.int64]:
    """(n, T) tokens of a table of rows."""
    flat = rows["tokens"].explode().to_numpy().astype(np.int64)
    return flat.reshape(len(rows), -1)
