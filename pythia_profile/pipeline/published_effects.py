"""Effects in the published schema: read as the table `ATT`, and laid out from it.

    effects   cohort, base_period, time, ATT, std_error, lower, upper, model_size, stat

Source: Lesci et al. (2024), the schema of the published effects.
"""

import re
from collections.abc import Sequence

import polars as pl

from pythia_profile.errors import not_found
from pythia_profile.pipeline.imports import OUTCOMES, Source
from pythia_profile.tables import ATT, Table, conform

__all__ = ["effects_from_published", "effects_to_published"]

_EFFECTS = Table(
    "effects",
    pl.Schema(
        {
            **{name: pl.Int64() for name in ("cohort", "base_period", "time")},
            **{name: pl.Float64() for name in ("ATT", "std_error", "lower", "upper")},
            **{name: pl.String() for name in ("model_size", "stat")},
        }
    ),
    ("model_size", "stat", "cohort", "time"),
    frozenset({"ATT", "std_error", "lower", "upper", "base_period"}),
)


def effects_from_published(
    frame: pl.DataFrame, source: Source, sizes: Sequence[str]
) -> tuple[pl.DataFrame, list[str]]:
    """Read effects in the published schema as the table `ATT`, and note what is odd about them.

    An effect on `sup_seq` is that on the log-likelihood with the other sign, and its band's ends
    change places. How many rows a cell has is not stated there: `n_treated` and `n_control` are 0.

    Parameters
    ----------
    sizes : of the suite; `model_size` may be such as pythia-70m-deduped.

    Raises
    ------
    TableError
        A column is missing, a statistic or size is not known, or a line is duplicated.
    """
    effects = conform(frame, _EFFECTS)
    for stat in effects["stat"].unique():
        if stat not in OUTCOMES:
            raise not_found("statistic", str(stat), list(OUTCOMES))
    named = {name: _size_in(name, sizes) for name in effects["model_size"].unique()}
    turned = effects["lower"] > effects["upper"]
    sign = pl.col("stat").replace_strict({k: s for k, (_, s) in OUTCOMES.items()})
    low, high = pl.min_horizontal("lower", "upper"), pl.max_horizontal("lower", "upper")
    table = effects.select(
        suite=pl.lit(source.suite),
        size=pl.col("model_size").replace_strict(named),
        seed=pl.lit(source.seed, pl.Int64),
        outcome=pl.col("stat").replace_strict({k: name for k, (name, _) in OUTCOMES.items()}),
        cohort="cohort",
        checkpoint="time",
        att=sign * pl.col("ATT"),
        se="std_error",
        lower=pl.when(sign > 0).then(low).otherwise(-high),
        upper=pl.when(sign > 0).then(high).otherwise(-low),
        n_treated=pl.lit(0, pl.Int64),
        n_control=pl.lit(0, pl.Int64),
    )
    return conform(table, ATT), _oddities(effects, int(turned.sum()))


def _oddities(effects: pl.DataFrame, turned: int) -> list[str]:
    notes = []
    if turned:
        notes.append(
            f"effects: in {turned:,} of {len(effects):,} cells the lower end lies above the upper "
            "one, as after a change of sign; they have changed places"
        )
    steps = effects["time"].unique().sort()
    before = steps.search_sorted(effects["cohort"]).cast(pl.Int64) - 1
    base = steps.gather(before.clip(0))
    other = (effects["base_period"] != base) | (before < 0)
    if count := int(other.sum() or 0):
        notes.append(
            f"effects: {count:,} of {len(effects):,} cells have a base that is not the last "
            "checkpoint before their cohort"
        )
    if "zero_not_in_cband" in effects.columns:
        said = effects["zero_not_in_cband"].cast(pl.Boolean)
        is_so = (pl.col("lower") > 0) | (pl.col("upper") < 0)
        turned_so = (pl.col("upper") > 0) & (pl.col("lower") < 0)
        found = effects.select(is_so & ~turned_so).to_series()
        if count := int((said != found).sum() or 0):
            notes.append(
                f"effects: 'zero_not_in_cband' of {count:,} cells is not what their ends say"
            )
    return notes


def effects_to_published(att: pl.DataFrame) -> pl.DataFrame:
    """Lay out effects in the published schema, inverse of `effects_from_published`."""
    names = {new: (old, sign) for old, (new, sign) in OUTCOMES.items()}
    known = att.filter(pl.col("outcome").is_in(list(names)))
    sign = pl.col("outcome").replace_strict({new: sign for new, (_, sign) in names.items()})
    steps = known["checkpoint"].unique().sort()
    base = steps.gather((steps.search_sorted(known["cohort"]).cast(pl.Int64) - 1).clip(0))
    ends = known.select(
        lower=pl.when(sign > 0).then("lower").otherwise(-pl.col("upper")),
        upper=pl.when(sign > 0).then("upper").otherwise(-pl.col("lower")),
    )
    return known.select(
        cohort="cohort",
        base_period=base,
        time="checkpoint",
        ATT=sign * pl.col("att"),
        std_error="se",
        lower=ends["lower"],
        upper=ends["upper"],
        zero_not_in_cband=(ends["lower"] > 0) | (ends["upper"] < 0),
        model_size="size",
        stat=pl.col("outcome").replace_strict({new: old for new, (old, _) in names.items()}),
    )


def _size_in(name: str, sizes: Sequence[str]) -> str:
    """Find the size that a longer name of a model holds."""
    if name in sizes:
        return name
    parts = {*re.split(r"[^0-9a-z.]+", name.lower())}
    if len(found := [size for size in sizes if size in parts]) == 1:
        return found[0]
    raise not_found("size", name, list(sizes))
