"""Which rows are compared with which: groups formed by recall, by matching, and by chance.

In: the table of material, M of each row and its covariates. Out: groups as places in the table.
"""

import numpy as np
import numpy.typing as npt
import polars as pl

from pythia_profile.errors import EstimationError
from pythia_profile.labs.internals.internals_groups import COVARIATES, balance, matched
from pythia_profile.labs.internals.internals_settings import Measuring

__all__ = ["FEWEST", "Comparison", "chosen_groups", "rows_for_heads"]

FEWEST = 4
"""Rows of a group below which nothing is compared; halves of a domain are then two."""

Values = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]
Comparison = tuple[str, str, bool]
"""Group, its control, and whether their rows are pairs."""


def chosen_groups(
    material: pl.DataFrame, match: Values, traits: Values, settings: Measuring
) -> tuple[dict[str, Places], list[Comparison], pl.DataFrame]:
    """Form the groups, say which two are compared and whether as pairs, and how alike they are.

    Memorized rows (M = 1, read) stand beside rows that were read and are not memorized, and beside
    rows never read, each matched to them, in the same order. Where the corpus is known, rows read k
    times stand beside those never read; where the order is known, rows read beside rows not yet
    read: neither needs matching, for chance alone says which row is where.

    Returns
    -------
    Places by group, at most `most_rows`; comparisons (first, second, paired); the balance.

    Raises
    ------
    EstimationError
        There are not enough rows of two kinds.
    """
    rng = np.random.default_rng(settings.seed)
    exposure = material["exposure"].to_numpy()
    read, never = (np.flatnonzero(exposure == kind) for kind in ("read", "never"))
    memorized = read[match[read] == 1]
    pools = {"unmemorized": read[match[read] <= settings.unmemorized], "never_read": never}
    pools = {name: pool for name, pool in pools.items() if len(pool) >= FEWEST}
    groups, comparisons, tables = {}, list[Comparison](), []
    if len(memorized) >= FEWEST and pools:
        # every memorized row finds a partner in each pool
        most = min(settings.most_rows, *map(len, pools.values()))
        groups["memorized"] = own = _some(rng, memorized, most)
        for name, pool in pools.items():
            groups[name] = partners = pool[matched(traits[own], traits[pool])[1]]
            comparisons.append(("memorized", name, True))
            line = balance(traits[own], traits[pool], traits[partners])
            tables.append(line.select(pl.lit(name).alias("group"), "*"))
    for label, control, chosen in _randomized(material):
        groups[label] = _some(rng, chosen, settings.most_rows)
        if control:
            comparisons.append((label, control, False))
    if not comparisons:
        count = ", ".join(
            f"{int((exposure == kind).sum())} {word}"
            for kind, word in (("read", "read"), ("not_yet", "not yet read"), ("never", "never"))
        )
        raise EstimationError(
            f"got rows of which {count}, expected {FEWEST} of two kinds at least; sample more "
            "rows, or choose another checkpoint"
        )
    none = balance(*[np.zeros((1, len(COVARIATES)))] * 3).clear()
    none = none.select(pl.lit("").alias("group"), "*").clear()
    return groups, comparisons, pl.concat([none, *tables])


def rows_for_heads(material: pl.DataFrame, match: Values, settings: Measuring) -> Places:
    """Choose rows that heads are asked about: memorized ones; where these are few, read ones."""
    read = np.flatnonzero((material["exposure"] == "read").to_numpy())
    memorized = read[match[read] == 1]
    chosen = memorized if len(memorized) >= 2 * FEWEST else read
    return _some(np.random.default_rng(settings.seed), chosen, settings.most_rows)


def _randomized(material: pl.DataFrame) -> list[tuple[str, str, Places]]:
    """Form groups by exposure: label, its control (empty for a control), places."""
    line, exposure = pl.int_range(pl.len()), pl.col("exposure")
    never = exposure == "never"
    if material["copies"].null_count() < len(material):
        control, wanted = "never", never
        treated = {
            f"read {copies}×": pl.col("copies") == copies
            for copies in material["copies"].unique().drop_nulls().sort()
            if copies
        }
    else:
        later = int((material["exposure"] == "not_yet").sum())
        # after the last step every row of the order has been read
        control, wanted = ("not yet read", exposure == "not_yet")
        if later < FEWEST:
            control, wanted = "never", never
        treated = {"read": exposure == "read", "just read": pl.col("recent") & (exposure == "read")}
    labeled = [(control, "", wanted), *((name, control, one) for name, one in treated.items())]
    found = [
        (label, against, material.select(line.filter(chosen)).to_series().to_numpy())
        for label, against, chosen in labeled
    ]
    enough = [one for one in found if len(one[2]) >= FEWEST]
    return enough if enough and enough[0][1] == "" else []


def _some(rng: np.random.Generator, places: Places, most: int) -> Places:
    return np.sort(rng.permutation(places)[:most])
