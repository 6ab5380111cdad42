"""Steps as they are said on the command line."""

import typer

__all__ = ["parsed_steps"]

_MOST = 100_000


def parsed_steps(said: str) -> list[int]:
    """Read steps: numbers and ranges first:last:by, separated by commas, both ends included.

    Examples
    --------
    >>> parsed_steps("0,1,1000:3000:1000")
    [0, 1, 1000, 2000, 3000]
    """
    steps: set[int] = set()
    for part in said.split(","):
        numbers = part.strip().split(":")
        if not all(number.strip().isdecimal() for number in numbers) or len(numbers) not in (1, 3):
            raise typer.BadParameter(f"steps: got '{part}', expected a number or first:last:by")
        first, last, by = [int(n) for n in numbers] if len(numbers) == 3 else [int(part)] * 2 + [1]
        if by < 1 or last < first or (last - first) // by > _MOST:
            raise typer.BadParameter(f"steps: got '{part}', expected first:last:by, ascending")
        steps.update(range(first, last + 1, by))
    return sorted(steps)
