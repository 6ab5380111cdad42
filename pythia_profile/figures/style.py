"""One look for all figures: colors by size, readable grids, vector output that is reproducible."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import matplotlib as mpl
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from pythia_profile.store import atomic_write

__all__ = ["OUTCOME_LABELS", "canvas", "name_outcome", "save", "size_colors"]

OUTCOME_LABELS = {
    "log_likelihood": "log-likelihood (nats per token)",
    "accuracy": "greedy accuracy (share of tokens)",
    "mean_rank": "mean rank of the target",
    "entropy": "entropy (nats)",
}
"""How axes name an outcome; others are called by their column."""

_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "pythia-profile",
    "figure.constrained_layout.use": True,
    "axes.titlesize": "medium",
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "font.family": "sans-serif",
}


@contextmanager
def canvas(
    columns: int = 1,
    rows: int = 1,
    width: float = 4.2,
    height: float = 3.2,
    share_x: bool = False,
    ratios: Sequence[float] | None = None,
) -> Iterator[tuple[Figure, Sequence[Axes]]]:
    """Give a figure of `columns` × `rows` axes in the house style; inches for each of them.

    Parameters
    ----------
    ratios : heights of the rows to one another.
    """
    with (
        sns.axes_style("ticks"),
        sns.plotting_context("notebook", font_scale=0.8),
        mpl.rc_context(_SETTINGS),
    ):
        figure = Figure(figsize=(columns * width, rows * height))
        axes = figure.subplots(rows, columns, squeeze=False, sharex=share_x, height_ratios=ratios)
        yield figure, axes.ravel().tolist()
        for ax in figure.axes:
            if ax.get_label() != "<colorbar>":
                sns.despine(ax=ax)


def size_colors(sizes: Sequence[str]) -> dict[str, tuple[float, float, float]]:
    """Give each size a color, light to dark, that stays apart without color vision."""
    shades = sns.color_palette("viridis_r", n_colors=len(sizes) + 1)[1:]
    return dict(zip(sizes, shades, strict=True))


def name_outcome(outcome: str) -> str:
    """How an axis names an outcome, with its unit."""
    return OUTCOME_LABELS.get(outcome, outcome)


def save(figure: Figure, folder: Path, name: str) -> list[Path]:
    """Write a figure as SVG and PNG, whole or not at all; return the paths."""
    paths = []
    with mpl.rc_context(_SETTINGS):
        for kind, metadata in (("svg", {"Date": None}), ("png", {"Software": None})):
            path = folder / f"{name}.{kind}"
            with atomic_write(path) as file:
                figure.savefig(file, format=kind, metadata=metadata, dpi=144)
            paths.append(path)
    return paths
