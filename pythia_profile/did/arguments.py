"""What comes in from the user, checked and brought to float64 and int64.

Each function takes one argument of `att_gt` and returns the array that the estimator works on, or
says which rows or columns are wrong, and how many.
"""

from dataclasses import fields, is_dataclass
from typing import Any, get_args

import numpy as np
from jaxtyping import Float, Int, Num

from pythia_profile.did.errors import (
    CheckpointOrderError,
    ConstantOutcomeError,
    MissingOutcomeError,
    OptionError,
    PanelShapeError,
    SmallCohortError,
)
from pythia_profile.did.moments import label
from pythia_profile.tables import NEVER

LARGEST = 1e100
"""Outcomes beyond this have squares whose sums may not be finite."""


def check_option(value: object, known: Any, what: str) -> None:
    """Refuse a setting that is none of a `Literal`'s values, and name these."""
    if not isinstance(value, str) or value not in get_args(known):
        raise OptionError(f"{what}: got {value!r}, expected one of {', '.join(get_args(known))}")


class Short:
    """Results that print as a line: arrays by their shapes, long tuples by their lengths.

    Examples
    --------
    >>> from dataclasses import dataclass
    >>> @dataclass(repr=False)
    ... class Found(Short):
    ...     kind: str
    ...     estimate: np.ndarray
    >>> Found("overall", np.zeros((3, 2)))
    Found(kind='overall', estimate=float64 array of 3 × 2)
    """

    __slots__ = ()

    def __repr__(self) -> str:
        names = [field.name for field in fields(self)]  # type: ignore[arg-type]
        shown = (f"{name}={_shown(getattr(self, name))}" for name in names)
        return f"{type(self).__name__}({', '.join(shown)})"


def _shown(value: object) -> str:
    if isinstance(value, np.ndarray):
        return f"{value.dtype} array of {' × '.join(map(str, value.shape)) or 1}"
    if is_dataclass(value):
        return type(value).__name__
    if isinstance(value, tuple | list | dict) and len(value) > MOST_SHOWN:
        return f"{len(value)} values"
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:79]}…"


MOST_SHOWN = 6
"""Values of a tuple that are printed."""


def counted(number: int, one: str, many: str = "") -> str:
    """Return a number with its noun.

    Examples
    --------
    >>> counted(1, "row"), counted(2_000, "row"), counted(3, "row is", "rows are")
    ('1 row', '2,000 rows', '3 rows are')
    """
    return f"{number:,} {one}" if number == 1 else f"{number:,} {many or one + 's'}"


def ascending(checkpoints: Any) -> Num[np.ndarray, " C"]:
    """Checkpoints as int64, or as float64 where they are not whole numbers."""
    grid = np.asarray(checkpoints)
    if grid.dtype.kind not in "iuf" or grid.ndim != 1 or grid.size < 2:
        raise CheckpointOrderError(
            f"checkpoints: got {grid.dtype} of shape {grid.shape}, expected two or more numbers"
        )
    grid = grid.astype(np.float64 if grid.dtype.kind == "f" else np.int64)
    if not (np.diff(grid) > 0).all():
        at = int(np.argmin(np.diff(grid) > 0)) + 1
        raise CheckpointOrderError(
            f"checkpoints: number {at} is {grid[at]:g} after {grid[at - 1]:g}; expected strictly "
            "ascending steps, each once"
        )
    return grid


def numbered(checkpoints: Any, cohort: Any) -> tuple[Any, Any, tuple[str, ...]]:
    """Labels that are no numbers, such as dates or words, as their positions; numbers unchanged.

    Words have no order but the one they are given in. A cohort without a label (None, NaT, NaN,
    NEVER) is never-treated.
    """
    grid = np.asarray(checkpoints)
    names = grid.tolist()
    number = int | float | np.integer | np.floating
    if grid.ndim != 1 or grid.dtype.kind not in "UOM" or any(isinstance(n, number) for n in names):
        return checkpoints, cohort, ()
    if grid.dtype.kind == "M" and not (grid[1:] > grid[:-1]).all():
        at = 1 + int(np.argmin(grid[1:] > grid[:-1]))
        raise CheckpointOrderError(
            f"checkpoints: number {at} is {names[at]} after {names[at - 1]}; expected strictly "
            "ascending dates, each once"
        )
    positions = {name: position for position, name in enumerate(names)}
    if len(positions) < len(names):
        raise CheckpointOrderError(
            f"checkpoints: {len(names) - len(positions)} of {len(names)} labels are duplicated"
        )
    positions |= dict.fromkeys([None, NEVER, str(NEVER), float("inf")], NEVER)
    given = [None if label != label else label for label in np.asarray(cohort).tolist()]
    if unknown := [label for label in given if label not in positions]:
        raise PanelShapeError(
            f"cohort: {len(unknown)} of {len(given)} labels are none of the {len(names)} "
            f"checkpoints, first {unknown[0]!r}"
        )
    note = f"checkpoints {names[0]} to {names[-1]} are numbered 0 to {len(names) - 1}"
    return np.arange(len(names)), np.array([positions[label] for label in given]), (note,)


