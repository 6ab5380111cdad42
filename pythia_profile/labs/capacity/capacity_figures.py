"""Figures of the capacity experiment, drawn from the table of runs; nothing is estimated here."""

from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import polars as pl
from matplotlib.axes import Axes

from pythia_profile.figures.style import canvas, for_files, save, size_colors
from pythia_profile.labs.capacity.capacity_membership import membership_law
from pythia_profile.labs.capacity.capacity_summary import fit_of

__all__ = ["FIGURES", "draw_capacity"]

FIGURES = {
    "memorized": "Memorized bits against data bits, one line a size, and the diagonal",
    "capacity": "Capacity against parameters, with the fitted bits per parameter",
    "descent": "Loss of rows that were not read against data bits ÷ measured capacity",
    "membership": "F1, AUC and hits at 1 % false alarms against tokens per parameter",
    "extraction": "Share of rows given back whole, read and not read, against data ÷ capacity",
    "precision": "Bits per parameter by precision of the weights",
}
"""What each figure shows."""


def draw_capacity(runs: pl.DataFrame, found: pl.DataFrame, folder: Path) -> dict[str, Path]:
    """Draw every figure that the runs allow; return the vector files by name.

    Parameters
    ----------
    runs : table `capacity`; found : from `capacities`.
    """
    drawn: dict[str, Callable[[Axes], None]] = {
        "memorized": lambda ax: _memorized(ax, runs),
        "capacity": lambda ax: _capacity(ax, found),
        "descent": lambda ax: _descent(ax, runs, found),
        "membership": lambda ax: _membership(ax, runs),
        "extraction": lambda ax: _extraction(ax, runs, found),
    }
    if found["dtype"].n_unique() > 1:
        drawn["precision"] = lambda ax: _precision(ax, found)
    paths = {}
    with for_files():
        for name, draw in drawn.items():
            with canvas(width=5.6, height=3.6) as (ax,):
                draw(ax)
            paths[name] = save(ax.figure, folder, name)[0]  # type: ignore[arg-type]
    return paths


def _lines(runs: pl.DataFrame) -> Iterator[tuple[str, str, pl.DataFrame, object]]:
    """Size, precision, means over seeds by number of rows, and color."""
    colors = size_colors(runs["size"].unique(maintain_order=True).to_list())
    numbers = [name for name, kind in runs.schema.items() if kind.is_numeric() and name != "rows"]
    means = runs.group_by("size", "dtype", "rows", maintain_order=True).agg(pl.col(numbers).mean())
    for (size, dtype), part in means.group_by("size", "dtype", maintain_order=True):
        yield str(size), str(dtype), part.sort("rows"), colors[str(size)]


def _dash(dtype: str) -> str:
    return "-" if dtype == "float32" else "--"


def _label(size: str, dtype: str) -> str:
    return size if dtype == "float32" else f"{size}, {dtype}"


def _memorized(ax: Axes, runs: pl.DataFrame) -> None:
    for size, dtype, part, color in _lines(runs):
        ax.plot(
            part["data"],
            part["strict"],
            _dash(dtype),
            marker="o",
            color=color,
            label=_label(size, dtype),
        )
    ends = runs["data"].sort()[[0, -1]]
    ax.plot(ends, ends, color="0.5", lw=1, ls=":", label="all of the data")
    ax.set(xscale="log", yscale="log", xlabel="data (bits)", ylabel="memorized (bits, strict)")
    ax.legend(frameon=False)


