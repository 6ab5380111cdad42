"""Drawings of averaged profiles: by event time, instantaneous with the rates, residual.

In: the table `PROFILES`. Out: axes. Nothing is estimated here.
"""

from collections.abc import Sequence
from typing import Any, Literal

import numpy as np
import polars as pl
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from pythia_profile.errors import TableError
from pythia_profile.figures.style import (
    RATE,
    Drawn,
    Marks,
    abreast,
    canvas,
    lines_of,
    lowest,
    mark_steps,
    name_outcome,
    one_or_all,
    size_colors,
    sizes_in,
    step_axis,
)
from pythia_profile.tables import PROFILES

__all__ = ["event_time", "instantaneous", "residual"]

_MOST_DOTS = 40
"""Points of a line that are drawn as dots, too."""
_BAND = "effect of a cohort, simultaneous 95 % band"
_MANY = 200
"""Points from which on the widest hundredth of the bands may leave the frame."""


def event_time(
    profiles: pl.DataFrame,
    *,
    outcome: str = "log_likelihood",
    cohorts: Literal["constant", "all"] = "constant",
    size: str | Sequence[str] | None = None,
    ax: Axes | None = None,
    title: str | None = None,
) -> Axes:
    """Mean effect against optimizer steps since the cohort, with simultaneous bands.

    Thin lines end a band; with several sizes their fill is faint, since overlapping fills of two
    sizes look like a third. A diamond marks the base, where the effect is 0 by construction. Below
    the curves of all cohorts stands how many of them each event time averages.

    Parameters
    ----------
    cohorts : `constant` draws the curve of the same cohorts at every event time. Of `all` of them,
        late event times are those of the few early cohorts that reach them, so that the curve may
        fall, or change its sign, though no cohort's effect does.
    size : one size, or several in this order; all unless given.
    ax : axes to draw the curves into; new ones unless given.
    """
    kind = "event_time_balanced" if cohorts == "constant" else "event_time"
    frame = lines_of(profiles, PROFILES, outcome, size).filter(
        pl.col("kind") == kind, pl.col("att").is_finite()
    )
    if frame.is_empty():
        raise TableError(f"nothing to draw: no line of kind '{kind}' and outcome '{outcome}'")
    counted = "cohorts" in frame.columns and frame["cohorts"].n_unique() > 1
    below = counted and ax is None
    ratios, height = ((4, 1), 2.35) if below else ((1,), 3.9)
    with canvas(1 + below, 6.8, height, ax=ax, share="x", columns=1, ratios=ratios) as axes:
        one = axes[0]
        _curves(one, frame)
        step_axis(one, most=8)
        _mark_base(one, frame)
        one.set(ylabel=f"ATT\n{name_outcome(outcome)}")
        one.set_title(_which_cohorts(frame, counted) if title is None else title)
        for counts in axes[1:]:
            every = frame.unique("event_time").sort("event_time")
            counts.vlines(every["event_time"], 0, every["cohorts"], color="0.5", lw=2)
            counts.set(ylabel="cohorts", ylim=(0, None))
        axes[-1].set(xlabel="optimizer steps since the cohort was read")
        _legend(one)
    return one


def _curves(ax: Axes, frame: pl.DataFrame) -> None:
    """Draw the curve of each size, and its band."""
    sizes = sizes_in(frame)
    for name, color in size_colors(sizes).items():
        line = frame.filter(pl.col("size") == name).sort("event_time")
        at, few = line["event_time"], len(line) <= _MOST_DOTS
        ax.plot(at, line["att"], color=color, label=name, lw=1.3, marker="o" if few else "", ms=3)
        shade = 0.18 if len(sizes) == 1 else 0.05
        ax.fill_between(at, line["lower"], line["upper"], color=color, alpha=shade, lw=0)
        for end in ("lower", "upper"):
            ax.plot(at, line[end], color=color, lw=0.6 if few else 0.35)
    if len(frame) > _MANY:  # few cohorts, and wide bands, lie at both ends of event time
        att, lower, upper = (frame[c].drop_nulls().to_numpy() for c in ("att", "lower", "upper"))
        low = min(np.quantile(lower, 0.01), att.min())
        ax.set_ylim(1.05 * low, 1.05 * max(np.quantile(upper, 0.99), att.max()))
    ax.axhline(0, color="0.3", lw=0.8)
    ax.axvline(0, color="0.3", lw=0.8, ls=":")


def _mark_base(ax: Axes, frame: pl.DataFrame) -> None:
    """Mark the event time at which the effect is 0 because it is measured from there."""
    base = frame.filter(pl.col("event_time") < 0, pl.col("att") == 0, pl.col("se") == 0)
    for at in base["event_time"].unique().sort().tail(1):
        ax.plot(at, 0, marker="D", ms=5, mfc="white", mec="0.2", ls="")
        place = {"xytext": (6, -11), "textcoords": "offset points"}
        ax.annotate("base", (at, 0), fontsize="small", **place)  # type: ignore[arg-type]


def _which_cohorts(frame: pl.DataFrame, counted: bool) -> str:
    if "cohorts" not in frame.columns:
        return ""
    most = int(frame["cohorts"].max() or 0)  # type: ignore[arg-type]
    if counted:
        return "all cohorts that reach an event time"
    return f"the same {most} cohorts throughout" if most > 1 else "one cohort"


