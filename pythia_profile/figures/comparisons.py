"""Drawings of comparisons: size against size, and estimate against the true counterfactual."""

import numpy as np
import polars as pl
import seaborn as sns
from matplotlib.cm import ScalarMappable
from matplotlib.colors import ListedColormap, Normalize
from matplotlib.figure import Figure

from pythia_profile.errors import TableError
from pythia_profile.figures.style import canvas, name_outcome

__all__ = ["agreement", "counterfactual"]

_NAMED = 6
"""Cohorts that a legend has room for; the colors of more are read from a bar."""


def agreement(
    table: pl.DataFrame, *, kind: str = "post", outcome: str = "log_likelihood"
) -> Figure:
    """Correlation of the profiles of every two sizes, and what noise allows.

    Below each correlation stands the interval of that of the true profiles. The diagonal is a
    size's reliability, the share of its profile's variance that is not noise.

    Parameters
    ----------
    table : the `AGREEMENT` table.
    kind : the set of cells that are compared.
    """
    lines = table.filter((pl.col("kind") == kind) & (pl.col("outcome") == outcome))
    if lines.is_empty():
        raise TableError(f"nothing to draw: no line of kind '{kind}' and outcome '{outcome}'")
    sizes = [*lines["size_a"].unique(maintain_order=True), lines["size_b"].item(-1)]
    values = np.full((len(sizes), len(sizes)), np.nan)
    words = np.full(values.shape, "", dtype=object)
    for line in lines.iter_rows(named=True):
        a, b = sizes.index(line["size_a"]), sizes.index(line["size_b"])
        values[b, a] = line["pearson"]
        told = line["lower"] is not None
        interval = f"[{line['lower']:.2f}, {line['upper']:.2f}]" if told else "not told"
        words[b, a] = f"{line['pearson']:.2f}\n{interval}"
        for place, side in ((a, "reliability_a"), (b, "reliability_b")):
            values[place, place] = line[side]
            words[place, place] = f"self\n{line[side]:.2f}"
    inches = 1.1 * len(sizes) + 1.2
    with canvas(width=inches + 0.8, height=inches) as (figure, (ax,)):
        sns.heatmap(
            values,
            ax=ax,
            annot=words,
            fmt="",
            cmap="crest",
            vmin=0,
            vmax=1,
            square=True,
            xticklabels=sizes,
            yticklabels=sizes,
            cbar_kws={"label": "correlation", "shrink": 0.7},
            annot_kws={"size": 8},
        )
        ax.set_title(f"{kind}, {name_outcome(outcome)}")
    return figure


def counterfactual(table: pl.DataFrame) -> Figure:
    """Estimate against truth for every audited cell, and the error by event time with its interval.

    Parameters
    ----------
    table : the `COUNTERFACTUAL` table.
    """
    if table.is_empty():
        raise TableError("nothing to draw: the counterfactual table has no line")
    cohorts = table["cohort"].unique().sort().to_list()
    colors = dict(zip(cohorts, sns.color_palette("flare", len(cohorts)), strict=True))
    outcome = name_outcome(table["outcome"].item(0))
    with canvas(2, 1, width=4.6, height=3.8) as (figure, (left, right)):
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
    return figure