def _capacity(ax: Axes, found: pl.DataFrame) -> None:
    fit = fit_of(found)
    grid = np.array([0.0, 1.1 * float(found["parameters"].max())])  # type: ignore[arg-type]
    ax.plot(grid, fit.slope * grid, color="0.4", lw=1, label=f"{fit.slope:.2f} bits a parameter")
    if np.isfinite(fit.lower):
        ax.fill_between(grid, max(0, fit.lower) * grid, fit.upper * grid, color="0.5", alpha=0.15)
    for (dtype,), part in found.group_by("dtype", maintain_order=True):
        marker = "o" if dtype == "float32" else "s"
        half = (part["upper"] - part["capacity"]).fill_nan(0)  # one seed has no interval
        ax.errorbar(
            part["parameters"], part["capacity"], yerr=half, fmt=marker, label=str(dtype), capsize=2
        )
    ax.set(
        xlabel="parameters",
        ylabel="capacity (bits)",
        xlim=(0, grid[1]),
        ylim=(0, 1.3 * float(found["capacity"].max())),  # type: ignore[arg-type]
    )
    ax.legend(frameon=False)


def _full(found: pl.DataFrame, size: str, dtype: str) -> float:
    line = found.filter((pl.col("size") == size) & (pl.col("dtype") == dtype))
    return max(float(line["capacity"][0]), 1e-9)


def _descent(ax: Axes, runs: pl.DataFrame, found: pl.DataFrame) -> None:
    for size, dtype, part, color in _lines(runs):
        x = part["data"] / _full(found, size, dtype)
        ax.plot(
            x, part["test_bits"], _dash(dtype), marker="o", color=color, label=_label(size, dtype)
        )
        ax.plot(x, part["train_bits"], _dash(dtype), color=color, lw=0.8, alpha=0.6)
    ax.axvline(1, color="0.5", lw=1, ls=":")
    ax.set(
        xscale="log",
        xlabel="data ÷ measured capacity",
        ylabel="loss (bits per token), thin: rows read",
    )
    ax.legend(frameon=False)


def _membership(ax: Axes, runs: pl.DataFrame) -> None:
    means = runs.with_columns(x=pl.col("tokens_per_parameter")).sort("x")
    for column, label, marker in (
        ("f1", "F1", "o"),
        ("auc", "AUC", "s"),
        ("tpr", "hits at 1 %", "^"),
    ):
        ax.scatter(means["x"], means[column], marker=marker, label=label, s=18)
    grid = np.geomspace(float(means["x"][0]), float(means["x"][-1]), 100)
    per_token = float((runs["data"] / runs["parameters"] / runs["tokens_per_parameter"])[0])
    ax.plot(grid, membership_law(grid * per_token), color="0.4", lw=1, label="F1, corrected law")
    ax.axhline(0.5, color="0.5", lw=0.8, ls=":")
    ax.set(
        xscale="log", xlabel="tokens per parameter", ylabel="of a loss threshold", ylim=(0, 1.05)
    )
    ax.legend(frameon=False)


def _extraction(ax: Axes, runs: pl.DataFrame, found: pl.DataFrame) -> None:
    for size, dtype, part, color in _lines(runs):
        x = part["data"] / _full(found, size, dtype)
        ax.plot(
            x,
            part["extracted_train"],
            _dash(dtype),
            marker="o",
            color=color,
            label=_label(size, dtype),
        )
        ax.plot(x, part["extracted_test"], ":", marker=".", color=color)
    ax.set(
        xscale="log",
        xlabel="data ÷ measured capacity",
        ylabel="given back whole, dotted: not read",
        ylim=(-0.03, 1.05),
    )
    ax.legend(frameon=False)


def _precision(ax: Axes, found: pl.DataFrame) -> None:
    for (dtype,), part in found.group_by("dtype", maintain_order=True):
        half = ((part["upper"] - part["capacity"]) / part["parameters"]).fill_nan(0)
        ax.errorbar(
            part["parameters"],
            part["bits_per_parameter"],
            yerr=half,
            fmt=_dash(str(dtype)) + "o",
            label=str(dtype),
            capsize=2,
        )
    ax.set(xscale="log", xlabel="parameters", ylabel="bits per parameter")
    ax.set_ylim(bottom=0)
    ax.legend(frameon=False)
