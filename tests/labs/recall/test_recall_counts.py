"""Exact counts against a search through every place of every row."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pythia_profile.labs.recall.recall_counts import SuffixArray
from pythia_profile.labs.recall.recall_errors import RecallError
from pythia_profile.training.planted import PlantedSettings, planted_corpus


def places(rows, query):
    """Rows in which a query occurs, once for each place."""
    width = len(query)
    return [
        number
        for number, row in enumerate(rows.tolist())
        for start in range(len(row) - width + 1)
        if row[start : start + width] == list(query)
    ]


@settings(max_examples=60, deadline=None)
@given(
    rows=arrays(
        np.int64,
        st.tuples(st.integers(1, 6), st.integers(5, 9)),
        elements={"min_value": 0, "max_value": 2},
    ),
    depth=st.integers(1, 5),
    data=st.data(),
)
def test_counts_are_those_of_a_search_and_none_crosses_a_row(rows, depth, data):
    width = data.draw(st.integers(1, depth))
    queries = data.draw(arrays(np.int64, (7, width), elements={"min_value": 0, "max_value": 3}))

    found = SuffixArray.of(rows, depth).count(queries)

    assert found.tolist() == [len(places(rows, query)) for query in queries.tolist()]


def test_counts_by_step_are_those_of_the_rows_read_until_then():
    rng = np.random.default_rng(1)
    rows, steps = rng.integers(0, 3, (40, 12)), rng.integers(1, 20, 40)
    queries, checkpoints = rng.integers(0, 3, (9, 3)), [0, 5, 10, 19]

    found = SuffixArray.of(rows, 4).count_by_step(queries, steps, checkpoints)

    for line, query in zip(found, queries.tolist(), strict=True):
        read = steps[places(rows, query)]
        assert line.tolist() == [(read <= step).sum() for step in checkpoints]


def test_planted_copies_are_counted():
    corpus = planted_corpus(PlantedSettings(sequences=4, background=500))

    found = SuffixArray.of(corpus.rows, 32)

    assert found.count(corpus.planted).tolist() == corpus.frequency.tolist()
    assert not found.count(corpus.held_out).any()
    # the continuation alone occurs at least as often
    assert (found.count(corpus.planted[:, 16:]) >= corpus.frequency).all()


def test_sequences_longer_than_the_index_and_impossible_depths_are_refused():
    rows = np.zeros((2, 6), np.int64)
    with pytest.raises(RecallError, match="queries of 4 tokens; this index was sorted by 3"):
        SuffixArray.of(rows, 3).count(np.zeros((1, 4), np.int64))
    with pytest.raises(RecallError, match="depth 7: expected rows of equal length"):
        SuffixArray.of(rows, 7)
