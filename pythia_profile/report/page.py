"""The report of a study: one HTML file that needs nothing but itself.

Figures are inline SVG, small tables are downloads inside the file, and the only script sorts
tables. Opening it makes no request.
"""

import base64
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import polars as pl
from jinja2 import Environment, PackageLoader, StrictUndefined, select_autoescape
from markupsafe import Markup

from pythia_profile.errors import MissingTableError
from pythia_profile.report import words
from pythia_profile.store import read_json, write_text
from pythia_profile.study import Study, read_lock

__all__ = ["quality", "render", "write_report"]

LARGEST_INLINE = 300_000
"""Bytes of the largest table that is put into the page; larger ones are named by their file."""

FIGURES = {
    "heatmap": "Effect of being read, for every cohort at every checkpoint, one panel a size",
    "event_time": "Mean effect against optimizer steps since the cohort, with bands",
    "instantaneous": "Instantaneous effect of each cohort, and the learning rate that read it",
    "residual": "Effect that is left at the last checkpoint, for each cohort",
    "agreement": "Correlation of the sizes' profiles, split-half reliability on the diagonal",
    "counterfactual": "Estimated against true effect, and their difference by lag",
}
"""Figures of the report, and what a reader who cannot see them is told."""


def write_report(folder: Path, study: Study, tables: Mapping[str, pl.DataFrame]) -> Path:
    """Write `report.html` from the study's tables and figures; return its path.

    Raises
    ------
    MissingTableError
        The figures have not been drawn.
    """
    figures = {
        name: svg
        for name in FIGURES
        if (svg := _figure(folder / "figures" / f"{name}.svg", name)) is not None
    }
    if "heatmap" not in figures:
        raise MissingTableError(
            f"no figures in '{folder}'; run `pythia-profile plot {folder}` first"
        )
    lock = read_lock(folder)
    page = render(study, tables, figures, quality(folder, study), lock)
    write_text(page, folder / "report.html")
    return folder / "report.html"


def render(
    study: Study,
    tables: Mapping[str, pl.DataFrame],
    figures: Mapping[str, Markup],
    grid: pl.DataFrame,
    lock: Mapping[str, Any],
) -> str:
    """Fill the page's template.

    Parameters
    ----------
    figures : inline SVG by name.
    grid : from `quality`.
    lock : the study's lock file.
    """
    environment = Environment(
        loader=PackageLoader("pythia_profile.report"),
        autoescape=select_autoescape(),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    outcome = study.outcomes[0]
    audited = "counterfactual_summary" in tables
    return environment.get_template("page.html").render(
        study=study,
        figures=figures,
        grid=grid,
        lock=lock,
        headline=words.headline(tables, outcome),
        placebo=words.placebo_sentences(tables, outcome),
        rates=words.rate_sentences(tables, outcome),
        agreement=words.agreement_sentences(tables, outcome),
        checks=words.check_sentences(tables, outcome) if "sensitivity" in tables else [],
        audit=words.counterfactual_sentence(tables["counterfactual_summary"]) if audited else "",
        checkpoints=words.checkpoint_sentences(lock),
        means=_means(tables["profiles"]),
        downloads={name: _download(table) for name, table in tables.items()},
    )


def quality(folder: Path, study: Study) -> pl.DataFrame:
    """Count what was scored, by size: checkpoints, rows, missing and quarantined, dtype."""
    lines = []
    for size in study.sizes:
        done = [
            read_json(path) for path in sorted((folder / "scores").glob(f"*/{size}/*/*/done.json"))
        ]
        bad = list((folder / "scores").glob(f"*/{size}/*/*/quarantine.json"))
        hashes = [str(sorted(record["weights"].items())) for record in done]
        lines.append(
            {
                "size": size,
                "checkpoints": len(done),
                "quarantined": len(bad),
                "equal weights": len(hashes) - len(set(hashes)),
                "rows": "–".join(sorted({f"{record['rows']:,}" for record in done})),
                "scores not finite": sum(
                    record["rows"] - count for record in done for count in record["finite"].values()
                ),
                "dtype": ", ".join(sorted({record["settings"]["dtype"] for record in done})),
            }
        )
    return pl.DataFrame(lines)


def _figure(path: Path, name: str) -> Markup | None:
    """Read an SVG for use inside the page: no prolog, ids of its own, a label."""
    if not path.exists():
        return None
    svg = path.read_text()
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'id="([^"]+)"', rf'id="{name}-\1"', svg)
    svg = re.sub(r'(href="|url\()#([^")]+)', rf"\1#{name}-\2", svg)
    label = f'<svg role="img" aria-label="{FIGURES[name]}"'
    svg = re.sub(r' (width|height)="[\d.]+pt"', "", svg, count=2)
    return Markup(svg.replace("<svg", label, 1))


def _means(profiles: pl.DataFrame) -> pl.DataFrame:
    return (
        profiles.filter(pl.col("at").is_null())
        .select("size", "outcome", "kind", "att", "se", "lower", "upper")
        .with_columns(pl.selectors.float().round(4))
    )


def _download(table: pl.DataFrame) -> str:
    """CSV of a small table as a data address; empty for a large one."""
    csv = table.write_csv().encode()
    if len(csv) > LARGEST_INLINE:
        return ""
    return "data:text/csv;base64," + base64.b64encode(csv).decode()
