"""Looking at intervals before all rows are scored, and stopping when they are narrow enough.

Rows are scored in random order, in blocks, and there are a few fixed looks: after an eighth of the
rows, a quarter, a half, all. Whoever stops at the first look whose interval is narrow enough has
chosen it among several, and picked one whose standard error happens to be small. Where estimates
and their standard errors are independent, as with normal outcomes, that costs little (Chow and
Robbins, 1965). Effects on text are skewed: a sample that misses the few rows that are remembered
best has a small mean and a small error at once, so that intervals that were stopped at lie too low
too often. Each look therefore has the level at which all of them hold together, by Bonferroni:

    level of each look = 1 - (1 - level) / looks

Whatever is stopped at, and for whatever reason, at most a share 1 - level of studies has an
interval that misses. This holds for every number of the study alike (bands, tests, summaries),
needs no independence of looks, and costs 27 % of width at four looks and level .95.
"""

from collections.abc import Sequence

__all__ = ["LOOKS", "level_of_looks", "next_look"]

LOOKS = (0.125, 0.25, 0.5, 1.0)
"""Shares of the rows after which intervals are looked at."""

_NEARLY = 0.85
"""A look is worth taking where it has this share of the rows that the width seems to need."""


def level_of_looks(level: float, looks: int = len(LOOKS)) -> float:
    """Level of each look at which all of them together have the wished level.

    Examples
    --------
    >>> round(level_of_looks(0.95), 4)
    0.9875
    """
    return 1 - (1 - level) / looks


def next_look(
    share: float, half_width: float, wished: float, looks: Sequence[float] = LOOKS
) -> float | None:
    """Share of the rows at the next look; None where it is time to stop.

    Widths fall with the root of the number of rows, so looks that would be too early are passed
    over. That is harmless: the looks are fixed beforehand, and all of them have been paid for.

    Parameters
    ----------
    share, half_width : of this look; half of the interval's width.
    wished : half of the width that is enough.

    Examples
    --------
    >>> next_look(0.125, 0.02, 0.01), next_look(0.5, 0.009, 0.01), next_look(1.0, 0.02, 0.01)
    (0.5, None, None)
    """
    later = [look for look in looks if look > share]
    if half_width <= wished or not later:
        return None
    needed = share * (half_width / wished) ** 2
    return next((look for look in later if look >= _NEARLY * needed), later[-1])
