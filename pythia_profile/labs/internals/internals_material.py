"""The rows that are looked at: read, not yet read, never read; of a planted corpus or of a study.

Out: a table, one line a row: `row_id`; `exposure` (read, not_yet, never); `recent`, whether it was
read after the checkpoint before; `copies`, how often the corpus holds it (null where that is not
known); `domain`; `tokens`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from pythia_profile.checkpoints.grid import locate
from pythia_profile.checkpoints.prefetch import Prefetcher
from pythia_profile.errors import NotFoundError, StudyError, not_found
from pythia_profile.labs.internals.internals_groups import COVARIATES, covariates
from pythia_profile.labs.internals.internals_settings import Measuring
from pythia_profile.store import read_table
from pythia_profile.study import open_study
from pythia_profile.suites.registry import open_suite
from pythia_profile.tables import ROWS
from pythia_profile.training.languages import Rows
from pythia_profile.training.planted import PlantedCorpus

__all__ = ["StudyModel", "halves", "planted_material", "study_material", "study_model"]


def planted_material(corpus: PlantedCorpus, settings: Measuring) -> pl.DataFrame:
    """Return planted rows, some of the background, which are read once a pass, and held-out rows.

    All are drawn from one language, so how often a row is read is randomized by design.
    """
    background = corpus.rows[corpus.which < 0][: settings.candidates]
    rows = np.concatenate([corpus.planted, background, corpus.held_out])
    copies = np.concatenate(
        [corpus.frequency, np.ones(len(background), int), np.zeros(len(corpus.held_out), int)]
    )
    return pl.DataFrame(
        {
            "row_id": np.arange(len(rows)),
            "exposure": np.where(copies > 0, "read", "never"),
            "recent": False,
            "copies": copies,
            "domain": halves(_entropy(rows), ("regular", "varied")),
            "tokens": rows[:, : settings.tokens].tolist(),
        }
    )


@dataclass(frozen=True, slots=True)
class StudyModel:
    """One checkpoint of a study, on this disk.

    Attributes
    ----------
    folder : of the checkpoint; step, before : it, and the checkpoint before it (-1 for none).
    layers, heads, weights : by the suite; hashes of its files.
    tokenizer : file of the suite's, where it has one.
    """

    folder: Path
    size: str
    step: int
    before: int
    layers: int
    heads: int
    weights: dict[str, str]
    tokenizer: Path | None


@contextmanager
def study_model(folder: Path, size: str | None, step: int | None) -> Iterator[StudyModel]:
    """Hold a checkpoint of a study: by default the last one of its last size.

    Raises
    ------
    NotFoundError
        The study has no such size, or there is no such checkpoint.
    """
    study = open_study(folder)
    size = size or study.sizes[-1]
    if size not in study.sizes:
        raise not_found("size", size, list(study.sizes))
    suite = open_suite(study.suite, (size,), study.training_seed, near=folder)
    steps = study.checkpoints or suite.usual_checkpoints(size)
    if not steps and step is None:
        raise StudyError("--checkpoint: only the hub knows the steps of this suite; name one")
    step = steps[-1] if step is None else step
    found = locate(suite, (size,), (step,), keep=study.score.keep).chosen(study.score.faulty)
    if not found:
        known = ", ".join(map(str, steps))
        raise NotFoundError(f"the suite has no checkpoint {step} of size '{size}'; known: {known}")
    (one,), shape = found, suite.size(size)
    with Prefetcher() as downloads, downloads.held(one.source) as files:
        tokenizer = suite.root / suite.tokenizer if suite.root and suite.tokenizer else None
        before = max((other for other in steps if other < step), default=-1)
        yield StudyModel(
            files, size, step, before, shape.layers, shape.heads, one.weights, tokenizer
        )


def study_material(folder: Path, model: StudyModel, settings: Measuring) -> pl.DataFrame:
    """Return rows of a study by what the checkpoint has read; of each kind as many as asked for.

    A known order, in which rows stand at random, makes read and not yet read rows comparable.

    Raises
    ------
    StudyError
        The rows are shorter than prompt and continuation together.
    """
    rows = read_table(folder / "rows.parquet", ROWS, "sample")
    shortest = int(rows["tokens"].list.len().min())  # type: ignore[arg-type]
    if shortest < settings.tokens:
        raise StudyError(
            f"'{folder / 'rows.parquet'}' has rows of {shortest} tokens, expected "
            f"{settings.tokens} or more; choose --set prompt=… and continuation=… that fit"
        )
    step = pl.col("treatment_step")
    known = pl.when(step <= model.step).then(pl.lit("read")).otherwise(pl.lit("not_yet"))
    exposure = pl.when(step.is_null()).then(pl.lit("never")).otherwise(known)
    found = rows.select(
        "row_id",
        exposure.alias("exposure"),
        ((step > model.before) & (step <= model.step)).fill_null(value=False).alias("recent"),
        pl.lit(None, pl.Int64).alias("copies"),
        pl.col("tokens").list.head(settings.tokens).cast(pl.List(pl.Int64)),
    )
    kinds = [
        part.sample(min(len(part), settings.candidates), seed=settings.seed)
        for _, part in found.group_by("exposure", "recent", maintain_order=True)
    ]
    drawn = pl.concat(kinds).sort("row_id")
    return drawn.with_columns(domain=_domains(drawn["tokens"], model.tokenizer)).select(
        *drawn.columns[:-1], "domain", "tokens"
    )


def _domains(tokens: pl.Series, tokenizer: Path | None) -> pl.Series:
    """Text of which few characters are letters (code, tables, lists) and other text, by the median.

    Without a tokenizer: rows whose tokens repeat, and others.
    """
    if tokenizer is None:
        return halves(_entropy(np.array(tokens.to_list())), ("regular", "varied"))
    from tokenizers import Tokenizer

    texts = pl.Series(Tokenizer.from_file(str(tokenizer)).decode_batch(tokens.to_list()))
    letters = texts.str.count_matches(r"[\p{L} ]") / texts.str.len_chars().clip(1)
    return halves(letters.to_numpy(), ("structural", "prose"))


def halves(values: npt.NDArray[np.float64], names: tuple[str, str]) -> pl.Series:
    """Name the rows below the median, and the others.

    Examples
    --------
    >>> halves(np.array([3.0, 1.0, 2.0, 9.0]), ("low", "high")).to_list()
    ['high', 'low', 'low', 'high']
    """
    return pl.Series(np.where(values < np.median(values), *names))


def _entropy(rows: Rows) -> npt.NDArray[np.float64]:
    return covariates(rows, np.zeros(int(rows.max()) + 1))[:, COVARIATES.index("entropy")]
