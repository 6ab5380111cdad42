"""What the tables say, in a sentence or two for each figure.

In: the lab's tables. Out: sentences by figure; each number with its interval.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import polars as pl

__all__ = ["sentences", "title_of"]

Tables = Mapping[str, pl.DataFrame]
Line = dict[str, Any]


def title_of(runs: pl.DataFrame) -> str:
    """Say how many rows each size gives back whole."""
    parts = [f"{one['size']} {one['memorized']:,} of {one['read']:,}" for one in _each(runs)]
    return f"Rows that were read and are given back whole: {', '.join(parts)}"


def sentences(runs: pl.DataFrame, tables: Tables) -> dict[str, str]:
    """Say what each figure shows."""
    differences, measures = tables["differences"], tables["measures"]
    return {
        "lens": _lens(differences, measures),
        "exposure": _exposure(differences),
        "recovery": _recovery(differences),
        "noise": _noise(measures),
        "heads": _heads(runs, tables["heads"]),
        "overlap": _overlap(tables["overlap"]),
    }


def _each(table: pl.DataFrame) -> Iterator[Line]:
    yield from table.iter_rows(named=True)


def _with_interval(line: Line) -> str:
    return f"{line['value']:+.3f} ({line['lower']:+.3f} to {line['upper']:+.3f})"


def _by_size(table: pl.DataFrame) -> str:
    return ", ".join(f"{line['size']} {_with_interval(line)}" for line in _each(table))


def _at_depth(table: pl.DataFrame, measure: str, depth: float) -> pl.DataFrame:
    """Lines of memorized rows less unmemorized ones at the layer of a depth, a line a size."""
    found = table.filter(
        (pl.col("measure") == measure)
        & (pl.col("control") == "unmemorized")
        & (pl.col("group") == "memorized")
        & (pl.col("strength").is_null() | (pl.col("strength") == pl.col("strength").max()))
    )
    near = found.sort((pl.col("depth") - depth).abs(), "layer", maintain_order=True)
    return near.unique("size", keep="first", maintain_order=True).sort(
        pl.col("size").replace_strict(_places(table), return_dtype=pl.Int64)
    )


def _places(table: pl.DataFrame) -> dict[str, int]:
    return {name: at for at, name in enumerate(table["size"].unique(maintain_order=True))}


def _lens(differences: pl.DataFrame, measures: pl.DataFrame) -> str:
    middle = _at_depth(differences, "lens", 0.5)
    if middle.is_empty():
        return "No size memorizes enough rows to compare them with others."
    passed = measures.filter(
        (pl.col("measure") == "passes_half") & pl.col("group").is_in(["memorized", "unmemorized"])
    )
    shares = ", ".join(
        f"{line['size']} {line['group']} {line['value']:.0%}" for line in _each(passed)
    )
    return (
        "In the middle of the network the true token is more probable in memorized rows than in "
        f"matched rows that are not memorized by {_by_size(middle)}. Rows whose mean probability "
        f"passes one half before the last layer: {shares}. The plain lens reads early layers with "
        "the last layer's words; dotted is a lens trained for each layer."
    )


def _exposure(differences: pl.DataFrame) -> str:
    found = differences.filter(~pl.col("paired") & (pl.col("measure") == "lens"))
    last = found.filter(pl.col("layer") == pl.col("layer").max().over("size"))
    if last.is_empty():
        return "Rows are known to be read, without others that were not."
    ends = [
        f"{line['size']}, {line['group']} less {line['control']}, {_with_interval(line)}"
        for group in last.partition_by("size", maintain_order=True)
        for line in _each(pl.concat([group.head(1), group.tail(1)]).unique(maintain_order=True))
    ]
    return (
        "The order is random, so which of these rows had been read is by chance, and a difference "
        "is an effect of reading. "
        f"On the probability of the true token at the last layer: {'; '.join(ends)}."
    )


def _recovery(differences: pl.DataFrame) -> str:
    last = _at_depth(differences, "recovery", 1.0)
    if last.is_empty():
        return "No size memorizes enough rows to compare them with others."
    return (
        f"Under noise of α = {last['strength'][0]:g} the residual stream at the last layer is, by "
        f"cosine, {_lower(last)} the clean one in memorized rows than in matched ones that are not "
        f"memorized: {_by_size(last)}. Reported for other models: memorized rows recover less."
    )


def _lower(last: pl.DataFrame) -> str:
    signs = {float(line["value"]) > 0 for line in _each(last)}
    return (
        "nearer to or farther from"
        if len(signs) > 1
        else "nearer to"
        if True in signs
        else "farther from"
    )


def _noise(measures: pl.DataFrame) -> str:
    kept = measures.filter((pl.col("measure") == "match") & (pl.col("group") == "memorized"))
    if kept.is_empty():
        return "No size memorizes enough rows to follow them under noise."
    parts = [
        f"{size} "
        + ", ".join(
            f"{line['value']:.2f} at {line['strength']:g}" for line in _each(one.sort("strength"))
        )
        for (size,), one in kept.group_by("size", maintain_order=True)
    ]
    return f"Memorized rows keep, of their own tokens, by α: {'; '.join(parts)}."


def _heads(runs: pl.DataFrame, heads: pl.DataFrame) -> str:
    asked = dict(runs.select("size", "head_rows").iter_rows())
    most = heads.filter(pl.col("domain") == "all").sort("drop", descending=True)
    most = most.unique("size", keep="first", maintain_order=True)
    by_size = {line["size"]: line for line in _each(most)}
    parts = [
        f"{size} by {by_size[size]['drop']:.2f} (block {by_size[size]['layer']}, head "
        f"{by_size[size]['head']}; {rows} rows)"
        for size, rows in asked.items()
    ]
    return (
        f"The head that matters most lowers M: {', '.join(parts)}. Dots mark the top set. Heads of "
        "two sizes have no common names, so sets are compared within a size."
    )


def _overlap(overlap: pl.DataFrame) -> str:
    if overlap.is_empty():
        return "There are too few rows of two domains."
    parts = [
        f"{line['size']} (top {line['top']} of {line['heads']}): within {line['within']:.2f}, "
        f"between {line['between']:.2f}, difference {line['within'] - line['between']:+.2f} "
        f"({line['lower']:+.2f} to {line['upper']:+.2f}, p = {line['p_value']:.3f}); both domains "
        f"share {line['universal']:.0%} of the heads, {line['universal_by_chance']:.0%} by chance"
        for line in _each(overlap)
    ]
    chance = ", ".join(f"{line['chance_mean']:.2f}" for line in _each(overlap))
    names = f"{overlap['domain'][0]} and {overlap['other'][0]}"
    return f"Of {names} rows, beside chance ({chance}): {'; '.join(parts)}."
