"""The ROWS table: which rows are drawn, by what they depend on, and what each line says."""

import hashlib
import json
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_order import (
    HELD_OUT,
    ROWS,
    Draw,
    Layout,
    MegatronStore,
    NeoxOrder,
    OrderError,
    TokenRows,
    TrainingOrder,
    rows_table,
    sample_rows,
)
from data_order.draws import draw_iid
from pythia_profile.tables import ROWS as ROWS_TABLE
from pythia_profile.tables import conform

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
        store, ORDER, GRID, Draw(kind=draw, batches=3, rows_per_batch=2, per_cohort=6, never=20)
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
    table = sample_rows(store, ORDER, GRID, Draw(batches=2, rows_per_batch=5, never=0))

    counts = table.group_by("batch").len()
    assert counts["len"].to_list() == [5] * 6
    assert len({batch // 4 for batch in counts["batch"]}) == 3


def test_iid_draw_reaches_every_row_of_the_cohort_alike(store):
    hits = np.zeros(ORDER.rows)
    for seed in range(600):
        draw = Draw(seed=seed, kind="iid", per_cohort=4, never=0)
        ids = sample_rows(store, ORDER, GRID, draw)
        hits[ids["row_id"].to_numpy()] += 1

    # 600 draws of 4 of 32 rows: mean 75, standard deviation 8.1; 5 of them is one in a million
    assert abs(hits - 75).max() < 5 * 8.1


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**40), part=st.sampled_from([[0, 4], [4, 8], [4, 8, 12]]))
def test_a_cohorts_draw_does_not_depend_on_the_other_cohorts(seed, part, store):
    for kind in ("iid", "batches"):
        draw = Draw(seed=seed, kind=kind, batches=2, rows_per_batch=3, per_cohort=5, never=7)
        whole = sample_rows(store, ORDER, GRID, draw)
        some = sample_rows(store, ORDER, part, draw)

        inside = pl.col("treatment_step").is_between(part[0] + 1, part[-1])
        assert some.equals(whole.filter(inside | pl.col("treatment_step").is_null()))


def test_the_same_seed_draws_the_same_and_a_generator_is_taken_as_one(store):
    def draw(seed):
        drawn = Draw(seed=seed, batches=2, rows_per_batch=3, never=9)
        return sample_rows(store, ORDER, GRID, drawn)

    assert draw(3).equals(draw(3))
    assert not draw(3).equals(draw(4))
    assert draw(np.random.default_rng(1)).equals(draw(np.random.default_rng(1)))
    generator = np.random.default_rng(1)
    assert not draw(generator).equals(draw(generator))


def test_rows_read_before_the_first_checkpoint_are_not_drawn(store):
    table = sample_rows(store, ORDER, [4, 8], Draw(kind="iid", per_cohort=32, never=0))

    assert table["row_id"].to_list() == list(range(32, 64))


def test_held_out_rows_have_ids_that_no_row_of_the_order_has(store):
    held_out = TOKENS[:11] + 1

    draw = Draw(kind="iid", per_cohort=2, never=11)
    table = sample_rows(store, ORDER, GRID, draw, never_from=held_out)

    never = table.filter(pl.col("treatment_step").is_null())
    assert never["row_id"].to_list() == [HELD_OUT + i for i in range(11)]
    assert never["tokens"].to_list() == held_out.tolist()
    assert never["batch"].null_count() == 11


