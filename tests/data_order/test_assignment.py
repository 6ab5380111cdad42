"""Was the order random: random orders pass as often as they should, orders by content fail."""

import numpy as np
import polars as pl
import pytest

from data_order.assignment import (
    ASSIGNMENT_TESTS,
    assignment_tests,
    content_of,
    order_tests,
    order_verdict,
)
from data_order.errors import OrderError
from data_order.order import NEVER

ROWS, BATCH, COHORT = 400, 8, 10
"""Rows, rows of a batch, steps of a cohort."""


def documents(seed=0):
    """Rows of four kinds of text in the order of their files: a kind has tokens of its own."""
    rng = np.random.default_rng(seed)
    kind = np.repeat(np.arange(4), ROWS // 4)
    tokens = rng.integers(0, 60, (ROWS, 16)) + 20 * kind[:, None]
    return kind, tokens


def table(place, kind, tokens, *, never=0):
    step = place // BATCH + 1
    known = pl.Series(step).set(pl.Series(place >= ROWS - never), None)
    return pl.DataFrame(
        {
            "row_id": place,
            "treatment_step": known,
            "batch": known - 1,
            "tokens": tokens.tolist(),
            "earlier_exposure": step / 100,
            "source": np.array(["web", "code", "books", "news"])[kind],
        },
        schema_overrides={"tokens": pl.List(pl.UInt16)},
    )


GRID = np.arange(0, ROWS // BATCH + 1, COHORT)


@pytest.mark.slow
def test_random_orders_fail_as_rarely_as_they_should():
    kind, tokens = documents()
    failed = []
    for seed in range(60):
        place = np.random.default_rng(seed).permutation(ROWS)
        found = order_tests(table(place, kind, tokens), GRID, draws=99, seed=seed)
        failed.append(found["p_adjusted"].min() < 0.05)

    assert found.schema == ASSIGNMENT_TESTS
    assert len(found) == 6
    # at most 1 in 20 after Holm; of 60, more than 8 have a chance below .01
    assert sum(failed) <= 8


@pytest.mark.slow
def test_p_values_of_random_orders_are_uniform():
    kind, tokens = documents(1)
    p = []
    for seed in range(150):
        place = np.random.default_rng(1000 + seed).permutation(ROWS)
        frame = table(place, kind, tokens).drop("source")
        p.append(order_tests(frame, GRID, draws=49, seed=seed)["p_value"].to_numpy())

    # the mean of 150 uniform values has a standard deviation of .024
    assert np.abs(np.mean(p, axis=0) - 0.5).max() < 4 * 0.024


@pytest.mark.parametrize(
    ("order", "pattern"),
    [
        (lambda _: np.arange(ROWS), "drift"),
        (lambda _: np.arange(ROWS), "by cohort"),
        # neighbors stay in one batch, batches are shuffled
        (
            lambda rng: (
                rng.permutation(ROWS // BATCH)[:, None] * BATCH + np.arange(BATCH)
            ).ravel(),
            "by batch",
        ),
    ],
)
def test_an_order_by_content_fails_by_tokens_alone_and_by_source(order, pattern):
    kind, tokens = documents()
    place = order(np.random.default_rng(3))

    found = order_tests(table(place, kind, tokens), GRID, draws=199)

    failed = found.filter(pl.col("p_adjusted") < 0.05, pattern=pattern)
    assert {"tokens", "source"} == set(failed["content"])
    assert "not random" in order_verdict(found)
    assert pattern in order_verdict(found.filter(pattern=pattern))


def test_rows_that_are_never_read_and_what_depends_on_the_order_are_left_out():
    kind, tokens = documents()
    place = np.random.default_rng(0).permutation(ROWS)
    frame = table(place, kind, tokens, never=100)

    found = order_tests(frame, GRID, draws=19)
    again = order_tests(frame.filter(pl.col("treatment_step").is_not_null()), GRID, draws=19)

    assert set(content_of(frame)) == {"tokens", "source"}
    assert found.select("content", "pattern").equals(again.select("content", "pattern"))
    # the columns for words and projections are those of all rows, the rows those that were read
    source = pl.col("content") == "source"
    assert found.filter(source)["p_value"].equals(again.filter(source)["p_value"])


def test_the_statistic_by_group_is_that_of_brute_force():
    rng = np.random.default_rng(5)
    values, cohort = rng.normal(size=40), np.repeat([10, 20], 20)
    step = np.arange(1, 41)
    found = assignment_tests({"x": values}, step, cohort, draws=2000, seed=1)

    # all reassignments of 40 rows: a rank-sum test, whose exact p-value scipy has
    from scipy.stats import mannwhitneyu, spearmanr

    by = {line["pattern"]: line["p_value"] for line in found.to_dicts()}
    exact = mannwhitneyu(values[:20], values[20:], method="exact").pvalue
    # 2,000 draws tell a share to .011; four of these
    assert by["by cohort"] == pytest.approx(exact, abs=0.045)
    assert by["drift"] == pytest.approx(spearmanr(values, step).pvalue, abs=0.045)


def test_content_that_does_not_vary_and_few_rows_are_not_tested():
    assert not len(assignment_tests({"x": np.ones(50)}, np.arange(50), np.repeat([1, 2], 25)))
    assert not len(assignment_tests({"x": np.arange(10)}, np.arange(10), np.repeat([1, 2], 5)))
    assert "not tested" in order_verdict(
        assignment_tests({}, np.full(30, NEVER), np.full(30, NEVER))
    )


def test_arrays_of_different_lengths_are_refused():
    with pytest.raises(OrderError, match=r"arrays of \[3, 4\] rows"):
        assignment_tests({"x": [1.0, 2, 3]}, [1, 2, 3, 4], [1, 2, 3, 4])
