"""The page of a lab: a sentence and a figure for each question, its tables, its settings.

One file that asks for nothing: figures are inside, no script runs, and it looks like the report of
a study, on paper, on a phone and in the dark.
"""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isnan
from pathlib import Path
from typing import Any

import polars as pl
from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined, select_autoescape

from pythia_profile.store import write_text

__all__ = ["LabPart", "write_lab_page"]

_KINDS = {".svg": "svg+xml", ".png": "png"}


@dataclass(frozen=True, slots=True)
class LabPart:
    """One section of a page.

    Attributes
    ----------
    caption : what is shown; sentence : what it says here.
    figure_path : an SVG or PNG file; None where words are enough.
    markup : HTML below the sentence, such as a text with marks; text in it must be escaped.
    """

    caption: str
    sentence: str
    figure_path: Path | None = None
    markup: str = ""


def write_lab_page(
    path: Path,
    *,
    title: str,
    lead: str,
    parts: Sequence[LabPart],
    tables: Sequence[tuple[str, pl.DataFrame]],
    settings: str,
    warning: str = "",
) -> Path:
    """Write the page; return where it is.

    Parameters
    ----------
    title : the finding, as a heading; lead : what was measured, and after whom.
    parts, tables : in reading order; a table is what it shows, and its lines.
    settings : as TOML.
    warning : what a reader must know before the numbers, such as what has not converged.
    """
    environment = Environment(
        loader=ChoiceLoader(
            [PackageLoader("pythia_profile.labs"), PackageLoader("pythia_profile.report")]
        ),  # of the report, the look
        autoescape=select_autoescape(),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    page = environment.get_template("lab.html").render(
        title=title,
        lead=lead,
        parts=[(part, _data_url(part.figure_path)) for part in parts],
        tables=[_table(caption, frame) for caption, frame in tables],
        settings=settings,
        warning=warning,
    )
    write_text(page, path)
    return path


def _data_url(figure: Path | None) -> str:
    if figure is None:
        return ""
    content = base64.b64encode(figure.read_bytes()).decode()
    return f"data:image/{_KINDS[figure.suffix]};base64,{content}"


def _table(caption: str, frame: pl.DataFrame) -> Mapping[str, Any]:
    return {
        "caption": caption,
        "columns": [
            (name.replace("_", " "), "number" if kind.is_numeric() else "")
            for name, kind in frame.schema.items()
        ],
        "rows": [[_shown(value) for value in row] for row in frame.iter_rows()],
    }


def _shown(value: object) -> str:
    """Write a value of a table as a reader wants it.

    Examples
    --------
    >>> [_shown(value) for value in (True, None, float("nan"), 0.012345, 81234.5, 1500, "xs")]
    ['yes', '–', '–', '0.01235', '81,234', '1,500', 'xs']
    """
    match value:
        case bool():
            return "yes" if value else "no"
        case None:
            return "–"
        case int():
            return f"{value:,}"
        case float() if isnan(value):
            return "–"
        case float():
            return f"{value:.4g}" if abs(value) < 1e4 else f"{value:,.0f}"
        case _:
            return str(value)
