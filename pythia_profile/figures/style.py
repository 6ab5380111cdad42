"""One look for all figures: colors by size, steps as words, vector output that is reproducible."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
import polars as pl
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pythia_profile.errors import TableError, check_kind, not_found
from pythia_profile.store import atomic_write
from pythia_profile.tables import Table
from pythia_profile.tables.frames import polars_frame

__all__ = [
    "DASHES",
    "FORMATS",
    "OUTCOME_LABELS",
    "RATE",
    "Drawn",
    "Marks",
    "abreast",
    "canvas",
    "for_files",
    "frame_of",
    "lines_of",
    "lowest",
    "mark_steps",
    "mark_text",
    "name_outcome",
    "one_or_all",
    "save",
    "size_colors",
    "sizes_in",
    "step_axis",
    "step_text",
]

Drawn = Axes | npt.NDArray[np.object_]
"""What a drawing returns: its axes, or an array of them where it has several panels."""

Marks = Mapping[str, int]
"""What happened to a run, in words, and the optimizer step at which it did."""

FORMATS: dict[str, dict[str, None]] = {
    "svg": {"Date": None},
    "png": {"Software": None},
    "pdf": {"CreationDate": None, "Producer": None, "Creator": None},
}
"""Formats of files, each with what would make two runs differ."""

OUTCOME_LABELS = {
    "log_likelihood": "log-likelihood (nats per token)",
    "accuracy": "greedy accuracy (share of tokens)",
    "mean_rank": "mean rank of the target",
    "entropy": "entropy (nats)",
}
"""How axes name an outcome; others but those of recall are called by their column."""

_RECALLED = {
    "share": "matching share of {1} tokens after {0}",
    "full": "all {1} tokens after {0} given back",
    "leading": "tokens right before a wrong one, of {1} after {0}",
    "log_p": "log-probability of {1} tokens after {0} (nats)",
}
"""How axes name outcomes of recall, by prompt and continuation length."""

_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "pythia-profile",
    "pdf.fonttype": 42,
    "figure.constrained_layout.use": True,
    "axes.titlesize": "medium",
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "font.family": "sans-serif",
}
_ABREAST = {1: 1, 2: 2, 4: 2}
"""Panels side by side, by their number; three of any other."""
RATE = "rate"
"""Label of axes whose scale stands at the right."""
DASHES: tuple[Any, ...] = ((0, (1, 1.2)), (0, (4, 1.5)), (0, (4, 1.2, 1, 1.2)), (0, (7, 2)))
"""Line styles of marks, in their order."""

_unmanaged: ContextVar[bool] = ContextVar("unmanaged", default=False)


@contextmanager
def for_files() -> Iterator[None]:
    """Keep figures that are only written to files from pyplot, which would hold and show them."""
    token = _unmanaged.set(True)
    try:
        yield
    finally:
        _unmanaged.reset(token)


def abreast(panels: int) -> int:
    """How many panels stand side by side."""
    return _ABREAST.get(panels, 3)


@contextmanager
def canvas(
    panels: int = 1,
    width: float = 4.2,
    height: float = 3.2,
    *,
    ax: Axes | None = None,
    share: str = "",
    columns: int | None = None,
    ratios: Sequence[float] | None = None,
) -> Iterator[list[Axes]]:
    """Give axes in the house style: new ones in a grid, inches for each, or those of the user.

    Parameters
    ----------
    share : which axes the panels share, such as "xy".
    columns : panels side by side; by their number unless given.
    ratios : heights of the rows to one another.

    Raises
    ------
    TableError
        Several panels are to be drawn into one `ax`.
    ArgumentError
        `ax` is something else, a figure for instance.
    """
    if ax is not None:
        check_kind(ax, Axes, "ax", "the axes of a matplotlib figure")
    if ax is not None and panels > 1:
        raise TableError(f"ax: got one for {panels} panels; choose one with size=, or leave ax out")
    with (
        sns.axes_style("ticks"),
        sns.plotting_context("notebook", font_scale=0.8),
        mpl.rc_context(_SETTINGS),
    ):
        if ax is not None:
            yield [ax]
            return
        columns = columns or abreast(panels)
        rows = -(-panels // columns)
        figure = _new_figure((columns * width, rows * height))
        axes = figure.subplots(
            *(rows, columns),
            squeeze=False,
            sharex="x" in share,
            sharey="y" in share,
            height_ratios=ratios,
        ).ravel()
        yield [*axes[:panels]]
        for other in axes[panels:]:
            other.remove()
        for one in lowest([*axes[:panels]], columns):  # those above an empty place name their steps
            one.xaxis.set_tick_params(labelbottom=True)
        for one in figure.axes:
            if one.get_label() != "<colorbar>":
                sns.despine(ax=one, right=one.get_label() != RATE)


def lowest(axes: Sequence[Axes], columns: int) -> Sequence[Axes]:
    """Panels of a grid below which there is none."""
    return axes[max(len(axes) - columns, 0) :]


def _new_figure(inches: tuple[float, float]) -> Figure:
    if _unmanaged.get():
        return Figure(figsize=inches)
    from matplotlib import pyplot as plt

    return plt.figure(figsize=inches)


def one_or_all(axes: Sequence[Axes]) -> Drawn:
    """Return one panel's axes, or an array of several."""
    if len(axes) == 1:
        return axes[0]
    found = np.empty(len(axes), dtype=object)
    found[:] = axes
    return found


