"""Two answers to how many bits a model holds of a row, beside the truth of both.

In: a study of the mini suite with counterfactual retrainings. Out: a line an audited cell (cohort
and checkpoint) and a line a row of it, in bits, all of the same rows:

- `bits`, by the profile: the effect τ, in nats per token, times tokens ÷ ln 2; needs no reference;
- `true_bits`, by the retrained model, which never read the cohort;
- `mem_retrained` and `mem_larger`: mem_U, max(0, log2 p_t − log2 p_r), against the retrained model
  and against the larger model of the same study as reference.

Source: Morris et al. (2025) for mem_U; `pythia_profile.mini.counterfactual` for the truth.
"""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl

from pythia_profile.errors import StudyError, not_found
from pythia_profile.labs.capacity.capacity_numbers import unintended_bits
from pythia_profile.labs.capacity.capacity_scores import read_scores
from pythia_profile.store import read_table
from pythia_profile.tables import COUNTERFACTUAL, ROWS

__all__ = ["Bridge", "bridge", "bridge_facts"]

_OUTCOME = "log_likelihood"
_SAME = 1e-6
"""Nats per token by which a truth may differ from the table's and still be of the same scores."""


@dataclass(frozen=True, slots=True)
class Bridge:
    """What was found.

    Attributes
    ----------
    size, larger : of the audited model, and of the larger reference; None where there is none.
    cells : `cohort`, `checkpoint`, `event_time`, `rows`; per row, `bits` and `se`, `true_bits` and
        `error_se`, the standard error of their difference, `mem_retrained`, `mem_larger`.
    rows : `cohort`, `checkpoint`, `row_id`, `true_bits`, `mem_retrained`, `mem_larger`.
    """

    size: str
    larger: str | None
    cells: pl.DataFrame
    rows: pl.DataFrame


def bridge(study: Path, reference: str | None = None) -> Bridge:
    """Read the audited cells of a study and count the bits of their rows in each way.

    Parameters
    ----------
    study : folder with `counterfactual.parquet`, `rows.parquet`, `scores/` and `retrained/`.
    reference : size that is the larger reference; by default the one that knows the rows best.

    Raises
    ------
    MissingTableError
        The study has no retrainings.
    StudyError
        Its rows differ in length, or the retrained scores are not those of the table.
    NotFoundError
        There is no such size.
    """
    table = read_table(study / "counterfactual.parquet", COUNTERFACTUAL, "counterfactual")
    table = table.filter(pl.col("outcome") == _OUTCOME).sort("cohort", "checkpoint")
    if table.is_empty():
        raise StudyError(f"'{study}': no effects on {_OUTCOME}, of which alone bits can be counted")
    rows = read_table(study / "rows.parquet", ROWS, "sample")
    scale = _tokens(rows, study) / np.log(2)
    suite, size = table["suite"][0], table["size"][0]
    real = read_scores(study / "scores" / suite / size)
    larger = _larger(study / "scores" / suite, size, reference, real["checkpoint"].max())
    theirs = None if larger is None else read_scores(study / "scores" / suite / larger)
    parts = []
    for (cohort,), cells in table.group_by("cohort", maintain_order=True):
        without = _retrained(study / "retrained" / size / f"cohort{cohort}", cells, rows, real)
        parts.append(_rows(without, theirs, scale).with_columns(cohort=pl.lit(cohort, pl.Int64)))
    by_row = pl.concat(parts).select(
        "cohort", "checkpoint", "row_id", "true_bits", "mem_retrained", "mem_larger"
    )
    means = by_row.group_by("cohort", "checkpoint").agg(
        pl.len().alias("rows"), pl.col("true_bits", "mem_retrained", "mem_larger").mean()
    )
    cells = table.join(means, on=["cohort", "checkpoint"], maintain_order="left").select(
        "cohort",
        "checkpoint",
        "event_time",
        "rows",
        (pl.col("att") * scale).alias("bits"),
        pl.col("se") * scale,
        "true_bits",
        pl.col("error_se") * scale,
        "mem_retrained",
        "mem_larger",
    )
    return Bridge(size, larger, cells, by_row)


def bridge_facts(found: Bridge) -> dict[str, float | int | None]:
    """Say how the three agree.

    Returns
    -------
    cells; within, how many of them have the profile's bits within two of its standard errors of the
    truth, and within_error, within two standard errors of the difference; the mean of each over
    cells; correlations over cells of the profile's bits with each (`profile_…`), and over rows at
    the last checkpoint of the true bits with mem_U (`rows_…`).
    """
    cells = found.cells
    off = (cells["bits"] - cells["true_bits"]).abs()
    last = found.rows.filter(pl.col("checkpoint") == pl.col("checkpoint").max())
    named = ["true_bits", "mem_retrained"] + ["mem_larger"] * (found.larger is not None)
    return {
        "cells": len(cells),
        "within": int((off <= 2 * cells["se"]).sum()),
        "within_error": int((off <= 2 * cells["error_se"]).sum()),
        "mean_bits": _mean(cells["bits"]),
        **{f"mean_{name}": _mean(cells[name]) for name in named},
        **{f"profile_{name}": _correlation(cells["bits"], cells[name]) for name in named},
        **{f"rows_{name}": _correlation(last["true_bits"], last[name]) for name in named[1:]},
    }


