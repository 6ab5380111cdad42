"""Every figure of a study, from its tables to files."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import polars as pl

from pythia_profile.figures.comparisons import agreement, counterfactual
from pythia_profile.figures.profiles import event_time, heatmap, instantaneous, residual
from pythia_profile.figures.style import save

__all__ = ["draw_all"]


def draw_all(
    tables: Mapping[str, pl.DataFrame], folder: Path, outcomes: Sequence[str]
) -> list[str]:
    """Draw every figure that the tables allow, as SVG and PNG; return their names.

    Parameters
    ----------
    tables : by name: att, profiles, agreement, and counterfactual where there is one; of
        empty tables nothing is drawn.
    outcomes : the first one's figures carry no suffix.
    """
    names = []
    for number, outcome in enumerate(outcomes):
        suffix = f"_{outcome}" if number else ""
        figures = {"heatmap": heatmap(tables["att"], outcome=outcome)}
        if len(profiles := tables["profiles"]):
            kinds = set(profiles.filter(pl.col("att").is_finite())["kind"])
            if "event_time_balanced" in kinds:
                figures["event_time"] = event_time(profiles, outcome=outcome)
            if "event_time" in kinds:
                figures["event_time_all"] = event_time(profiles, outcome=outcome, cohorts="all")
            figures["instantaneous"] = instantaneous(profiles, outcome=outcome)
            figures["residual"] = residual(profiles, outcome=outcome)
        if len(tables["agreement"]):
            figures["agreement"] = agreement(tables["agreement"], outcome=outcome)
        for name, figure in figures.items():
            save(figure, folder, name + suffix)
            names.append(name + suffix)
    if "counterfactual" in tables:
        save(counterfactual(tables["counterfactual"]), folder, "counterfactual")
        names.append("counterfactual")
    return names
