"""Covariates of the rows: what may be known of a row whether or not it was read.

In: arrays by name, one value for each row, or one for each row and checkpoint. Out: `Covariates`,
checked. Of those that change with the checkpoint, a cell uses the value at its base: the base
outcome itself, another size's outcome before treatment.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Bool, Float, Int

from pythia_profile.did.errors import CovariateError

__all__ = ["Covariates", "covariates_of"]


@dataclass(frozen=True, slots=True, eq=False)
class Covariates:
    """Covariates of rows, line by line.

    Attributes
    ----------
    names : (K,) names, of the fixed ones first.
    fixed : (U, K1) those with one value for each row.
    moving : (U, C, K2) those with a value at each checkpoint.
    """

    names: tuple[str, ...]
    fixed: Float[np.ndarray, "U K1"]
    moving: Float[np.ndarray, "U C K2"]

    def at(self, rows: slice | Int[np.ndarray, " n"], base: int) -> Float[np.ndarray, "n K"]:
        """Return the covariates of some rows at one base checkpoint."""
        return np.concatenate([self.fixed[rows], self.moving[rows, base]], axis=1)

    def keep(self, rows: Bool[np.ndarray, " U"] | Int[np.ndarray, " n"]) -> "Covariates":
        """Return those of some rows, in a given order."""
        return Covariates(self.names, self.fixed[rows], self.moving[rows])


def covariates_of(given: Mapping[str, Any] | Any, shape: tuple[int, int]) -> Covariates:
    """Check covariates and bring them into one form.

    Parameters
    ----------
    given : by name, (U,) or (U, C) values each; or one array, (U,), (U, K) or (U, C, K), whose
        columns are called x0, x1, ….
    shape : (U, C) of the outcomes.

    Raises
    ------
    CovariateError
        Values of other shapes, missing or infinite ones.
    """
    if not isinstance(given, Mapping):
        given = _by_column(given, shape)
    arrays = {name: _checked(name, values, shape) for name, values in given.items()}
    fixed = {name: values for name, values in arrays.items() if values.ndim == 1}
    moving = {name: values for name, values in arrays.items() if values.ndim == 2}
    return Covariates(
        (*fixed, *moving),
        np.stack([*fixed.values()], axis=1) if fixed else np.empty((shape[0], 0)),
        np.stack([*moving.values()], axis=2) if moving else np.empty((*shape, 0)),
    )


def _by_column(given: Any, shape: tuple[int, int]) -> dict[str, Any]:
    array = np.asarray(given)
    if array.ndim not in (1, 2, 3) or array.shape[:1] != shape[:1]:
        raise CovariateError(
            f"covariates: got an array of shape {array.shape}, expected ({shape[0]}, covariates), "
            f"({shape[0]}, {shape[1]}, covariates), or arrays by name"
        )
    columns = array[:, None] if array.ndim == 1 else array
    return {f"x{k}": columns[..., k] for k in range(columns.shape[-1])}


def _checked(
    name: str, values: Any, shape: tuple[int, int]
) -> Float[np.ndarray, " U"] | Float[np.ndarray, "U C"]:
    array = np.asarray(values)
    if array.dtype.kind not in "biuf" or array.shape not in (shape[:1], shape):
        raise CovariateError(
            f"covariate '{name}': got {array.dtype} of shape {array.shape}, expected numbers for "
            f"each of {shape[0]} rows, or for each row and {shape[1]} checkpoints"
        )
    finite = np.isfinite(array.astype(np.float64).reshape(shape[0], -1))
    if (broken := np.asarray(~finite.all(axis=1))).any():
        raise CovariateError(
            f"covariate '{name}': {broken.sum()} of {len(broken)} rows have no finite value, first "
            f"row number {np.argmax(broken)}; drop these rows, or leave the covariate out"
        )
    return array.astype(np.float64)
