"""The corpus of the mini suite: seeded, without near-duplicates; too little is an error."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pythia_profile.mini.config import MiniConfig
from pythia_profile.mini.corpus import (
    CorpusError,
    read_corpus,
    repeated_rows,
    token_rows,
    train_tokenizer,
)


def repeated_by_search(rows, grams, share):
    """The definition: look every n-gram up in every other row."""

    def grams_of(row):
        return [tuple(row[i : i + grams]) for i in range(len(row) - grams + 1)]

    sets = [set(grams_of(row)) for row in rows.tolist()]
    marks = []
    for number, row in enumerate(rows.tolist()):
        others = set().union(*(s for i, s in enumerate(sets) if i != number))
        marks.append(np.mean([gram in others for gram in grams_of(row)]) >= share)
    return marks


@given(st.integers(0, 1000), st.integers(1, 5), st.sampled_from([0.2, 0.5, 1.0]))
def test_repeated_rows_are_those_a_search_finds(seed, grams, share):
    rows = np.random.default_rng(seed).integers(0, 3, (8, 7)).astype(np.uint16)

    assert repeated_rows(rows, grams, share).tolist() == repeated_by_search(rows, grams, share)


def test_an_n_gram_twice_in_one_row_is_no_repetition():
    rows = np.array([[1, 2, 1, 2, 1, 2], [7, 8, 9, 7, 5, 3]], dtype=np.uint16)

    assert repeated_rows(rows, 2, 0.1).tolist() == [False, False]


@pytest.fixture(scope="module")
def config():
    return MiniConfig(vocabulary=400, row_tokens=33, steps=64, batch_size=4, never_treated=50)


def test_the_same_seed_gives_the_same_rows_and_another_seed_others(config):
    corpus = read_corpus(config)
    tokenizer = train_tokenizer(corpus.texts, config.vocabulary)
    rows = token_rows(corpus, tokenizer, config)

    again = read_corpus(config)
    assert again.sha256 == corpus.sha256
    assert np.array_equal(
        token_rows(again, train_tokenizer(again.texts, config.vocabulary), config), rows
    )
    assert read_corpus(MiniConfig(seed=1)).sha256 != read_corpus(MiniConfig(seed=0)).sha256
    assert rows.shape == (config.rows, config.row_tokens)
    assert rows.max() < config.vocabulary
    assert not repeated_rows(rows, config.duplicate_grams, config.duplicate_share).any()


def test_rows_decode_to_python_source(config):
    corpus = read_corpus(config)
    tokenizer = train_tokenizer(corpus.texts, config.vocabulary)
    text = "".join(corpus.texts)

    row = token_rows(corpus, tokenizer, config)[0]

    assert tokenizer.decode(row.tolist()) in text


def test_too_little_text_says_what_there_is_and_what_is_needed(tmp_path, config):
    (tmp_path / "only.py").write_text("x = 1\n" * 100)

    with pytest.raises(CorpusError, match=r"too little text: 1 Python files .* hold 600 bytes"):
        read_corpus(config, tmp_path)


@pytest.mark.slow
def test_text_that_repeats_itself_is_too_little_too(tmp_path, config):
    (tmp_path / "a.py").write_text("import os  # the same line over and over\n" * 40_000)
    corpus = read_corpus(config, tmp_path)

    with pytest.raises(CorpusError, match="left without near-duplicates"):
        token_rows(corpus, train_tokenizer(corpus.texts, 300), config)
