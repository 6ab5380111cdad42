"""Shuffled orders: equal to the public loaders, to a loop over batches, and both ways."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_order import NEVER, OrderError, TrainingOrder
from data_order.errors import RowRangeError
from data_order.sample import Draw, sample_rows
from data_order.shuffled.passes import Segment, ShuffledOrder
from data_order.shuffled.repetition import is_masked
from data_order.shuffled.rows import ShuffledRows
from data_order.shuffled.slices import Slices
from data_order.store.shards import LocalShards
from tests.data_order.repeating_rows import repeating_rows

GOLDEN = json.loads((Path(__file__).parent / "golden" / "shuffled_order.json").read_text())


@pytest.mark.parametrize("case", GOLDEN["legacy"], ids=lambda case: f"{case['rows']} rows")
def test_steps_read_what_the_loader_of_olmo_gave_them(case):
    whole = case["rows"] // case["batch_size"]
    segment = Segment(steps=whole, batch_size=case["batch_size"], number=case["pass"])
    order = ShuffledOrder(case["rows"], case["seed"], (segment,))

    assert len(case["steps"]) == whole - case["first"] > 0
    for number, expected in enumerate(case["steps"]):
        assert sorted(order.rows_of(case["first"] + number + 1).tolist()) == expected


@pytest.mark.parametrize("case", GOLDEN["core"], ids=lambda case: f"{len(case['sizes'])} files")
def test_steps_read_what_the_loader_of_olmo_core_gave_them(case):
    files = [(f"{i}.npy", size) for i, size in enumerate(case["sizes"])]
    slices = Slices.of(files, case["row_tokens"], 4, case["together"])
    order = ShuffledOrder.run(
        slices.rows,
        case["seed"],
        case["batch_size"],
        len(case["steps"]),
        first_pass=case["pass"],
        together=case["together"],
    )

    assert slices.rows == case["rows"]
    found = [sorted(order.rows_of(step + 1).tolist()) for step in range(order.steps)]
    assert found == case["steps"]
    # each file counts up from 0: a row's first token is its place in the file
    _, tokens = slices.locate(case["steps"][0])
    expected = [row[0] for row in case["tokens_of_step_1"]]
    assert tokens.tolist() == expected


def test_rows_are_masked_that_olmo_masked():
    found = is_masked(repeating_rows())

    assert found.tolist() == GOLDEN["masked"]
    assert 20 < found.sum() < 100


def test_the_mask_is_thirty_two_times_of_any_period_wherever_it_begins():
    rng = np.random.default_rng(0)
    for period in range(1, 14):
        for times, masked in ((31, False), (32, True)):
            row = rng.permutation(2000)[:512]
            row[40 : 40 + period * times] = np.resize(
                rng.permutation(9000)[:period], period * times
            )
            # one token more of the same would be another, so that the repetition ends there
            row[40 + period * times] = 9999
            assert is_masked(row[None])[0] == masked, (period, times)


def walked(rows, seed, batch_size, steps, together, first_pass, changes=()):
    """The order by walking through batches, one permutation a pass."""
    found, number, position, units = [], first_pass, 0, None
    sizes = dict(changes)
    for step in range(steps):
        batch_size = sizes.get(step, batch_size)
        if units is None or position + batch_size > rows // together * together:
            number += units is not None
            units = np.arange(rows // together, dtype=np.uint32)
            np.random.Generator(np.random.PCG64(seed + number)).shuffle(units)
            units = (units[:, None] * together + np.arange(together)).ravel()
            position = 0
        found.append(units[position : position + batch_size].tolist())
        position += batch_size
    return found


@settings(max_examples=60, deadline=None)
@given(
    rows=st.integers(8, 60),
    batch_size=st.integers(1, 8),
    steps=st.integers(2, 30),
    together=st.sampled_from([1, 2, 4]),
    first_pass=st.integers(0, 1),
    change=st.none() | st.tuples(st.integers(1, 29), st.integers(1, 8)),
    seed=st.integers(0, 5),
)
def test_any_run_is_that_of_a_walk_through_its_batches(
    rows, batch_size, steps, together, first_pass, change, seed
):
    changes = [] if change is None or change[0] >= steps else [change]
    expected = walked(rows, seed, batch_size, steps, together, first_pass, changes)

    order = ShuffledOrder.run(
        rows, seed, batch_size, steps, first_pass=first_pass, together=together, changes=changes
    )

    assert order.steps == steps
    assert [order.rows_of(step + 1).tolist() for step in range(steps)] == expected
    flat = [row for batch in expected for row in batch]
    assert order.rows_at(np.arange(order.read_rows)).tolist() == flat
    everything = np.arange(rows)
    reads = order.reads(everything)
    for row in range(rows):
        steps_of_row = [step + 1 for step, batch in enumerate(expected) for r in batch if r == row]
        assert sorted(reads[row][reads[row] != NEVER].tolist()) == steps_of_row
    assert order.times_read(everything).sum() == order.read_rows
    never = order.rows_at(np.arange(order.read_rows, order.positions))
    unread = set(range(rows // together * together)) - set(flat)
    assert sorted(never.tolist()) == sorted(unread)
    for step in (1, steps):
        assert (order.step_of(order.rows_of(step)) <= step).all()


@given(
    sizes=st.lists(st.integers(0, 90), min_size=1, max_size=6),
    row_tokens=st.integers(1, 6),
    together=st.integers(1, 3),
    token_bytes=st.sampled_from([2, 4]),
    next_token=st.booleans(),
)
def test_every_row_of_the_files_is_where_a_loop_finds_it(
    sizes, row_tokens, together, token_bytes, next_token
):
    expected = []
    for number, tokens in enumerate(sizes):
        held = max(0, tokens - next_token) // (row_tokens * together) * together
        expected += [(number, row_tokens * row) for row in range(held)]
    files = [(f"f{number}.npy", tokens * token_bytes) for number, tokens in enumerate(sizes)]

    slices = Slices.of(files, row_tokens, token_bytes, together, next_token)

    assert slices.rows == len(expected)
    file, token = slices.locate(np.arange(slices.rows))
    assert list(zip(file.tolist(), token.tolist(), strict=True)) == expected
    assert slices.unread_tokens.sum() == sum(sizes) - len(expected) * row_tokens
    for row, (number, first) in list(enumerate(expected))[::7]:
        assert slices.row_of(f"f{number}.npy", first + row_tokens - 1).tolist() == [row]


def test_a_file_listed_twice_has_each_token_in_two_rows():
    slices = Slices.of([("d/a.npy", 80), ("d/b.npy", 40), ("d/a.npy", 80)], row_tokens=5)

    assert slices.row_of("a.npy", 7).tolist() == [1, 7]
    with pytest.raises(RowRangeError, match=r"no file 'c\.npy' among 3 token files"):
        slices.row_of("c.npy", 0)
    with pytest.raises(RowRangeError, match="token 20 is in no row; its first 20 tokens are"):
        slices.row_of("a.npy", 20)


@pytest.fixture
def run(tmp_path):
    """Two files of uint32 tokens, one listed twice: 30 rows of 6, batches of 4, a pass and more."""
    rng = np.random.default_rng(0)
    contents = {
        "a": rng.integers(70_000, 90_000, 65, dtype=np.uint32),
        "b": rng.integers(0, 70_000, 63, dtype=np.uint32),
    }
    for name, content in contents.items():
        content.tofile(tmp_path / name)
    listed = ["a", "b", "a"]
    slices = Slices.of([(name, contents[name].nbytes) for name in listed], row_tokens=6)
    source = LocalShards([tmp_path / name for name in listed])
    content = [contents[name][: len(contents[name]) // 6 * 6].reshape(-1, 6) for name in listed]
    return slices, source, np.concatenate(content)


def test_tokens_come_in_the_order_of_reading(run):
    slices, source, content = run
    order = ShuffledOrder.run(slices.rows, seed=3, batch_size=4, steps=6)
    rows = ShuffledRows(order, slices, source)

    assert len(rows) == slices.rows == len(content) == 30
    assert rows[0].dtype == np.uint32
    for step in range(1, 7):
        batch = rows[4 * (step - 1) : 4 * step]
        assert np.array_equal(batch, content[order.rows_of(step)])
    # six rows are read by no step, and stand behind the others
    assert sorted(order.rows_at(np.arange(24, 30)).tolist()) == sorted(
        set(range(30)) - set(order.rows_at(np.arange(24)).tolist())
    )


def test_a_study_samples_a_shuffled_run_as_any_other(run):
    _, source, _ = run
    small = Slices.of([("b", 252)] * 3, row_tokens=6)
    order = ShuffledOrder.run(small.rows, seed=1, batch_size=2, steps=12)
    rows = ShuffledRows(order, small, LocalShards([source.paths[1]] * 3))

    draw = Draw(kind="iid", per_cohort=3, never=4)
    table = sample_rows(rows, order.training, [0, 6, 12], draw)

    treated = table.filter(table["treatment_step"].is_not_null())
    positions = treated["row_id"].to_numpy()
    steps = order.step_of(order.rows_at(positions))
    assert treated["treatment_step"].to_list() == steps.tolist()
    never = table.filter(table["treatment_step"].is_null())["row_id"].to_numpy()
    assert (order.step_of(order.rows_at(never)) == NEVER).all()
    assert table["tokens"].to_list() == rows[table["row_id"].to_numpy()].tolist()


OF_A = np.r_[0:10, 20:30]


def test_copies_are_the_same_place_of_the_same_file():
    slices = Slices.of([("a", 44), ("b", 8), ("a", 44), ("a", 44)], row_tokens=2)

    copies = slices.copies([0, 4, 5, 6, 12])

    assert copies.tolist() == [
        [0, 6, 11], [4, 10, 15], [5, -1, -1], [0, 6, 11], [1, 7, 12]
    ]  # fmt: skip


def test_few_rows_and_many_are_found_at_the_same_places():
    order = ShuffledOrder.run(600_000, 4, 100, 6000)
    some = np.r_[np.arange(0, 600_000, 5003), 262_144, 262_144 + 5003]

    few = order.step_of(some)
    many = order.step_of(np.arange(600_000))

    assert np.array_equal(few, many[some])
    assert np.array_equal(
        order.rows_at(np.arange(600_000))[(many[some[3]] - 1) * 100 :][:100],
        order.rows_of(int(many[some[3]])),
    )


def test_states_name_rows_that_moved_no_weight(run, tmp_path):
    slices, source, _ = run
    repeated = np.arange(6 * 63, dtype=np.uint32).reshape(-1, 63)
    repeated[2, 5:45] = 9
    repeated.tofile(tmp_path / "r")
    masked = Slices.of([("r", repeated.nbytes)], row_tokens=63)
    order = ShuffledOrder.run(6, seed=0, batch_size=2, steps=2)
    rows = ShuffledRows(
        order, masked, LocalShards([tmp_path / "r"]), filtered=True, idle_steps=frozenset({2})
    )

    states = dict(zip(order.rows_at(np.arange(6)).tolist(), rows.states(np.arange(6)), strict=True))

    in_second = set(order.rows_of(2).tolist()) - {2}
    in_first = set(order.rows_of(1).tolist()) - {2}
    for row, state in states.items():
        expected = "read at rate 0" if row in in_second else "read once"
        assert state == (
            "masked"
            if row == 2 and order.times_read([2])[0]
            else expected
            if row in in_first | in_second
            else "never read"
        )
    # file "a" is listed twice: 20 of 30 rows have a copy, which is another reading
    once = ShuffledRows(ShuffledOrder.run(30, 3, 5, 6), slices, source)
    states = np.array(once.states(np.arange(30)))
    copied = once.slices.names
    assert copied == ("a", "b", "a")
    assert ((states == "read again") == np.isin(once.order.rows_at(np.arange(30)), OF_A)).all()
    twice = ShuffledRows(ShuffledOrder.run(30, 3, 5, 12), slices, source)
    assert set(twice.states(np.arange(60))) == {"read again"}


def test_the_identity_is_the_order_of_pythia():
    order = ShuffledOrder.run(1000, None, batch_size=8, steps=100)
    plain = TrainingOrder(8, 100)

    ids = np.arange(1000)
    assert np.array_equal(order.step_of(ids), plain.step_of(ids))
    assert np.array_equal(order.rows_of(17), plain.rows_of(17))
    assert order.training == plain


def test_a_restarted_loader_may_begin_a_pass_anywhere():
    segments = (
        Segment(steps=3, batch_size=4, number=0),
        Segment(steps=2, batch_size=4, number=1, position=6),
    )
    order = ShuffledOrder(14, 5, segments)
    second = np.arange(14, dtype=np.uint32)
    np.random.Generator(np.random.PCG64(6)).shuffle(second)

    assert order.rows_of(4).tolist() == second[6:10].tolist()
    assert order.reads(second[6:7])[0, 1] == 4


def test_the_run_by_position_has_its_batch_sizes_and_goes_on_over_passes():
    order = ShuffledOrder.run(20, 0, 4, 9, changes=[(3, 2)])

    assert len(order.segments) > 2  # a second pass
    assert order.training == TrainingOrder(4, 9, ((3, 2),))
    rows = [order.rows_at(order.training.rows_of(step)).tolist() for step in range(1, 10)]
    assert rows == [order.rows_of(step).tolist() for step in range(1, 10)]


def test_impossible_orders_are_named():
    with pytest.raises(OrderError, match="a batch of 8 rows, and 6 rows to read"):
        ShuffledOrder.run(7, 0, 8, 1, together=2)
    with pytest.raises(OrderError, match="reads positions 8 to 15, a pass has 12"):
        ShuffledOrder(12, 0, (Segment(steps=2, batch_size=4, position=8),))
    with pytest.raises(RowRangeError, match="no step 4; this run has steps 1 to 3"):
        ShuffledOrder.run(12, 0, 4, 3).rows_of(4)
    with pytest.raises(OrderError, match=r"change after steps \[7\]; expected ascending steps"):
        ShuffledOrder.run(40, 0, 4, 6, changes=[(7, 2)])
    with pytest.raises(OrderError, match=r"a\.npy: 3 bytes are no whole number of tokens"):
        Slices.of({"a.npy": 3}, row_tokens=4)
    with pytest.raises(RowRangeError, match="no row 9; the files hold rows 0 to 8"):
        Slices.of({"a.npy": 36}, row_tokens=1).locate([9])