def test_a_table_of_given_rows_is_sorted_and_refuses_a_duplicated_row(store):
    table = rows_table(store, ORDER, np.uint8([9, 0, 100]))

    assert table["row_id"].to_list() == [0, 9, 100]
    assert table["treatment_step"].to_list() == [1, 2, None]
    assert rows_table(store, ORDER, []).schema == ROWS
    with pytest.raises(OrderError, match="row ids: 2 rows are duplicated, the first is 5"):
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
        ({"rows_per_batch": 9}, "batch .: rows: 9 were asked for, but there are 8"),
        ({"batches": 0}, "batches: got 0, expected a whole number above 0"),
        ({"kind": "iid", "per_cohort": 33}, "cohort 4: rows: 33 were asked .* there are 32"),
        ({"kind": "iid", "per_cohort": 1.5}, "per_cohort: got 1.5"),
        ({"kind": "all"}, "draw: got 'all', expected 'batches', 'iid' or 'published'"),
        ({"never": 31}, "past the last step 12 .*: rows: 31 were asked for, but there are 30"),
        ({"never": -1}, "never: got -1"),
        ({"never": 3, "never_from": TOKENS[:2]}, "held-out: rows: 3 were asked .* there are 2"),
        ({"never": 2, "never_from": TOKENS[:2, :5]}, "held-out rows have 5 tokens, expected 6"),
        ({"seed": -1}, "seed: got -1"),
        ({"seed": 0.5}, "seed: got 0.5"),
        ({"order": TrainingOrder(8, 16), "checkpoints": [0, 16]}, "rows up to 127, .* 126 rows"),
    ],
)
def test_what_cannot_be_drawn_is_named(changes, message, store):
    asked = {"order": ORDER, "checkpoints": GRID}
    draw = {"batches": 2, "rows_per_batch": 2, "never": 4}
    outside = {"order", "checkpoints", "never_from"}
    asked |= {name: value for name, value in changes.items() if name in outside}
    draw |= {name: value for name, value in changes.items() if name not in outside}

    with pytest.raises(OrderError, match=message) as caught:
        sample_rows(store, draw=Draw(**draw), **asked)
    assert "\n" not in str(caught.value)


def test_tokens_above_sixteen_bits_are_kept_and_above_thirty_two_refused():
    wide = rows_table(np.array([[0, 70_000]]), TrainingOrder(1, 1), [0])
    narrow = rows_table(np.array([[0, 65_535]]), TrainingOrder(1, 1), [0])

    assert (wide["tokens"].to_list(), wide.schema["tokens"]) == ([[0, 70_000]], pl.List(pl.UInt32))
    assert narrow.schema["tokens"] == pl.List(pl.UInt16)
    mixed = sample_rows(
        TOKENS, ORDER, GRID, Draw(kind="iid", per_cohort=1, never=2), never_from=TOKENS + 70_000
    )
    assert mixed.schema["tokens"] == pl.List(pl.UInt32)
    with pytest.raises(OrderError, match="tokens: 0 to 4294967296 do not fit"):
        rows_table(np.array([[0, 2**32]]), TrainingOrder(1, 1), [0])


GOLDEN = json.loads((Path(__file__).parent / "golden" / "published_draw.json").read_text())
PYTHIA = TrainingOrder(1024, 143_000)
THOUSANDS = np.arange(0, 143_001, 1000)


class NumberedRows:
    """As many rows as are wanted; row i holds the tokens i and i + 1, of 16 bits."""

    def __init__(self, length):
        self.length = length

    def __len__(self):
        return self.length

    def __getitem__(self, key):
        rows = np.asarray(key)
        return np.stack([rows, rows + 1], axis=-1) & 0xFFFF


def assert_golden(ids, golden):
    assert len(ids) == golden["count"]
    assert ids[:20].tolist() == golden["first"]
    assert ids[-5:].tolist() == golden["last"]
    joined = ",".join(map(str, ids.tolist()))
    assert hashlib.sha256(joined.encode()).hexdigest() == golden["sha256"]


def test_the_published_studys_rows_are_drawn_again():
    table = sample_rows(
        NumberedRows(PYTHIA.rows),
        PYTHIA,
        THOUSANDS,
        Draw(kind="published", never=2000),
        never_from=NumberedRows(12_345),
    )

    never = table.filter(pl.col("treatment_step").is_null())
    assert_golden(treated(table)["row_id"].to_numpy(), GOLDEN["treated"])
    assert_golden((never["row_id"] - HELD_OUT).to_numpy(), GOLDEN["never of 12345"])
    assert (treated(table)["published_row_id"] == treated(table)["row_id"]).all()
    assert (never["published_row_id"] == -100 - (never["row_id"] - HELD_OUT)).all()


def test_the_published_draw_of_some_cohorts_is_a_part_of_the_whole():
    rows = NumberedRows(PYTHIA.rows)
    draw = Draw(kind="published", never=0)
    whole = sample_rows(rows, PYTHIA, THOUSANDS, draw)

    part = sample_rows(rows, PYTHIA, [2000, 3000, 5000], draw)

    assert part.equals(whole.filter(pl.col("treatment_step").is_between(2001, 5000)))
    assert len(part) == 300


