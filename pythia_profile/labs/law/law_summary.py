"""What a grid of adapters shows: the threshold, its induction, methods compared, the law.

In: tables `runs` and `tokens` of `law_grid`. Out: numbers, and sentences that say them.

A *boundary* cell (rank, length, seed) is one in which plain training gets between .5 and .995 of
the answer tokens right under teacher forcing: below, capacity is short for every method, above,
nothing is left to gain.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from pythia_profile.errors import EstimationError, MissingTableError, TableError
from pythia_profile.labs.law.law_fit import Fitting, LawFit, fit_law
from pythia_profile.labs.law.law_tables import answer_table
from pythia_profile.labs.law.law_threshold import Threshold, threshold

__all__ = [
    "BOUNDARY",
    "CELL",
    "Found",
    "compared",
    "counted",
    "last_lines",
    "not_monotone",
    "read_tokens",
    "summary",
]

CELL = ("rank", "tokens_asked", "seed")
"""Columns in which adapters that differ by method and budget alone are the same."""

BOUNDARY = (0.5, 0.995)
"""Share of answer tokens that plain training gets right in a boundary cell, ends left out."""


@dataclass(frozen=True, slots=True)
class Found:
    """What was found.

    Attributes
    ----------
    facts : plain numbers.
    sentences : by what they are about; also of figures.
    comparison : one line a method and budget, over boundary cells.
    fit : of plain training; None where there are too few cells.
    """

    facts: dict[str, Any]
    sentences: dict[str, str]
    comparison: pl.DataFrame
    fit: LawFit | None


def read_tokens(path: Path) -> pl.DataFrame:
    """Read columns p and greedy of a table of tokens.

    Raises
    ------
    MissingTableError, TableError
        There is no such file, or it is no such table.
    """
    if not path.is_file():
        raise MissingTableError(f"no table of tokens at {path}; `lab law train` writes it")
    reader: Any = pl.read_csv if path.suffix == ".csv" else pl.read_parquet
    try:
        frame: pl.DataFrame = reader(path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise TableError(f"{path}: no table ({str(error).splitlines()[0]})") from None
    for name, right in (("p", pl.Float64), ("greedy", pl.Boolean)):
        if name not in frame.columns:
            raise TableError(f"table 'tokens': '{name}' is missing; it needs p and greedy")
        kind = frame[name].dtype
        if kind != right and not (name == "p" and kind.is_float()):
            raise TableError(f"table 'tokens': '{name}' is {kind}, expected {right}")
    possible = pl.col("p").is_between(0, 1) & pl.col("greedy").is_not_null()
    if wrong := len(frame) - frame.select(possible.fill_null(False).sum()).item():
        raise TableError(
            f"table 'tokens': {wrong:,} of {len(frame):,} lines lack p or greedy, or have p "
            "outside 0 to 1; drop them"
        )
    return frame.select("p", "greedy")


def counted(tokens: pl.DataFrame) -> Threshold:
    """Count violations over lines of tokens."""
    return threshold(tokens["p"].to_numpy(), tokens["greedy"].to_numpy())


def last_lines(tokens: pl.DataFrame) -> pl.DataFrame:
    """Lines of each adapter's last evaluation."""
    return tokens.filter(pl.col("step") == pl.col("step").max().over("adapter"))


def not_monotone(runs: pl.DataFrame) -> list[str]:
    """List neighbors whose gain, by plain training, does not rise with rank or fall with length.

    Gains are means over seeds; a tie counts.
    """
    cells = (
        runs.filter(pl.col("method") == "sft")
        .group_by("rank", "tokens_asked")
        .agg(pl.col("gain").mean())
        .pivot("tokens_asked", index="rank", values="gain")
        .sort("rank")
    )
    lengths = sorted((name for name in cells.columns if name != "rank"), key=int)
    gains, ranks = cells.select(lengths).to_numpy(), cells["rank"].to_list()
    by_rank = [
        f"rank {ranks[i]} to {ranks[i + 1]} at {lengths[j]} tokens"
        for i, j in np.argwhere(np.diff(gains, axis=0) <= 0)
    ]
    by_length = [
        f"{lengths[j]} to {lengths[j + 1]} tokens at rank {ranks[i]}"
        for i, j in np.argwhere(np.diff(gains, axis=1) >= 0)
    ]
    return by_rank + by_length