def instantaneous(
    profiles: pl.DataFrame,
    *,
    outcome: str = "log_likelihood",
    size: str | Sequence[str] | None = None,
    ax: Axes | None = None,
    title: str | None = None,
    marks: Marks | None = None,
) -> Drawn:
    """Instantaneous effect of each cohort, and the mean learning rate of its steps, on one axis.

    Each size is a panel, all on one scale; the rate is the gray line, on the scale at the right,
    where it is known.
    """
    frame = _by_cohort(lines_of(profiles, PROFILES, outcome, size), "instantaneous")
    return _of_cohorts(frame, outcome, ax, title, marks, what="instantaneous ATT", rate=True)


def residual(
    profiles: pl.DataFrame,
    *,
    outcome: str = "log_likelihood",
    size: str | Sequence[str] | None = None,
    ax: Axes | None = None,
    title: str | None = None,
    marks: Marks | None = None,
) -> Drawn:
    """Draw what is left of each cohort's effect at the last checkpoint; each size is a panel."""
    frame = _by_cohort(lines_of(profiles, PROFILES, outcome, size), "residual")
    return _of_cohorts(frame, outcome, ax, title, marks, what="residual ATT", rate=False)


def _of_cohorts(
    frame: pl.DataFrame,
    outcome: str,
    ax: Axes | None,
    title: str | None,
    marks: Marks | None,
    *,
    what: str,
    rate: bool,
) -> Drawn:
    """Draw an effect of every cohort with its band, a panel a size, and the rates behind it."""
    colors = size_colors(sizes_in(frame))
    many = len(colors) > 2
    width, height = (3.0, 2.2) if many else (4.4, 3.0)
    with canvas(len(colors), width, height, ax=ax, share="xy") as axes:
        for one, (name, color) in zip(axes, colors.items(), strict=True):
            line = frame.filter(pl.col("size") == name)
            points = _with_bands(one, line, color)
            drawn = mark_steps(one, marks)
            one.axhline(0, color="0.3", lw=0.8)
            step_axis(one)
            one.set_title(title if title is not None and len(colors) == 1 else name)
        behind = [_rates(*pair) for pair in zip(axes, _rates_of(frame, rate), strict=False)]
        _name_grid(axes, f"{what}{'' if many else chr(10)}", outcome)
        if ax is None:
            axes[0].figure.legend(
                handles=[points, *behind[:1], *drawn],
                labels=[_BAND, *(one.get_label() for one in (*behind[:1], *drawn))],
                loc="outside lower left",
                ncols=abreast(len(axes)) if many else 1,
                frameon=False,
                fontsize="small",
            )
    return one_or_all(axes)


def _with_bands(ax: Axes, line: pl.DataFrame, color: Any) -> Any:
    """Draw every cohort's point with its band."""
    if len(line) <= _MOST_DOTS:
        span = np.stack([line["att"] - line["lower"], line["upper"] - line["att"]])
        given = (line["cohort"], line["att"], span)
        return ax.errorbar(*given, color=color, fmt="o", ms=3, lw=1)
    ends = (line["cohort"], line["lower"], line["upper"])
    band = ax.fill_between(*ends, color=color, alpha=0.25, lw=0)  # so many bars would hide the dots
    (dots,) = ax.plot(line["cohort"], line["att"], "o", ms=1.7, color=color)
    return band, dots


def _rates_of(frame: pl.DataFrame, wanted: bool) -> list[pl.DataFrame]:
    """Cohorts and rates of each size; none where they are not known."""
    if not wanted or "learning_rate" not in frame or not frame["learning_rate"].count():
        return []
    return [frame.filter(pl.col("size") == name) for name in sizes_in(frame)]


def _rates(ax: Axes, line: pl.DataFrame) -> Any:
    """Draw the rate behind the effects, on a scale at the right whose 0 is that of the effects."""
    behind = ax.twinx()
    behind.set_label(RATE)
    known = line["cohort"], line["learning_rate"]
    (drawn,) = behind.plot(*known, color="0.6", lw=1.6, label="mean learning rate of its steps")
    low, high = ax.get_ylim()
    scale = 1.08 * float(line["learning_rate"].max() or 1.0) / high  # type: ignore[arg-type]
    behind.set_ylim(low * scale, high * scale)
    behind.ticklabel_format(axis="y", scilimits=(0, 0), useMathText=True)
    behind.yaxis.set_major_locator(MaxNLocator(4, prune="lower"))
    behind.set_yticks([tick for tick in behind.get_yticks() if 0 <= tick <= high * scale])
    behind.tick_params(axis="y", colors="0.45", labelsize="small", length=3)
    behind.yaxis.get_offset_text().set(color="0.45", fontsize="small")
    behind.yaxis.set_label_position("right")
    behind.set_zorder(ax.get_zorder() - 1)
    ax.patch.set_visible(False)
    return drawn


def _name_grid(axes: list[Axes], what: str, outcome: str) -> None:
    """Name the effect at the left and time below a grid of panels."""
    columns = abreast(len(axes))
    for one in lowest(axes, columns):
        one.set_xlabel("cohort (read by step)")
    for one in axes[::columns]:
        one.set_ylabel(what if len(axes) > 2 else f"{what}{name_outcome(outcome)}")
    if len(axes) > 2:
        axes[0].figure.suptitle(
            f"effect on {name_outcome(outcome)}", x=0.01, ha="left", fontsize="medium"
        )


def _legend(ax: Axes) -> None:
    """Name the sizes beside the axes, where no line or band passes through the words."""
    ax.legend(title="size", frameon=False, loc="upper left", bbox_to_anchor=(1.0, 1.0))


def _by_cohort(lines: pl.DataFrame, kind: str) -> pl.DataFrame:
    chosen = lines.filter(pl.col("kind") == kind, pl.col("cohort").is_not_null())
    if chosen.is_empty():
        raise TableError(f"nothing to draw: no line of kind '{kind}' with a cohort")
    return chosen
