"""Figures of the lab, drawn from its tables; nothing is estimated here."""

from pathlib import Path

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.ticker import FuncFormatter

from pythia_profile.figures.style import canvas, for_files, save

__all__ = ["draw_attacks", "draw_suppression", "draw_sweep"]

_COLORS = ("C0", "C3", "C2", "C1")


def draw_sweep(found: pl.DataFrame, folder: Path) -> Path:
    """Draw rates against strength, a panel for each `model`, with intervals over texts."""
    models = found["model"].unique(maintain_order=True).to_list()
    with for_files(), canvas(len(models), width=3.6, share="y") as axes:
        for ax, model in zip(axes, models, strict=True):
            rates = found.filter(
                (pl.col("model") == model) & pl.col("quantity").str.starts_with("rate")
            )
            for color, ((name,), part) in zip(
                _COLORS, rates.group_by("quantity", maintain_order=True), strict=False
            ):
                _band(ax, part.sort("value"), color, str(name).removeprefix("rate "))
            ax.axvline(0, color="0.6", lw=0.8, ls=":")
            ax.set(title=model, xlabel="strength ε")
        axes[0].set_ylabel("share of generated tokens")
        axes[0].legend(frameon=False)
    return save(axes[0].figure, folder, "sweep")[0]  # type: ignore[arg-type]


def _band(ax: Axes, part: pl.DataFrame, color: str, label: str, ls: str = "-") -> None:
    ax.plot(part["value"], part["estimate"], ls, marker="o", ms=3, color=color, label=label)
    ax.fill_between(part["value"], part["lower"], part["upper"], color=color, alpha=0.2, lw=0)


def draw_attacks(summary: pl.DataFrame, folder: Path) -> Path:
    """Draw the AUC of each memory steer beside the loss attack's and those of permuted labels."""
    lines = summary.to_dicts()
    with for_files(), canvas(width=6.4, height=0.9 + 0.5 * len(lines)) as (ax,):
        for place, line in enumerate(lines):
            if line["null"] is not None:
                ax.barh(
                    place,
                    line["null_upper"] - line["null_lower"],
                    left=line["null_lower"],
                    height=0.8,
                    color="0.85",
                    label="95 % of permuted labels" if place == 0 else None,
                )
            for shift, prefix, color, label in (
                (-0.15, "", "C0", "steer"),
                (0.15, "loss_", "C3", "loss attack"),
            ):
                value, lower, upper = (
                    line[f"{prefix}{name}"] for name in ("auc", "lower", "upper")
                )
                ends = [[max(0.0, value - lower)], [max(0.0, upper - value)]]
                ax.errorbar(
                    value,
                    place + shift,
                    xerr=ends,
                    fmt="o",
                    ms=4,
                    color=color,
                    label=label if place == 0 else None,
                )
        ax.axvline(0.5, color="0.5", lw=0.8, ls=":")
        names = [f"{line['size']}, {line['label']}" for line in lines]
        ax.set_yticks(range(len(lines)), names)
        ax.invert_yaxis()
        ax.set(xlabel="AUC on held-out rows", xlim=(0.3, 1.02))
        ax.legend(frameon=False, loc="center right")
    return save(ax.figure, folder, "attacks")[0]  # type: ignore[arg-type]


def draw_suppression(curves: pl.DataFrame, folder: Path) -> Path:
    """Draw what is given back, and the perplexity, against strength; a row for each model."""
    pairs = curves.select("size", "label").unique(maintain_order=True).rows()
    with for_files(), canvas(2 * len(pairs), width=3.6, height=2.6, columns=2) as axes:
        for number, (size, label) in enumerate(pairs):
            part = curves.filter((pl.col("size") == size) & (pl.col("label") == label))
            left, right = axes[2 * number], axes[2 * number + 1]
            for color, steer, ls in (("C0", "memory", "-"), ("0.5", "random", "--")):
                own = part.filter(pl.col("steer") == steer).sort("value")
                matched = own.filter(pl.col("quantity") == "matched")
                _band(left, matched, color, steer, ls)
                _band(right, own.filter(pl.col("quantity") == "perplexity"), color, steer, ls)
            left.set(title=f"{size}, {label}", ylabel="tokens given back", xlabel="strength ε")
            right.set(ylabel="perplexity of other rows", yscale="log", xlabel="strength ε")
            for axis in (right.yaxis.set_major_formatter, right.yaxis.set_minor_formatter):
                axis(FuncFormatter(lambda value, _: f"{value:g}"))
            top = part.filter(pl.col("quantity") == "matched")["upper"].to_numpy()
            left.set_ylim(0, min(1.05, 1.1 * float(np.nanmax(top))))
        axes[0].legend(frameon=False)
    return save(axes[0].figure, folder, "suppression")[0]  # type: ignore[arg-type]