def compared(runs: pl.DataFrame) -> pl.DataFrame:
    """Compare each method with plain training, over boundary cells.

    Returns
    -------
    method, budget, cells; means of accuracy (teacher forcing), written_accuracy, exact, loss, made
    (updates) and tokens_read; and `accuracy_gain`, the mean difference of accuracy from `sft` in
    the same cells, its least, and `decoupled`: cells with a higher loss and a higher accuracy.
    """
    plain = runs.filter(pl.col("method") == "sft").select(
        "budget", *CELL, pl.col("accuracy").alias("plain"), pl.col("loss").alias("plain_loss")
    )
    low, high = BOUNDARY
    paired = runs.join(plain, on=["budget", *CELL]).filter(
        pl.col("plain").is_between(low, high, closed="none")
    )
    gain = pl.col("accuracy") - pl.col("plain")
    means = ("accuracy", "written_accuracy", "exact", "loss", "made", "tokens_read")
    return (
        paired.group_by("method", "budget")
        .agg(
            pl.len().alias("cells"),
            *(pl.col(name).mean() for name in means),
            gain.mean().alias("accuracy_gain"),
            gain.min().alias("least_gain"),
            ((pl.col("loss") > pl.col("plain_loss")) & (gain > 0)).sum().alias("decoupled"),
        )
        .sort("budget", "method", descending=[True, False])
    )


def summary(runs: pl.DataFrame, tokens: pl.DataFrame) -> Found:
    """Say what a grid shows."""
    own = runs.unique("adapter", maintain_order=True)  # one line an adapter, whatever the budgets
    answers = answer_table(last_lines(tokens))
    facts = _facts(own, tokens, answers)
    comparison, fit, fault = compared(runs), None, ""
    plain = own.filter(pl.col("method") == "sft")
    try:
        fit = fit_law(plain, Fitting(), method="sft") if len(plain) else None
    except EstimationError as error:
        fault = str(error)
    sentences = {
        "law": " ".join(fit.sentences()) if fit else f"No law is fitted: {fault or 'no sft runs'}.",
        "monotone": _monotone(facts["not_monotone"], plain),
        "threshold": _threshold(facts),
        "methods": _methods(comparison),
    }
    return Found(facts, sentences, comparison, fit)


def _facts(runs: pl.DataFrame, tokens: pl.DataFrame, answers: pl.DataFrame) -> dict[str, Any]:
    totals = runs.select("checked", "above", "violations", "failed_before_below").sum().row(0)
    names = ("tokens_checked", "tokens_above", "violations", "failed_before_below")
    final = counted(last_lines(tokens))
    return {
        "adapters": len(runs),
        **dict(zip(names, totals, strict=True)),
        "answers": len(answers),
        "written_unlike_forced": int(runs["written_unlike_forced"].sum()),
        "correct_below": final.correct_below,
        "spearman": _spearman(answers),
        "not_monotone": not_monotone(runs),
        "base_unchanged": bool(runs["base_unchanged"].all()),
    }


def _spearman(answers: pl.DataFrame) -> float | None:
    """Rank correlation of the first failure with the first p at or below 1/2, over answers."""
    from scipy.stats import spearmanr

    if answers["failed"].n_unique() < 2 or answers["first_below"].n_unique() < 2:
        return None
    return float(spearmanr(answers["first_below"], answers["failed"]).statistic)


def _monotone(faults: list[str], plain: pl.DataFrame) -> str:
    if max(plain["rank"].n_unique(), plain["tokens_asked"].n_unique()) < 2:
        return "Gains of plain training at two ranks or lengths would have an order."
    if not faults:
        return "The gain rises with the rank and falls with the length in every cell."
    return f"The gain does not rise with the rank, or fall with the length: {'; '.join(faults)}."


def _threshold(facts: Mapping[str, Any]) -> str:
    spearman = facts["spearman"]
    follows = "" if spearman is None else f" (Spearman {spearman:.2f} with the first p ≤ 1/2)"
    return (
        f"{facts['violations']:,} of {facts['tokens_above']:,} tokens above 1/2 were not the "
        f"greedy choice, of {facts['tokens_checked']:,} checked in training and evaluation. "
        f"Written by itself, {facts['failed_before_below']:,} of {facts['answers']:,} answers "
        f"failed before their first p ≤ 1/2{follows}, and {facts['written_unlike_forced']:,} "
        "elsewhere than under teacher forcing. Of greedy-correct tokens "
        f"{facts['correct_below']:.0%} were at or below 1/2: the condition is not necessary."
    )


def _methods(comparison: pl.DataFrame) -> str:
    others = comparison.filter(pl.col("method") != "sft")
    if others.is_empty():
        return "No cell lies at the boundary, or plain training stands alone: nothing to compare."
    said = [
        f"{line['method']} at equal {line['budget']} {line['accuracy_gain']:+.3f} "
        f"(worst {line['least_gain']:+.3f}; {line['decoupled']} with a higher mean loss and yet "
        "more right)"
        for line in others.iter_rows(named=True)
    ]
    return (
        f"Share of tokens right against plain training, mean over {others['cells'][0]} boundary "
        f"cells: {'; '.join(said)}."
    )
