"""Sets of memorized sequences: at which frequency they begin, how they change, what they share.

In: whether each sequence is given back whole. Everything here is an array or a table of counts.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy import stats

from pythia_profile.labs.recall.recall_errors import RecallError

__all__ = ["overlap", "rate_by_frequency", "threshold_frequency", "transitions"]

Flags = npt.NDArray[np.bool_]


def rate_by_frequency(frequency: npt.ArrayLike, exact: npt.ArrayLike) -> pl.DataFrame:
    """Share given back whole at each frequency, with Wilson's 95 % interval.

    Parameters
    ----------
    frequency : (k,) how often each sequence occurs in the corpus.
    exact : (k,) whether it is given back whole.
    """
    counts, of_row = np.unique(np.asarray(frequency), return_inverse=True)
    flags = np.asarray(exact, np.float64)
    n, hits = np.bincount(of_row), np.bincount(of_row, weights=flags)
    intervals = [
        stats.binomtest(int(k), int(m)).proportion_ci(method="wilson")
        for k, m in zip(hits, n, strict=True)
    ]
    return pl.DataFrame(
        {
            "frequency": counts.astype(np.int64),
            "sequences": n,
            "memorized": hits.astype(np.int64),
            "rate": hits / n,
            "lower": [one.low for one in intervals],
            "upper": [one.high for one in intervals],
        }
    )


def threshold_frequency(rates: pl.DataFrame, share: float = 0.5) -> int | None:
    """Lowest frequency from which on at least `share` of the sequences are given back whole.

    None where even the highest frequency is not enough.

    Examples
    --------
    >>> rates = rate_by_frequency([1, 1, 2, 2, 4, 4], [0, 0, 0, 1, 1, 1])
    >>> threshold_frequency(rates), threshold_frequency(rates, 0.6)
    (2, 4)
    """
    found = None
    for frequency, rate in rates.sort("frequency", descending=True)["frequency", "rate"].rows():
        if rate < share:
            break
        found = int(frequency)
    return found


def transitions(exact: npt.NDArray[Any], along: Sequence[Any]) -> pl.DataFrame:
    """Count what happens to sequences from each checkpoint, or size, to the next.

    Parameters
    ----------
    exact : (k, C) whether each sequence is given back whole.
    along : (C,) checkpoints or sizes, in order.

    Returns
    -------
    A line a step: sequences `learned`, `forgotten`, `kept`, `never`, which add up to k, and
    `kept_share`, the share of those memorized before that still are (null of none).
    """
    flags = np.asarray(exact, dtype=bool)
    if flags.ndim != 2 or flags.shape[1] != len(along):
        raise RecallError(f"exact: got {flags.shape}, expected (sequences, {len(along)})")
    before, after = flags[:, :-1], flags[:, 1:]
    kept, held = (before & after).sum(axis=0), before.sum(axis=0)
    return pl.DataFrame(
        {
            "before": list(along[:-1]),
            "after": list(along[1:]),
            "learned": (~before & after).sum(axis=0),
            "forgotten": (before & ~after).sum(axis=0),
            "kept": kept,
            "never": (~before & ~after).sum(axis=0),
            "kept_share": [k / m if m else None for k, m in zip(kept, held, strict=True)],
        },
        schema_overrides={"kept_share": pl.Float64},
    )


def overlap(sets: Mapping[str, npt.NDArray[Any]]) -> pl.DataFrame:
    """Compare which of the same sequences each of some models gives back whole.

    Parameters
    ----------
    sets : by model, (k,) whether it gives back each sequence.

    Returns
    -------
    A line a pair: sizes of both sets and of what they share, Jaccard, what two unrelated sets of
    these sizes would share (`by_chance`), the share of the smaller set that the other has, and
    `p`, the one-sided hypergeometric probability of sharing so much by chance.
    """
    names = list(sets)
    flags = {name: np.asarray(one, dtype=bool) for name, one in sets.items()}
    if len({len(one) for one in flags.values()}) > 1:
        lengths = ", ".join(f"{name} {len(one)}" for name, one in flags.items())
        raise RecallError(f"sets of different sequences: {lengths}; expected the same ones")
    lines = []
    for number, one in enumerate(names):
        for other in names[number + 1 :]:
            a, b = flags[one], flags[other]
            n, na, nb = len(a), int(a.sum()), int(b.sum())
            shared, either = int((a & b).sum()), int((a | b).sum())
            smaller = min(na, nb)
            lines.append(
                {
                    "one": one,
                    "other": other,
                    "of_one": na,
                    "of_other": nb,
                    "shared": shared,
                    "jaccard": shared / either if either else None,
                    "by_chance": na * nb / n,
                    "of_smaller": shared / smaller if smaller else None,
                    "p": float(stats.hypergeom.sf(shared - 1, n, na, nb)),
                }
            )
    floats = {"jaccard": pl.Float64, "of_smaller": pl.Float64}
    return pl.DataFrame(lines, schema_overrides=floats)
