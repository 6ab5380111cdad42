"""Plain text for terminals: tables that fold to the width there is, and steps as ranges."""

import shutil
import sys
from collections.abc import Mapping, Sequence
from io import StringIO
from typing import Any

__all__ = ["duration", "steps_text", "text_table"]

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
