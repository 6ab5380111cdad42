"""What the report says first: a title that says the finding, and every average with its weights.

In: the tables `PROFILES`, `SENSITIVITY` and `ALTERNATIVES`. Out: a sentence, and a frame.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from pythia_profile.figures.style import name_outcome
from pythia_profile.report.words import Tables, means_of, places_of, share_left

__all__ = ["averages", "title"]

_HOW = {
    "instantaneous": "first checkpoint that has read the cohort; cohorts by their rows",
    "persistent": "headline: later checkpoints of a cohort alike; cohorts by their rows",
    "residual": "last checkpoint; cohorts by their rows",
}
_NAMES = {"instantaneous": "at once", "persistent": "later", "residual": "at the end"}


def title(tables: Tables, outcome: str, sizes: Sequence[str]) -> str:
    """Say in one sentence what reading a row did to its outcome, and what was left of it.

    An effect is told from 0 where its pointwise interval leaves 0 out.
    """
    means = {size: line for size, line in means_of(tables, outcome).items() if size in sizes}
    what, _, unit = name_outcome(outcome).partition(" (")
    known = {
        size: line["instantaneous"]
        for size, line in means.items()
        if line["instantaneous"]["att"] is not None
    }
    if not known:
        return f"Effects of reading a row on its {what}"
    told = {size: line for size, line in known.items() if _told(line)}
    if not told:
        return f"No effect of reading a row on its {what} can be told from 0"
    signs = {line["att"] > 0 for line in told.values()}
    verb = {(True,): "raised", (False,): "lowered"}.get(tuple(signs), "changed")
    amount = f"{verb} its {what} by {_range(told, unit.rstrip(')'))}"
    within = "" if len(told) == len(known) else f" in {len(told)} of {len(known)} sizes"
    return f"Reading a row {amount}{within}{_left({size: means[size] for size in told})}"


def _told(line: Mapping[str, Any]) -> bool:
    return line["att"] is not None and (line["lower"] > 0 or line["upper"] < 0)


def _range(lines: Mapping[str, Mapping[str, Any]], unit: str) -> str:
    """Smallest and largest estimate, with their sizes."""
    places = max(places_of(line["se"]) for line in lines.values())
    ends = sorted(lines, key=lambda size: abs(lines[size]["att"]))
    first, last = (f"{abs(lines[size]['att']):.{places}f}" for size in (ends[0], ends[-1]))
    unit = f" {unit}" if unit else ""
    if len(lines) == 1:
        return f"{last}{unit}"
    return f"{first} ({ends[0]}) to {last} ({ends[-1]}){unit}"


def _left(means: Mapping[str, Mapping[str, Mapping[str, Any]]]) -> str:
    """Say what was left at the end, where there is an end later than the beginning."""
    later = {size: line for size, line in means.items() if line["persistent"]["att"] is not None}
    shares = [share for line in later.values() if (share := share_left(line)) is not None]
    if not later or not shares:
        return ""
    if not any(_told(line["residual"]) for line in later.values()):
        return "; what was left at the end cannot be told from 0"
    low, high = (f"{share:.0%}" for share in (min(shares), max(shares)))
    return f"; {low if low == high else f'{low} to {high}'} of it was left at the end"


def averages(tables: Tables, outcome: str) -> pl.DataFrame:
    """List every mean of a size's effects with what it averages, the headline ones first."""
    lines = [
        {"size": size, "average": _NAMES[kind], **_estimate(line[kind]), "how averaged": how}
        for size, line in means_of(tables, outcome).items()
        for kind, how in _HOW.items()
    ]
    sensitivity = _of(tables, "sensitivity", outcome)
    if len(sensitivity):
        chosen = sensitivity.filter(
            pl.col("cohort").is_null(), pl.col("restriction") == "relative_magnitudes"
        ).unique(["size", "effect"], keep="first", maintain_order=True)
        lines += [
            {
                "size": line["size"],
                "average": "over event times",
                "att": line["att"],
                "se": line["se"],
                "how averaged": "every event time from 0 on alike, at each the cohorts that reach "
                "it by their rows",
            }
            for line in chosen.filter(pl.col("effect") == "average").iter_rows(named=True)
        ]
    regressions = _of(tables, "alternatives", outcome)
    if len(regressions):
        twfe = regressions.filter(pl.col("estimator") == "twfe", pl.col("att").is_not_null())
        lines += [
            {
                "size": line["size"],
                "average": "over all cells",
                "att": line["att"],
                "how averaged": "every cell from the cohort on, by the cohort's rows",
            }
            for line in twfe.iter_rows(named=True)
        ]
    schema = {"size": pl.String, "average": pl.String, "att": pl.Float64, "se": pl.Float64}
    schema |= {"lower": pl.Float64, "upper": pl.Float64, "how averaged": pl.String}
    return pl.DataFrame(lines, schema=schema)


def _estimate(line: Mapping[str, Any]) -> dict[str, float | None]:
    return {name: line[name] for name in ("att", "se", "lower", "upper")}


def _of(tables: Tables, name: str, outcome: str) -> pl.DataFrame:
    table = tables.get(name)
    return pl.DataFrame() if table is None else table.filter(pl.col("outcome") == outcome)
