"""The rows that a study's largest model gained most and least from, token by token.

In: a study's estimates and the checkpoints around each row's reading. Out: the table `REMEMBERED`.
The text of rows is shown only where the study says so, or is the mini suite's: Python's library.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl

from pythia_profile.checkpoints.load import CheckpointLoader
from pythia_profile.checkpoints.prefetch import Prefetcher, Source
from pythia_profile.errors import EstimationError, NotFoundError
from pythia_profile.execute.resources import chosen_device
from pythia_profile.pipeline.kept import study_estimates
from pythia_profile.pipeline.pinned import study_grid
from pythia_profile.profiles.estimates import RunEstimate
from pythia_profile.scoring.forward import score_rows
from pythia_profile.scoring.units import units_of
from pythia_profile.store import read_table
from pythia_profile.study import Study
from pythia_profile.suites.model import Suite
from pythia_profile.tables import NEVER, REMEMBERED, ROWS, conform

__all__ = ["extreme_rows", "remembered_rows"]

MOST = 3
"""Rows at each end."""


def remembered_rows(folder: Path, study: Study, suite: Suite) -> pl.DataFrame:
    """Score the most and the least remembered rows before and after they were read.

    Returns
    -------
    The `REMEMBERED` table, of the largest size and the first outcome.
    """
    size = max(study.sizes, key=lambda name: suite.size(name).parameters)
    outcome = study.outcomes[0]
    chosen = extreme_rows(study_estimates(folder, study).run(size, outcome))
    rows = read_table(folder / "rows.parquet", ROWS, "sample")
    tokens = dict(
        rows.filter(pl.col("row_id").is_in(chosen["row_id"].implode()))
        .select("row_id", "tokens")
        .iter_rows()
    )
    works = units_of(suite, study_grid(folder, study, suite), study.score.faulty)
    sources = {w.unit.checkpoint: w.checkpoint for w in works if w.unit.size == size}
    surprisal = _surprisals(study, sources, chosen, tokens)
    text = _pieces(suite)
    lines = [
        {
            **line,
            **{"suite": suite.name, "size": size, "seed": suite.seed, "outcome": outcome},
            "tokens": [text(token) for token in tokens[line["row_id"]]],
            # the first token is only read, so nothing about it changes
            "changes": [0.0, *(surprisal[at, line["base"]] - surprisal[at, line["cohort"]])],
        }
        for at, line in enumerate(chosen.iter_rows(named=True))
    ]
    return conform(pl.DataFrame(lines, schema=dict(REMEMBERED.columns)), REMEMBERED)


def extreme_rows(one: RunEstimate, most: int = MOST) -> pl.DataFrame:
    """Pick the rows whose outcome changed most and least when they were read.

    The change is that from the base to the cohort's checkpoint, less the mean change of the
    never-treated rows over the same steps, in the unit of the outcome. `rank` is 1, 2, … from the
    most remembered row on and −1, −2, … from the least.

    Raises
    ------
    EstimationError
        No row is never-treated, or none was read.
    """
    laid, att = one.panel, one.att
    if not (never := laid.cohort == NEVER).any() or never.all():
        raise EstimationError("remembered: rows that were read and rows that were not are needed")
    group = np.searchsorted(att.cohorts, laid.cohort[~never])
    base = att.fit.comparison.base[:, -1][group]
    after = np.searchsorted(laid.checkpoints, laid.cohort[~never])
    y, row = laid.y[~never], np.arange(len(group))
    controls = np.nanmean(laid.y[never], axis=0)
    effect = y[row, after] - y[row, base] - (controls[after] - controls[base])
    frame = pl.DataFrame(
        {
            "row_id": laid.row_id[~never],
            "cohort": laid.checkpoints[after],
            "base": laid.checkpoints[base],
            "effect": effect,
        }
    ).filter(pl.col("effect").is_finite() & pl.Series(base >= 0))
    frame = frame.sort("effect", "row_id", descending=[True, False])
    few = min(most, len(frame) // 2)
    ends = pl.concat([frame.head(few), frame.tail(few).reverse()])
    return ends.with_columns(rank=pl.Series([*range(1, few + 1), *range(-1, -few - 1, -1)]))


def _surprisals(
    study: Study,
    sources: dict[int, Source],
    chosen: pl.DataFrame,
    tokens: dict[int, list[int]],
) -> dict[tuple[int, int], "np.ndarray[tuple[int], np.dtype[np.float64]]"]:
    """Surprisal of every target of each chosen row, by its line and checkpoint."""
    wanted: dict[int, list[int]] = {}
    for at, line in enumerate(chosen.iter_rows(named=True)):
        for step in (line["base"], line["cohort"]):
            wanted.setdefault(step, []).append(at)
    settings = study.score.replace(token_table=True, scorers=())
    loader = CheckpointLoader(settings.dtype, chosen_device(settings.device), settings.attention)
    found = {}
    with Prefetcher() as downloads:
        for step, lines in sorted(wanted.items()):
            if step not in sources:
                raise NotFoundError(f"remembered: checkpoint {step} of the study is missing")
            texts = np.array([tokens[chosen["row_id"][at]] for at in lines])
            with downloads.held(sources[step]) as files:
                scored = score_rows(loader.load(files), texts, settings)
            assert scored.tokens is not None
            for at, values in zip(lines, scored.tokens["surprisal"], strict=True):
                found[at, step] = np.array(values.to_list(), dtype=np.float64)
    return found


def _pieces(suite: Suite) -> Callable[[int], str]:
    """From a token to its text; to its number where the suite has no tokenizer here."""
    if not (suite.root and suite.tokenizer):
        return "⟨{}⟩".format
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(suite.root / suite.tokenizer))

    def piece(token: int) -> str:
        return str(tokenizer.decode([token], skip_special_tokens=False))

    return piece
