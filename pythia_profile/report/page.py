"""The report of a study: one HTML file that needs nothing but itself.

Figures are inline SVG, small tables are downloads inside the file, and the only script sorts
tables. Opening it makes no request.
"""

import base64
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import polars as pl
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from pythia_profile.errors import MissingTableError
from pythia_profile.figures.style import name_outcome
from pythia_profile.profiles.sentences import Group, check_groups
from pythia_profile.report import words
from pythia_profile.report.provenance import (
    IMPORTED_EFFECTS,
    assumptions,
    estimation_facts,
    size_table,
    stage_table,
    suite_facts,
)
from pythia_profile.report.sheets import Sheet, sheet
from pythia_profile.scoring.records import read_record
from pythia_profile.store import write_text
from pythia_profile.study import Study, read_lock
from pythia_profile.tables import CHECKS

__all__ = ["quality", "render", "write_report"]

LARGEST_INLINE = 300_000
"""Bytes of the largest table that is put into the page; larger ones are named by their file."""

FIGURES = {
    "heatmap": "Effect of training, for every cohort at every checkpoint, one panel a size",
    "event_time": "Mean effect against optimizer steps since the cohort, with bands",
    "instantaneous": "Instantaneous effect of each cohort, and the learning rate that read it",
    "residual": "Effect at the last checkpoint, for each cohort",
    "agreement": "Correlation of the sizes' profiles, reliability on the diagonal",
    "counterfactual": "Estimated against true effect, and their difference by event time",
}
"""Figures of the report, and their text for readers who cannot see them."""


@dataclass(frozen=True, slots=True)
class Part:
    """The part of the page on one outcome.

    Attributes
    ----------
    name : the outcome with its unit.
    suffix : what the names of its figures end in; empty for the study's first outcome.
    headline, placebo, rates, agreement : sentences.
    means : profiles averaged over cohorts.
    checks : sentences of the checks, by question.
    """

    name: str
    suffix: str
    headline: list[str]
    placebo: list[str]
    rates: list[str]
    agreement: list[str]
    means: Sheet
    checks: list[Group]


def write_report(
    folder: Path,
    study: Study,
    tables: Mapping[str, pl.DataFrame],
    *,
    stale: Sequence[str] = (),
) -> Path:
    """Write `report.html` from the study's tables and figures; return its path.

    Parameters
    ----------
    stale : stages whose tables or figures are older than the settings; the page warns of them.

    Raises
    ------
    MissingTableError
        The figures have not been drawn.
    """
    figures = {
        name + suffix: svg
        for suffix in _suffixes(study).values()
        for name in FIGURES
        if (svg := _figure(folder / "figures" / f"{name}{suffix}.svg", FIGURES[name])) is not None
    }
    if "heatmap" not in figures:
        raise MissingTableError(
            f"no figures in '{folder}'; run `pythia-profile plot {folder}` first"
        )
    lock = read_lock(folder)
    grid, name = quality(folder, study), folder.resolve().name
    page = render(study, tables, figures, grid, lock, stale=stale, name=name)
    write_text(page, folder / "report.html")
    return folder / "report.html"


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
    truth = tables.get("counterfactual_summary")
    imported = lock.get("stages", {}).get("att", {}).get("source") == "imported"
    return environment.get_template("page.html").render(
        study=study,
        stale=list(stale),
        name=name,
        summary=sheet(words.summary(tables, study.outcomes)),
        figures=figures,
        grid=sheet(grid),
        lock=lock,
        parts=[_part(tables, outcome, end) for outcome, end in _suffixes(study).items()],
        truth=words.counterfactual_sentences(truth, study.estimate.level)
        if truth is not None
        else [],
        checkpoints=words.checkpoint_sentences(lock),
        imported=imported,
        estimation=IMPORTED_EFFECTS if imported else estimation_facts(study),
        assumed=[] if imported else assumptions(study, lock),
        suite=suite_facts(study, lock),
        sizes=sheet(size_table(study, lock)),
        stages=sheet(stage_table(lock), {"seconds": 1}),
        downloads={name: _download(table) for name, table in tables.items() if len(table)},
    )


def _suffixes(study: Study) -> dict[str, str]:
    """Outcome -> what the names of its figures end in, as `figures.draw_all` names them."""
    return {
        outcome: f"_{outcome}" if number else "" for number, outcome in enumerate(study.outcomes)
    }


