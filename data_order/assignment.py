"""Was the order random? Tests that what a row holds does not say when it was read.

In: rows with the steps that read them. Out: the table `ASSIGNMENT`, one line for each test, before
any effect is estimated. Where steps follow from a seed and a row's place alone, every reassignment
of the rows to their steps is equally likely: so each p-value is the share of random reassignments
that look at least as much like a pattern as the real one does, exact for any content.

    by cohort   rows of one cohort resemble one another more than others: a source that predicts it
    by batch    rows of one batch do: neighbors in the data stayed neighbors
    drift       content moves with the step: data read in the order of its list

Content is compared as numbers: words as one column each, token rows as eight random projections of
their token counts, of which documents of one kind have similar ones.

Source: randomization tests as in Imbens and Rubin (2015), chapter 5; Holm (1979) over all tests.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from data_order.errors import OrderError
from data_order.order import NEVER, cohort_of_steps

__all__ = [
    "ASSIGNMENT_TESTS",
    "assignment_tests",
    "content_of",
    "holm",
    "order_tests",
    "order_verdict",
]

Floats = npt.NDArray[np.float64]

ASSIGNMENT_TESTS = pl.Schema(
    {
        "content": pl.String(),
        "pattern": pl.String(),
        "statistic": pl.Float64(),
        "p_value": pl.Float64(),
        "p_adjusted": pl.Float64(),
    }
)
"""`content` is what was looked at, `pattern` is by cohort, by batch or drift; `statistic` is in
standard deviations of its random reassignments, `p_adjusted` is after Holm over all lines."""

DRAWS = 999
LEVEL = 0.05
"""A pattern with a smaller adjusted p-value is named."""
_FEWEST = 20
_PROJECTIONS = 8
_SHARED = 40
"""Words that fewer rows share are one kind."""
_CHUNK = 512
_KINDS = ("source", "domain", "file")
_OF_ORDER = ("state", "placebo")
"""Columns of words that say when a row was read, rather than what it holds."""


def assignment_tests(
    content: Mapping[str, npt.ArrayLike],
    step: npt.ArrayLike,
    cohort: npt.ArrayLike,
    *,
    batch: npt.ArrayLike | None = None,
    draws: int = DRAWS,
    seed: int = 0,
) -> pl.DataFrame:
    """Test whether any content has any of the patterns.

    Parameters
    ----------
    content : by name, (n,) or (n, K) numbers of each row, known before the row is read.
    step, cohort : (n,) when each row was read; rows with NEVER are left out.
    batch : (n,) batch of each row; the step unless given.
    draws : random reassignments.
    seed : of these.

    Returns
    -------
    `ASSIGNMENT_TESTS`; empty where nothing varies or fewer than 20 rows were read.

    Raises
    ------
    OrderError
        Arrays of different lengths.

    Examples
    --------
    Rows that were read in the order of their length:

    >>> length = np.arange(100)
    >>> found = assignment_tests({"length": length}, length + 1, length // 25)
    >>> found.filter(pattern="drift")["p_value"].item()
    0.001
    """
    steps, cohorts = np.asarray(step, dtype=np.int64), np.asarray(cohort, dtype=np.int64)
    batches = steps if batch is None else np.asarray(batch, dtype=np.int64)
    columns = {name: np.asarray(values, dtype=np.float64) for name, values in content.items()}
    sizes = {len(values) for values in (cohorts, batches, *columns.values())} | {len(steps)}
    if len(sizes) > 1:
        raise OrderError(f"assignment: got arrays of {sorted(sizes)} rows, expected one number")
    read = (steps != NEVER) & (cohorts != NEVER)
    if read.sum() < _FEWEST:
        return pl.DataFrame(schema=ASSIGNMENT_TESTS)
    rng = np.random.default_rng(seed)
    lines: list[dict[str, Any]] = []
    groups = {
        "by cohort": _groups(cohorts[read]),
        "by batch": _groups(batches[read]),
    }
    trend = _centered(_ranks(steps[read])[:, None])[:, 0]
    for name, values in columns.items():
        table = values[read].reshape(int(read.sum()), -1)
        table = table[:, np.isfinite(table).all(axis=0)]
        table = _centered(np.apply_along_axis(_ranks, 0, table)) if table.size else table
        if not table.shape[1] or not table.any():
            continue
        found = _statistics(table, groups, trend, rng, draws)
        for pattern, drawn in found.items():
            real, random = drawn[0], drawn[1:]
            spread = random.std()
            lines.append(
                {
                    "content": name,
                    "pattern": pattern,
                    "statistic": (real - random.mean()) / spread if spread > 0 else 0.0,
                    "p_value": (1 + (random >= real * (1 - 1e-12)).sum()) / (1 + draws),
                }
            )
    adjusted = holm(np.array([line["p_value"] for line in lines]))
    for line, value in zip(lines, adjusted.tolist(), strict=True):
        line["p_adjusted"] = value
    return pl.DataFrame(lines, schema=ASSIGNMENT_TESTS)


def order_tests(
    rows: pl.DataFrame,
    checkpoints: npt.ArrayLike,
    *,
    draws: int = DRAWS,
    seed: int = 0,
) -> pl.DataFrame:
    """Test the order of a table of rows on its own, without any score.

    Parameters
    ----------
    rows : `ROWS`; looked at are its tokens, columns of words, and numbers named source, domain,
        file, length or features.….
    checkpoints : (C,) ascending, which make the cohorts.
    """
    step = rows["treatment_step"].fill_null(NEVER).to_numpy()
    batch = rows["batch"].fill_null(NEVER).to_numpy() if "batch" in rows.columns else None
    cohort = cohort_of_steps(step, checkpoints)
    return assignment_tests(content_of(rows), step, cohort, batch=batch, draws=draws, seed=seed)


def content_of(rows: pl.DataFrame) -> dict[str, Floats]:
    """Numbers that stand for what the rows hold: (n, K) by the name of the column."""
    found: dict[str, Floats] = {}
    for column in rows:
        name = column.name
        if name == "tokens":
            found[name] = _projected(column)
        elif name in _KINDS or (column.dtype == pl.String and name not in _OF_ORDER):
            found[name] = _one_column_each(column)
        elif column.dtype.is_numeric() and (name == "length" or name.startswith("features.")):
            values = column.cast(pl.Float64).fill_null(np.nan).to_numpy()[:, None]
            group = name.partition(".")[0]  # features are one content of several columns
            found[group] = np.hstack([found.get(group, values[:, :0]), values])
    return {name: values for name, values in found.items() if values.shape[1]}


def order_verdict(tests: pl.DataFrame) -> str:
    """Say in a sentence what the tests of an order found.

    Examples
    --------
    >>> order_verdict(pl.DataFrame(schema=ASSIGNMENT_TESTS))
    'the order was not tested: nothing is known of what the rows hold'
    """
    if not len(tests):
        return "the order was not tested: nothing is known of what the rows hold"
    failed = tests.filter(pl.col("p_adjusted") < LEVEL).sort("p_adjusted", "content")
    count = f"{len(tests)} tests of the order" if len(tests) > 1 else "one test of the order"
    if not len(failed):
        return (
            f"{count} find no sign that what a row holds says when it was read (smallest adjusted "
            f"p-value {tests['p_adjusted'].to_numpy().min():.3g})"
        )
    named = ", ".join(
        f"{line['content']} {line['pattern']} ({line['statistic']:.1f} standard deviations)"
        for line in failed.head(4).to_dicts()
    )
    return (
        f"the order was not random: {len(failed)} of {count} fail, {named}; cohorts are not "
        "exchangeable, so read effects with care and prefer comparisons at equal covariates"
    )


def _statistics(
    table: Floats,
    groups: Mapping[str, tuple[npt.NDArray[np.int64], Floats]],
    trend: Floats,
    rng: np.random.Generator,
    draws: int,
) -> dict[str, Floats]:
    """Each pattern's statistic, of the real assignment first, then of random ones; (1 + draws,)."""
    usable = {name: kept for name, kept in groups.items() if 1 < len(kept[1]) < len(table)}
    found = {name: np.empty(1 + draws) for name in (*usable, "drift")}
    for draw in range(1 + draws):
        drawn = table if not draw else table[rng.permutation(len(table))]
        for name, (number, size) in usable.items():
            found[name][draw] = sum(
                float((np.bincount(number, column, len(size)) ** 2 / size).sum())
                for column in drawn.T
            )
        found["drift"][draw] = float(((trend @ drawn) ** 2).sum())
    return found


def _groups(labels: npt.NDArray[np.int64]) -> tuple[npt.NDArray[np.int64], Floats]:
    _, number, size = np.unique(labels, return_inverse=True, return_counts=True)
    return number, size.astype(np.float64)


def _centered(table: Floats) -> Floats:
    """Columns of mean 0 and variance 1; those that do not vary are 0."""
    centered = table - table.mean(axis=0)
    scale = centered.std(axis=0)
    scaled: Floats = centered / np.where(scale > 0, scale, 1.0)
    return scaled


def _ranks(values: npt.NDArray[Any]) -> Floats:
    """Mean rank of each value among all, so that no single one weighs much."""
    _, number, count = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(count)
    ranks: Floats = (last - (count - 1) / 2.0)[number]
    return ranks


def _projected(tokens: pl.Series) -> Floats:
    """Token counts of each row, as a share of its length, on random directions; (n, 8)."""
    flat = tokens.explode(empty_as_null=False).to_numpy() if len(tokens) else np.empty(0, np.int64)
    lengths = tokens.list.len().to_numpy().astype(np.int64)
    found = np.zeros((len(lengths), _PROJECTIONS))
    if not len(flat) or not lengths.all():
        return found[:, :0]
    directions = np.random.default_rng(0).standard_normal((int(flat.max()) + 1, _PROJECTIONS))
    starts = np.append(0, np.cumsum(lengths))
    for first in range(0, len(lengths), _CHUNK):
        last = min(first + _CHUNK, len(lengths))
        part = directions[flat[starts[first] : starts[last]]]
        found[first:last] = np.add.reduceat(part, starts[first:last] - starts[first], axis=0)
    return found / lengths[:, None]


def _one_column_each(values: pl.Series) -> Floats:
    """Words as columns of 0 and 1; rare ones are one kind."""
    words = values.cast(pl.String).fill_null("")
    common = words.value_counts().filter(pl.col("count") >= min(_SHARED, max(len(words) // 20, 2)))
    names: Sequence[str] = common[values.name].sort().to_list()
    return (
        np.stack([(words == name).to_numpy().astype(np.float64) for name in names], axis=1)
        if (len(names))
        else np.empty((len(words), 0))
    )


def holm(p: Floats) -> Floats:
    """P-values after Holm."""
    order = np.argsort(p, kind="stable")
    scaled = p[order] * (len(p) - np.arange(len(p)))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(np.maximum.accumulate(scaled), 1.0) if len(p) else scaled
    return adjusted
