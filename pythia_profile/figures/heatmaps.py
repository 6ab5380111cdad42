"""Memorization profiles as pictures of all their cells: each size, and one size minus another.

In: the table `ATT`. Out: axes. Nothing is estimated here, and nothing is left out: cells inside the
band are drawn too, those whose band excludes 0 are outlined.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import polars as pl
from jaxtyping import Bool, Float, Int
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.colors import TwoSlopeNorm
from matplotlib.lines import Line2D

from pythia_profile.errors import TableError
from pythia_profile.figures.style import (
    DASHES,
    Drawn,
    Marks,
    canvas,
    lines_of,
    mark_text,
    name_outcome,
    one_or_all,
    sizes_in,
    step_text,
)
from pythia_profile.tables import ATT

__all__ = ["difference", "heatmap"]

CLIPPED = 0.999
"""Share of cells from the cohort on that the color scale spans; those beyond have its last color,
and the scale ends in arrows."""
MANY = 1000
"""Cells below which the scale spans them all."""
VECTOR = 2500
"""Cells up to which each is drawn as a shape."""
_MOST_LABELS = 5


class HasEffects(Protocol):
    """What `estimate` gives: an object with the `ATT` table."""

    @property
    def att(self) -> pl.DataFrame:
        """The `ATT` table."""
        ...


def heatmap(
    att: pl.DataFrame | HasEffects,
    *,
    outcome: str = "log_likelihood",
    size: str | Sequence[str] | None = None,
    ax: Axes | None = None,
    title: str | None = None,
    marks: Marks | None = None,
) -> Drawn:
    """ATT(g, c) of each size: cohorts down, checkpoints across, one color scale for all.

    Cells whose simultaneous band excludes 0 are outlined; cells left of the stair are before
    treatment and show what chance and violated assumptions alone can do. The scale is linear and
    even around 0, which is white.

    Parameters
    ----------
    att : the `ATT` table, or what `estimate` gave; each size is a panel.
    size : one size, or several in this order; all unless given.
    ax : axes to draw one size into.
    title : in place of the size's name.
    marks : what happened at which step, such as the end of warm-up; thin lines through the cells
        before treatment, where they cover no effect.

    Returns
    -------
    The axes of the panel, or an array of those of all.

    Examples
    --------
    >>> heatmap(pl.DataFrame())
    Traceback (most recent call last):
    pythia_profile.errors.TableError: nothing to draw: no line of outcome 'log_likelihood'
    """
    frame = lines_of(att, ATT, outcome, size)
    grids = {name: _Grid(frame.filter(pl.col("size") == name)) for name in sizes_in(frame)}
    words = _Words(f"ATT\n{name_outcome(outcome)}", "95 % band excludes 0")
    return _panels(grids, words, marks, ax=ax, title=title)


def difference(
    att: pl.DataFrame | HasEffects,
    larger: str,
    smaller: str,
    *,
    outcome: str = "log_likelihood",
    ax: Axes | None = None,
    title: str | None = None,
    marks: Marks | None = None,
) -> Axes:
    """ATT(g, c) of one size minus that of another, on the cells that both have.

    Cells are outlined where the bands of the two sizes do not overlap, which needs no assumption on
    how the errors of the two are correlated.
    """
    frame = lines_of(att, ATT, outcome, (larger, smaller))
    of = ["cohort", "checkpoint"]
    a, b = (
        frame.filter(pl.col("size") == name).select(*of, "att", "lower", "upper")
        for name in (larger, smaller)
    )
    both = a.join(b, on=of, suffix="_b").select(
        *of,
        att=pl.col("att") - pl.col("att_b"),
        lower=pl.col("lower") - pl.col("upper_b"),
        upper=pl.col("upper") - pl.col("lower_b"),
    )
    if both.is_empty():
        raise TableError(f"nothing to draw: {larger} and {smaller} share no cohort and checkpoint")
    grids = {title or f"{larger} minus {smaller}": _Grid(both)}
    words = _Words(f"difference of ATT\n{name_outcome(outcome)}", "bands do not overlap")
    drawn = _panels(grids, words, marks, ax=ax, title=title)
    assert isinstance(drawn, Axes)
    return drawn


@dataclass(frozen=True, slots=True)
class _Words:
    """What the color scale shows, and what an outline means."""

    scale: str
    band: str


class _Grid:
    """Cells of one panel: cohorts down, checkpoints across."""

    def __init__(self, cells: pl.DataFrame) -> None:
        self.cohorts, self.checkpoints = (
            cells[name].unique().sort() for name in ("cohort", "checkpoint")
        )
        self.shape = len(self.cohorts), len(self.checkpoints)
        self._at = (
            self.cohorts.search_sorted(cells["cohort"]).to_numpy(),
            self.checkpoints.search_sorted(cells["checkpoint"]).to_numpy(),
        )
        self.att = self._of(cells["att"])
        self.marked = (self._of(cells["lower"]) > 0) | (self._of(cells["upper"]) < 0)

    def _of(self, values: pl.Series) -> Float[np.ndarray, "G C"]:
        grid = np.full(self.shape, np.nan)
        grid[self._at] = values.cast(pl.Float64).to_numpy()
        return grid

    @property
    def read_at(self) -> Int[np.ndarray, " G"]:
        """Column of the first checkpoint that has read each cohort."""
        first: Int[np.ndarray, " G"] = np.searchsorted(
            self.checkpoints.to_numpy(), self.cohorts.to_numpy()
        )
        return first


def _panels(
    grids: dict[str, _Grid],
    words: "_Words",
    marks: Marks | None,
    *,
    ax: Axes | None,
    title: str | None,
) -> Drawn:
    largest, clipped = _reach(list(grids.values()))
    norm = TwoSlopeNorm(0.0, -clipped, clipped)
    many = len(grids) > 2
    width, height = (3.0, 2.8) if many else (4.4, 3.9)
    with canvas(len(grids), width, height, ax=ax) as axes:
        for one, (name, grid) in zip(axes, grids.items(), strict=True):
            cells = _profile(one, grid, norm, marks)
            one.patch.set_gid(f"cells-{name}")  # where a page finds the cells of a size
            one.set_title(title if title is not None and len(grids) == 1 else name)
        _name_axes(axes)
        figure = axes[0].figure
        beyond = "both" if clipped < largest else "neither"
        bar = figure.colorbar(cells, ax=axes, shrink=0.7, extend=beyond, pad=0.02)
        bar.set_label(words.scale)
        bar.outline.set_visible(False)
        if ax is None:
            figure.legend(
                handles=_legend(words.band, marks),
                loc="outside lower left",
                ncols=2 if many else 1,
                frameon=False,
                fontsize="small",
            )
    return one_or_all(axes)


def _reach(grids: list[_Grid]) -> tuple[float, float]:
    """Largest effect of all cells, and where the color scale ends: a single cell is no measure."""
    every = np.concatenate([np.abs(grid.att[np.isfinite(grid.att)]) for grid in grids])
    largest = float(every.max(initial=0.0)) or 1.0
    read = [np.arange(grid.shape[1]) >= grid.read_at[:, None] for grid in grids]
    post = np.concatenate([np.abs(g.att[at]) for g, at in zip(grids, read, strict=True)])
    post = post[np.isfinite(post)]
    if len(post) < MANY:
        return largest, largest
    return largest, min(largest, float(np.quantile(post, CLIPPED))) or largest


def _name_axes(axes: list[Axes]) -> None:
    """Name time at the left and at the bottom of a grid of panels only."""
    places = [one.get_subplotspec() for one in axes]
    for number, (one, place) in enumerate(zip(axes, places, strict=True)):
        below = place is not None and any(
            other.colspan.start == place.colspan.start and other.rowspan.start > place.rowspan.start
            for other in places[number + 1 :]
            if other is not None
        )
        if not below:
            one.set_xlabel("checkpoint (optimizer step)")
        if place is None or place.is_first_col():
            one.set_ylabel("cohort (read by step)")


def _profile(ax: Axes, grid: _Grid, norm: TwoSlopeNorm, marks: Marks | None) -> Any:
    """Draw the cells of a panel and all that stands over them; return what has their colors."""
    down, across = grid.shape
    colors: dict[str, Any] = {"norm": norm, "cmap": "RdBu_r"}
    if grid.att.size > VECTOR:  # one pixel a cell in every format: exact, and a tenth of the bytes
        extent = (0, across, down, 0)
        cells: Any = ax.imshow(
            grid.att, extent=extent, interpolation="none", aspect="auto", **colors
        )
    else:
        cells = ax.pcolormesh(np.arange(across + 1), np.arange(down + 1), grid.att, **colors)
        ax.invert_yaxis()
    read, ends, thin = grid.read_at, np.arange(down + 1), min(0.9, 70 / across)
    ax.stairs(read, ends, orientation="horizontal", color="0.2", lw=thin, baseline=None)
    edges = _outline(grid.marked)
    lines = LineCollection(
        edges,
        colors="black",
        linewidths=min(1.1, 55 / across),
        rasterized=len(edges) > 1500,  # scattered cells of a large grid: megabytes of paths
    )
    lines.set_label("band")
    ax.add_collection(lines)
    for (_, step), dash in zip((marks or {}).items(), DASHES, strict=False):
        _mark(ax, grid, step, dash)
    _label(ax, "x", grid.checkpoints)
    _label(ax, "y", grid.cohorts)
    return cells


def _outline(member: Bool[np.ndarray, "G C"]) -> list[list[tuple[float, float]]]:
    """Edges between cells that belong to a set and cells that do not, as runs of points (x, y).

    Examples
    --------
    >>> [[(int(x), int(y)) for x, y in run] for run in _outline(np.array([[True, True]]))]
    [[(0, 0), (2, 0)], [(0, 1), (2, 1)], [(0, 0), (0, 1)], [(2, 0), (2, 1)]]
    """
    runs = []
    padded = np.pad(member, 1).astype(np.int8)
    for turned in (False, True):
        cells = padded.T if turned else padded
        edge = np.diff(cells, axis=0)[:, 1:-1]  # (lines between rows, columns)
        for line, along in enumerate(edge):
            steps = np.diff(np.concatenate([[0], along, [0]]))
            for place in np.flatnonzero(steps):
                if place < len(along) and along[place]:
                    changes = np.flatnonzero(along[place:] != along[place])
                    end = place + (changes[0] if len(changes) else len(along) - place)
                    ends = [(place, line), (end, line)]
                    runs.append([(y, x) for x, y in ends] if turned else ends)
    return [[(float(x), float(y)) for x, y in run] for run in runs]


def _mark(ax: Axes, grid: _Grid, step: int, dash: Any) -> None:
    """Draw a mark from its cohort to the stair and down to its checkpoint."""
    right = np.interp(step, grid.checkpoints.to_numpy(), np.arange(grid.shape[1]) + 1.0)
    down = np.interp(step, grid.cohorts.to_numpy(), np.arange(grid.shape[0]) + 1.0)
    if grid.checkpoints[0] < step < grid.checkpoints[-1]:
        path = [(0, down), (right, down), (right, grid.shape[0])]
        ax.plot(*zip(*path, strict=True), color="0.3", lw=0.9, ls=dash, scalex=False, scaley=False)


def _legend(band: str, marks: Marks | None) -> list[Line2D]:
    square = {"marker": "s", "mfc": "none", "mec": "black", "mew": 1.1, "ms": 7, "ls": "none"}
    known = [
        Line2D([], [], color="0.2", lw=1.2, label="right of the stair: the cohort has been read"),
        Line2D([], [], label=f"outlined: {band}; all cells are drawn", **square),  # type: ignore[arg-type]
    ]
    known += [
        Line2D([], [], color="0.3", lw=0.9, ls=dash, label=mark_text(name, step))
        for (name, step), dash in zip((marks or {}).items(), DASHES, strict=False)
    ]
    return known


def _label(ax: Axes, axis: str, steps: pl.Series) -> None:
    """Name a few cells by their steps: round ones where the grid has them."""
    every = max(1, -(-len(steps) // _MOST_LABELS))
    chosen = _round_places(steps) or list(range(0, len(steps), every))
    names = [step_text(step) for step in steps.gather(chosen)]
    ticks = [place + 0.5 for place in chosen]
    (ax.set_xticks if axis == "x" else ax.set_yticks)(ticks, names, rotation=0)


def _round_places(steps: pl.Series) -> list[int]:
    """Places of steps that are multiples of a round number, evenly apart; none where there are not.

    Examples
    --------
    >>> _round_places(pl.Series(range(0, 144_000, 1000)))
    [0, 50, 100]
    >>> _round_places(pl.Series([1, 3, 5, 7, 9, 11]))
    []
    """
    values = steps.to_numpy()
    for unit in (m * 10**k for k in range(7) for m in (1, 2, 5)):
        places = np.flatnonzero(values % unit == 0)
        if len(places) > _MOST_LABELS:
            continue
        apart = np.diff(places)
        even = len(apart) and apart.min() >= len(values) / (_MOST_LABELS + 2)
        return places.tolist() if even else []
    return []