@pytest.mark.parametrize(
    ("order", "changes", "message"),
    [
        (TrainingOrder(8, 12), {}, "'published': is of 143,000 steps of 1024 rows, got 12 steps"),
        (PYTHIA, {"never": 5}, "pass it as never_from, or never=0"),
        (PYTHIA, {"single_exposure": True}, "'published' is fixed"),
    ],
)
def test_the_published_draw_is_of_pythia_alone(order, changes, message):
    rows = NumberedRows(PYTHIA.rows)

    with pytest.raises(OrderError, match=message):
        sample_rows(rows, order, [0, 12], Draw(kind="published", **{"never": 0, **changes}))


SIZES = np.random.default_rng(4).integers(0, 40, 60)
MAPS = NeoxOrder.from_sizes(
    SIZES, Layout(seed=3, samples=400, sequence_length=5), TrainingOrder(8, 48)
)
RUN = TrainingOrder(8, 48)


def read_by_rows(maps, rows):
    """(document, offset) -> rows that hold it."""
    holders = {}
    found = maps.pieces(rows)
    for owner, document, offset, length in zip(
        found.owner(), found.document, found.offset, found.length, strict=True
    ):
        for i in range(offset, offset + length):
            holders.setdefault((document, i), set()).add(int(found.rows[owner]))
    return holders


def test_index_maps_tell_how_much_of_each_row_had_been_read_before():
    table = sample_rows(
        NumberedRows(len(MAPS)),
        RUN,
        [0, 16, 32, 48],
        Draw(batches=4, rows_per_batch=5, never=9),
        maps=MAPS,
    )

    holders = read_by_rows(MAPS, slice(0, RUN.rows))
    for row, step, share in table.select("row_id", "treatment_step", "earlier_exposure").rows():
        before = (step - 1) * 8 if step else RUN.rows
        tokens = read_by_rows(MAPS, [row])
        seen = sum(any(r < before and r != row for r in holders.get(t, ())) for t in tokens)
        assert share == pytest.approx(seen / 6, abs=1e-12)
    assert table["earlier_exposure"].max() > 0.5


@pytest.mark.parametrize("kind", ["iid", "batches"])
def test_single_exposure_rows_share_no_document_token_with_another_row_but_a_neighbor(kind):
    maps = NeoxOrder.from_sizes(SIZES, Layout(seed=3, samples=300, sequence_length=5), RUN)
    run = TrainingOrder(8, 30)
    draw = Draw(kind=kind, batches=3, rows_per_batch=1, per_cohort=3, never=4, single_exposure=True)

    table = sample_rows(NumberedRows(len(maps)), run, [0, 15, 30], draw, maps=maps)

    holders = read_by_rows(maps, slice(0, run.rows))
    assert len(table) == 6 + 4
    for row in table["row_id"]:
        sample = int(maps.shuffle_index[row])
        for token in read_by_rows(maps, [row]):
            others = {int(maps.shuffle_index[r]) for r in holders.get(token, ()) if r != row}
            assert others <= {sample - 1, sample + 1}


def test_a_restricted_draw_is_uniform_over_the_rows_that_are_accepted():
    order, hits = TrainingOrder(8, 4), np.zeros(32)
    for seed in range(900):
        ids = draw_iid(order, [(0, 4)], 2, seed, accept=lambda rows: rows % 3 == 0)
        hits[ids] += 1

    # 900 draws of 2 of the 11 multiples of 3: mean 163.6, standard deviation 11.6
    assert hits[np.arange(32) % 3 > 0].sum() == 0
    assert abs(hits[::3] - 1800 / 11).max() < 5 * 11.6


def test_too_few_accepted_rows_are_named():
    with pytest.raises(OrderError, match=r"cohort 4: accepted rows: 3 were asked for, .* are 2"):
        draw_iid(TrainingOrder(8, 4), [(0, 4)], 3, 0, accept=lambda rows: rows < 2)
    with pytest.raises(OrderError, match="single_exposure needs the run's index maps"):
        sample_rows(NumberedRows(96), ORDER, GRID, Draw(per_cohort=1, single_exposure=True))
