"""Recall of a study's rows at its checkpoints, scored as everything else is: units, leases, chunks.

In: a study with sampled rows. Out: `recall/P_C.parquet` in its folder, a line a size, checkpoint
and row: `full` (the whole continuation is given back), `log_p` (its log-probability, nats), and,
where it was decoded, `share` (of tokens that match, position by position) and `leading` (tokens
that match before the first that does not; else null).
"""

from collections.abc import Sequence
from pathlib import Path

import polars as pl

from pythia_profile.errors import MissingTableError
from pythia_profile.labs.recall.recall_errors import RecallError
from pythia_profile.labs.recall.recall_families import Family
from pythia_profile.labs.recall.recall_settings import Lengths
from pythia_profile.scoring.settings import RunOptions
from pythia_profile.store import atomic_write, read_table
from pythia_profile.study import open_study
from pythia_profile.suites.registry import open_suite
from pythia_profile.tables import ROWS

__all__ = [
    "last_checkpoints",
    "read_recall",
    "recall_of",
    "recall_path",
    "score_model",
    "score_recall",
    "study_rows",
]

_KEYS = ("size", "checkpoint", "row_id")


def score_recall(
    folder: Path,
    lengths: Lengths,
    *,
    exact_only: bool = False,
    checkpoints: Sequence[int] = (),
    options: RunOptions | None = None,
) -> pl.DataFrame:
    """Score a study's rows, write the table, return it; what was scored before is read.

    Parameters
    ----------
    exact_only : one forward pass decides whether a continuation is given back whole; nothing is
        decoded, and `share` and `leading` are null.
    checkpoints : those to score; by default the study's.

    Raises
    ------
    MissingTableError
        The study has no rows yet.
    NotFoundError
        Rows are shorter than prompt and continuation, or a checkpoint does not exist.
    UnfinishedError
        Some checkpoints could not be scored; the others are kept.
    """
    from pythia_profile.scoring.run import score  # loads torch

    study = open_study(folder)
    rows = study_rows(folder)
    settings = study.score.replace(
        scorers=lengths.scorers(exact_only=exact_only), token_table=False
    )
    scores = score(
        open_suite(study.suite, study.sizes, study.training_seed, near=folder),
        rows,
        study.sizes,
        tuple(checkpoints) or study.checkpoints or None,
        settings=settings,
        options=options,
        # a folder for each question, so that one asked before is not scored again
        folder=folder / "recall" / (lengths.exact if exact_only else lengths.recall),
    )
    found = recall_of(scores, lengths)
    with atomic_write(recall_path(folder, lengths)) as file:
        found.write_parquet(file)
    return found


def score_model(
    folder: Path,
    rows: pl.DataFrame,
    lengths: Lengths,
    *,
    of: Family | None = None,
    exact_only: bool = False,
) -> pl.DataFrame:
    """Score rows under one model in a folder, such as the only weights that a family publishes.

    Parameters
    ----------
    folder : Hugging Face files of one of the classes that are loaded; its name becomes the `size`.
    rows : `row_id` and `tokens`, by the model's own tokenizer.
    of : its family, whose prefix is put before each row; it counts neither as prompt nor as given.

    Returns
    -------
    What `score_recall` gives, of checkpoint 0.

    Raises
    ------
    CheckpointError
        Files are missing, or are no whole checkpoint of their config.json.
    RecallError
        The model is of another class than its family.
    """
    from pythia_profile.checkpoints.load import CheckpointLoader
    from pythia_profile.scoring.forward import score_checkpoint

    model = CheckpointLoader().load(folder)
    kind = model.config.model_type
    if of is not None and kind != of.model_type:
        raise RecallError(
            f"'{folder}': its class is {kind}, that of family '{of.name}' is {of.model_type}"
        )
    before = list(of.prefix) if of is not None else []
    known = Lengths(prompt=lengths.prompt + len(before), continuation=lengths.continuation)
    prompted = rows.select(
        "row_id", tokens=pl.concat_list(pl.lit(before, pl.List(pl.Int64)), pl.col("tokens"))
    )
    scores = score_checkpoint(model, prompted, outcomes=known.scorers(exact_only=exact_only))
    named = scores.with_columns(size=pl.lit(folder.resolve().name), checkpoint=pl.lit(0, pl.Int64))
    return recall_of(named, known)


def recall_of(scores: pl.DataFrame, lengths: Lengths) -> pl.DataFrame:
    """Take what the lab needs of a table of scores."""
    missing = pl.lit(None, pl.Float64)
    decoded = f"{lengths.recall}_share" in scores.columns
    return scores.select(
        *_KEYS,
        pl.col(f"{lengths.exact}_full").cast(pl.Boolean).alias("full"),
        pl.col(f"{lengths.exact}_log_p").alias("log_p"),
        (pl.col(f"{lengths.recall}_share") if decoded else missing).alias("share"),
        (pl.col(f"{lengths.recall}_leading") if decoded else missing)
        .cast(pl.Int64)
        .alias("leading"),
    )


def recall_path(folder: Path, lengths: Lengths) -> Path:
    """Where a study's table for these lengths is."""
    return folder / "recall" / f"{lengths.prompt}_{lengths.continuation}.parquet"


def read_recall(source: Path, lengths: Lengths) -> pl.DataFrame:
    """Read what `score_recall` wrote into a study, or a table that lies in a file.

    Raises
    ------
    MissingTableError
        Nothing was scored with these lengths.
    RecallError
        The file is no such table.
    """
    path = source if source.is_file() else recall_path(source, lengths)
    if not path.is_file():
        raise MissingTableError(
            f"no '{path}'; run `pythia-profile lab recall score {source} --prompt {lengths.prompt} "
            f"--continuation {lengths.continuation}` first"
        )
    try:
        found = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise RecallError(f"'{path}' cannot be read: {str(error).splitlines()[0]}") from None
    if lost := [name for name in (*_KEYS, "full", "log_p") if name not in found.columns]:
        raise RecallError(f"'{path}': '{lost[0]}' is missing; delete it and score again")
    return found


def last_checkpoints(recall: pl.DataFrame) -> pl.DataFrame:
    """Lines of each size's last checkpoint."""
    return recall.filter(pl.col("checkpoint") == pl.col("checkpoint").max().over("size"))


def study_rows(folder: Path) -> pl.DataFrame:
    """Read a study's rows."""
    return read_table(folder / "rows.parquet", ROWS, "sample")
