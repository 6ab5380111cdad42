"""Drawings of comparisons: size against size, and estimate against the true counterfactual."""

from typing import Any

import numpy as np
import polars as pl
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.patches import Rectangle

from pythia_profile.errors import TableError, check_kind
from pythia_profile.figures.style import (
    Drawn,
    canvas,
    frame_of,
    name_outcome,
    one_or_all,
    step_axis,
)
from pythia_profile.tables import AGREEMENT, COUNTERFACTUAL

__all__ = ["agreement", "counterfactual"]

_NAMED = 6
"""Cohorts that a legend has room for; the colors of more are read from a bar."""
_CELLS = {"post": "all effects from the cohort on"}
"""How a title names a set of cells."""
_DARK = 0.55
"""Color value beyond which words in a cell are white."""


def agreement(
    table: pl.DataFrame,
    *,
    kind: str = "post",
    outcome: str = "log_likelihood",
    ax: Axes | None = None,
    title: str | None = None,
) -> Axes:
    """Correlation of the profiles of every two sizes, and what noise allows.

    Below the diagonal stands the correlation of the estimates, and under it the interval of that of
    the true profiles. The diagonal, framed, is a size's reliability: the share of its profile's
    variance that is not noise.

    Parameters
    ----------
    table : the `AGREEMENT` table.
    kind : the set of cells that are compared.
    ax : axes to draw into; new ones unless given.
    """
    for what, name in (("kind", kind), ("outcome", outcome)):
        check_kind(name, str, what, "the name of one")
    lines = frame_of(table, AGREEMENT)
    if len(lines):
        lines = lines.filter((pl.col("kind") == kind) & (pl.col("outcome") == outcome))
    if lines.is_empty():
        raise TableError(f"nothing to draw: no line of kind '{kind}' and outcome '{outcome}'")
    sizes = list(dict.fromkeys([*lines["size_a"], *lines["size_b"]]))
    values = np.full((len(sizes), len(sizes)), np.nan)
    words: dict[tuple[int, int], str] = {}
    for line in lines.iter_rows(named=True):
        a, b = sizes.index(line["size_a"]), sizes.index(line["size_b"])
        values[b, a] = np.nan if line["pearson"] is None else line["pearson"]
        told = line["lower"] is not None
        interval = f"[{line['lower']:.2f}, {line['upper']:.2f}]" if told else "not told"
        words[b, a] = f"{_number(line['pearson'])}\n{interval}"
        for place, side in ((a, "reliability_a"), (b, "reliability_b")):
            values[place, place] = np.nan if line[side] is None else line[side]
            words[place, place] = f"reliability\n{_number(line[side])}"
    inches = 0.85 * len(sizes) + 1.2
    with canvas(width=inches + 0.9, height=inches, ax=ax) as (one,):
        colors = sns.color_palette("crest", as_cmap=True).with_extremes(bad="0.93")
        mesh = one.pcolormesh(values, cmap=colors, vmin=0, vmax=1, edgecolors="white", lw=1)
        one.invert_yaxis()
        one.set_aspect("equal")
        for (down, across), text in words.items():
            dark = values[down, across] > _DARK
            one.text(
                *(across + 0.5, down + 0.5, text),
                ha="center",
                va="center",
                fontsize=7.5,
                color="white" if dark else "0.15",
            )
            if down == across:
                frame = Rectangle((across, down), 1, 1, fill=False, ec="0.2", lw=1.2)
                one.add_patch(frame)
        places = np.arange(len(sizes)) + 0.5
        one.set_xticks(places, sizes)
        one.set_yticks(places, sizes)
        one.tick_params(length=0)
        bar = one.figure.colorbar(mesh, ax=one, shrink=0.7)
        bar.set_label("correlation; reliability in the frames")
        bar.outline.set_visible(False)
        cells = max(lines["cells"].to_list())
        named = _CELLS.get(kind, kind)
        one.set_title(title or f"{named} ({cells:,})\n{name_outcome(outcome)}")
    return one


def _number(value: float | None) -> str:
    return "–" if value is None else f"{value:.2f}"


def counterfactual(table: pl.DataFrame) -> Drawn:
    """Estimate against truth for every audited cell, and the error by event time with its interval.

    Parameters
    ----------
    table : the `COUNTERFACTUAL` table.
    """
    table = frame_of(table, COUNTERFACTUAL)
    if table.is_empty():
        raise TableError("nothing to draw: the counterfactual table has no line")
    cohorts = table["cohort"].unique().sort().to_list()
    colors = dict(zip(cohorts, sns.color_palette("flare", len(cohorts)), strict=True))
    outcome = name_outcome(table["outcome"].item(0))
    with canvas(2, 4.6, 3.8) as axes:
        left, right = axes
        figure: Any = left.figure
        for cohort, color in colors.items():
            cells = table.filter(pl.col("cohort") == cohort).sort("event_time")
            reach = (cells["upper"] - cells["lower"]) / 2
            left.errorbar(
                cells["truth"],
                cells["att"],
                reach,
                fmt="o",
                ms=3,
                lw=0.8,
                color=color,
                label=cohort,
            )
            right.errorbar(
                cells["event_time"],
                cells["error"],
                1.96 * cells["error_se"],
                fmt="o-",
                ms=3,
                lw=0.8,
                color=color,
            )
        ends = [
            table.select(pl.min_horizontal("truth", "lower").min()).item(),
            table["upper"].max(),
        ]
        left.plot(ends, ends, color="0.3", lw=0.8, ls="--")
        left.set(xlabel="true effect, by retraining", ylabel="estimated ATT", title=outcome)
        if len(cohorts) <= _NAMED:
            left.legend(title="cohort", frameon=False)
        right.axhline(0, color="0.3", lw=0.8, ls="--")
        right.set(
            xlabel="optimizer steps since the cohort",
            ylabel="estimate − truth",
            title="error, 95 % intervals",
        )
        if len(cohorts) > _NAMED:
            shades = ListedColormap(list(colors.values()))
            ends = [cohorts[0] - 0.5, cohorts[-1] + 0.5]
            bar = figure.colorbar(ScalarMappable(Normalize(*ends), shades), ax=right)
            bar.set_label("cohort (optimizer step)")
            bar.outline.set_visible(False)
        step_axis(right)
    return one_or_all(axes)