def outcomes(y: Any) -> Float[np.ndarray, "U C"]:
    """Outcomes as float64."""
    return numbers(y, "y")


def numbers(values: Any, what: str) -> Float[np.ndarray, "..."]:
    """Return real numbers as float64, by rows in memory."""
    if isinstance(values, np.ma.MaskedArray):
        values = np.ma.filled(values.astype(np.float64), np.nan)
    try:
        array = np.asarray(values)
    except ValueError as error:
        raise PanelShapeError(f"{what}: lines of different lengths, expected a matrix") from error
    if array.dtype.kind not in "biuf":
        raise PanelShapeError(f"{what}: got {array.dtype} values, expected numbers")
    return array.astype(np.float64, order="C")


def labels(
    cohort: Any, y: Float[np.ndarray, "U C"], grid: Num[np.ndarray, " C"]
) -> Num[np.ndarray, " U"]:
    """Cohort of each row; infinity and NaN mean never-treated, like NEVER."""
    if y.shape[1] != grid.size:
        raise PanelShapeError(
            f"y has {y.shape[1]} columns for {grid.size} checkpoints; expected one for each"
        )
    labels = np.asarray(cohort)
    if labels.shape != (len(y),) or labels.dtype.kind not in "iuf":
        raise PanelShapeError(
            f"cohort: got {labels.dtype} of shape {labels.shape}, expected {len(y)} numbers, one "
            "for each row of y"
        )
    if labels.dtype.kind != "f":
        return labels.astype(np.int64)
    if (before := np.isneginf(labels)).any():
        raise PanelShapeError(
            f"cohort: {before.sum()} of {len(y)} are -inf; expected steps, or NEVER, NaN or inf "
            "for rows that no step reads"
        )
    never = np.isposinf(labels) | np.isnan(labels)
    return np.where(never, float(NEVER), labels.astype(np.float64))


def per_row(values: Any, y: Float[np.ndarray, "U C"], what: str, dtype: type) -> Any:
    """One value for each row of `y`, or None where none were given."""
    if values is None:
        return None
    array = np.asarray(values)
    kinds = "iu" if dtype is np.int64 else "iuf"
    if array.shape != (len(y),) or array.dtype.kind not in kinds:
        expected = "whole numbers" if dtype is np.int64 else "numbers"
        raise PanelShapeError(
            f"{what}: got {array.dtype} of shape {array.shape}, expected {len(y)} {expected}, one "
            "for each row of y"
        )
    return array.astype(dtype)


def positive(weights: Float[np.ndarray, " U"] | None) -> Float[np.ndarray, " U"] | None:
    """Weights, all of them finite and above 0."""
    if weights is not None and not ((weights > 0) & np.isfinite(weights)).all():
        raise OptionError(
            f"weights: {(~(weights > 0)).sum()} of {weights.size} are not above 0; drop these rows"
        )
    return weights


def check_sizes(
    labels: Num[np.ndarray, " H"], rows: Int[np.ndarray, " H"], clusters: Int[np.ndarray, " H"]
) -> None:
    """Refuse groups whose variance cannot be told: one row, or one cluster."""
    for what, number in (("row", rows), ("cluster", clusters)):
        if (small := np.flatnonzero(number < 2)).size:
            names = ", ".join(label(labels[h]) for h in small[:5])
            more = ", …" if small.size > 5 else ""
            raise SmallCohortError(
                f"{small.size} of {len(labels)} groups have a single {what} ({names}{more}); "
                f"expected two {what}s or more in each, to tell its variance; drop these cohorts "
                "or sample more"
            )


def check_outcomes(y: Float[np.ndarray, "U C"], *, gaps: bool) -> None:
    """Refuse missing (unless `gaps`), infinite and constant outcomes, and arrays without rows."""
    if y.ndim != 2 or 0 in y.shape:
        raise PanelShapeError(
            f"y: got shape {y.shape}, expected (rows, checkpoints), none of them 0"
        )
    if (bad := np.isinf(y) if gaps else ~np.isfinite(y)).any():
        row, checkpoint = np.argwhere(bad)[0]
        raise MissingOutcomeError(
            f"y: {bad.sum()} of {y.size} outcomes are {'infinite' if gaps else 'NaN or infinite'}, "
            f"in {bad.any(axis=1).sum()} of {len(y)} rows; first at row number {row}, checkpoint "
            f"number {checkpoint}; drop these rows, or choose missing='available' for NaN"
        )
    known = y[np.isfinite(y)]
    if known.size and (largest := float(np.abs(known).max())) > LARGEST:
        raise PanelShapeError(
            f"y: the largest outcome is {largest:g}, expected {LARGEST:g} at most, so that squares "
            "can be summed; is a placeholder for missing values among them?"
        )
    if known.size and (known == known[0]).all():
        raise ConstantOutcomeError(
            f"y: all {known.size} outcomes equal {known[0]:g}; there is no effect to tell"
        )
