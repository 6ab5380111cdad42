"""Bits of each row from score tables: what a target model holds beyond a reference.

In: two tables `SCORES` of the same rows (log-likelihood in nats per token), and how many tokens of
each row were scored. Out: one line a row. The result depends on the reference, so each line names
both runs: a model of the same size trained on more, a larger one, or the uniform source, which
knows nothing and for which alone all that a model has learned counts as held.
"""

from pathlib import Path

import numpy as np
import polars as pl

from pythia_profile.errors import StudyError, TableError, not_found
from pythia_profile.labs.capacity.capacity_numbers import CapacityError, unintended_bits
from pythia_profile.tables import RUN, SCORES, conform

__all__ = ["UNIFORM", "read_run", "read_scores", "row_bits", "scored_tokens"]

UNIFORM = "uniform"
"""The reference that gives every token the same probability."""


def read_run(path: Path, checkpoint: int | None = None) -> pl.DataFrame:
    """Read the scores of one run at one checkpoint.

    Parameters
    ----------
    path : as of `read_scores`; checkpoint : the last by default.

    Raises
    ------
    NotFoundError
        There is nothing at `path`, or not that checkpoint.
    StudyError, CapacityError
        As of `read_scores`.
    """
    found = read_scores(path)
    known = found["checkpoint"].unique().sort().to_list()
    wanted = known[-1] if checkpoint is None else checkpoint
    if wanted not in known:
        raise not_found(f"checkpoint in '{path}'", str(wanted), [str(one) for one in known])
    return found.filter(pl.col("checkpoint") == wanted)


def read_scores(path: Path) -> pl.DataFrame:
    """Read the scores of one run at all its checkpoints.

    Parameters
    ----------
    path : a parquet file, or a folder that holds `scores.parquet` files at any depth, such as
        `STUDY/scores/mini/l`.

    Raises
    ------
    NotFoundError
        There is nothing at `path`.
    StudyError
        There are several runs.
    CapacityError
        It is no table of scores.
    """
    files = sorted(path.rglob("scores.parquet")) if path.is_dir() else [path]
    if not files or not files[0].exists():
        beside = [one.name for one in path.parent.glob("*")] if path.parent.is_dir() else []
        raise not_found("table of scores", str(path), [*sorted(beside), UNIFORM])
    try:
        found = pl.concat(
            [conform(pl.read_parquet(file), SCORES) for file in files], how="diagonal"
        )
    except (TableError, pl.exceptions.PolarsError, OSError) as error:
        raise CapacityError(
            f"'{path}' is no table of scores ({str(error).splitlines()[0]})"
        ) from None
    runs = found.select(RUN).unique().sort(RUN)
    if len(runs) != 1:
        named = ", ".join("/".join(map(str, run)) for run in runs.rows())
        raise StudyError(f"'{path}' holds {len(runs)} runs, expected one: {named or 'no line'}")
    return found


def scored_tokens(row_ids: pl.Series, tokens: int | None, rows: Path | None) -> pl.Series:
    """Scored tokens of each row: all but its first, which is only read.

    Parameters
    ----------
    tokens : the same of every row; rows : else, a table of rows with their `tokens`.

    Raises
    ------
    StudyError
        Neither or both are given.
    CapacityError
        The table of rows lacks `tokens`, or some of the rows.
    """
    if (tokens is None) == (rows is None):
        raise StudyError(
            "scored tokens of a row are not in a table of scores; give either --tokens N or "
            "--rows ROWS, a table with row_id and tokens such as STUDY/rows.parquet"
        )
    if rows is None:
        return pl.Series("tokens", np.full(len(row_ids), float(tokens or 0)))
    if not rows.exists():
        raise not_found("table of rows", str(rows), [])
    try:
        lengths = (
            pl.scan_parquet(rows).select("row_id", pl.col("tokens").list.len() - 1.0).collect()
        )
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise CapacityError(f"'{rows}': expected columns row_id and tokens ({reason})") from None
    found = row_ids.to_frame().join(lengths, on="row_id", how="left")["tokens"]
    if missing := found.null_count():
        raise CapacityError(f"'{rows}' lacks {missing:,} of the {len(row_ids):,} scored rows")
    return found


def row_bits(
    target: pl.DataFrame,
    reference: pl.DataFrame | int,
    tokens: pl.Series,
    *,
    code: str = "max",
) -> pl.DataFrame:
    """Unintended bits of each row of a target run.

    Parameters
    ----------
    target, reference : of one run and checkpoint each, from `read_run`; or, as reference, the
        number of entries of the vocabulary: each token then costs its logarithm.
    tokens : scored tokens of each row of `target`, in its order.

    Returns
    -------
    row_id, tokens, bits, and the mean bits per token of both; `target` and `reference` by name.

    Raises
    ------
    CapacityError
        The tables are of different rows, the vocabulary has fewer than two entries, or a
        log-likelihood is above 0.

    Examples
    --------
    >>> one = pl.DataFrame({"suite": "mini", "size": ["l"] * 2, "seed": 0, "checkpoint": 512,
    ...                     "row_id": [7, 9], "log_likelihood": [-1.0, -6.0]})
    >>> row_bits(one, 16, pl.Series([64.0, 64.0]))["bits"].round(1).to_list()
    [163.7, 0.0]
    """
    own = target["log_likelihood"].to_numpy()
    if isinstance(reference, int):
        if reference < 2:
            raise CapacityError(f"vocabulary: got {reference}, expected 2 or more")
        theirs, name = np.full(len(own), -np.log(reference)), f"uniform over {reference}"
    else:
        missing = set(target["row_id"]) ^ set(reference["row_id"])
        if missing:
            both = len(set(target["row_id"]) & set(reference["row_id"]))
            raise CapacityError(
                f"target has {len(target):,} rows, reference {len(reference):,}, of which {both:,} "
                f"are the same; expected the same rows in both (row {min(missing)} is in one only)"
            )
        aligned = target.select("row_id").join(
            reference, on="row_id", how="left", maintain_order="left"
        )
        theirs, name = aligned["log_likelihood"].to_numpy(), _name(reference)
    length = tokens.to_numpy()
    bits = unintended_bits(own * length, theirs * length, code=code)
    return pl.DataFrame(
        {
            "row_id": target["row_id"],
            "tokens": tokens.cast(pl.Int64),
            "bits": bits,
            "target_bits": -own / np.log(2),
            "reference_bits": -theirs / np.log(2),
        }
    ).with_columns(target=pl.lit(_name(target)), reference=pl.lit(name), code=pl.lit(code))


def _name(run: pl.DataFrame) -> str:
    suite, size, seed, step = run.select(*RUN, "checkpoint").row(0)
    return f"{suite}/{size}/seed{seed}/step{step}"
