"""What was measured, as tables: means of groups, their differences, heads and their overlap.

In: arrays by row. Out: frames in which a line is one number with its interval.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import combinations

import numpy as np
import numpy.typing as npt
import polars as pl

from pythia_profile.labs.internals.internals_groups import (
    COVARIATES,
    differences,
    mean_interval,
)
from pythia_profile.labs.internals.internals_overlap import (
    Agreement,
    agreement,
    chance_jaccard,
    jaccard,
    set_size,
    top_heads,
    universal,
)
from pythia_profile.labs.internals.internals_selection import FEWEST, Comparison
from pythia_profile.labs.internals.internals_settings import Measuring

__all__ = ["MEASURES", "contrasts", "head_tables", "means", "members"]

MEASURES = {
    "lens": (False, True),
    "tuned_lens": (False, True),
    "recovery": (True, True),
    "match": (True, False),
    "passes_half": (False, False),
}
"""Measures, and whether each has a value for every strength of noise, and for every layer."""

_COORDINATES = {"strength": pl.Float64, "layer": pl.Int64, "depth": pl.Float64}
_OVERLAP = {
    **dict.fromkeys(("domain", "other"), pl.String),
    **dict.fromkeys(("heads", "top"), pl.Int64),
    "jaccard": pl.Float64,
    **dict.fromkeys(("chance_mean", "chance_lower", "chance_upper"), pl.Float64),
    **dict.fromkeys(("within", "between", "lower", "upper", "p_value"), pl.Float64),
    **dict.fromkeys(("universal", "universal_by_chance"), pl.Float64),
}

Values = npt.NDArray[np.float64]
Places = npt.NDArray[np.int64]


def means(of_group: Mapping[str, Mapping[str, Values]], settings: Measuring) -> pl.DataFrame:
    """Mean of each measure in each group, with Student's interval over the rows."""
    parts = [
        _lines(
            {"group": group, "measure": name, "rows": len(values)}, mean_interval(values), settings
        )
        for group, measured in of_group.items()
        for name, values in measured.items()
    ]
    return pl.concat(parts, how="vertical_relaxed")


def contrasts(
    comparisons: list[Comparison],
    of_group: Mapping[str, Mapping[str, Values]],
    settings: Measuring,
) -> pl.DataFrame:
    """Difference of each measure between a group and its control, with its interval."""
    parts = [
        _lines(
            {"group": group, "control": control, "paired": paired, "measure": name},
            differences(values, of_group[control][name], paired=paired),
            settings,
        )
        for group, control, paired in comparisons
        for name, values in of_group[group].items()
    ]
    return pl.concat(parts, how="vertical_relaxed")


def _lines(
    facts: Mapping[str, object], found: Sequence[Values], settings: Measuring
) -> pl.DataFrame:
    """Lines of one measure: value, lower and upper, each (strengths or 1, layers or 1)."""
    strengths, layers = found[0].shape
    by_strength, by_layer = MEASURES[str(facts["measure"])]
    at, layer = np.meshgrid(np.arange(strengths), np.arange(layers), indexing="ij")
    columns = zip(("value", "lower", "upper"), found, strict=True)
    return pl.DataFrame(
        {
            "strength": np.take(settings.strengths, at.ravel())
            if by_strength
            else [None] * at.size,
            "layer": layer.ravel() if by_layer else [None] * at.size,
            "depth": layer.ravel() / (layers - 1) if by_layer else [None] * at.size,
            **{name: values.ravel() for name, values in columns},
        },
        schema_overrides=_COORDINATES,
    ).select(*(pl.lit(value).alias(name) for name, value in facts.items()), "*")


def head_tables(
    match: Values, nats: Values, domain: npt.NDArray[np.str_], settings: Measuring
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Say how important each head is in each domain, and how far the top heads of domains overlap.

    Parameters
    ----------
    match, nats : (n, L, H) from `head_drops`. Heads are ordered by the fall of M; of equals, by the
        fall of the true tokens' log-probability.
    domain : (n,) of each row.

    Returns
    -------
    Lines `domain, rows, layer, head, drop, nats, top`, and a line for each two domains.
    """
    rows, layers, heads = match.shape
    # 1e-6 of the log-probability orders heads of equal M alone: M falls by steps of 1/(nK)
    joined = (match + 1e-6 * nats).reshape(rows, -1)
    count = set_size(layers * heads, settings.top_share)
    names = [str(name) for name in np.unique(domain)]
    parts = {"all": np.ones(rows, bool), **{name: domain == name for name in names}}
    parts = {name: of for name, of in parts.items() if of.sum() >= FEWEST}
    tops = {name: top_heads(joined[of].mean(axis=0), count) for name, of in parts.items()}
    layer, head = np.divmod(np.arange(layers * heads), heads)
    lines = [
        pl.DataFrame(
            {
                "rows": np.full(len(layer), of.sum()),
                "layer": layer,
                "head": head,
                "drop": match[of].mean(axis=0).ravel(),
                "nats": nats[of].mean(axis=0).ravel(),
                "top": tops[name],
            }
        ).select(pl.lit(name).alias("domain"), "*")
        for name, of in parts.items()
    ]
    chance = chance_jaccard(layers * heads, count)
    pairs = [
        {
            "domain": first,
            "other": second,
            "heads": layers * heads,
            "top": count,
            "jaccard": float(jaccard(tops[first], tops[second])),
            **{f"chance_{name}": value for name, value in asdict(chance).items()},
            **asdict(_agreed(joined[parts[first]], joined[parts[second]], count, settings)),
            "universal": universal(np.stack([tops[first], tops[second]]))[0],
            "universal_by_chance": universal(np.stack([tops[first], tops[second]]))[1],
        }
        for first, second in combinations([name for name in names if name in parts], 2)
    ]
    return pl.concat(lines), pl.DataFrame(pairs, schema=_OVERLAP)


def _agreed(first: Values, second: Values, count: int, settings: Measuring) -> Agreement:
    return agreement(first, second, count, seed=settings.seed, draws=settings.relabelings)


def members(
    material: pl.DataFrame, match: Values, traits: Values, groups: Mapping[str, Places]
) -> pl.DataFrame:
    """Say which rows were compared, and what they are like, a line a row and group."""
    own = material.drop("tokens").with_columns(
        match=match, **dict(zip(COVARIATES, traits.T, strict=True))
    )
    parts = [own[places].with_columns(group=pl.lit(name)) for name, places in groups.items()]
    return pl.concat([own.clear().with_columns(group=pl.lit("")).clear(), *parts])
