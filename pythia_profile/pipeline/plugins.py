"""Figures of other packages: each entry point of `pythia_profile.figures` draws one."""

from collections.abc import Mapping
from importlib.metadata import entry_points
from pathlib import Path

import polars as pl
from matplotlib.figure import Figure

from pythia_profile.errors import StudyError
from pythia_profile.figures.style import save

__all__ = ["GROUP", "draw_plugins"]

GROUP = "pythia_profile.figures"


def draw_plugins(tables: Mapping[str, pl.DataFrame], folder: Path) -> list[str]:
    """Draw the figures of other packages; return their names.

    Raises
    ------
    StudyError
        One of them gives no figure.
    """
    names = []
    for entry in sorted(entry_points(group=GROUP), key=lambda entry: entry.name):
        figure = entry.load()(tables)
        if not isinstance(figure, Figure):
            raise StudyError(
                f"figure '{entry.name}' of {entry.value}: got {type(figure).__name__}, expected a "
                "matplotlib Figure"
            )
        save(figure, folder, entry.name)
        names.append(entry.name)
    return names
