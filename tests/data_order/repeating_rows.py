"""Rows with repetitions of all periods and lengths about the bounds of OLMo's filter."""

import numpy as np


def repeating_rows():
    """(120, 512) token ids; in three of four rows some tokens follow each other 29 to 34 times."""
    rng = np.random.default_rng(5)
    rows = rng.integers(0, 500, (120, 512))
    for number, row in enumerate(rows):
        period, times = int(rng.integers(1, 15)), int(rng.integers(29, 35))
        length = min(512, period * times + int(rng.integers(0, period)))
        start = int(rng.integers(0, 512 - length + 1))
        if number % 4:
            row[start : start + length] = np.resize(rng.integers(0, 500, period), length)
    return rows
