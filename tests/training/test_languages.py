"""Generated languages have the distributions they state."""

import numpy as np
import pytest

from pythia_profile.training.languages import (
    Bigram,
    LanguageError,
    phone_book,
    plant,
    uniform_rows,
)


def test_uniform_tokens_are_uniform_and_seeded():
    rows = uniform_rows(1000, 20, 8, seed=3)

    assert np.array_equal(rows, uniform_rows(1000, 20, 8, seed=3))
    counts = np.bincount(rows.ravel(), minlength=8)
    # 20,000 draws: sd of a count is 47; five of them
    assert np.abs(counts - 2500).max() < 5 * 47


def test_a_bigram_language_has_its_transitions_and_its_entropy():
    language = Bigram.draw(6, seed=1, concentration=0.5)
    rows = language.rows(4000, 25, seed=2)

    pairs = np.zeros((6, 6))
    np.add.at(pairs, (rows[:, :-1].ravel(), rows[:, 1:].ravel()), 1)
    found = pairs / pairs.sum(axis=1, keepdims=True)
    # at least 5,000 transitions from each token: sd below .007; five of them
    assert np.abs(found - language.transitions).max() < 0.035
    assert np.abs(language.stationary @ language.transitions - language.stationary).max() < 1e-12
    assert np.abs(np.bincount(rows[:, 0], minlength=6) / 4000 - language.stationary).max() < 0.04
    assert language.surprisal(rows).mean() == pytest.approx(language.entropy, abs=0.02)


def test_planted_rows_have_their_copies_and_the_rest_is_untouched():
    background = uniform_rows(300, 7, 50, seed=0)
    secrets = uniform_rows(3, 7, 50, seed=1)

    rows, which = plant(background, secrets, [1, 4, 16], seed=5)

    assert [(which == k).sum() for k in range(3)] == [1, 4, 16]
    assert np.array_equal(rows[which >= 0], secrets[which[which >= 0]])
    assert np.array_equal(rows[which < 0], background[which < 0])
    with pytest.raises(LanguageError, match="303 copies to plant in 300 rows"):
        plant(background, secrets, 101, seed=0)


def test_a_phone_book_has_different_names_and_uniform_digits():
    book = phone_book(2000, seed=0, letters=4)

    assert book.rows.shape == (2000, 15)
    names, digits = book.rows[:, : book.answer], book.rows[:, book.answer :]
    assert len(np.unique(names, axis=0)) == 2000
    assert (names[:, -1] == 10).all()
    assert names[:, :-1].min() >= 11
    assert book.rows.max() < book.vocabulary
    assert set(np.unique(digits)) == set(range(10))
    with pytest.raises(LanguageError, match="600 different names of 2 letters"):
        phone_book(600, seed=0, letters=2)
