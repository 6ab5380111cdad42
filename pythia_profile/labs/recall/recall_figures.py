"""Figures of the lab, drawn from its tables; nothing is estimated here."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
from matplotlib.axes import Axes

from pythia_profile.figures.style import canvas, for_files, save, size_colors, sizes_in
from pythia_profile.labs.recall.recall_demo import RecallTables
from pythia_profile.labs.recall.recall_fits import fit_rates
from pythia_profile.labs.recall.recall_sampling import chance_of_extraction
from pythia_profile.labs.recall.recall_scores import last_checkpoints

__all__ = ["FIGURES", "draw_recall"]

FIGURES = {
    "frequency": "Sequences given back whole, by copies in the corpus, with 95 % intervals",
    "size": "Sequences given back whole against parameters, with the forms that can be fitted",
    "steps": "Sequences given back whole along training: learned and forgotten since the last",
    "suffixes": "Shortest suffix of the prompt that still gives the whole continuation",
    "sampling": "Share of sequences that n samples give at least once, by the closed form",
}
"""What each figure shows."""


def draw_recall(tables: RecallTables, folder: Path) -> dict[str, Path]:
    """Draw every figure that the tables allow; return the vector files by name."""
    drawn: dict[str, Callable[[Axes], None]] = {
        "frequency": lambda ax: _frequency(ax, tables.rates),
        "size": lambda ax: _size(ax, tables.sizes),
        "steps": lambda ax: _steps(ax, tables.steps),
        "sampling": lambda ax: _sampling(ax, tables.recall),
    }
    if len(tables.suffixes):
        drawn["suffixes"] = lambda ax: _suffixes(ax, tables.suffixes)
    paths = {}
    with for_files():
        for name in FIGURES:
            if name in drawn:
                with canvas(width=5.6, height=3.6) as (ax,):
                    drawn[name](ax)
                paths[name] = save(ax.figure, folder, name)[0]  # type: ignore[arg-type]
    return paths


def _frequency(ax: Axes, rates: pl.DataFrame) -> None:
    colors = size_colors(sizes_in(rates))
    for (size,), part in rates.group_by("size", maintain_order=True):
        own, color = part.filter(pl.col("frequency") > 0).sort("frequency"), colors[str(size)]
        ax.plot(own["frequency"], own["rate"], marker="o", color=color, label=str(size))
        ax.fill_between(own["frequency"], own["lower"], own["upper"], color=color, alpha=0.12)
    ax.axhline(0.5, color="0.5", lw=0.8, ls=":")
    ax.set_xscale("log", base=2)
    ax.set(xlabel="copies in the corpus", ylabel="given back whole", ylim=(-0.03, 1.05))
    ax.legend(frameon=False)


def _size(ax: Axes, sizes: pl.DataFrame) -> None:
    share = (sizes["memorized"] / sizes["rows"]).to_numpy()
    parameters = sizes["parameters"].cast(pl.Float64).to_numpy()
    if len(sizes) >= 3:
        grid = np.geomspace(parameters.min(), parameters.max(), 60)
        for fit, dash in zip(fit_rates(parameters, share), ("-", "--", ":"), strict=False):
            ax.plot(grid, [100 * fit.share(one) for one in grid], dash, color="0.4", label=fit.form)
    ax.plot(parameters, 100 * share, "o", zorder=3, label="planted sequences")
    ax.set(xscale="log", xlabel="parameters", ylabel="given back whole (%)")
    ax.legend(frameon=False)


def _steps(ax: Axes, steps: pl.DataFrame) -> None:
    colors = size_colors(sizes_in(steps))
    for (size,), part in steps.group_by("size", maintain_order=True):
        color = colors[str(size)]
        ax.plot(
            part["after"], part["kept"] + part["learned"], marker="o", color=color, label=str(size)
        )
        ax.plot(part["after"], -part["forgotten"], ls=":", marker=".", color=color)
    ax.axhline(0, color="0.5", lw=0.8)
    ax.set(xlabel="optimizer steps", ylabel="sequences; below 0: forgotten")
    ax.legend(frameon=False)


def _suffixes(ax: Axes, suffixes: pl.DataFrame) -> None:
    colors = size_colors(sizes_in(suffixes))
    for (size,), part in suffixes.group_by("size", maintain_order=True):
        lengths, counts = np.unique(part["suffix"].to_numpy(), return_counts=True)
        share = np.cumsum(counts) / len(part)
        label = f"{size} ({len(part)})"
        ax.step(lengths, share, where="post", color=colors[str(size)], label=label)
    ax.set(xlabel="tokens of the prompt kept", ylabel="share of memorized", ylim=(0, 1.05))
    ax.legend(frameon=False)


def _sampling(ax: Axes, recall: pl.DataFrame) -> None:
    last = last_checkpoints(recall).filter(pl.col("frequency") > 0)
    colors, draws = size_colors(sizes_in(last)), np.geomspace(1, 1e6, 40)
    for (size,), part in last.group_by("size", maintain_order=True):
        chance = chance_of_extraction(part["log_p"].to_numpy()[:, None], draws)
        ax.plot(draws, chance.mean(axis=0), color=colors[str(size)], label=str(size))
    ax.set(xscale="log", xlabel="samples n", ylabel="given at least once", ylim=(0, 1.05))
    ax.legend(frameon=False)
