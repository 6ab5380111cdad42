"""Which heads matter, and whether the same ones matter in two domains; beside chance.

In: importances, (n, h) falls of a row's recall without a head. Out: sets of heads, their overlap,
and what two sets drawn at random would have. A set is a boolean (h,) with `count` true entries.

Source: Chen, Han and Miyao (2026), arXiv 2603.21658; the chance level and its intervals are ours.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy.stats import hypergeom
from scipy.stats import t as student

__all__ = [
    "Agreement",
    "Chance",
    "agreement",
    "chance_jaccard",
    "jaccard",
    "set_size",
    "top_heads",
    "universal",
]

Values = npt.NDArray[np.float64]
Sets = npt.NDArray[np.bool_]


def set_size(heads: int, share: float = 0.2) -> int:
    """Heads in a top set: the share of all, one at least.

    Examples
    --------
    >>> set_size(144), set_size(4)
    (29, 1)
    """
    return max(1, round(share * heads))


def top_heads(importance: Values, count: int) -> Sets:
    """Mark the `count` heads of highest importance along the last axis; of equals the first.

    Examples
    --------
    >>> top_heads(np.array([0.1, 0.4, 0.0, 0.2]), 2).tolist()
    [False, True, False, True]
    """
    order = np.argsort(-importance, axis=-1, kind="stable")[..., :count]
    found = np.zeros(importance.shape, bool)
    np.put_along_axis(found, order, True, axis=-1)
    return found


def jaccard(first: Sets, second: Sets) -> Values:
    """Heads in both sets ÷ heads in either, along the last axis.

    Examples
    --------
    >>> float(jaccard(np.array([True, True, False]), np.array([False, True, True])).round(3))
    0.333
    """
    return np.asarray((first & second).sum(axis=-1) / (first | second).sum(axis=-1), np.float64)


@dataclass(frozen=True, slots=True)
class Chance:
    """Jaccard index of two sets of k out of h heads drawn at random, exactly.

    Attributes
    ----------
    mean : expected value; near p/(2 - p), .111 of p = .2, for many heads.
    lower, upper : smallest interval between quantiles that holds 95 % of the draws or more.
    """

    mean: float
    lower: float
    upper: float


def chance_jaccard(heads: int, count: int, level: float = 0.95) -> Chance:
    """Distribution of the Jaccard index by chance: the overlap is hypergeometric.

    Examples
    --------
    >>> round(chance_jaccard(10_000, 2_000).mean, 3)
    0.111
    """
    law, shared = hypergeom(heads, count, count), np.arange(count + 1)
    values = shared / (2 * count - shared)
    low, high = (int(law.ppf(q)) for q in ((1 - level) / 2, (1 + level) / 2))
    return Chance(float(law.pmf(shared) @ values), float(values[low]), float(values[high]))


@dataclass(frozen=True, slots=True)
class Agreement:
    """Overlap of the top heads within and between two domains, of halves of equal numbers of rows.

    Attributes
    ----------
    within : mean Jaccard index of two halves of one domain, over both domains and all splits.
    between : the same of a half of one domain and a half of the other.
    lower, upper : 95 % interval of `within - between`, by the jackknife over tenths of the rows,
        within -1 and 1.
    p_value : share of relabelings of the rows whose `within - between` is not smaller.
    """

    within: float
    between: float
    lower: float
    upper: float
    p_value: float


def agreement(
    first: Values,
    second: Values,
    count: int,
    *,
    seed: int,
    splits: int = 50,
    draws: int = 400,
) -> Agreement:
    """Compare the overlap of two halves of a domain with that of two domains.

    Halves are as large within as between: sets of fewer rows agree less, whatever they are of. Both
    domains are cut to the number of rows of the smaller.

    Parameters
    ----------
    first, second : (n, h) and (m, h) importances by row; 4 rows at least.
    count : heads of a top set.
    splits : random halvings; draws : relabelings.
    """
    rng = np.random.default_rng(seed)
    size = min(len(first), len(second))
    if size < 4:
        raise ValueError(f"got {len(first)} and {len(second)} rows, expected 4 of each at least")
    both = np.stack([rng.permutation(one)[:size] for one in (first, second)])
    halves = _halves(rng, splits, size)
    within, between = _overlaps(both, halves, count)
    # a bootstrap would put one row into both halves, and so make halves agree
    parts = np.array_split(np.arange(size), min(10, size // 2))
    left = [np.delete(both, part, axis=1) for part in parts]
    without = np.array(
        [np.subtract(*_overlaps(one, _halves(rng, splits, one.shape[1]), count)) for one in left]
    )
    se = np.sqrt((len(parts) - 1) * without.var())
    mixed = both.reshape(2 * size, -1)
    relabeled = [
        np.subtract(*_overlaps(rng.permutation(mixed).reshape(both.shape), halves, count))
        for _ in range(draws)
    ]
    # the observed labeling counts as one of them, so that no p-value is 0
    beyond = 1 + sum(bool(one >= within - between - 1e-12) for one in relabeled)
    found, half = within - between, float(student.ppf(0.975, len(parts) - 1) * se)
    lower, upper = max(found - half, -1.0), min(found + half, 1.0)
    return Agreement(within, between, lower, upper, beyond / (1 + draws))


def _halves(rng: np.random.Generator, splits: int, size: int) -> Values:
    """Weights (splits, 2, size) of the rows in each half of a domain; an odd row is left out."""
    half, found = size // 2, np.zeros((splits, 2, size))
    for split in found:
        order = rng.permutation(size)
        split[0, order[:half]] = split[1, order[half : 2 * half]] = 1 / half
    return found


def _overlaps(both: Values, halves: Values, count: int) -> tuple[float, float]:
    """Mean Jaccard index of halves within and between two domains (2, size, h)."""
    tops = [top_heads(halves @ domain, count) for domain in both]
    within = np.mean([jaccard(top[:, 0], top[:, 1]) for top in tops])
    between = np.mean([jaccard(tops[0][:, i], tops[1][:, j]) for i in (0, 1) for j in (0, 1)])
    return float(within), float(between)


def universal(sets: Sets) -> tuple[float, float]:
    """Share of heads that stand in all of D sets (D, h), and what is expected of random ones.

    Examples
    --------
    >>> universal(np.array([[True, True, False, False], [True, False, True, False]]))
    (0.25, 0.25)
    """
    return float(sets.all(axis=0).mean()), float(np.prod(sets.mean(axis=1)))
