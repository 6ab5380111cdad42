"""Figures of the lab, drawn from its tables; nothing is estimated here."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import numpy as np
import polars as pl
import seaborn as sns
from matplotlib.axes import Axes

from pythia_profile.figures.style import canvas, for_files, save, size_colors

__all__ = ["FIGURES", "draw_internals"]

FIGURES = {
    "lens": "Probability of the true token, read off each layer: memorized rows beside others",
    "exposure": "The same by exposure, which chance has assigned: how often, or whether yet, read",
    "recovery": "How far noise after the embedding is taken back, layer by layer",
    "noise": "What is still given back under noise",
    "heads": "Fall of recall where a head is the mean of the layer's others",
    "overlap": "Overlap of the most important heads within and between two domains, beside chance",
}
"""What each figure shows."""

Tables = Mapping[str, pl.DataFrame]
_MATCHED = ("memorized", "unmemorized", "never_read")
_COLORS = dict(zip(_MATCHED, ("#c44e52", "#4c72b0", "0.45"), strict=True))


def draw_internals(runs: pl.DataFrame, tables: Tables, folder: Path) -> dict[str, Path]:
    """Draw every figure that the tables allow; return the vector files by name."""
    sizes, measures = runs["size"].to_list(), tables["measures"]
    is_matched = pl.col("group").is_in(_MATCHED)
    compared, assigned = measures.filter(is_matched), measures.filter(~is_matched)
    strong = compared.filter(pl.col("strength") == pl.col("strength").max())
    drawn: dict[str, tuple[pl.DataFrame, Callable[[Axes, pl.DataFrame], None]]] = {
        "lens": (compared.filter(pl.col("measure").is_in(["lens", "tuned_lens"])), _lenses),
        "exposure": (assigned.filter(pl.col("measure") == "lens"), _exposure),
        "recovery": (strong.filter(pl.col("measure") == "recovery"), _recovery),
        "noise": (compared.filter(pl.col("measure") == "match"), _noise),
        "heads": (tables["heads"].filter(pl.col("domain") == "all"), _heads),
    }
    paths = {}
    with for_files():
        for name, (table, draw) in drawn.items():
            shown = [size for size in sizes if size in table["size"]]
            if not shown:
                continue
            with canvas(len(shown), 2.9, 2.6, columns=min(4, len(shown))) as axes:
                for ax, size in zip(axes, shown, strict=True):
                    draw(ax, table.filter(pl.col("size") == size))
                    ax.set_title(size)
            paths[name] = save(axes[0].figure, folder, name)[0]  # type: ignore[arg-type]
        if len(tables["overlap"]):
            with canvas(width=5.6, height=3.0) as (ax,):
                _overlap(ax, tables["overlap"])
            paths["overlap"] = save(ax.figure, folder, "overlap")[0]  # type: ignore[arg-type]
    return paths


def _curve(ax: Axes, part: pl.DataFrame, x: str, color: object, dash: str, label: str) -> None:
    part = part.sort(x)
    ax.plot(part[x], part["value"], dash, marker=".", color=color, label=label)
    ax.fill_between(part[x], part["lower"], part["upper"], color=color, alpha=0.15, lw=0)


def _by_group(ax: Axes, table: pl.DataFrame, x: str, dash: str = "-", note: str = "") -> None:
    for group in _MATCHED:
        part = table.filter(pl.col("group") == group)
        if len(part):
            _curve(ax, part, x, _COLORS[group], dash, group.replace("_", " ") + note)


def _lenses(ax: Axes, table: pl.DataFrame) -> None:
    _by_group(ax, table.filter(pl.col("measure") == "lens"), "layer")
    _by_group(ax, table.filter(pl.col("measure") == "tuned_lens"), "layer", ":", ", tuned")
    ax.axhline(0.5, color="0.7", lw=0.8)
    _layers(ax, table, "probability of the true token")


def _recovery(ax: Axes, table: pl.DataFrame) -> None:
    _by_group(ax, table, "layer")
    _layers(ax, table, f"cosine, clean and noisy (α = {table['strength'][0]:g})")


def _noise(ax: Axes, table: pl.DataFrame) -> None:
    _by_group(ax, table, "strength")
    ax.set(xlabel="strength of noise α", ylabel="M, share of tokens given back", ylim=(-0.03, 1.03))
    ax.legend(frameon=False, fontsize="small")


def _exposure(ax: Axes, table: pl.DataFrame) -> None:
    groups = table["group"].unique(maintain_order=True).to_list()
    colors = _shades(groups)
    for group in groups:
        _curve(ax, table.filter(pl.col("group") == group), "layer", colors[group], "-", group)
    _layers(ax, table, "probability of the true token")


def _shades(groups: Sequence[str]) -> dict[str, object]:
    """Gray for rows not read, light to dark by exposure for the others."""
    read = [group for group in groups if "read" in group and group != "not yet read"]
    return {**dict.fromkeys(groups, "0.45"), **size_colors(read)}


def _layers(ax: Axes, table: pl.DataFrame, label: str) -> None:
    last = int(table["layer"].max())  # type: ignore[arg-type]
    ax.set(xlabel="layer (0: after the embedding)", ylabel=label)
    ax.set_xticks(np.unique(np.linspace(0, last, min(last, 6) + 1).round().astype(int)))
    ax.legend(frameon=False, fontsize="x-small")


def _heads(ax: Axes, table: pl.DataFrame) -> None:
    grid = table.sort("layer", "head")
    shape = (int(grid["layer"].max()) + 1, int(grid["head"].max()) + 1)  # type: ignore[arg-type]
    drops = grid["drop"].to_numpy().reshape(shape)
    most = max(float(np.abs(drops).max()), 1e-9)
    image = ax.imshow(drops, cmap="vlag", vmin=-most, vmax=most, aspect="auto")
    for layer, head in np.argwhere(grid["top"].to_numpy().reshape(shape)):
        ax.text(head, layer, "●", ha="center", va="center", fontsize=6)
    ax.set(xlabel="head", ylabel="block")
    ax.set_yticks(range(shape[0]))
    ax.figure.colorbar(image, ax=ax, label="fall of M")


def _overlap(ax: Axes, table: pl.DataFrame) -> None:
    places = np.arange(len(table))
    low, high = table["chance_lower"], table["chance_upper"]
    ax.vlines(places, low, high, color="0.8", lw=8, zorder=1, label="chance, 95 %")
    ax.scatter(places, table["chance_mean"], color="0.5", marker="_", s=90, zorder=2)
    for shift, name, label in (
        (-0.12, "within", "two halves of a domain"),
        (0.12, "between", "halves of two domains"),
    ):
        ax.scatter(places + shift, table[name], label=label, zorder=3)
    label = "all rows of two domains"
    ax.scatter(places, table["jaccard"], marker="x", color="0.2", zorder=4, label=label)
    ax.set_xticks(places, table["size"].to_list())
    ax.set(xlabel="size", ylabel="Jaccard index of top heads", ylim=(-0.03, 1.03))
    ax.legend(frameon=False, fontsize="small")
    sns.despine(ax=ax)
