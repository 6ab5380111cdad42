"""Drawings of memorization profiles: heatmap, event time, instantaneous with rates, residual.

In: the tables `ATT` and `PROFILES`. Out: matplotlib figures. Nothing is estimated here, and nothing
is left out: cells inside the band are drawn too, cells outside it are marked.
"""

from collections.abc import Sequence
from typing import Literal, Protocol

import numpy as np
import polars as pl
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import TwoSlopeNorm
from matplotlib.figure import Figure

from pythia_profile.errors import TableError
from pythia_profile.figures.style import canvas, name_outcome, size_colors

__all__ = ["event_time", "heatmap", "instantaneous", "residual"]

_ABREAST = 2
"""Most panels side by side: with more of them a page shrinks their words until none is legible."""


class HasEffects(Protocol):
    """What `estimate` gives: an object with the `ATT` table."""

    @property
    def att(self) -> pl.DataFrame:
        """The `ATT` table."""
        ...


def heatmap(att: pl.DataFrame | HasEffects, *, outcome: str = "log_likelihood") -> Figure:
    """ATT(g, c) of each size: cohorts down, checkpoints across, one color scale for all.

    A dot marks a cell whose simultaneous band excludes 0; cells left of the stair are before
    treatment and show what chance and violated assumptions alone can do.

    Parameters
    ----------
    att : the `ATT` table, or what `estimate` gave; each size is a panel.

    Examples
    --------
    >>> heatmap(pl.DataFrame())
    Traceback (most recent call last):
    pythia_profile.errors.TableError: nothing to draw: no line of outcome 'log_likelihood'
    """
    frame = _of_outcome(att if isinstance(att, pl.DataFrame) else att.att, outcome)
    sizes = _in_order(frame)
    largest = float(frame["att"].drop_nans().abs().max() or 1.0)  # type: ignore[arg-type]
    norm = TwoSlopeNorm(0.0, -largest, largest)
    columns = min(len(sizes), _ABREAST)
    with canvas(columns, -(-len(sizes) // columns), width=4.6, height=3.7) as (figure, axes):
        for ax, size in zip(axes, sizes, strict=False):
            _profile(ax, frame.filter(pl.col("size") == size), norm)
            ax.patch.set_gid(f"cells-{size}")  # where a page finds the cells of a size
            ax.set_title(size)
        for ax in axes[len(sizes) :]:
            ax.remove()
        mesh = axes[0].collections[0]
        bar = figure.colorbar(mesh, ax=axes[: len(sizes)], shrink=0.7)
        bar.set_label(f"ATT, {name_outcome(outcome)}")
    return figure


def event_time(
    profiles: pl.DataFrame,
    *,
    outcome: str = "log_likelihood",
    cohorts: Literal["constant", "all"] = "constant",
) -> Figure:
    """Mean effect against optimizer steps since the cohort, with simultaneous bands.

    Thin lines end a band; with several sizes their fill is faint, since overlapping fills of two
    sizes look like a third. A diamond marks the base, where the effect is 0 by construction. Below
    the curves of all cohorts stands how many of them each event time averages.

    Parameters
    ----------
    cohorts : `constant` draws the curve of the same cohorts at every event time. Of `all` of them,
        late event times are those of the few early cohorts that reach them, so that the curve may
        fall, or change its sign, though no cohort's effect does.
    """
    kind = "event_time_balanced" if cohorts == "constant" else "event_time"
    frame = _of_outcome(profiles, outcome).filter(pl.col("kind") == kind, pl.col("att").is_finite())
    if frame.is_empty():
        raise TableError(f"nothing to draw: no line of kind '{kind}' and outcome '{outcome}'")
    frame = frame.sort("event_time")
    counted = "cohorts" in frame.columns and frame["cohorts"].n_unique() > 1
    ratios = (4, 1) if counted else (1,)
    with canvas(1, len(ratios), width=5.4, height=3.6, share_x=True, ratios=ratios) as (
        figure,
        (ax, *below),
    ):
        figure.set_figheight(4.4 if counted else 3.6)
        sizes = _in_order(frame)
        shade = 0.18 if len(sizes) == 1 else 0.04
        for size, color in size_colors(sizes).items():
            line = frame.filter(pl.col("size") == size)
            ax.plot(line["event_time"], line["att"], color=color, label=size, marker="o", ms=3)
            ax.fill_between(
                line["event_time"], line["lower"], line["upper"], color=color, alpha=shade, lw=0
            )
            for end in ("lower", "upper"):
                ax.plot(line["event_time"], line[end], color=color, lw=0.6)
        ax.axhline(0, color="0.3", lw=0.8)
        ax.axvline(0, color="0.3", lw=0.8, ls=":")
        _mark_base(ax, frame)
        ax.set(ylabel=f"ATT\n{name_outcome(outcome)}", title=_which_cohorts(frame, counted))
        for counts in below:
            every = frame.unique("event_time").sort("event_time")
            counts.vlines(every["event_time"], 0, every["cohorts"], color="0.5", lw=2)
            counts.set(ylabel="cohorts", ylim=(0, None))
        figure.axes[-1].set(xlabel="optimizer steps since the cohort")
        _legend(ax)
    return figure


def _mark_base(ax: Axes, frame: pl.DataFrame) -> None:
    """Mark the event time at which the effect is 0 because it is measured from there."""
    base = frame.filter(pl.col("event_time") < 0, pl.col("att") == 0, pl.col("se") == 0)
    for at in base["event_time"].unique().sort().tail(1):
        ax.plot(at, 0, marker="D", ms=5, mfc="white", mec="0.2", ls="")
        ax.annotate("base", (at, 0), (6, -11), textcoords="offset points", fontsize="small")


def _which_cohorts(frame: pl.DataFrame, counted: bool) -> str:
    if "cohorts" not in frame.columns:
        return ""
    most = int(frame["cohorts"].max() or 0)  # type: ignore[arg-type]
    if counted:
        return "all cohorts that reach an event time"
    return f"the same {most} cohorts throughout" if most > 1 else "one cohort"


def instantaneous(profiles: pl.DataFrame, *, outcome: str = "log_likelihood") -> Figure:
    """Instantaneous effect of each cohort, above the mean learning rate of its steps if known."""
    frame = _by_cohort(profiles, outcome, "instantaneous")
    known = frame["learning_rate"].is_not_null().any()
    with canvas(1, 1 + known, width=6.4, height=2.6, share_x=True) as (figure, (above, *rest)):
        colors = size_colors(_in_order(frame))
        _with_intervals(above, frame, colors)
        above.set(ylabel="instantaneous ATT", title=f"effect on {name_outcome(outcome)}")
        _legend(above)
        for below in rest:
            for size, color in colors.items():
                line = frame.filter(pl.col("size") == size)
                below.plot(line["cohort"], line["learning_rate"], color=color, marker="o", ms=3)
            below.ticklabel_format(axis="y", scilimits=(0, 0))
            below.set(ylabel="mean rate", title="learning rate over the cohort's steps")
        figure.axes[-1].set(xlabel="cohort (optimizer step)")
    return figure


def residual(profiles: pl.DataFrame, *, outcome: str = "log_likelihood") -> Figure:
    """Draw what is left of each cohort's effect at the last checkpoint."""
    frame = _by_cohort(profiles, outcome, "residual")
    with canvas(width=6.4, height=3.2) as (figure, (ax,)):
        colors = size_colors(_in_order(frame))
        _with_intervals(ax, frame, colors)
        ax.set(xlabel="cohort (optimizer step)", ylabel=f"residual ATT\n{name_outcome(outcome)}")
        _legend(ax)
    return figure


def _legend(ax: Axes) -> None:
    """Name the sizes beside the axes, where no line or band passes through the words."""
    ax.legend(title="size", frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _profile(ax: Axes, cells: pl.DataFrame, norm: TwoSlopeNorm) -> None:
    cohorts = cells["cohort"].unique().sort()
    checkpoints = cells["checkpoint"].unique().sort()
    grid = _grid(cells, "att", cohorts, checkpoints)
    excludes_zero = (_grid(cells, "lower", cohorts, checkpoints) > 0) | (
        _grid(cells, "upper", cohorts, checkpoints) < 0
    )
    sns.heatmap(grid, ax=ax, norm=norm, cmap="vlag", cbar=False, rasterized=grid.size > 2500)
    down, across = np.nonzero(excludes_zero)
    size = max(0.2, min(2.0, 60 / len(checkpoints)))
    ax.plot(across + 0.5, down + 0.5, ".", color="0.15", ms=size * 1.4)
    treated = np.searchsorted(checkpoints.to_numpy(), cohorts.to_numpy())
    ax.stairs(treated, np.arange(len(cohorts) + 1), orientation="horizontal", color="0.25", lw=1.0)
    _label(ax, "x", checkpoints)
    _label(ax, "y", cohorts)
    ax.set(xlabel="checkpoint (optimizer step)", ylabel="cohort (optimizer step)")


def _grid(
    cells: pl.DataFrame, column: str, cohorts: pl.Series, checkpoints: pl.Series
) -> "np.ndarray[tuple[int, ...], np.dtype[np.float64]]":
    grid = np.full((len(cohorts), len(checkpoints)), np.nan)
    down = cohorts.search_sorted(cells["cohort"]).to_numpy()
    across = checkpoints.search_sorted(cells["checkpoint"]).to_numpy()
    grid[down, across] = cells[column].cast(pl.Float64).to_numpy()
    return grid


def _label(ax: Axes, axis: str, steps: pl.Series) -> None:
    every = max(1, round(len(steps) / 8))
    places = list(range(0, len(steps), every))
    names = [f"{step:,}" for step in steps.gather(places)]
    if axis == "x":
        ax.set_xticks([place + 0.5 for place in places], names, rotation=0)
    else:
        ax.set_yticks([place + 0.5 for place in places], names, rotation=0)


def _with_intervals(
    ax: Axes, frame: pl.DataFrame, colors: dict[str, tuple[float, float, float]]
) -> None:
    """Draw every cohort's point with its band, sizes set slightly apart."""
    spacing = _smallest_gap(frame["cohort"]) / (len(colors) + 2)
    for number, (size, color) in enumerate(colors.items()):
        line = frame.filter(pl.col("size") == size)
        x = line["cohort"] + (number - (len(colors) - 1) / 2) * spacing
        span = np.stack([line["att"] - line["lower"], line["upper"] - line["att"]])
        ax.errorbar(x, line["att"], span, color=color, fmt="o", ms=3, lw=1, label=size)
    ax.axhline(0, color="0.3", lw=0.8)


def _smallest_gap(steps: pl.Series) -> float:
    gaps = steps.unique().sort().diff().drop_nulls()
    return float(gaps.min() or 1)  # type: ignore[arg-type]


def _by_cohort(profiles: pl.DataFrame, outcome: str, kind: str) -> pl.DataFrame:
    chosen = (pl.col("kind") == kind) & pl.col("cohort").is_not_null()
    return _of_outcome(profiles, outcome).filter(chosen).sort("cohort")


def _of_outcome(table: pl.DataFrame, outcome: str) -> pl.DataFrame:
    lines = table.filter(pl.col("outcome") == outcome) if "outcome" in table.columns else table
    if lines.is_empty():
        raise TableError(f"nothing to draw: no line of outcome '{outcome}'")
    return lines


def _in_order(frame: pl.DataFrame) -> Sequence[str]:
    return frame["size"].unique(maintain_order=True).to_list()
