"""Small generated languages, of which everything is known: seeded, vectorized, exact entropies.

Rows are (n, tokens) int64 token ids below the vocabulary. Where a language has a distribution, its
surprisal is exact, so a model's loss can be set beside the best possible one.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pythia_profile.errors import ProfileError

__all__ = ["Bigram", "LanguageError", "PhoneBook", "phone_book", "plant", "uniform_rows"]

Rows = npt.NDArray[np.int64]


class LanguageError(ProfileError):
    """A language cannot be made as asked."""


def uniform_rows(rows: int, tokens: int, vocabulary: int, *, seed: int) -> Rows:
    """Rows of independent uniform tokens, each worth log(vocabulary) nats; nothing to generalize.

    Examples
    --------
    >>> uniform_rows(2, 4, vocabulary=10, seed=0)
    array([[8, 6, 5, 2],
           [3, 0, 0, 0]])
    """
    return np.random.default_rng(seed).integers(vocabulary, size=(rows, tokens))


@dataclass(frozen=True, slots=True)
class Bigram:
    """A language in which each token depends on the one before it.

    Attributes
    ----------
    transitions : (V, V) probability of the next token (columns) after each token (rows).
    stationary : (V,) distribution of the first token, and of every later one.
    """

    transitions: npt.NDArray[np.float64]
    stationary: npt.NDArray[np.float64]

    @classmethod
    def draw(cls, vocabulary: int, *, seed: int, concentration: float = 0.1) -> "Bigram":
        """Draw transitions from a Dirichlet; the smaller `concentration`, the more predictable."""
        rng = np.random.default_rng(seed)
        transitions = rng.dirichlet(np.full(vocabulary, concentration), size=vocabulary)
        # a share of uniform makes every token reachable, hence one stationary distribution
        transitions = 0.99 * transitions + 0.01 / vocabulary
        system = np.vstack([transitions.T - np.eye(vocabulary), np.ones(vocabulary)])
        target = np.append(np.zeros(vocabulary), 1.0)
        stationary = np.clip(np.linalg.lstsq(system, target, rcond=None)[0], 0, None)
        return cls(transitions, stationary / stationary.sum())

    def rows(self, rows: int, tokens: int, *, seed: int) -> Rows:
        """Draw `rows` rows; (rows, tokens)."""
        rng = np.random.default_rng(seed)
        last = len(self.stationary) - 1
        steps = self.transitions.cumsum(axis=1)
        found = np.empty((rows, tokens), np.int64)
        found[:, 0] = np.searchsorted(self.stationary.cumsum(), rng.random(rows)).clip(max=last)
        for place in range(1, tokens):
            # inverse of the cumulated distribution, for all rows at once
            below = steps[found[:, place - 1]] < rng.random((rows, 1))
            found[:, place] = below.sum(axis=1).clip(max=last)
        return found

    @property
    def entropy(self) -> float:
        """Nats of a token, given the one before it: the least mean loss that can be reached."""
        nats = -(self.transitions * np.log(self.transitions)).sum(axis=1)
        return float(self.stationary @ nats)

    def surprisal(self, rows: Rows) -> npt.NDArray[np.float64]:
        """Nats of every target; (n, T - 1)."""
        found: npt.NDArray[np.float64] = -np.log(self.transitions[rows[:, :-1], rows[:, 1:]])
        return found


def plant(
    background: npt.NDArray[np.integer[Any]],
    planted: npt.NDArray[np.integer[Any]],
    copies: npt.ArrayLike,
    *,
    seed: int,
) -> tuple[Rows, Rows]:
    """Overwrite random rows of a background with copies of planted rows.

    Parameters
    ----------
    background : (n, T) rows; planted : (k, T) rows.
    copies : (k,) how often each is planted, or one number for all.

    Returns
    -------
    (n, T) rows, and (n,) which planted row it holds; -1 for the background's own.

    Examples
    --------
    >>> rows, which = plant(np.zeros((6, 3), int), np.ones((1, 3), int), copies=2, seed=0)
    >>> int(rows.sum()), np.bincount(which + 1).tolist()
    (6, [4, 2])
    """
    counts = np.broadcast_to(np.asarray(copies, dtype=np.int64), len(planted))
    if (total := int(counts.sum())) > len(background):
        raise LanguageError(f"{total:,} copies to plant in {len(background):,} rows")
    places = np.random.default_rng(seed).choice(len(background), total, replace=False)
    which = np.full(len(background), -1)
    which[places] = np.repeat(np.arange(len(planted)), counts)
    rows = background.astype(np.int64)
    rows[places] = planted[which[places]]
    return rows, which


@dataclass(frozen=True, slots=True)
class PhoneBook:
    """Names and numbers: rows of a name, a separator, and digits to be learned by heart.

    Attributes
    ----------
    rows : (n, letters + 1 + digits) letters are tokens 11 and up, the separator 10, digits 0 to 9.
    answer : index of the first digit in a row.
    vocabulary : token ids that occur, 11 + 26.
    """

    rows: Rows
    answer: int
    vocabulary: int = 37


def phone_book(entries: int, *, seed: int, letters: int = 8, digits: int = 10) -> PhoneBook:
    """Draw `entries` different names, each with a number of independent uniform digits."""
    if entries > 26**letters // 2:
        raise LanguageError(f"{entries:,} different names of {letters} letters: too many")
    rng = np.random.default_rng(seed)
    names = np.empty((0, letters), np.int64)
    while len(names) < entries:
        drawn = np.vstack([names, rng.integers(26, size=(entries, letters))])
        _, first = np.unique(drawn, axis=0, return_index=True)
        names = drawn[np.sort(first)][:entries]
    separator = np.full((entries, 1), 10)
    numbers = rng.integers(10, size=(entries, digits))
    return PhoneBook(np.hstack([names + 11, separator, numbers]), letters + 1)
