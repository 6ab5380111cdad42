"""Memorized bits: what an effect in nats per token amounts to, with standard errors.

In: the estimate of a run whose outcome is a log-likelihood in nats per token, and what is known of
the suite. Out: lines of the table `BITS`. An effect τ on a row of T scored tokens is

    τ T / ln 2 bits

by which the row became shorter to encode. Cohorts multiply it by all rows that their steps read
(sampled or not), checkpoints add up the cohorts read by then, and over the size's parameters the
sum compares with its capacity. Where rows differ in length, effects on their total log-likelihood
are estimated, so that long rows count by their tokens.

Source: Morris et al. (2025), "How much do language models memorize?", for bits per parameter.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float
from scipy import sparse
from scipy.special import stdtrit

from data_order.order import TrainingOrder
from pythia_profile.did import AttGt, Contrast, contrast
from pythia_profile.did.estimation import effects
from pythia_profile.did.settings import Estimation
from pythia_profile.profiles.estimates import RunEstimate
from pythia_profile.suites.model import Suite

__all__ = ["NATS", "bits", "bits_of"]

NATS = "log_likelihood"
"""The outcome that is in nats for each of a row's scored tokens."""


def bits(one: RunEstimate, settings: Estimation, suite: Suite | None) -> pl.DataFrame | None:
    """Lines of `BITS` of one run; None where the outcome is not in nats or tokens are not known.

    Parameters
    ----------
    suite : for the rows of a step and the parameters of a size; without it, lines by row only.
    """
    if one.panel.outcome != NATS:
        return None
    tokens = _tokens(one, suite)
    if tokens is None:
        return None
    att, scale = one.att, tokens[0] / np.log(2)
    if np.ptp(tokens):
        longer = replace(one.panel, y=one.panel.y * tokens[:, None])
        att, scale = effects(longer, settings), 1 / np.log(2)
    parts = [_cells(att, scale, settings.level)]
    if suite is not None:
        rows = _rows_of(att, suite.order)
        parts.append(_cells(att, scale, settings.level, rows))
        total = bits_of(att, scale, rows)
        read = np.array([rows[att.cohorts <= at].sum() for at in total.labels])
        parameters = suite.size(one.panel.run[1]).parameters
        parts.append(_totals(total, "checkpoint", 1.0, read, settings.level))
        if parameters:
            parts.append(_totals(total, "parameter", 1 / parameters, read, settings.level))
    return one.named(pl.concat(parts))


def bits_of(att: AttGt, scale: float, rows: Float[np.ndarray, " G"]) -> Contrast:
    """Sum over the cohorts that a checkpoint has read of effect times rows times `scale`.

    Parameters
    ----------
    scale : bits of a row for an effect of 1.
    rows : (G,) rows of each cohort.

    Examples
    --------
    >>> from pythia_profile.did import NEVER, att_gt
    >>> y = [[0, 1.0, 1], [1, 2.1, 2], [0, 0, 3.0], [1, 1, 4.2], [0, 0, 0], [1, 1, 1.0]]
    >>> att = att_gt(y, [10, 10, 20, 20, NEVER, NEVER], [0, 10, 20])
    >>> bits_of(att, 1 / np.log(2), np.array([100.0, 100.0])).estimate.round(1)
    array([151.5, 591.5])
    """
    group, column = np.nonzero(att.post)
    at, number = np.unique(column, return_inverse=True)
    cell = group * len(att.checkpoints) + column
    weights = sparse.csr_array((scale * rows[group], (number, cell)), shape=(len(at), att.att.size))
    return contrast(att, weights, att.checkpoints[at].tolist(), "bits")


def _tokens(one: RunEstimate, suite: Suite | None) -> Float[np.ndarray, " U"] | None:
    """Scored tokens of each row: all but its first."""
    known = one.panel.covariates
    if "length" in known.columns and not known["length"].null_count():
        return known["length"].cast(pl.Float64).to_numpy() - 1
    return None if suite is None else np.full(len(one.panel), suite.row_tokens - 1.0)


def _rows_of(att: AttGt, order: TrainingOrder) -> Float[np.ndarray, " G"]:
    """Rows that the steps of each cohort read: those after the checkpoint before it."""
    before = att.checkpoints[np.searchsorted(att.checkpoints, att.cohorts) - 1]
    read = order.rows_before(att.cohorts) - order.rows_before(before)
    rows: Float[np.ndarray, " G"] = read.astype(np.float64)
    return rows


def _cells(
    att: AttGt, scale: float, level: float, rows: Float[np.ndarray, " G"] | None = None
) -> pl.DataFrame:
    group, column = np.nonzero(att.post)
    factor = scale * (np.ones(len(group)) if rows is None else rows[group])
    effect, se = att.att[group, column] * factor, att.se[group, column] * factor
    half = stdtrit(att.df[group, column], (1 + level) / 2) * se
    counted = np.ones(len(group)) if rows is None else rows[group]
    return _lines(
        "row" if rows is None else "cohort",
        {"cohort": att.cohorts[group], "checkpoint": att.checkpoints[column], "rows": counted},
        {"bits": effect, "se": se, "lower": effect - half, "upper": effect + half},
    )


def _totals(
    found: Contrast, per: str, factor: float, rows: Float[np.ndarray, " K"], level: float
) -> pl.DataFrame:
    lower, upper = found.interval(level)
    values = {"bits": found.estimate, "se": found.se, "lower": lower, "upper": upper}
    return _lines(
        per,
        {"cohort": [None] * len(found), "checkpoint": found.labels, "rows": rows},
        {name: factor * value for name, value in values.items()},
    )


def _lines(
    per: str, labels: Mapping[str, Any], values: Mapping[str, Float[np.ndarray, " K"]]
) -> pl.DataFrame:
    integers = {name: pl.Series(value, dtype=pl.Int64) for name, value in labels.items()}
    lines = pl.DataFrame({**integers, **values})
    return lines.select(pl.lit(per).alias("per"), pl.all())