def frame_of(given: Any, table: Table) -> pl.DataFrame:
    """Take a table of polars or pandas, or what `estimate` gave: its effects.

    Parameters
    ----------
    table : whose columns it must have, as far as they are drawn (`_DRAWN`).

    Raises
    ------
    TableError
        It is none of these, the name of a folder for instance, or another table.
    """
    found = given if hasattr(given, "columns") else getattr(given, "att", given)
    frame = polars_frame(found, "to draw").lazy().collect()
    if frame.is_empty():
        return frame
    wanted, source = _DRAWN[table.name]
    missing = [f"'{name}'" for name in wanted if name not in frame.columns]
    if missing:
        raise TableError(
            f"table to draw: {', '.join(missing)} missing, expected the table '{table.name}', as "
            f"{source} gives it"
        )
    for name in wanted:
        got, expected = frame.schema[name], table.columns[name]
        if got.is_numeric() != expected.is_numeric() and got != pl.Null():
            raise TableError(f"table to draw: '{name}' is {got}, expected {expected}")
    return frame


_ENDS = ("size", "cohort", "att", "lower", "upper")
_FINDINGS = "pp.study_findings(...).tables"
_DRAWN: dict[str, tuple[tuple[str, ...], str]] = {
    "att": ((*_ENDS, "checkpoint"), "pp.estimate(rows, scores).att"),
    "profiles": (
        (*_ENDS, "kind", "event_time", "se"),
        "pp.profile(pp.estimate(rows, scores))",
    ),
    "agreement": (
        (
            *("outcome", "kind", "size_a", "size_b", "cells", "pearson", "lower", "upper"),
            *("reliability_a", "reliability_b"),
        ),
        "pp.agreement(pp.estimate(rows, scores))",
    ),
    "counterfactual": (
        (*_ENDS, "outcome", "event_time", "truth", "error", "error_se"),
        "the stage `counterfactual` of a study",
    ),
    "prediction": (
        (
            *("size", "sources", "kind", "cohort", "predicted", "lower", "upper"),
            *("observed", "covered"),
        ),
        _FINDINGS,
    ),
    "findings": (
        (
            *("finding", "size", "kind", "subset", "quantity", "estimate", "lower", "upper"),
            "verdict",
        ),
        _FINDINGS,
    ),
    "decay": (
        (
            *("size", "subset", "law", "chosen", "initial", "level", "rate", "half_life"),
            "horizon",
        ),
        _FINDINGS,
    ),
}
"""Columns of a table that a drawing needs, and what gives the table."""


