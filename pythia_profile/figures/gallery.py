"""Every figure of a study, from its tables to files."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from pythia_profile.errors import not_found
from pythia_profile.figures.answers import decay, prediction, seeds
from pythia_profile.figures.comparisons import agreement, counterfactual
from pythia_profile.figures.heatmaps import difference, heatmap
from pythia_profile.figures.profiles import event_time, instantaneous, residual
from pythia_profile.figures.style import Drawn, Marks, for_files, save, sizes_in

__all__ = ["FIGURES", "draw_all"]

Tables = Mapping[str, pl.DataFrame]
FIGURES = (
    *("heatmap", "difference", "event_time", "event_time_all", "instantaneous", "residual"),
    *("agreement", "prediction", "seeds", "decay", "counterfactual"),
)
"""Names of all figures, as they are asked for and as their files are called."""


def draw_all(
    tables: Tables,
    folder: Path,
    outcomes: Sequence[str],
    *,
    marks: Marks | None = None,
    which: Sequence[str] = (),
    sizes: Sequence[str] = (),
    formats: Sequence[str] = ("svg", "png"),
) -> list[str]:
    """Draw every figure that the tables allow; return their names.

    Parameters
    ----------
    tables : by name: att, profiles, agreement, and where there are, counterfactual, prediction,
        findings, decay; of empty tables nothing is drawn.
    outcomes : the first one's figures carry no suffix.
    marks : what happened at which step, on every axis of time.
    which : names from `FIGURES`; all unless given.
    sizes : draw these only, in this order.
    formats : svg, png, pdf.

    Raises
    ------
    NotFoundError
        A figure of that name does not exist, or the study has not what it is drawn from.
    """
    for name in which:
        if name not in FIGURES:
            raise not_found("figure", name, list(FIGURES))
    names, drawable = list[str](), dict[str, None]()
    with for_files():
        for number, outcome in enumerate(outcomes):
            suffix = f"_{outcome}" if number else ""
            if number and "att" in tables and outcome not in tables["att"]["outcome"]:
                continue  # it never varies, and was left out
            drawings = _drawings(tables, outcome, marks, sizes or None)
            drawable |= dict.fromkeys(drawings)
            for name, draw in drawings.items():
                if (which and name not in which) or (name == "counterfactual" and number):
                    continue
                save(_figure(draw()), folder, name + suffix, formats)
                names.append(name + suffix)
    if lacking := [name for name in which if name not in drawable]:
        raise not_found("figure of this study", lacking[0], [*drawable])
    return names


def _drawings(
    tables: Tables, outcome: str, marks: Marks | None, sizes: Sequence[str] | None
) -> dict[str, Callable[[], Drawn]]:
    """Drawings that the tables allow, by name."""
    of: dict[str, Any] = {"outcome": outcome, "size": sizes}
    empty = pl.DataFrame({"outcome": []}, schema={"outcome": pl.String})

    def lines(name: str) -> pl.DataFrame:
        table = tables.get(name, empty)
        return table.filter(pl.col("outcome") == outcome)

    att, profiles, agreed = lines("att"), lines("profiles"), lines("agreement")
    found: dict[str, Callable[[], Drawn]] = {"heatmap": lambda: heatmap(att, marks=marks, **of)}
    known = sizes or sizes_in(att)
    if len(known) > 1:
        found["difference"] = lambda: difference(
            att, known[-1], known[0], outcome=outcome, marks=marks
        )
    if len(profiles):
        kinds = {*profiles.filter(pl.col("att").is_finite())["kind"]}
        if "event_time_balanced" in kinds:
            found["event_time"] = lambda: event_time(profiles, **of)
        if "event_time" in kinds and _more_than_constant(profiles):
            found["event_time_all"] = lambda: event_time(profiles, cohorts="all", **of)
        for name, draw in (("instantaneous", instantaneous), ("residual", residual)):
            if len(profiles.filter(pl.col("kind") == name, pl.col("cohort").is_not_null())):
                found[name] = _with(draw, profiles, marks, of)
    if len(agreed):
        found["agreement"] = lambda: agreement(_among(agreed, sizes), outcome=outcome)
    predicted = lines("prediction")
    if len(predicted) and predicted["observed"].count():
        found["prediction"] = lambda: prediction(
            predicted, outcome=outcome, size=sizes[-1] if sizes else None
        )
    findings = lines("findings")
    if len(findings) and (findings["quantity"] == "between_sd").any():
        found["seeds"] = lambda: seeds(findings, **of)
    laws = lines("decay")
    if (
        len(laws)
        and laws.filter(pl.col("chosen"), pl.col("subset") == "constant")["initial"].count()
    ):
        found["decay"] = lambda: decay(laws, profiles, **of)
    if "counterfactual" in tables and len(tables["counterfactual"]):
        found["counterfactual"] = lambda: counterfactual(tables["counterfactual"])
    return found


def _more_than_constant(profiles: pl.DataFrame) -> bool:
    """Whether the curve of all cohorts is another one than that of a constant set."""
    known = profiles.filter(pl.col("att").is_finite())
    every, same = (known.filter(kind=name) for name in ("event_time", "event_time_balanced"))
    return len(every) > len(same)


def _with(
    draw: Callable[..., Drawn], profiles: pl.DataFrame, marks: Marks | None, of: dict[str, Any]
) -> Callable[[], Drawn]:
    return lambda: draw(profiles, marks=marks, **of)


def _among(table: pl.DataFrame, sizes: Sequence[str] | None) -> pl.DataFrame:
    if sizes is None:
        return table
    return table.filter(pl.col("size_a").is_in(sizes) & pl.col("size_b").is_in(sizes))


def _figure(drawn: Drawn) -> Any:
    return np.ravel(np.asarray(drawn, dtype=object))[0].figure
