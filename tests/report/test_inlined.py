"""Figures inside the page: smaller than their files, the same to the eye, and a page below 2 MB."""

import base64
import io
import re

import numpy as np
import polars as pl
import pytest
from markupsafe import Markup
from PIL import Image

from pythia_profile.errors import MissingTableError
from pythia_profile.report.inlined import inline_figure
from pythia_profile.report.page import MOST_BYTES, render
from pythia_profile.study import new_study
from tests.report.conftest import OUTCOME


def picture(colors, seed=0):
    """An image of random cells, 2 by 2 pixels each, as a PNG of four channels."""
    rng = np.random.default_rng(seed)
    palette = rng.integers(0, 256, (colors, 4), dtype=np.uint8)
    pixels = palette[rng.integers(0, colors, (80, 90))].repeat(2, axis=0).repeat(2, axis=1)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "PNG")
    return pixels, base64.b64encode(out.getvalue()).decode()


def svg(png, path="M 1.23456 2 L 3.999999 10.5"):
    return (
        '<?xml version="1.0"?>\n<!-- made by hand -->\n<svg width="100pt" height="50pt"><g id="g1">'
        f'<clipPath id="c1"/><path d="{path}" clip-path="url(#c1)"/></g>'
        f'<g id="cells-xs"><image href="data:image/png;base64,\n{png}"/></g></svg>'
    )


@pytest.mark.parametrize("colors", [3, 200, 4000])
def test_a_picture_of_cells_is_smaller_and_pixel_by_pixel_the_same(tmp_path, colors):
    pixels, png = picture(colors)
    (tmp_path / "heatmap.svg").write_text(svg(png))

    made = inline_figure(tmp_path / "heatmap.svg", "cells")

    (found,) = re.findall(r'base64,([^"]+)"', made)
    raw = base64.b64decode(found)
    assert np.array_equal(np.asarray(Image.open(io.BytesIO(raw)).convert("RGBA")), pixels)
    assert len(found) <= len(png)
    assert (len(found) < 0.7 * len(png)) == (colors <= 256)


def test_places_are_rounded_and_only_ids_that_are_used_stay(tmp_path):
    (tmp_path / "a.svg").write_text(svg(picture(2)[1]))

    made = inline_figure(tmp_path / "a.svg", "an effect")

    assert made.startswith('<svg role="img" aria-label="an effect" style="min-width: 110px')
    assert 'd="M 1.23 2 L 4 10.5"' in made
    assert re.findall(r' id="([^"]+)"', made) == ["a-c1", "a-cells-xs"]
    assert "url(#a-c1)" in made
    assert "by hand" not in made


def test_what_is_no_whole_figure_is_named(tmp_path):
    (tmp_path / "a.svg").write_text("<svg>")

    assert inline_figure(tmp_path / "none.svg", "") is None
    with pytest.raises(MissingTableError, match="is no figure; run `pythia-profile plot"):
        inline_figure(tmp_path / "a.svg", "")


def test_a_page_stays_below_two_megabytes_whatever_the_study_holds(tables):
    """Six sizes, two outcomes, figures and tables of several megabytes."""
    rng = np.random.default_rng(0)
    sizes = ("70m", "160m", "410m", "1b", "1.4b", "2.8b")
    grid = pl.DataFrame({"cohort": np.arange(100)}).join(
        pl.DataFrame({"checkpoint": np.arange(100)}), how="cross"
    )
    cells = pl.concat(
        grid.with_columns(
            att=pl.Series(rng.normal(size=len(grid))), size=pl.lit(size), outcome=pl.lit(outcome)
        )
        for size in sizes
        for outcome in (OUTCOME, "accuracy")
    )
    reach = pl.Series(rng.uniform(size=len(cells)))
    cells = cells.with_columns(lower=pl.col("att") - reach, upper=pl.col("att") + 2 * reach)
    figures = {
        f"{name}{end}": Markup(f"<svg>{'x' * 400_000}</svg>")
        for name in ("heatmap", "event_time", "residual")
        for end in ("", "_accuracy")
    }
    study = new_study("pythia", sizes, {"outcomes": [OUTCOME, "accuracy"]})
    empty = {name: table.clear() for name, table in tables.items()}

    page = render(study, {**empty, "att": cells}, figures, pl.DataFrame({"size": ["70m"]}), {})

    assert len(page.encode()) <= MOST_BYTES + 20_000 <= 2_000_000
    assert page.count("<svg>xxx") == 3
    assert "heatmap_accuracy" in page[page.index("Figures without room") :][:200]
    assert "the others had no room" in page