def _mean(values: pl.Series) -> float:
    return float(values.to_numpy().mean())


def _correlation(one: pl.Series, other: pl.Series) -> float | None:
    a, b = one.to_numpy(), other.to_numpy()
    if len(a) < 3 or not np.ptp(a) or not np.ptp(b):
        return None
    return float(np.corrcoef(a, b)[0, 1])


def _tokens(rows: pl.DataFrame, study: Path) -> float:
    """Scored tokens of every row: all but its first."""
    lengths = rows["tokens"].list.len().unique().sort().to_list()
    if len(lengths) != 1:
        raise StudyError(
            f"'{study}': rows have from {lengths[0]} to {lengths[-1]} tokens; expected one length, "
            "as in the mini suite"
        )
    return float(lengths[0] - 1)


def _larger(scores: Path, size: str, wanted: str | None, checkpoint: object) -> str | None:
    """Size that knows the rows best at a checkpoint, of those that are not the audited one."""
    others = sorted(path.name for path in scores.iterdir() if path.name != size)
    if wanted is not None:
        if wanted not in others:
            raise not_found("other size with scores", wanted, others)
        return wanted
    known = {}
    for name in others:
        found = read_scores(scores / name).filter(pl.col("checkpoint") == checkpoint)
        if len(found):
            known[name] = float(found[_OUTCOME].to_numpy().mean())
    return max(known, key=lambda name: known[name], default=None)


def _retrained(
    folder: Path, cells: pl.DataFrame, rows: pl.DataFrame, real: pl.DataFrame
) -> pl.DataFrame:
    """Real and retrained outcomes of a cohort's rows: those of which the table's truth is the mean.

    The folder may hold the scores of earlier samples, and of retrainings that left out others.
    """
    treated = rows.select("row_id", pl.col("treatment_step").is_not_null().alias("treated"))
    at = cells.select("checkpoint", "truth")
    for path in sorted(folder.glob("*.parquet")):
        if path.name == "rows.parquet":
            continue
        paired = (
            pl.read_parquet(path)
            .select("row_id", "checkpoint", pl.col(_OUTCOME).alias("without"))
            .join(at.select("checkpoint"), on="checkpoint")
            .join(treated, on="row_id")
            .join(
                real.select("row_id", "checkpoint", pl.col(_OUTCOME).alias("own")),
                on=["row_id", "checkpoint"],
            )
            .with_columns(change=pl.col("own") - pl.col("without"))
        )
        common = paired.filter(~pl.col("treated")).group_by("checkpoint")
        paired = paired.filter("treated").join(
            common.agg(pl.col("change").mean().alias("common")), on="checkpoint"
        )
        effects = paired.with_columns(effect=pl.col("change") - pl.col("common"))
        means = at.join(
            effects.group_by("checkpoint").agg(pl.col("effect").mean()), on="checkpoint"
        )
        off = (means["effect"] - means["truth"]).abs().to_numpy()
        if len(means) == len(at) and off.max() < _SAME:
            return effects.sort("checkpoint", "row_id")
    raise StudyError(
        f"'{folder}': no scores whose mean effect is the truth of counterfactual.parquet; run "
        f"`pythia-profile counterfactual {folder.parents[2]}` again"
    )


def _rows(effects: pl.DataFrame, larger: pl.DataFrame | None, scale: float) -> pl.DataFrame:
    """Bits of each row: true ones, and mem_U against each reference."""
    own, without = (_nats(effects, name, scale) for name in ("own", "without"))
    columns = {
        "true_bits": effects["effect"] * scale,
        "mem_retrained": pl.Series(unintended_bits(own, without)),
        "mem_larger": pl.Series([None] * len(effects), dtype=pl.Float64),
    }
    if larger is not None:
        theirs = effects.select("row_id", "checkpoint").join(
            larger, on=["row_id", "checkpoint"], how="left", maintain_order="left"
        )
        if theirs[_OUTCOME].null_count():
            raise StudyError("the larger size lacks scores of some audited rows and checkpoints")
        bits = unintended_bits(own, _nats(theirs, _OUTCOME, scale))
        columns["mem_larger"] = pl.Series(bits)
    return effects.select("checkpoint", "row_id").with_columns(**columns)


def _nats(frame: pl.DataFrame, name: str, scale: float) -> npt.NDArray[np.float64]:
    """Log-probability of whole rows."""
    found: npt.NDArray[np.float64] = frame[name].to_numpy() * (scale * np.log(2))
    return found
