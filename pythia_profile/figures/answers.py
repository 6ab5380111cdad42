"""Drawings of findings: a size predicted from smaller ones, training seeds, laws of forgetting.

In: the tables `PREDICTION`, `FINDINGS`, `DECAY`, `PROFILES`. Out: axes. Nothing is estimated here.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import polars as pl
from jaxtyping import Float
from matplotlib.axes import Axes

from pythia_profile.errors import TableError, check_kind
from pythia_profile.figures.style import (
    Drawn,
    abreast,
    canvas,
    lines_of,
    lowest,
    name_outcome,
    one_or_all,
    size_colors,
    sizes_in,
    step_axis,
)
from pythia_profile.tables import DECAY, FINDINGS, PREDICTION, PROFILES

__all__ = ["decay", "prediction", "seeds"]

_ORDER = ("cell", "instantaneous", "persistent", "residual")
_MOST_DOTS = 400


def prediction(
    table: pl.DataFrame,
    *,
    outcome: str = "log_likelihood",
    size: str | None = None,
    ax: Axes | None = None,
    kind: str | None = None,
    title: str | None = None,
) -> Drawn:
    """Draw effects of a size predicted from smaller ones against those observed on other rows.

    On the dashed line both are equal. A bar is the interval of the true effect; how far points lie
    from the line is also the noise of what was observed. Where the size was never scored, nothing
    is observed, and nothing is drawn.

    Parameters
    ----------
    table : the `PREDICTION` table; each kind of effect is a panel.
    size : the predicted size; the last in the table that was observed unless given.
    kind : cell, instantaneous, persistent or residual; all that there are unless given.
    """
    lines = lines_of(table, PREDICTION, outcome, size).filter(
        pl.col("observed").is_not_null(), pl.col("cohort").is_not_null()
    )
    if kind is not None:
        check_kind(kind, str, "kind", "the name of one")
        lines = lines.filter(pl.col("kind") == kind)
    if lines.is_empty():
        raise TableError(f"nothing to draw: no prediction of '{size or kind}' was observed")
    chosen = size or sizes_in(lines)[-1]
    lines = lines.filter(pl.col("size") == chosen)
    kinds = [name for name in _ORDER if name in {*lines["kind"]}]
    with canvas(len(kinds), 3.1, 3.1, ax=ax, columns=min(len(kinds), 4)) as axes:
        for one, name in zip(axes, kinds, strict=True):
            _against(one, lines.filter(pl.col("kind") == name))
            one.set_title(title if title and len(kinds) == 1 else name)
        if ax is None:
            sources = ", ".join(lines["sources"].unique().sort())
            said = f"{chosen} predicted from {sources}, against effects on rows not used"
            axes[0].figure.suptitle(said, x=0.01, ha="left", fontsize="medium")
        axes[0].set_ylabel(f"observed on other rows\n{name_outcome(outcome)}")
    return one_or_all(axes)


def _against(ax: Axes, lines: pl.DataFrame) -> None:
    """Observed over predicted, with the interval of the true effect around the prediction."""
    at, seen = lines["predicted"].to_numpy(), lines["observed"].to_numpy()
    few = len(lines) <= _MOST_DOTS
    inside = lines["covered"].fill_null(value=True).to_numpy()
    if few:
        reach = np.stack([at - lines["lower"].to_numpy(), lines["upper"].to_numpy() - at])
        ax.errorbar(at, seen, xerr=reach, fmt="none", ecolor="0.75", lw=0.7, zorder=1)
    for which, color, word in ((inside, "#31688e", "inside"), (~inside, "#d1495b", "outside")):
        label = f"{word} the widened interval: {which.sum():,}"
        ax.plot(
            *(at[which], seen[which], "o"),
            ms=3 if few else 1,
            alpha=1 if few else 0.4,
            mew=0,
            color=color,
            label=label,
            rasterized=not few,
        )
    ends = np.array([min(at.min(), seen.min()), max(at.max(), seen.max())])
    ax.plot(ends, ends, color="0.3", lw=0.8, ls="--")
    ax.set_xlabel("predicted")
    ax.legend(frameon=False, fontsize="x-small", loc="lower right", markerscale=1 if few else 4)


def seeds(
    findings: pl.DataFrame,
    *,
    outcome: str = "log_likelihood",
    size: str | Sequence[str] | None = None,
    title: str | None = None,
) -> Drawn:
    """Variation of each kind of effect between training seeds, beside that of sampling rows.

    Standard deviations with their intervals: `between` is what other seeds would change, `within`
    what other rows would. Seeds that stand out are named.

    Parameters
    ----------
    findings : the `FINDINGS` table; each size is a panel.
    """
    lines = lines_of(findings, FINDINGS, outcome, size).filter(pl.col("finding") == "seeds")
    known = lines.filter(pl.col("quantity").is_in(["between_sd", "within_sd"]))
    if known.is_empty():
        raise TableError("nothing to draw: no finding on seeds; score two training seeds or more")
    sizes = sizes_in(known)
    labels = sorted({*known.select("kind", "subset").iter_rows()}, key=_place)
    with canvas(len(sizes), 3.3, 0.3 * len(labels) + 1.4, share="xy") as axes:
        for one, name in zip(axes, sizes, strict=True):
            for shift, quantity, color in (
                (-0.14, "between_sd", "#31688e"),
                (0.14, "within_sd", "#b5b5b5"),
            ):
                some = known.filter(pl.col("size") == name, pl.col("quantity") == quantity)
                at = np.array([labels.index(k) for k in some.select("kind", "subset").iter_rows()])
                one.errorbar(
                    some["estimate"].to_numpy(),
                    at + shift,
                    xerr=_reach(some),
                    fmt="o",
                    ms=4,
                    lw=1,
                    color=color,
                    label={"between_sd": "between seeds", "within_sd": "within a seed"}[quantity],
                )
            out = lines.filter(
                pl.col("size") == name,
                pl.col("quantity") == "outlier",
                pl.col("verdict") == "outlier",
            )
            stands = ", ".join(dict.fromkeys(out["subset"].to_list()))
            one.set_title(title or (f"{name}; stands out: {stands}" if stands else name))
            one.axvline(0, color="0.3", lw=0.8)
            one.set_xlabel("standard deviation")
            one.set_yticks(range(len(labels)), [f"{kind}, {subset}" for kind, subset in labels])
        axes[0].set_ylim(len(labels) - 0.5, -0.5)
        axes[-1].legend(frameon=False, fontsize="small", loc="lower right")
    return one_or_all(axes)


def _place(label: tuple[str, str]) -> tuple[int, str]:
    kind, subset = label
    return (_ORDER.index(kind) if kind in _ORDER else len(_ORDER), subset)


def _reach(lines: pl.DataFrame) -> Float[np.ndarray, "2 n"]:
    """Distances from estimates to the ends of their intervals; 0 where there is none."""
    middle = lines["estimate"].to_numpy()
    low, high = (
        lines[end].cast(pl.Float64).fill_null(np.nan).to_numpy() for end in ("lower", "upper")
    )
    reach: Float[np.ndarray, "2 n"] = np.fmax(np.stack([middle - low, high - middle]), 0.0)
    return reach


def decay(
    table: pl.DataFrame,
    profiles: pl.DataFrame,
    *,
    outcome: str = "log_likelihood",
    size: str | Sequence[str] | None = None,
    ax: Axes | None = None,
    title: str | None = None,
) -> Drawn:
    """Draw the chosen law of forgetting over the mean effect by event time, a panel a size.

    The points are those of the constant set of cohorts where the profiles have them; the dotted
    line is the plateau, the tick below it the half-life.

    Parameters
    ----------
    table, profiles : the tables `DECAY` and `PROFILES`.
    """
    laws = lines_of(table, DECAY, outcome, size).filter(
        pl.col("chosen"), pl.col("subset") == "constant", pl.col("initial").is_not_null()
    )
    if laws.is_empty():
        raise TableError("nothing to draw: no law of forgetting was fitted")
    every = lines_of(profiles, PROFILES, outcome, size)
    curve = every.filter(
        pl.col("kind") == "event_time_balanced", pl.col("event_time").is_not_null()
    )
    curve = curve if len(curve) else every.filter(pl.col("kind") == "event_time")
    colors = size_colors(sizes_in(laws))
    with canvas(len(colors), 3.1, 2.5, ax=ax, share="xy") as axes:
        for one, (name, color) in zip(axes, colors.items(), strict=True):
            law = laws.filter(pl.col("size") == name).row(0, named=True)
            some = curve.filter(
                pl.col("size") == name,
                pl.col("event_time") >= 0,
                pl.col("event_time") <= law["horizon"],
            ).sort("event_time")
            one.plot(some["event_time"], some["att"], "o", ms=2.5, color=color, alpha=0.7)
            one.fill_between(
                some["event_time"], some["lower"], some["upper"], color=color, alpha=0.15, lw=0
            )
            since = np.linspace(0, law["horizon"], 300)
            one.plot(since, _law(law, since, some["event_time"]), color="0.15", lw=1.2)
            if law["level"]:
                one.axhline(law["level"], color="0.4", lw=0.9, ls=":")
            half = law["half_life"]
            if half is not None and np.isfinite(half) and half <= law["horizon"]:
                one.axvline(half, ymax=0.06, color="0.15", lw=1.4)
            one.axhline(0, color="0.3", lw=0.8)
            step_axis(one)
            one.set_title(
                title if title and len(colors) == 1 else f"{name}: {law['law'].replace('_', ' + ')}"
            )
        columns = abreast(len(axes))
        for one in lowest(axes, columns):
            one.set_xlabel("steps since the cohort was read")
        for one in axes[::columns]:
            one.set_ylabel(f"ATT\n{name_outcome(outcome)}", fontsize="small")
    return one_or_all(axes)


def _law(
    law: dict[str, Any], since: Float[np.ndarray, " n"], steps: pl.Series
) -> Float[np.ndarray, " n"]:
    """Value of a fitted law (`DECAY`) at event times."""
    first = float(min(steps.filter(steps > 0), default=1))
    level, rate = law["level"] or 0.0, law["rate"] or 0.0
    shape = np.ones_like(since)
    if "power" in law["law"]:
        shape = (1 + since / first) ** -rate
    elif "exponential" in law["law"]:
        shape = np.exp(-rate * since)
    value: Float[np.ndarray, " n"] = level + (law["initial"] - level) * shape
    return value
