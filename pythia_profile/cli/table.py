"""Plain tables and lists of numbers for a terminal."""

from collections.abc import Sequence
from typing import Any

__all__ = ["as_table", "steps_in_words"]


def as_table(lines: Sequence[dict[str, Any]], columns: Sequence[str]) -> str:
    """Lay out some columns of some lines; numbers to the right, the rest to the left.

    Examples
    --------
    >>> print(as_table([{"size": "70m", "layers": 6}, {"size": "160m", "layers": 12}],
    ...                ["size", "layers"]))
    size  layers
    70m        6
    160m      12
    """
    cells = [[_cell(line.get(name)) for name in columns] for line in lines]
    widths = [
        max([len(name), *(len(row[place]) for row in cells)]) for place, name in enumerate(columns)
    ]
    right = [
        bool(lines) and all(isinstance(line.get(name, 0), int | float | None) for line in lines)
        for name in columns
    ]
    shown = []
    for row in [list(columns), *cells]:
        parts = [
            cell.rjust(width) if to_the_right else cell.ljust(width)
            for cell, width, to_the_right in zip(row, widths, right, strict=True)
        ]
        shown.append("  ".join(parts).rstrip())
    return "\n".join(shown)


def steps_in_words(steps: Sequence[int]) -> str:
    """Name steps, evenly spaced ones as a range.

    Examples
    --------
    >>> steps_in_words([0, 1, 2, 4, 1000, 2000, 3000, 4000])
    '0, 1, 2, 4, 1000 to 4000 by 1000'
    """
    words, place = [], 0
    while place < len(steps):
        end = place + 1
        while (
            end + 1 < len(steps) and steps[end + 1] - steps[end] == steps[place + 1] - steps[place]
        ):
            end += 1
        if end - place >= 3:
            words.append(f"{steps[place]} to {steps[end]} by {steps[place + 1] - steps[place]}")
            place = end + 1
        else:
            words.append(str(steps[place]))
            place += 1
    return ", ".join(words)


def _cell(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4g}"
    return str(value)
