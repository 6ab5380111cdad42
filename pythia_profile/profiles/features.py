"""What the tokens of a row say about how hard it is, without any model.

In: token rows, and text that is not among them. Out: one line of features for each row, which as
covariates take off what makes some rows harder than others, and so most of the noise of an effect.
They depend on the tokens alone, never on the step that reads the row, so they cannot take off an
effect.

    unigram, bigram      mean log-probability of the row's targets under counts of the text, nats
    unigram_spread, bigram_spread    standard deviation of these log-probabilities over the row
    compressed           bytes of the row after zlib, for each token
    distinct             distinct tokens, for each token

Bigram probabilities are absolute discounting interpolated with continuation counts (Kneser and Ney
1995): a pair that the text lacks has the probability of its second token after anything.
"""

import zlib
from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Float, Int

from pythia_profile.errors import EstimationError

__all__ = ["FEATURES", "Counts", "FeatureError", "count", "row_features"]

FEATURES = ("unigram", "bigram", "unigram_spread", "bigram_spread", "compressed", "distinct")
DISCOUNT = 0.75
"""Taken off each count of a pair; the usual value, of which the features hardly depend."""
UNSEEN = 0.5
"""Count that every token is given beside its own, so that none has probability 0."""

CHUNK = 1024
"""Rows of which features are made at once."""


class FeatureError(EstimationError):
    """Token rows of which no features can be made."""


@dataclass(frozen=True, slots=True, eq=False)
class Counts:
    """Counts of tokens and of pairs of tokens.

    Attributes
    ----------
    rows : of the text.
    unigram : (V,) log-probability of each token.
    continuation : (V,) probability of each token as a new second of a pair.
    pairs : (P,) the pairs, first · V + second, ascending.
    seen : (P,) what of a pair's probability is its own, its count less the discount.
    left : (V,) probability that is left, after each first token, for the continuation.
    """

    rows: int
    unigram: Float[np.ndarray, " V"]
    continuation: Float[np.ndarray, " V"]
    pairs: Int[np.ndarray, " P"]
    seen: Float[np.ndarray, " P"]
    left: Float[np.ndarray, " V"]

    def bigram(
        self, first: Int[np.ndarray, "..."], second: Int[np.ndarray, "..."]
    ) -> Float[np.ndarray, "..."]:
        """Log-probability of each second token after the first."""
        key = first * len(self.unigram) + second
        # Looked up in ascending order: thirty times faster in a table larger than the cache.
        order = np.argsort(key, axis=None)
        place = np.empty(key.size, np.int64)
        place[order] = np.searchsorted(self.pairs, key.ravel()[order])
        place = np.minimum(place, len(self.pairs) - 1).reshape(key.shape)
        own = np.where(self.pairs[place] == key, self.seen[place], 0.0)
        found: Float[np.ndarray, ...] = np.log(own + self.left[first] * self.continuation[second])
        return found


def count(text: Int[np.ndarray, "n T"], vocabulary: int) -> Counts:
    """Count tokens and pairs of a text.

    Parameters
    ----------
    text : token rows; pairs do not reach over their ends.
    vocabulary : number of token ids, 0 … `vocabulary` − 1.

    Raises
    ------
    FeatureError
        There is no text, or a token is not in the vocabulary.

    Examples
    --------
    >>> counts = count(np.array([[0, 1, 0, 1, 0, 2]]), vocabulary=3)
    >>> np.exp(counts.bigram(np.array([0, 0, 0]), np.arange(3))).round(3)
    array([0.167, 0.583, 0.25 ])
    """
    text = _checked(text, vocabulary, "text")
    single = np.bincount(text.ravel(), minlength=vocabulary) + UNSEEN
    pairs, times = np.unique(text[:, :-1] * vocabulary + text[:, 1:], return_counts=True)
    first, second = np.divmod(pairs, vocabulary)
    after = np.bincount(first, weights=times, minlength=vocabulary)
    kinds = np.bincount(first, minlength=vocabulary)
    new = np.bincount(second, minlength=vocabulary) + UNSEEN
    return Counts(
        rows=len(text),
        unigram=np.log(single / single.sum()),
        continuation=new / new.sum(),
        pairs=pairs,
        seen=(times - DISCOUNT) / after[first],
        left=np.where(after > 0, DISCOUNT * kinds / np.maximum(after, 1), 1.0),
    )


def row_features(tokens: Int[np.ndarray, "U T"], counts: Counts) -> pl.DataFrame:
    """Features of each row, in the columns of `FEATURES`.

    The targets of a row are its tokens but the first, as in scoring.

    Raises
    ------
    FeatureError
        Rows of fewer than two tokens, or a token that is not in the vocabulary.

    Examples
    --------
    >>> counts = count(np.array([[0, 1, 0, 1, 0, 2]]), vocabulary=3)
    >>> row_features(np.array([[0, 1, 0, 1], [2, 2, 2, 2]]), counts)["distinct"].to_list()
    [0.5, 0.25]
    """
    parts = [
        _features(_checked(part, len(counts.unigram), "tokens"), counts)
        for part in np.array_split(np.asarray(tokens), -(-len(tokens) // CHUNK) or 1)
    ]
    return pl.concat(parts)


def _features(tokens: Int[np.ndarray, "n T"], counts: Counts) -> pl.DataFrame:
    single = counts.unigram[tokens[:, 1:]]
    pair = counts.bigram(tokens[:, :-1], tokens[:, 1:])
    length = tokens.shape[1]
    ordered = np.sort(tokens, axis=1)
    plain = tokens.astype("<u2" if len(counts.unigram) <= 2**16 else "<u4")
    packed = [len(zlib.compress(row.tobytes())) for row in plain]
    values = {
        "unigram": single.mean(axis=1),
        "bigram": pair.mean(axis=1),
        "unigram_spread": single.std(axis=1),
        "bigram_spread": pair.std(axis=1),
        "compressed": np.array(packed) / length,
        "distinct": (1 + (np.diff(ordered, axis=1) > 0).sum(axis=1)) / length,
    }
    return pl.DataFrame(values).select(FEATURES)


def _checked(tokens: Int[np.ndarray, "n T"], vocabulary: int, what: str) -> Int[np.ndarray, "n T"]:
    rows = np.asarray(tokens)
    if rows.ndim != 2 or rows.dtype.kind not in "iu" or rows.shape[1] < 2 or not len(rows):
        raise FeatureError(
            f"{what}: got {rows.dtype} of shape {rows.shape}, expected rows of two tokens or more"
        )
    rows = rows.astype(np.int64)
    if rows.min() < 0 or rows.max() >= vocabulary:
        raise FeatureError(
            f"{what}: token {rows.max() if rows.max() >= vocabulary else rows.min()} is not in the "
            f"vocabulary of {vocabulary}"
        )
    return rows
