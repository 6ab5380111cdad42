"""Rows that a run read but did not train on: OLMo's repetition filter, from the tokens alone.

A masked row is read and counted in the divisor of the loss, but all its labels are ignored, so it
moves no weight: a placebo row.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = ["is_masked"]


def is_masked(
    tokens: npt.NDArray[np.integer[Any]], *, longest: int = 13, shortest: int = 1, times: int = 32
) -> npt.NDArray[np.bool_]:
    """Rows (n, T) in which some p tokens, `shortest` to `longest`, follow each other `times` times.

    That is: for some period p there are (times - 1) p places in a row with x[j] = x[j + p].

    Examples
    --------
    >>> rows = np.array([[7] * 32 + [1, 2], [7] * 31 + [1, 2, 3]])
    >>> is_masked(rows)
    array([ True, False])

    Source: allenai/OLMo at 59a53e3, `olmo/data/util.py` and `memmap_dataset.py`; equal by running
    them (tests/data_order/shuffled).
    """
    masked = np.zeros(len(tokens), bool)
    for period in range(shortest, min(longest, tokens.shape[1] // 3) + 1):
        equal = tokens[:, period:] == tokens[:, :-period]
        needed = (times - 1) * period
        if equal.shape[1] < needed:
            continue
        # sums over windows of `needed` places; a window that is equal throughout sums to its length
        sums = np.concatenate(
            [np.zeros((len(tokens), 1), np.int32), equal.cumsum(axis=1, dtype=np.int32)], axis=1
        )
        masked |= (sums[:, needed:] - sums[:, :-needed] == needed).any(axis=1)
    return masked
