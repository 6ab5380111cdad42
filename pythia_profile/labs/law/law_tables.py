"""Lines of tokens, of answers and of runs: what an adapter does to what it was trained on."""

from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from pythia_profile.labs.law.law_data import Answers
from pythia_profile.labs.law.law_pass import Forced
from pythia_profile.labs.law.law_threshold import threshold

__all__ = ["CACHED_MARGIN", "answer_table", "last_facts", "token_lines"]

CACHED_MARGIN = 1e-3
"""By how much p must exceed 1/2 where tokens are written with a cache, whose arithmetic differs."""


def token_lines(
    answers: Answers, found: Forced, weights: npt.NDArray[np.float32], step: int
) -> pl.DataFrame:
    """One line an answer token; `row` is the answer, `place` the token within it, all from 0."""
    scored = answers.scored
    place = scored.cumsum(axis=1) - 1
    return pl.DataFrame(
        {
            "step": np.full(answers.tokens, step),
            "row": np.nonzero(scored)[0],
            "place": place[scored],
            "loss": found.loss[scored],
            "p": found.p[scored],
            "margin": found.margin[scored],
            "greedy": found.greedy[scored],
            "weight": weights[scored],
        }
    )


def answer_table(last: pl.DataFrame) -> pl.DataFrame:
    """One line an answer, from lines of tokens; a place is the answer's length where there is none.

    Parameters
    ----------
    last : lines of one evaluation of each adapter, sorted by answer and place, with `written`.

    Returns
    -------
    adapter if `last` has it, row, length; places first_below (of the first p that is not above 1/2
    by `CACHED_MARGIN`), failed (first token that is not written) and forced_failed (first that is
    not the greedy choice under teacher forcing).
    """

    def first(flag: pl.Expr) -> pl.Expr:
        return pl.when(flag.any()).then(flag.arg_max()).otherwise(pl.len())

    by = [name for name in ("adapter", "row") if name in last.columns]
    return last.group_by(*by, maintain_order=True).agg(
        length=pl.len(),
        first_below=first(pl.col("p") <= 0.5 + CACHED_MARGIN),
        failed=first(~pl.col("written")),
        forced_failed=first(~pl.col("greedy")),
    )


def last_facts(tokens: pl.DataFrame) -> dict[str, Any]:
    """Say what one adapter learned, from its lines of all evaluations."""
    first, last = (tokens.filter(pl.col("step") == step) for step in (0, tokens["step"].max()))
    base, loss = float(first["loss"].mean()), float(last["loss"].mean())  # type: ignore[arg-type]
    by_answer = answer_table(last)
    certain = pl.col("first_below") == pl.col("length")
    exact, forced_exact = (pl.col(name) == pl.col("length") for name in ("failed", "forced_failed"))
    means = by_answer.select(
        exact=exact.mean(),
        forced_exact=forced_exact.mean(),
        certain=certain.mean(),
        failed_before_below=(pl.col("failed") < pl.col("first_below")).sum(),
        written_unlike_forced=(pl.col("failed") != pl.col("forced_failed")).sum(),
    )
    found = threshold(last["p"].to_numpy(), last["greedy"].to_numpy())
    return {
        "base_loss": base,
        "loss": loss,
        "gain": base - loss,
        "accuracy": float(last["greedy"].mean()),  # type: ignore[arg-type]
        "written_accuracy": float(last["written"].mean()),  # type: ignore[arg-type]
        **means.row(0, named=True),
        "correct_below": found.correct_below,
    }