def lines_of(
    given: Any, table: Table, outcome: str, size: str | Sequence[str] | None = None
) -> pl.DataFrame:
    """Lines of one outcome and of the sizes that are asked for, in the order asked.

    Parameters
    ----------
    given, table : as `frame_of` takes them.

    Raises
    ------
    TableError
        It is another table, or has no line of that outcome.
    ArgumentError
        `outcome` is no name.
    NotFoundError
        A size is not in the table.
    """
    check_kind(outcome, str, "outcome", "the name of one")
    frame = frame_of(given, table)
    lines: pl.DataFrame = frame
    if "outcome" in frame.columns:
        lines = frame.filter(pl.col("outcome") == outcome)
    if lines.is_empty():
        raise TableError(f"nothing to draw: no line of outcome '{outcome}'")
    if size is None:
        return lines
    wanted = [size] if isinstance(size, str) or not isinstance(size, Iterable) else [*size]
    known = sizes_in(lines)
    for name in wanted:
        if name not in known:
            raise not_found("size", str(name), known)
    return pl.concat([lines.filter(pl.col("size") == name) for name in wanted])


def sizes_in(frame: pl.DataFrame) -> list[str]:
    """Sizes of a table in its own order."""
    return frame["size"].unique(maintain_order=True).to_list()


def size_colors(sizes: Sequence[str]) -> dict[str, tuple[float, float, float]]:
    """Give each size a color, light to dark, that stays apart without color vision."""
    shades = sns.color_palette("viridis_r", n_colors=len(sizes) + 1)[1:]
    return dict(zip(sizes, shades, strict=True))


def name_outcome(outcome: str) -> str:
    """How an axis names an outcome, with its unit.

    Examples
    --------
    >>> name_outcome("recall_32_16_share")
    'matching share of 16 tokens after 32'
    """
    recalled = re.fullmatch(r"(?:recall|exact)_(\d+)_(\d+)_(\w+)", outcome)
    if recalled and recalled[3] in _RECALLED:
        return _RECALLED[recalled[3]].format(recalled[1], recalled[2])
    return OUTCOME_LABELS.get(outcome, outcome)


def step_text(step: float) -> str:
    """Write a step shortly: thousands as k.

    Examples
    --------
    >>> [step_text(step) for step in (0, 512, 1430, 36_000, -142_000)]
    ['0', '512', '1.4k', '36k', '−142k']
    """
    sign, size = "−" if step < 0 else "", abs(step)
    short = f"{size:g}" if size < 1000 else f"{size / 1000:.3g}k"
    if 1000 <= size < 10_000:
        short = f"{size / 1000:.1f}".removesuffix(".0") + "k"
    return sign + short


def step_axis(ax: Axes, axis: str = "x", most: int = 5) -> None:
    """Write a time axis in k, with few enough steps that no two words meet."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    which = ax.xaxis if axis == "x" else ax.yaxis
    which.set_major_locator(MaxNLocator(most, integer=True, steps=[1, 2, 2.5, 5, 10]))
    which.set_major_formatter(FuncFormatter(lambda step, _: step_text(step)))


def mark_steps(ax: Axes, marks: Marks | None) -> list[Any]:
    """Draw a vertical line at each mark, behind everything; return them for a legend."""
    return [
        ax.axvline(step, color="0.45", lw=0.9, ls=dash, zorder=0, label=mark_text(name, step))
        for (name, step), dash in zip((marks or {}).items(), DASHES, strict=False)
    ]


def mark_text(name: str, step: int) -> str:
    """How a legend names a mark."""
    return f"{name} ({step_text(step)})"


def save(
    figure: Figure, folder: Path, name: str, formats: Sequence[str] = ("svg", "png")
) -> list[Path]:
    """Write a figure in each format, whole or not at all; return the paths."""
    paths = []
    with mpl.rc_context(_SETTINGS):
        for kind in formats:
            path = folder / f"{name}.{kind}"
            with atomic_write(path) as file:
                figure.savefig(file, format=kind, metadata=FORMATS[kind], dpi=144)
            paths.append(path)
    return paths
