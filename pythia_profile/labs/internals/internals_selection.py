"""Which rows are compared with which: groups formed by recall, by matching, and by chance.

In: the table of material, M of each row and its covariates. Out: groups as places in the table.
"""

import numpy as np
import numpy.typing as npt
import polars as pl

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
    """Form groups by chance alone: label, its control (empty for a control), places."""
    line = pl.int_range(pl.len())
    if material["copies"].null_count() < len(material):
        control, wanted = "never", pl.col("exposure") == "never"
        treated = {
            f"read {copies}×": pl.col("copies") == copies
            for copies in material["copies"].unique().drop_nulls().sort()
            if copies
        }
    else:
        control, wanted = "not yet read", pl.col("exposure") == "not_yet"
        treated = {
            "read": pl.col("exposure") == "read",
            "just read": pl.col("recent") & (pl.col("exposure") == "read"),
        }
    found = [(control, "", material.select(line.filter(wanted)).to_series().to_numpy())]
    for label, chosen in treated.items():
        found.append((label, control, material.select(line.filter(chosen)).to_series().to_numpy()))
    enough = [one for one in found if len(one[2]) >= FEWEST]
    return enough if enough and enough[0][1] == "" else []


def _some(rng: np.random.Generator, places: Places, most: int) -> Places:
    return np.sort(rng.permutation(places)[:most])
