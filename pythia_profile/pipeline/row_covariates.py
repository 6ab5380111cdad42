"""Covariates of a study's rows: the table `covariates.parquet`, each column with its provenance.

    features.unigram …          from the tokens alone (`profiles.features`), by counts of rows of
                                the store that are not in the sample
    reference.log_likelihood …  scores by a model that has read none of the rows

Features need the rows' tokens and other rows of the store; without them the table holds none, and
its provenance says why. A reference is asked for by `reference` in study.toml.
"""

from pathlib import Path

import numpy as np
import polars as pl

from pythia_profile.errors import ProfileError, StudyError
from pythia_profile.profiles.features import count, row_features
from pythia_profile.store import file_sha256, read_table
from pythia_profile.study import Study
from pythia_profile.suites.model import Suite
from pythia_profile.suites.sampling import open_rows
from pythia_profile.tables import COVARIATES, conform

__all__ = ["covariate_table", "other_rows", "reference_columns", "with_covariates"]

HELD_OUT = "held_out"
ALL_ROWS = 16_384
"""Stores of up to this many rows are read whole for their counts."""
RUNS, RUN_ROWS = 128, 64
"""Of larger stores, this many runs of adjacent rows, a request each where the store is remote."""
LARGEST_GAP = 4.0
"""Standard errors by which a clean reference may know treated rows better; one in 30,000 does."""
OUTCOMES = ("log_likelihood", "accuracy", "mean_rank", "entropy")


def covariate_table(
    folder: Path, study: Study, suite: Suite | None, rows: pl.DataFrame, workers: int | None = None
) -> tuple[pl.DataFrame, dict[str, str]]:
    """Make the covariates of the sampled rows.

    Parameters
    ----------
    suite : counts its tokens, and trains the reference; without it there are no features.

    Returns
    -------
    The `COVARIATES` table, and what each group of columns was made from.

    Raises
    ------
    StudyError
        The reference that the study asks for is missing, does not hold the rows, or is not clean.
    """
    table, provenance = rows.select("row_id"), {}
    try:
        features, provenance["features"] = feature_columns(suite, rows)
        table = table.hstack(features)
    except ProfileError as error:
        provenance["features"] = f"none: {error}"
    if study.reference:
        found, provenance["reference"] = _reference(folder, study, suite, rows, workers)
        table = table.join(found, on="row_id", how="left", maintain_order="left")
    return conform(table, COVARIATES), provenance


def feature_columns(suite: Suite | None, rows: pl.DataFrame) -> tuple[pl.DataFrame, str]:
    """Features of the rows' tokens, line by line with `rows`, and what they were made from.

    Raises
    ------
    ProfileError
        The rows hold no tokens, or the suite no rows to count.
    """
    if "tokens" not in rows.columns:
        raise StudyError("the table 'rows' holds no tokens")
    if suite is None:
        raise StudyError("the scores are imported, and the suite is not opened")
    store = open_rows(suite)
    sampled = rows["row_id"].to_numpy()
    blocks = other_rows(len(store), sampled)
    text = np.concatenate([np.asarray(store[a:b])[kept] for a, b, kept in blocks])
    counts = count(text, suite.vocabulary)
    features = row_features(np.array(rows["tokens"].to_list()), counts)
    named = features.rename({name: f"features.{name}" for name in features.columns})
    return named, f"counts of {len(text):,} rows of suite '{suite.name}' that are not in the sample"


def other_rows(rows: int, sampled: np.ndarray) -> list[tuple[int, int, np.ndarray]]:
    """Where to read rows that are not in the sample: first, last and which of these are not.

    Examples
    --------
    >>> [(a, b, kept.tolist()) for a, b, kept in other_rows(4, np.array([1]))]
    [(0, 4, [True, False, True, True])]
    """
    if rows <= ALL_ROWS:
        starts, length = np.array([0]), rows
    else:
        starts = np.linspace(0, rows - RUN_ROWS, RUNS).astype(np.int64)
        length = RUN_ROWS
    taken = set(sampled.tolist())
    return [
        (int(a), int(a) + length, np.array([r not in taken for r in range(a, a + length)]))
        for a in starts.tolist()
    ]