def _part(tables: Mapping[str, pl.DataFrame], outcome: str, suffix: str) -> Part:
    checked = all(table.name in tables for table in CHECKS)
    return Part(
        name=name_outcome(outcome),
        suffix=suffix,
        headline=words.headline(tables, outcome),
        placebo=words.placebo_sentences(tables, outcome),
        rates=words.rate_sentences(tables, outcome),
        agreement=words.agreement_sentences(tables, outcome),
        means=sheet(_means(tables["profiles"].filter(pl.col("outcome") == outcome))),
        checks=check_groups(tables, outcome) if checked else [],
    )


def quality(folder: Path, study: Study) -> pl.DataFrame:
    """Count what was scored, by size: checkpoints, rows, missing and quarantined, dtype.

    Scores of another training seed that lie in the folder are no part of the study.
    """
    if imported := _imported_quality(folder / "scores", study):
        return pl.DataFrame(imported)
    lines = []
    for size in study.sizes:
        run = f"*/{size}/seed{study.training_seed}/*"
        done = [read_record(path) for path in (folder / "scores").glob(f"{run}/done.json")]
        bad = list((folder / "scores").glob(f"{run}/quarantine.json"))
        dtypes = {str(record.settings.get("dtype", "not stated")) for record in done}
        hashes = [str(sorted(record.weights.items())) for record in done]
        lines.append(
            {
                "size": size,
                "checkpoints": len(done),
                "quarantined": len(bad),
                "equal weights": len(hashes) - len(set(hashes)),
                "rows": "–".join(sorted({f"{record.rows:,}" for record in done})),
                "scores not finite": sum(
                    record.rows - count for record in done for count in record.finite.values()
                ),
                "dtype": ", ".join(sorted(dtypes)),
            }
        )
    return pl.DataFrame(lines)


def _imported_quality(folder: Path, study: Study) -> list[dict[str, Any]]:
    """Count tables of scores that were not scored here; empty where any was, or there are none."""
    paths = [p for p in sorted(folder.rglob("*.parquet")) if not p.name.startswith(".")]
    if not paths or any(folder.rglob("done.json")):
        return []
    columns = ["size", "seed", "checkpoint", "row_id", *study.outcomes]
    scores = pl.concat(pl.read_parquet(path, columns=columns) for path in paths)
    lines = []
    for size in study.sizes:
        some = scores.filter(size=size, seed=study.training_seed)
        rows = some.group_by("checkpoint").len()["len"].unique().sort()
        values = some.select(pl.col(study.outcomes).cast(pl.Float64))
        finite = values.select(pl.all().is_finite().fill_null(value=False).sum()).row(0)
        lines.append(
            {
                "size": size,
                "checkpoints": some["checkpoint"].n_unique(),
                "rows": "–".join(f"{count:,}" for count in rows),
                "scores not finite": sum(len(some) - count for count in finite),
                "source": "imported",
            }
        )
    return lines


def _figure(path: Path, label: str) -> Markup | None:
    """Read an SVG for use inside the page: no prolog, ids of its own, a label, its own width.

    Its words stay between 9.7 and 12.8 px: it grows to 1.45 px for a point and shrinks to 1.1,
    below which its box scrolls.
    """
    if not path.exists():
        return None
    svg = path.read_text(encoding="utf-8", errors="replace")
    if "<svg" not in svg or not svg.rstrip().endswith("</svg>"):
        raise MissingTableError(
            f"'{path}' is no figure; run `pythia-profile plot {path.parents[1]}` again"
        )
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'id="([^"]+)"', rf'id="{path.stem}-\1"', svg)
    svg = re.sub(r'(href="|url\()#([^")]+)', rf"\1#{path.stem}-\2", svg)
    width = re.search(r' width="([\d.]+)pt"', svg)
    points = float(width[1]) if width else 460.0
    svg = re.sub(r' (width|height)="[\d.]+pt"', "", svg, count=2)
    style = f"min-width: {1.1 * points:.0f}px; max-width: {1.45 * points:.0f}px"
    return Markup(svg.replace("<svg", f'<svg role="img" aria-label="{label}" style="{style}"', 1))


def _means(profiles: pl.DataFrame) -> pl.DataFrame:
    of_all = pl.col("cohort").is_null() & pl.col("event_time").is_null()
    return profiles.filter(of_all).select("size", "kind", "att", "se", "lower", "upper")


def _download(table: pl.DataFrame) -> str:
    """CSV of a small table as a data address; empty for a large one."""
    csv = table.write_csv().encode()
    if len(csv) > LARGEST_INLINE:
        return ""
    return "data:text/csv;base64," + base64.b64encode(csv).decode()
