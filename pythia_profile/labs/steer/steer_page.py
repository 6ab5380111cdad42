"""Texts with marks, as a part of a page and as a page."""

from collections.abc import Sequence
from html import escape
from pathlib import Path

import polars as pl

from pythia_profile.labs.lab_page import LabPart, write_lab_page

__all__ = ["HAN", "listed", "marked_texts", "write_marked_page"]

HAN = "After Han et al. (2024), Word Embeddings Are Steers, arXiv 2305.12798."


def marked_texts(marked: Sequence[tuple[float, str]]) -> str:
    """HTML of texts with their marks and inferred strengths."""
    lines = [f"<p><b>{value:+.2f}</b> {text}</p>" for value, text in marked]
    return f'<div class="marked">{"".join(lines)}</div>'


def listed(sentences: Sequence[str]) -> str:
    """HTML list of sentences, escaped."""
    return f"<ul>{''.join(f'<li>{escape(one)}</li>' for one in sentences)}</ul>"


def write_marked_page(
    path: Path, marked: Sequence[tuple[float, str]], notes: Sequence[str]
) -> Path:
    """Write texts with their keywords marked; return where.

    Parameters
    ----------
    marked : of each text the inferred strength, and its HTML.
    notes : what was done to the texts.
    """
    values = pl.DataFrame(
        {"text": range(1, len(marked) + 1), "most_likely_at": [value for value, _ in marked]}
    )
    said = (
        "Before each text the strength at which it is most likely, between -3 and 3. Marked are "
        "the spans that hold most evidence for the steer (underlined) and against it (dashed); "
        "pointing at one says how much, in nats."
    )
    part = LabPart("Texts", " ".join([said, *notes]), markup=marked_texts(marked))
    return write_lab_page(
        path,
        title="Where texts show a steer",
        lead=HAN,
        parts=[part],
        tables=[("Strength at which each text is most likely", values)],
        settings="",
    )
