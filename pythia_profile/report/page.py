"""The report of a study: one HTML file that needs nothing but itself.

Figures are inline SVG, small tables are downloads inside the file, and the script inside sorts
tables and lets a reader point at the cells of the profile. Opening it makes no request, and without
the script nothing is missing but that.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from typing import Any

import polars as pl
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from pythia_profile.errors import MissingTableError
from pythia_profile.figures.style import name_outcome
from pythia_profile.findings.statements import topics
from pythia_profile.profiles.sentences import Group, check_groups
from pythia_profile.report import words
from pythia_profile.report.appendix import extras
from pythia_profile.report.citations import bibtex, methods
from pythia_profile.report.examples import Example, examples
from pythia_profile.report.experiments import experiments
from pythia_profile.report.explorer import packed
from pythia_profile.report.glossary import GLOSSARY
from pythia_profile.report.headline import averages, title
from pythia_profile.report.inlined import inline_figure
from pythia_profile.report.judged import Check, Judged, actions, judge, pivot
from pythia_profile.report.provenance import (
    IMPORTED_EFFECTS,
    assumptions,
    estimation_facts,
    size_table,
    stage_table,
    suite_facts,
)
from pythia_profile.report.quality import quality
from pythia_profile.report.sheets import Sheet, sheet
from pythia_profile.store import write_text
from pythia_profile.study import Study, read_lock

__all__ = ["render", "write_report"]

MOST_BYTES = 1_980_000
"""Of the page. Its words and figures come first, then the cells of the profile, then the tables as
downloads, small ones first; what has no room is named by its file."""
MOST_FIGURES = 1_500_000
"""Bytes of figures; those of outcomes behind the first are left out where all have more."""

FIGURES = {
    "heatmap": "Effect of training, for every cohort at every checkpoint, one panel a size",
    "event_time": "Mean effect against optimizer steps since the cohort, of the same cohorts "
    "throughout, with bands",
    "event_time_all": "Mean effect against optimizer steps since the cohort, of all cohorts, with "
    "bands, and how many cohorts reach an event time",
    "instantaneous": "Instantaneous effect of each cohort, and the learning rate that read it",
    "residual": "Effect at the last checkpoint, for each cohort",
    "difference": "Effect in the largest size minus that in the smallest, for each cohort at each "
    "checkpoint",
    "prediction": "Predicted against observed effects of a size",
    "seeds": "Effects by training seed",
    "decay": "Effects against steps since the cohort, with the fitted decay",
    "agreement": "Correlation of the sizes' profiles, reliability on the diagonal",
    "counterfactual": "Estimated against true effect, and their difference by event time",
}
"""Figures of the report, and their text for readers who cannot see them."""


@dataclass(frozen=True, slots=True)
class Part:
    """What the page says of one outcome.

    Attributes
    ----------
    outcome : column of the scores.
    name : the outcome with its unit.
    suffix : what the names of its figures end in; empty for the study's first outcome.
    headline, placebo, rates, agreement : sentences.
    agreed : what the last come to, in one.
    averages : every mean, and what it averages.
    verdicts : the checks, each with a verdict a size.
    actions : what to do about those that are fragile.
    checks : sentences of the checks, by question.
    rows : most and least remembered rows.
    cells, explored : the profile for the script, and the sizes that had room in it.
    """

    outcome: str
    name: str
    suffix: str
    headline: list[str]
    placebo: list[str]
    rates: list[str]
    agreement: list[str]
    agreed: str
    averages: Sheet
    verdicts: list[tuple[Check, list[Judged]]]
    actions: list[str]
    checks: list[Group]
    rows: list[Example]
    cells: str = ""
    explored: list[str] = field(default_factory=list)


def write_report(
    folder: Path,
    study: Study,
    tables: Mapping[str, pl.DataFrame],
    *,
    stale: Sequence[str] = (),
    out: Path | None = None,
) -> Path:
    """Write `report.html` from the study's tables and figures; return its path.

    Parameters
    ----------
    stale : stages whose tables or figures are older than the settings; the page warns of them.
    out : another file than `report.html` of the study.

    Raises
    ------
    MissingTableError
        The figures have not been drawn.
    """
    figures = {
        name + suffix: svg
        for suffix in _suffixes(study).values()
        for name in FIGURES
        if (svg := inline_figure(folder / "figures" / f"{name}{suffix}.svg", FIGURES[name]))
        is not None
    }
    if "heatmap" not in figures:
        raise MissingTableError(
            f"no figures in '{folder}'; run `pythia-profile plot {folder}` first"
        )
    lock = read_lock(folder)
    grid, name = quality(folder, study), folder.resolve().name
    page = render(study, tables, figures, grid, lock, stale=stale, name=name)
    path = out or folder / "report.html"
    write_text(page, path)
    return path


def render(
    study: Study,
    tables: Mapping[str, pl.DataFrame],
    figures: Mapping[str, Markup],
    grid: pl.DataFrame,
    lock: Mapping[str, Any],
    *,
    stale: Sequence[str] = (),
    name: str = "STUDY",
) -> str:
    """Fill the page's template.

    Parameters
    ----------
    figures : inline SVG by name.
    grid : from `quality`.
    lock : the study's lock file.
    stale : stages that the page warns of.
    name : of the study's folder.
    """
    environment = Environment(
        loader=PackageLoader("pythia_profile.report"),
        autoescape=select_autoescape(),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    sizes = in_order(study, lock)
    tables = {key: _sorted(table, sizes) for key, table in tables.items()}
    truth = tables.get("counterfactual_summary")
    suffixes = _suffixes(study)
    figures, no_room = _fitting(figures, tuple(filter(None, suffixes.values())))
    parts = [_part(tables, name, end, sizes) for name, end in suffixes.items()]
    imported = lock.get("stages", {}).get("att", {}).get("source") == "imported"
    page = partial(
        environment.get_template("page.html").render,
        study=study,
        sizes=sizes,
        stale=list(stale),
        name=name,
        today=_today(),
        title=title(tables, study.outcomes[0], sizes),
        glossary=GLOSSARY,
        summary=sheet(words.summary(tables, study.outcomes)),
        figures=figures,
        no_room=no_room,
        grid=sheet(_sorted(grid, sizes)),
        lock=lock,
        truth=words.counterfactual_sentences(truth, study.estimate.level)
        if truth is not None
        else [],
        topics=topics(tables),
        experiments=experiments(tables),
        extras=extras(tables, study.outcomes),
        checkpoints=words.checkpoint_sentences(lock),
        faults=_any_fault(grid),
        imported=imported,
        methods="" if imported else methods(study, lock, tables),
        bibtex=bibtex(study, tables),
        estimation=IMPORTED_EFFECTS if imported else estimation_facts(study, _notes(lock)),
        assumed=[] if imported else assumptions(study, lock),
        suite=suite_facts(study, lock),
        models=sheet(_sorted(size_table(study, lock), sizes)),
        stages=sheet(stage_table(lock), {"seconds": 1}),
    )
    room = MOST_BYTES - len(page(parts=parts, downloads=_downloads(tables, 0)).encode())
    share = max(0, room * 9 // (10 * len(parts)))
    parts = [_with_cells(part, tables["att"], sizes, share) for part in parts]
    room -= sum(len(part.cells) + _EXPLORER for part in parts)
    return page(parts=parts, downloads=_downloads(tables, room))


_EXPLORER = 1_500
"""Bytes of the elements around the cells of an outcome."""


def _with_cells(part: Part, att: pl.DataFrame, sizes: Sequence[str], room: int) -> Part:
    cells, explored = packed(att, part.outcome, sizes, room)
    return replace(part, cells=cells, explored=explored)


def _fitting(
    figures: Mapping[str, Markup], others: tuple[str, ...]
) -> tuple[dict[str, Markup], list[str]]:
    """Leave out figures whose names end in `others`, the largest first, where there are too many.

    Returns
    -------
    The figures that have room, and the names of the others.
    """
    kept, left = dict(figures), list[str]()
    spare = [name for name in kept if others and name.endswith(others)]
    for name in sorted(spare, key=lambda name: -len(kept[name])):
        if sum(map(len, kept.values())) <= MOST_FIGURES:
            break
        left.append(name)
        del kept[name]
    return kept, left


def _notes(lock: Mapping[str, Any]) -> list[str]:
    return list(lock.get("notes", {}).get("att", []))


def _any_fault(grid: pl.DataFrame) -> bool:
    """Whether something is wrong with what was scored."""
    counts = [c for c in ("quarantined", "equal weights", "scores not finite") if c in grid.columns]
    return any(bool((grid[name] > 0).any()) for name in counts)


def in_order(study: Study, lock: Mapping[str, Any]) -> list[str]:
    """Sizes of a study by their parameters, where these are known; else as the study lists them."""
    known = lock.get("suite", {}).get("sizes", {})
    if not all(known.get(size, {}).get("parameters") for size in study.sizes):
        return list(study.sizes)
    return sorted(study.sizes, key=lambda size: known[size]["parameters"])


def _sorted(table: pl.DataFrame, sizes: Sequence[str]) -> pl.DataFrame:
    """Put the lines of smaller models first, and leave their order within a model."""
    if "size" not in table.columns:
        return table
    rank = pl.col("size").replace_strict(
        {size: at for at, size in enumerate(sizes)}, default=len(sizes), return_dtype=pl.Int64
    )
    return table.sort(rank, maintain_order=True)


def _today() -> date:
    return datetime.now(UTC).date()


def _suffixes(study: Study) -> dict[str, str]:
    """Outcome -> what the names of its figures end in, as `figures.draw_all` names them."""
    return {
        outcome: f"_{outcome}" if number else "" for number, outcome in enumerate(study.outcomes)
    }


def _part(
    tables: Mapping[str, pl.DataFrame],
    outcome: str,
    suffix: str,
    sizes: Sequence[str],
) -> Part:
    found = judge(tables, outcome, sizes)
    return Part(
        outcome=outcome,
        name=name_outcome(outcome),
        suffix=suffix,
        headline=words.headline(tables, outcome),
        placebo=words.placebo_sentences(tables, outcome),
        rates=words.rate_sentences(tables, outcome),
        agreement=words.agreement_sentences(tables, outcome),
        agreed=words.agreement_summary(tables, outcome),
        averages=sheet(averages(tables, outcome)),
        verdicts=list(pivot(found, sizes)),
        actions=actions(found),
        checks=check_groups(tables, outcome),
        rows=examples(tables.get("remembered"), outcome),
    )


def _downloads(tables: Mapping[str, pl.DataFrame], room: int) -> dict[str, str]:
    """CSV of each table as a data address, the smallest first; empty where there is no room."""
    found = dict.fromkeys((name for name, table in tables.items() if len(table)), "")
    texts = {name: _csv(tables[name]) for name in found}
    for name, text in sorted(texts.items(), key=lambda item: len(item[1])):
        room -= 4 * -(-len(text) // 3)
        if room < 0:
            break
        found[name] = "data:text/csv;base64," + base64.b64encode(text).decode()
    return found


def _csv(table: pl.DataFrame) -> bytes:
    nested = [pl.col(name) for name, dtype in table.schema.items() if dtype.is_nested()]
    joined = [
        pl.format("[{}]", column.list.eval(pl.element().cast(pl.String)).list.join(" ")).alias(
            column.meta.output_name()
        )
        for column in nested
    ]
    return table.with_columns(joined).write_csv().encode()
