"""Plain text for terminals: tables that fold to the width there is, and steps as ranges."""

import shutil
import sys
from collections.abc import Mapping, Sequence
from io import StringIO
from typing import Any

__all__ = ["duration", "steps_text", "text_table", "to_latex", "to_markdown"]

_UNBOUNDED = 10_000
"""Width of a table that goes to a file or a pipe."""


def text_table(
    lines: Sequence[Mapping[str, Any]], columns: Sequence[str], width: int | None = None
) -> str:
    """Lay out some columns of some lines: numbers to the right, the rest to the left.

    Parameters
    ----------
    width : characters of a line, into which cells are folded; those of the terminal by default,
        any number where the output is none.

    Examples
    --------
    >>> print(text_table([{"size": "70m", "layers": 6}, {"size": "160m", "layers": 12}],
    ...                  ["size", "layers"]))
    size  layers
    70m        6
    160m      12
    """
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, padding=(0, 2, 0, 0), header_style="")
    for name in columns:
        numbers = bool(lines) and all(
            isinstance(line.get(name, 0), int | float | None) for line in lines
        )
        table.add_column(Text(name), justify="right" if numbers else "left", overflow="fold")
    for line in lines:
        table.add_row(*(Text(_cell(line.get(name))) for name in columns))
    page = StringIO()
    Console(file=page, width=width or _width(), color_system=None).print(table)
    return "\n".join(line.rstrip() for line in page.getvalue().rstrip().splitlines())


def _width() -> int:
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else _UNBOUNDED


def steps_text(steps: Sequence[int], most: int | None = None) -> str:
    """Name steps, evenly spaced ones as a range; more than `most` of them only by their number.

    Examples
    --------
    >>> steps_text([0, 1, 2, 4, 1000, 2000, 3000, 4000])
    '0, 1, 2, 4, 1000 to 4000 by 1000'
    >>> steps_text(range(0, 90, 2), most=12)
    '45 steps'
    """
    if most is not None and len(steps) > most:
        return f"{len(steps)} steps"
    words, start = [], 0
    while start < len(steps):
        end = start + 1
        while (
            end + 1 < len(steps) and steps[end + 1] - steps[end] == steps[start + 1] - steps[start]
        ):
            end += 1
        if end - start >= 3:
            words.append(f"{steps[start]} to {steps[end]} by {steps[start + 1] - steps[start]}")
            start = end + 1
        else:
            words.append(str(steps[start]))
            start += 1
    return ", ".join(words)


def to_markdown(table: Any, digits: int = 3) -> str:
    """Write a table of results, of polars or pandas, as Markdown.

    Parameters
    ----------
    digits : significant ones of a number.

    Examples
    --------
    >>> import polars as pl
    >>> print(to_markdown(pl.DataFrame({"size": ["xs"], "att": [0.16612]})))
    | size | att |
    | --- | ---: |
    | xs | 0.166 |
    """
    head, lines, right = _cells(table, digits)
    rule = ("---:" if number else "---" for number in right)
    bars = [" | ".join(cell.replace("|", "\\|") for cell in line) for line in (head, rule, *lines)]
    return "\n".join(f"| {bar} |" for bar in bars)


def to_latex(table: Any, digits: int = 3, *, caption: str = "", label: str = "") -> str:
    r"""Write a table of results, of polars or pandas, as LaTeX; needs the package booktabs.

    Parameters
    ----------
    digits : significant ones of a number.
    caption, label : of a floating table; without a caption it is a plain tabular.

    Examples
    --------
    >>> import polars as pl
    >>> print(to_latex(pl.DataFrame({"size": ["xs"], "kept": ["0.16 ± 0.01, 8%"]})))
    \begin{tabular}{ll}
    \toprule
    size & kept \\
    \midrule
    xs & 0.16 $\pm$ 0.01, 8\% \\
    \bottomrule
    \end{tabular}
    """
    head, lines, right = _cells(table, digits)
    rows = [" & ".join(map(_latex, line)) + r" \\" for line in (head, *lines)]
    tabular = [
        rf"\begin{{tabular}}{{{''.join('r' if number else 'l' for number in right)}}}",
        r"\toprule",
        rows[0],
        r"\midrule",
        *rows[1:],
        r"\bottomrule",
        r"\end{tabular}",
    ]
    if caption:
        named = [rf"\label{{{label}}}"] if label else []
        tabular = [
            *(r"\begin{table}", r"\centering", rf"\caption{{{_latex(caption)}}}"),
            *(*named, *tabular, r"\end{table}"),
        ]
    return "\n".join(tabular)


_LATEX = {
    **{sign: rf"\{sign}" for sign in "&%$#_{}"},
    **{"\\": r"\textbackslash{}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}"},
    **{"±": r"$\pm$", "–": "--", "−": "$-$", "<": "$<$", ">": "$>$", "→": r"$\to$"},
}


def _latex(text: str) -> str:
    return "".join(_LATEX.get(sign, sign) for sign in text)


def _cells(table: Any, digits: int) -> tuple[list[str], list[list[str]], list[bool]]:
    """Head, cells as text, and which columns hold numbers."""
    from pythia_profile.tables.frames import polars_frame

    frame = polars_frame(table, "table").lazy().collect()
    lines = [
        [f"{cell:.{digits}g}" if isinstance(cell, float) else _cell(cell) for cell in line]
        for line in frame.iter_rows()
    ]
    return frame.columns, lines, [kind.is_numeric() for kind in frame.dtypes]


_UNITS = (("d", 86_400), ("h", 3600), ("min", 60), ("s", 1))


def duration(seconds: float) -> str:
    """Name a time in its two largest units.

    Examples
    --------
    >>> duration(0.2), duration(95), duration(8_100), duration(1.5e6)
    ('0.2 s', '1 min 35 s', '2 h 15 min', '17 d 8 h')
    """
    if seconds < 10:
        return f"{seconds:.1f} s"
    left, words = round(seconds), list[tuple[int, str]]()
    for name, length in _UNITS:
        count, left = divmod(left, length)
        if count or words:
            words.append((count, name))
        if len(words) == 2:
            break
    return " ".join(f"{count:,} {name}" for count, name in words if count)


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.4g}" if isinstance(value, float) else str(value)