def _reference(
    folder: Path, study: Study, suite: Suite | None, rows: pl.DataFrame, workers: int | None
) -> tuple[pl.DataFrame, str]:
    if study.reference == HELD_OUT:
        from pythia_profile.mini.reference import held_out_scores

        if suite is None or suite.name != "mini":
            raise StudyError(
                "reference = 'held_out' trains a model on the rows that are not sampled, which the "
                f"mini suite can, not '{study.suite}'; name a table of scores instead"
            )
        # of a middle size: as good for all sizes as the largest, at a fifth of the time
        size = study.sizes[len(study.sizes) // 2]
        scores = held_out_scores(suite, size, rows, folder=folder / "reference", workers=workers)
        source = f"{size} of suite '{suite.name}' trained on rows that are not in the sample"
        return reference_columns(scores, rows), source
    path = folder / study.reference
    if not path.is_file():
        raise StudyError(
            f"reference: no table '{path}'; expected 'held_out' (mini suite), or a parquet table "
            "with row_id and outcomes of each row by a model that has read none of them"
        )
    try:
        table = pl.read_parquet(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise StudyError(f"reference: '{path}' is no parquet table ({error!s:.120})") from None
    return reference_columns(table, rows), f"'{study.reference}', sha256 {file_sha256(path)[:16]}"


def reference_columns(scores: pl.DataFrame, rows: pl.DataFrame) -> pl.DataFrame:
    """Scores of a reference model as covariates, if it is clean.

    Parameters
    ----------
    scores : `row_id` and outcomes; `read`, where the model has read a part of the rows.

    Raises
    ------
    StudyError
        A row or all outcomes are missing, or the model has read treated rows but not their
        controls: the effect of its own reading would then be taken off (measured on the mini suite:
        effects of .13 came out .025 too small, and their intervals covered 26 %).
    """
    known = [name for name in OUTCOMES if name in scores.columns]
    if "row_id" not in scores.columns or not known:
        raise StudyError(
            f"reference: got columns {', '.join(scores.columns)}; expected row_id and one of "
            f"{', '.join(OUTCOMES)}"
        )
    table = rows.select("row_id", "treatment_step").join(
        scores.unique("row_id"), on="row_id", how="left", maintain_order="left"
    )
    if missing := table[known[0]].null_count():
        raise StudyError(f"reference: {missing:,} of {len(rows):,} sampled rows are not in it")
    check_clean(table, known[0], table["treatment_step"].is_not_null())
    return table.select("row_id", *(pl.col(n).alias(f"reference.{n}") for n in known))


def check_clean(scores: pl.DataFrame, outcome: str, treated: pl.Series) -> None:
    """Refuse a reference whose own reading differs between treated rows and controls.

    Known by a column `read`; without it, by treated rows that it knows better than chance allows.
    """
    sides = [scores.filter(side) for side in (treated, ~treated)]
    if not all(map(len, sides)):
        return
    if "read" in scores.columns:
        of_treated, of_control = (float(side["read"].to_numpy().mean()) for side in sides)
        if of_treated == of_control:
            return
        fault = (
            f"its model has read {of_treated:.0%} of the treated and {of_control:.0%} of the "
            "never-treated rows"
        )
    else:
        mean, other = (side[outcome].to_numpy() for side in sides)
        error = np.sqrt(mean.var() / len(mean) + other.var() / len(other))
        if not (gap := float(mean.mean() - other.mean())) > LARGEST_GAP * error:
            return
        fault = (
            f"it knows the treated rows better than the never-treated ones, by {gap:.4f} ± "
            f"{error:.4f} of '{outcome}'"
        )
    raise StudyError(
        f"reference: {fault}, so it holds an effect of its own; expected a model that has read "
        "none of them"
    )


def with_covariates(folder: Path, rows: pl.DataFrame) -> pl.DataFrame:
    """Return the rows with the columns of `covariates.parquet`, where there is one."""
    path = folder / "covariates.parquet"
    if not path.exists():
        return rows
    table = read_table(path, COVARIATES, "covariates")
    return rows.join(table, on="row_id", how="left", maintain_order="left")
