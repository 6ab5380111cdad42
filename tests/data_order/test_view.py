"""The view of a row: what was asked for, and text that a terminal can be shown."""

import unicodedata

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from data_order import Layout, NeoxOrder, TrainingOrder, exposures
from data_order.view import EarlierRead, escaped, view_rows

RUN = TrainingOrder(2, 5)
MAPS = NeoxOrder.from_sizes([9, 14, 0, 3], Layout(seed=1, samples=10, sequence_length=4), RUN)


@given(st.text())
def test_escaped_text_is_one_printable_line_and_keeps_what_is_printable(text):
    shown = escaped(text)

    assert shown.isprintable()
    assert all(unicodedata.category(char)[0] not in "C" for char in shown)
    if text.isprintable():
        assert shown == text


def test_what_was_not_asked_for_is_none():
    (seen,) = view_rows(RUN, [3])

    assert (seen.row, seen.step, seen.batch, seen.position) == (3, 2, 1, 1)
    assert seen.checkpoint is seen.tokens is seen.text is seen.documents is seen.reads is None


def test_a_row_asked_for_twice_is_shown_twice_alike():
    rows = np.arange(50).reshape(10, 5)

    first, other, again = view_rows(
        RUN, [8, 1, 8], checkpoints=[0, 2], source=rows, maps=MAPS, with_exposures=True
    )

    assert first == again
    assert first.checkpoint is None
    assert other.checkpoint == 2
    assert first.tokens == rows[8].tolist()
    assert sum(piece.length for piece in first.documents) == 5
    found = exposures(MAPS, [8])
    assert (first.seen, first.repeated) == (found.tokens[0], found.repeated[0])
    assert first.reads == [
        EarlierRead(**{name: line[name] for name in EarlierRead.__dataclass_fields__})
        for line in found.reads.iter_rows(named=True)
    ]
