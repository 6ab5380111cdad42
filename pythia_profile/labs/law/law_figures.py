"""Figures of a grid of adapters, drawn from its tables; nothing is estimated here."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import polars as pl
from matplotlib.axes import Axes

from pythia_profile.figures.style import canvas, for_files, save, size_colors
from pythia_profile.labs.law.law_fit import LawFit
from pythia_profile.labs.law.law_forms import Cells
from pythia_profile.labs.law.law_settings import BUDGETS
from pythia_profile.labs.law.law_summary import BOUNDARY, CELL, Found

__all__ = ["FIGURES", "draw_law"]

FIGURES = {
    "law": "Gain ΔL of plain training against answer tokens, one line a rank; thin: the best form",
    "decoupling": "Answer tokens right under teacher forcing against the mean loss, by method",
    "threshold": "Probability of each answer token, from update to update, of one adapter",
    "methods": "Answer tokens right in boundary cells, by method, at equal updates and tokens",
}
"""What each figure shows."""

_MARKERS = {"sft": "o", "ot": "s", "sw": "^", "sw_phone_book": "D"}


def draw_law(
    runs: pl.DataFrame, tokens: pl.DataFrame, found: Found, folder: Path
) -> dict[str, Path]:
    """Draw every figure that the runs allow; return the vector files by name."""
    own = runs.unique("adapter", maintain_order=True)
    plain = own.filter(pl.col("method") == "sft")
    single: dict[str, Callable[[Axes], None]] = {
        "decoupling": lambda ax: _decoupling(ax, own),
        "threshold": lambda ax: _threshold(ax, own, tokens),
    }
    if len(plain):
        single = {"law": lambda ax: _law(ax, plain, found.fit), **single}
    paths = {}
    with for_files():
        for name, draw in single.items():
            with canvas(width=5.6, height=3.6) as (ax,):
                draw(ax)
            paths[name] = save(ax.figure, folder, name)[0]  # type: ignore[arg-type]
        budgets = [name for name in BUDGETS if (runs["budget"] == name).any()]
        if found.comparison["method"].n_unique() > 1:
            with canvas(len(budgets), width=4.2, height=3.4, share="y") as axes:
                for ax, budget in zip(axes, budgets, strict=True):
                    _methods(ax, runs, budget)
            paths["methods"] = save(axes[0].figure, folder, "methods")[0]  # type: ignore[arg-type]
    return paths


def _law(ax: Axes, plain: pl.DataFrame, fit: LawFit | None) -> None:
    ranks = plain["rank"].unique().sort().to_list()
    colors = size_colors([str(rank) for rank in ranks])
    lengths = np.geomspace(plain["answer_tokens"].min(), plain["answer_tokens"].max(), 60)  # type: ignore[arg-type]
    base = float(plain["base_loss"].mean())  # type: ignore[arg-type]
    for rank in ranks:
        of_rank = plain.filter(pl.col("rank") == rank)
        means = of_rank.group_by("answer_tokens").agg(pl.col("gain").mean()).sort("answer_tokens")
        color = colors[str(rank)]
        ax.plot(means["answer_tokens"], means["gain"], "o", color=color, label=f"rank {rank}")
        if fit is not None:
            best = next(iter(fit.forms.values()))
            ones = np.ones_like(lengths)
            cells = Cells(rank * ones, lengths, ones, base * ones)
            ax.plot(lengths, best.predict(cells), color=color, lw=1)
    ax.set(xscale="log", xlabel="answer tokens", ylabel="ΔL (nats per token)")
    ax.set_xticks(plain["answer_tokens"].unique().sort().to_list())
    ax.xaxis.set_major_formatter("{x:g}")
    ax.minorticks_off()
    handles, labels = ax.get_legend_handles_labels()
    ax.legend(
        *(handles[::-1], labels[::-1]), frameon=False, loc="center left", bbox_to_anchor=(1, 0.5)
    )


def _decoupling(ax: Axes, runs: pl.DataFrame) -> None:
    for method, marker in _MARKERS.items():
        part = runs.filter(pl.col("method") == method)
        if len(part):
            ax.scatter(part["loss"], part["accuracy"], marker=marker, s=16, alpha=0.7, label=method)
    ax.set(xlabel="mean loss (nats per token)", ylabel="answer tokens right", ylim=(-0.03, 1.03))
    ax.legend(frameon=False)


def _threshold(ax: Axes, runs: pl.DataFrame, tokens: pl.DataFrame) -> None:
    """Draw the adapter of plain training that is nearest to three quarters right."""
    plain = runs.filter(pl.col("method") == "sft")
    candidates = plain if len(plain) else runs
    chosen = candidates.sort((pl.col("accuracy") - 0.75).abs(), "answer_tokens").row(0, named=True)
    lines = tokens.filter(pl.col("adapter") == chosen["adapter"]).sort("step", "row", "place")
    steps = lines["step"].unique().sort().to_numpy()
    p = lines["p"].to_numpy().reshape(len(steps), -1)
    edges = np.append(steps, steps[-1] + 1) if len(steps) == 1 else _edges(steps)
    mesh = ax.pcolormesh(
        edges, np.arange(p.shape[1] + 1), p.T, vmin=0, vmax=1, cmap="RdBu", rasterized=True
    )
    ax.figure.colorbar(mesh, ax=ax, label="p; ½ is white")
    ax.set(
        xlabel="update",
        ylabel="answer token",
        title=f"{chosen['method']}, rank {chosen['rank']}, {chosen['answer_tokens']} tokens",
    )


def _edges(steps: np.ndarray) -> np.ndarray:
    middle = (steps[1:] + steps[:-1]) / 2
    return np.concatenate([steps[:1], middle, steps[-1:]])


def _methods(ax: Axes, runs: pl.DataFrame, budget: str) -> None:
    of_budget = runs.filter(pl.col("budget") == budget)
    plain = of_budget.filter(
        (pl.col("method") == "sft") & pl.col("accuracy").is_between(*BOUNDARY, closed="none")
    )
    methods = of_budget["method"].unique(maintain_order=True).to_list()
    methods.sort(key=[*_MARKERS].index)
    cells = of_budget.join(plain.select(CELL), on=CELL, how="semi")
    for _, part in cells.group_by(CELL):
        of_cell = dict(part.select("method", "accuracy").iter_rows())
        ax.plot(methods, [of_cell[name] for name in methods], "-", color="0.75", lw=0.8)
    for name in methods:
        found = cells.filter(pl.col("method") == name)["accuracy"]
        ax.plot([name] * len(found), found, _MARKERS[name], ms=4, color="0.35")
        ax.plot([name], [found.to_numpy().mean()], "_", ms=22, mew=2, color="tab:red")
    ax.set(title=f"equal {budget}", ylabel="answer tokens right (red: mean)")
    ax.tick_params(axis="x", rotation=20)
