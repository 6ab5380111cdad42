"""Exposures against a trainer that reads row after row and remembers every token it has read."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_order import NEVER, Layout, NeoxOrder, OrderError, TrainingOrder, exposures
from data_order.errors import RowRangeError
from data_order.neox import exposure
from tests.data_order.neox_reference import rows_with_places

runs = st.fixed_dictionaries(
    {
        "sizes": st.lists(
            st.one_of(st.integers(0, 5), st.integers(0, 40)), min_size=1, max_size=12
        ).filter(sum),
        "seed": st.integers(0, 2**32 - 1),
        "samples": st.integers(1, 40),
        "length": st.integers(1, 12),
    }
)


def build(run, training=None):
    return NeoxOrder.from_sizes(
        run["sizes"],
        Layout(seed=run["seed"], samples=run["samples"], sequence_length=run["length"]),
        training,
    )


def by_reading(rows, training, row, before):
    """Tokens of `row` (place in it -> readers) that other rows had read before update `before`.

    A reader is (row, update, whether it read another copy of the document).
    """
    read = {}
    for reader, tokens in enumerate(rows):
        update = reader // training.batch_size + 1
        if reader != row and update <= training.steps and update < before:
            for place, document, offset in tokens:
                read.setdefault((document, offset), set()).add((reader, update, place))
    found = {}
    for at, (place, document, offset) in enumerate(rows[row]):
        readers = {(r, u, p != place) for r, u, p in read.get((document, offset), ())}
        if readers:
            found[at] = readers
    return found


def runs_of_reads(result, row):
    """The same mapping, from the result's table."""
    found = {}
    for line in result.reads.filter(row_id=row).iter_rows(named=True):
        for at in range(line["start"], line["start"] + line["tokens"]):
            reader = (line["by_row"], line["by_step"], line["repeated"])
            found.setdefault(at, set()).add(reader)
    return found


@settings(max_examples=200, deadline=None)
@given(run=runs, batch_size=st.integers(1, 5), steps=st.integers(1, 12), data=st.data())
def test_exposures_are_what_a_trainer_remembers(run, batch_size, steps, data):
    rows = rows_with_places(**run)
    training = TrainingOrder(batch_size, steps)
    asked = data.draw(st.lists(st.integers(0, len(rows) - 1), max_size=6, unique=True))
    own = [row // batch_size + 1 if row < batch_size * steps else NEVER for row in asked]
    before = data.draw(st.one_of(st.none(), st.integers(1, 14)))
    limits = own if before is None else [before] * len(asked)

    result = exposures(build(run), asked, before, training=training)

    assert result.rows.tolist() == asked
    assert result.before.tolist() == limits
    for i, (row, limit) in enumerate(zip(asked, limits, strict=True)):
        remembered = by_reading(rows, training, row, limit)
        assert runs_of_reads(result, row) == remembered
        assert result.tokens[i] == len(remembered)
        assert result.repeated[i] == sum(
            any(again for _, _, again in readers) for readers in remembered.values()
        )
        assert result.share[i] == len(remembered) / (run["length"] + 1)


@settings(max_examples=30, deadline=None)
@given(run=runs)
def test_each_line_names_the_document_and_offset_it_matched(run):
    rows = rows_with_places(**run)
    order = build(run, TrainingOrder(2, len(rows)))

    for line in exposures(order, slice(None)).reads.iter_rows(named=True):
        token = rows[line["row_id"]][line["start"]]
        assert token[1:] == (line["document"], line["offset"])
        assert token[1:] in [other[1:] for other in rows[line["by_row"]]]


def test_cutting_the_work_into_small_parts_changes_nothing(monkeypatch):
    sizes = np.random.default_rng(2).integers(0, 60, 50)
    order = NeoxOrder.from_sizes(
        sizes, Layout(seed=5, samples=300, sequence_length=8), TrainingOrder(4, 60)
    )
    whole = exposures(order, slice(None))

    monkeypatch.setattr(exposure, "_CHUNK", 7)
    monkeypatch.setattr(exposure, "_CELLS", 30)
    cut = exposures(order, slice(None))

    assert cut.frame().equals(whole.frame())
    assert cut.reads.equals(whole.reads)
    assert whole.repeated.sum() > 0


def test_one_epoch_shares_only_the_tokens_of_neighbors():
    order = NeoxOrder.from_sizes(
        [400, 300, 350], Layout(seed=1, samples=100, sequence_length=10), TrainingOrder(5, 20)
    )

    result = exposures(order, slice(None))

    assert order.epochs == 1
    assert result.repeated.sum() == 0
    assert set(result.tokens.tolist()) == {0, 1, 2}
    assert set(result.reads["tokens"]) == {1}


def test_the_step_that_reads_the_row_and_later_ones_do_not_count():
    order = NeoxOrder.from_sizes(
        [9], Layout(seed=1, samples=4, sequence_length=4), TrainingOrder(batch_size=2, steps=2)
    )

    assert (exposures(order, [0, 1]).tokens == 0).all()
    assert (exposures(order, [2, 3]).tokens > 0).all()
    assert exposures(order, [0, 1], before=[1, 3]).tokens.tolist()[0] == 0


def test_no_rows_have_no_exposures():
    order = NeoxOrder.from_sizes(
        [9], Layout(seed=1, samples=4, sequence_length=4), TrainingOrder(2, 2)
    )

    result = exposures(order, [])

    assert len(result.frame()) == len(result.reads) == 0


@pytest.mark.parametrize(
    ("rows", "before", "message"),
    [
        ([0, 1], [1, 2, 3], "before: got 3 steps, expected one, or one for each of 2 rows"),
        ([0], 0, "before: got step 0, expected 1 or later"),
        ([0], 1.5, "before: got float64 values"),
        ([99], None, "row 99 does not exist"),
    ],
)
def test_impossible_questions_are_named(rows, before, message):
    order = NeoxOrder.from_sizes(
        [9], Layout(seed=1, samples=4, sequence_length=4), TrainingOrder(2, 2)
    )

    with pytest.raises(OrderError, match=message):
        exposures(order, rows, before)


def test_a_run_of_unknown_batch_size_is_not_guessed():
    with pytest.raises(OrderError, match=r"pass training=TrainingOrder\(batch_size, steps\)"):
        exposures(NeoxOrder.from_sizes([9], Layout(seed=1, samples=4, sequence_length=4)), [0])
    with pytest.raises(RowRangeError):
        exposures(
            NeoxOrder.from_sizes([9], Layout(seed=1, samples=4, sequence_length=4)),
            [-1],
            training=TrainingOrder(2, 2),
        )
