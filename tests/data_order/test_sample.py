"""The ROWS table: which rows are drawn, by what they depend on, and what each line says."""

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_order import (
    HELD_OUT,
    ROWS,
    MegatronStore,
    OrderError,
    TokenRows,
    TrainingOrder,
    rows_table,
    sample_rows,
)
from pythia_profile.schema import ROWS as ROWS_TABLE
from pythia_profile.schema import conform

ORDER = TrainingOrder(batch_size=8, steps=12)
GRID = [0, 4, 8, 12]
TOKENS = np.random.default_rng(5).integers(0, 1024, (ORDER.rows + 30, 6))


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    prefix = tmp_path_factory.mktemp("store") / "document"
    return TokenRows.open(MegatronStore.write(prefix, TOKENS).prefix, 6)


def cohort_by_reading(row):
    """First checkpoint whose weights have read the row, by reading batch after batch."""
    for checkpoint in GRID:
        if row < checkpoint * 8:
            return checkpoint
    return None


def treated(table):
    return table.filter(pl.col("treatment_step").is_not_null())


@pytest.mark.parametrize("draw", ["iid", "batches"])
def test_every_line_says_what_the_trainer_did(draw, store):
    table = sample_rows(
        store, ORDER, GRID, draw=draw, batches=3, rows_per_batch=2, per_cohort=6, never=20
    )

    assert conform(table, ROWS_TABLE).equals(table)
    assert table.schema == ROWS
    assert table["row_id"].is_sorted()
    assert table["row_id"].is_unique().all()
    for row in table.iter_rows(named=True):
        read = row["row_id"] < ORDER.rows
        assert row["tokens"] == TOKENS[row["row_id"]].tolist()
        assert row["batch"] == (row["row_id"] // 8 if read else None)
        assert row["treatment_step"] == (row["row_id"] // 8 + 1 if read else None)
        assert row["earlier_exposure"] is None
    cohorts = [cohort_by_reading(row) for row in treated(table)["row_id"]]
    assert {c: cohorts.count(c) for c in set(cohorts)} == {4: 6, 8: 6, 12: 6}
    assert len(table) == 18 + 20


def test_batches_draw_takes_that_many_rows_of_that_many_batches(store):
    table = sample_rows(store, ORDER, GRID, batches=2, rows_per_batch=5, never=0)

    counts = table.group_by("batch").len()
    assert counts["len"].to_list() == [5] * 6
    assert len({batch // 4 for batch in counts["batch"]}) == 3


def test_iid_draw_reaches_every_row_of_the_cohort_alike(store):
    hits = np.zeros(ORDER.rows)
    for seed in range(600):
        ids = sample_rows(store, ORDER, GRID, seed=seed, draw="iid", per_cohort=4, never=0)
        hits[ids["row_id"].to_numpy()] += 1

    # 600 draws of 4 of 32 rows: mean 75, standard deviation 8.1; 5 of them is one in a million
    assert abs(hits - 75).max() < 5 * 8.1


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**40), part=st.sampled_from([[0, 4], [4, 8], [4, 8, 12]]))
def test_a_cohorts_draw_does_not_depend_on_the_other_cohorts(seed, part, store):
    for draw in ("iid", "batches"):
        kwargs = {"seed": seed, "draw": draw, "batches": 2, "rows_per_batch": 3, "per_cohort": 5}
        whole = sample_rows(store, ORDER, GRID, never=7, **kwargs)
        some = sample_rows(store, ORDER, part, never=7, **kwargs)

        inside = pl.col("treatment_step").is_between(part[0] + 1, part[-1])
        assert some.equals(whole.filter(inside | pl.col("treatment_step").is_null()))


def test_the_same_seed_draws_the_same_and_a_generator_is_taken_as_one(store):
    def draw(seed):
        return sample_rows(store, ORDER, GRID, seed=seed, batches=2, rows_per_batch=3, never=9)

    assert draw(3).equals(draw(3))
    assert not draw(3).equals(draw(4))
    assert draw(np.random.default_rng(1)).equals(draw(np.random.default_rng(1)))
    generator = np.random.default_rng(1)
    assert not draw(generator).equals(draw(generator))


def test_rows_read_before_the_first_checkpoint_are_not_drawn(store):
    table = sample_rows(store, ORDER, [4, 8], draw="iid", per_cohort=32, never=0)

    assert table["row_id"].to_list() == list(range(32, 64))


def test_held_out_rows_have_ids_that_no_row_of_the_order_has(store):
    held_out = TOKENS[:11] + 1

    table = sample_rows(store, ORDER, GRID, draw="iid", per_cohort=2, never=11, never_from=held_out)

    never = table.filter(pl.col("treatment_step").is_null())
    assert never["row_id"].to_list() == [HELD_OUT + i for i in range(11)]
    assert never["tokens"].to_list() == held_out.tolist()
    assert never["batch"].null_count() == 11


def test_a_table_of_given_rows_is_sorted_and_refuses_a_row_that_stands_twice(store):
    table = rows_table(store, ORDER, np.uint8([9, 0, 100]))

    assert table["row_id"].to_list() == [0, 9, 100]
    assert table["treatment_step"].to_list() == [1, 2, None]
    assert rows_table(store, ORDER, []).schema == ROWS
    with pytest.raises(OrderError, match="row ids: 2 rows stand twice, the first is 5"):
        rows_table(store, ORDER, [5, 7, 5, 7, 7])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"checkpoints": []}, r"checkpoints: got \[\], expected at least two"),
        ({"checkpoints": [4]}, r"checkpoints: got \[4\], expected at least two"),
        ({"checkpoints": [8, 4]}, "strictly ascending"),
        ({"checkpoints": [-4, 4]}, "strictly ascending"),
        ({"checkpoints": [0, 13]}, "checkpoint 13 is past the run's last step 12"),
        ({"batches": 5}, "cohort 4: batches: 5 were asked for, but there are 4"),
        ({"rows_per_batch": 9}, "rows of a batch: 9 were asked for, but there are 8"),
        ({"batches": 0}, "batches: got 0, expected a whole number above 0"),
        ({"draw": "iid", "per_cohort": 33}, "cohort 4: rows: 33 were asked .* there are 32"),
        ({"draw": "iid", "per_cohort": 1.5}, "per_cohort: got 1.5"),
        ({"draw": "all"}, "draw: got 'all', expected 'batches' or 'iid'"),
        ({"never": 31}, "past the last step 12 .*: 31 were asked for, but there are 30"),
        ({"never": -1}, "never: got -1"),
        ({"never": 3, "never_from": TOKENS[:2]}, "held-out rows: 3 were asked .* there are 2"),
        ({"never": 2, "never_from": TOKENS[:2, :5]}, "held-out rows have 5 tokens, expected 6"),
        ({"seed": -1}, "seed: got -1"),
        ({"seed": 0.5}, "seed: got 0.5"),
        ({"order": TrainingOrder(8, 16), "checkpoints": [0, 16]}, "rows up to 127, .* 126 rows"),
    ],
)
def test_what_cannot_be_drawn_is_named(changes, message, store):
    asked = {"order": ORDER, "checkpoints": GRID, "batches": 2, "rows_per_batch": 2, "never": 4}

    with pytest.raises(OrderError, match=message) as caught:
        sample_rows(store, **{**asked, **changes})
    assert "\n" not in str(caught.value)


def test_tokens_above_sixteen_bits_are_refused_not_wrapped():
    with pytest.raises(OrderError, match="tokens: 0 to 70000 do not fit"):
        rows_table(np.array([[0, 70_000]]), TrainingOrder(1, 1), [0])
