"""Features of token rows: by hand, by brute force, and bad input."""

import zlib
from itertools import pairwise

import numpy as np
import pytest

from pythia_profile.profiles.features import DISCOUNT, FEATURES, FeatureError, count, row_features


@pytest.fixture(scope="module")
def text():
    return np.random.default_rng(0).zipf(1.4, size=(50, 20)) % 30


def test_probabilities_after_each_token_sum_to_one(text):
    counts = count(text, vocabulary=30)

    first = np.repeat(np.arange(30), 30)
    after = np.exp(counts.bigram(first, np.tile(np.arange(30), 30))).reshape(30, 30)

    assert after.sum(axis=1) == pytest.approx(np.ones(30), abs=1e-12)
    assert np.exp(counts.unigram).sum() == pytest.approx(1.0, abs=1e-12)


def test_a_row_is_what_its_own_tokens_say(text):
    rows = np.random.default_rng(1).integers(0, 30, size=(5, 12))
    found = row_features(rows, count(text, vocabulary=30))

    single = np.bincount(text.ravel(), minlength=30) + 0.5
    pairs = np.zeros((30, 30))
    for line in text:
        for a, b in pairwise(line):
            pairs[a, b] += 1
    new = (pairs > 0).sum(axis=0) + 0.5
    for row, line in zip(rows, found.iter_rows(named=True), strict=True):
        ones, twos = [], []
        for a, b in pairwise(row):
            ones.append(np.log(single[b] / single.sum()))
            total, kinds = pairs[a].sum(), (pairs[a] > 0).sum()
            own = max(pairs[a, b] - DISCOUNT, 0.0) / total if total else 0.0
            left = DISCOUNT * kinds / total if total else 1.0
            twos.append(np.log(own + left * new[b] / new.sum()))
        assert line["unigram"] == pytest.approx(np.mean(ones), abs=1e-12)
        assert line["bigram"] == pytest.approx(np.mean(twos), abs=1e-12)
        assert line["unigram_spread"] == pytest.approx(np.std(ones), abs=1e-12)
        assert line["bigram_spread"] == pytest.approx(np.std(twos), abs=1e-12)
        assert line["distinct"] == len(set(row.tolist())) / 12
        assert line["compressed"] == len(zlib.compress(row.astype("<u2").tobytes())) / 12


def test_features_do_not_depend_on_how_many_rows_are_asked_at_once(text):
    counts = count(text, vocabulary=30)
    rows = np.random.default_rng(2).integers(0, 30, size=(2_500, 8))

    whole = row_features(rows, counts)

    assert whole.columns == list(FEATURES)
    assert whole[2_000:2_010].equals(row_features(rows[2_000:2_010], counts))


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (np.zeros((2, 1), int), "of shape \\(2, 1\\), expected rows of two tokens or more"),
        (np.zeros((0, 5), int), "of shape \\(0, 5\\)"),
        (np.zeros((2, 5)), "float64"),
        (np.full((2, 5), 30), "token 30 is not in the vocabulary of 30"),
        (np.full((2, 5), -1), "token -1 is not in"),
    ],
)
def test_rows_without_features_are_named(text, rows, message):
    with pytest.raises(FeatureError, match=message):
        row_features(rows, count(text, vocabulary=30))
    with pytest.raises(FeatureError, match=message):
        count(rows, vocabulary=30)
