"""A figure's SVG as a part of the page: without what a reader cannot see, and small.

Of the file: no prolog and no comments, ids of its own, a label, its own width; places to a
hundredth of a point; pictures of cells by a palette of their colors, of which a color map has few.
"""

import base64
import io
import re
from pathlib import Path

import numpy as np
from markupsafe import Markup
from PIL import Image

from pythia_profile.errors import MissingTableError

__all__ = ["inline_figure"]

_PLACES = re.compile(r' (?:d|x|y|transform|points|width|height|cx|cy|r|x1|x2|y1|y2)="[^"]*"')
_LONG = re.compile(r"\d+\.\d{3,}")
_PICTURE = re.compile(r"(?<=base64,)\s*[A-Za-z0-9+/=\s]+(?=\")")
_COLORS = 256


def inline_figure(path: Path, label: str) -> Markup | None:
    """Read an SVG for use inside the page, with `label` for readers who cannot see it.

    Its words stay between 9.7 and 12.8 px: it grows to 1.45 px for a point and shrinks to 1.1,
    below which its box scrolls. None where there is no such file.

    Raises
    ------
    MissingTableError
        The file is no whole figure.
    """
    if not path.exists():
        return None
    svg = path.read_text(encoding="utf-8", errors="replace")
    if "<svg" not in svg or not svg.rstrip().endswith("</svg>"):
        raise MissingTableError(
            f"'{path}' is no figure; run `pythia-profile plot {path.parents[1]}` again"
        )
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>|<!--.*?-->", "", svg, flags=re.DOTALL)
    svg = _PICTURE.sub(_with_palette, svg)
    svg = _PLACES.sub(lambda part: _LONG.sub(_to_hundredths, part[0]), svg)
    used = {*re.findall(r'(?:href="|url\()#([^")]+)', svg)}

    def own(found: re.Match[str]) -> str:  # of groups only those that the script looks for
        needed = found[1] in used or "axes" in found[1] or "cells" in found[1]
        return f' id="{path.stem}-{found[1]}"' if needed else ""

    svg = re.sub(r' id="([^"]+)"', own, svg)
    svg = re.sub(r'(href="|url\()#([^")]+)', rf"\1#{path.stem}-\2", svg)
    width = re.search(r' width="([\d.]+)pt"', svg)
    points = float(width[1]) if width else 460.0
    svg = re.sub(r' (width|height)="[\d.]+pt"', "", svg, count=2)
    style = f"min-width: {1.1 * points:.0f}px; max-width: {1.45 * points:.0f}px"
    return Markup(svg.replace("<svg", f'<svg role="img" aria-label="{label}" style="{style}"', 1))


def _to_hundredths(number: re.Match[str]) -> str:
    return f"{float(number[0]):.2f}".rstrip("0").rstrip(".")


def _with_palette(found: re.Match[str]) -> str:
    """Write a picture of few colors as their numbers, pixel by pixel the same; leave any other."""
    raw = base64.b64decode(found[0])
    pixels = np.asarray(Image.open(io.BytesIO(raw)).convert("RGBA"))
    colors, number = np.unique(pixels.reshape(-1, 4), axis=0, return_inverse=True)
    if len(colors) > _COLORS:
        return found[0].strip()
    small = Image.fromarray(number.reshape(pixels.shape[:2]).astype(np.uint8))
    small.putpalette(colors[:, :3].tobytes())
    out = io.BytesIO()
    small.save(out, "PNG", optimize=True, transparency=colors[:, 3].tobytes())
    return base64.b64encode(min(out.getvalue(), raw, key=len)).decode()
