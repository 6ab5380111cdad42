"""Several estimates of the same effects in one, by inverse variance, cell by cell.

In: estimates of one run's ATT(g, c), such as difference-in-differences and `crossover`. Out:
`Combined`: with Σ the covariance of the estimates of a cell, from their rows' influences (they
share rows, and so errors), the weights Σ⁻¹1 / 1ᵀΣ⁻¹1. An estimate whose weight would be negative is
left out of the cell. Weights count as known: their own errors are of second order.

    E estimates, G cohorts, C checkpoints
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from operator import add

import numpy as np
from jaxtyping import Bool, Float
from scipy import sparse

from pythia_profile.did.arguments import Short
from pythia_profile.did.att import AttGt
from pythia_profile.did.errors import PanelShapeError
from pythia_profile.did.inference.aggregates import Kind, aggregate
from pythia_profile.did.inference.contrasts import Contrast, contrast

__all__ = ["Combined", "combine", "reweighted"]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Combined(Short):
    """Effects by several estimates together.

    Attributes
    ----------
    estimates : what is combined; the first says which cells there are.
    weights : (E, G, C) of each estimate; they add up to 1, to 0 where none has the cell.
    att, se : (G, C) effect and standard error; NaN where none has the cell.
    lower, upper : (G, C) pointwise interval.
    """

    estimates: tuple[AttGt, ...]
    weights: Float[np.ndarray, "E G C"]
    att: Float[np.ndarray, "G C"]
    se: Float[np.ndarray, "G C"]
    lower: Float[np.ndarray, "G C"]
    upper: Float[np.ndarray, "G C"]

    def aggregate(self, kind: Kind) -> Contrast:
        """Aggregate as `did.aggregate` does, over the cells of the first estimate."""
        whole = aggregate(self.estimates[0], kind)
        return reweighted(whole, self.estimates, self.weights)


def combine(estimates: Sequence[AttGt], *, level: float = 0.95) -> Combined:
    """Weigh estimates of the same cells by inverse variance.

    Parameters
    ----------
    estimates : of the same cohorts and checkpoints, with row ids; cells may be missing.
    level : of the intervals.

    Raises
    ------
    PanelShapeError
        Their cohorts or checkpoints differ.
    NoRowsError
        An estimate has no rows, or rows without ids.
    """
    first = estimates[0]
    for other in estimates[1:]:
        for name in ("cohorts", "checkpoints"):
            if not np.array_equal(getattr(first, name), getattr(other, name)):
                raise PanelShapeError(f"combine: {name} differ; expected estimates of one panel")
    shape = first.att.shape
    weights = np.zeros((len(estimates), *shape))
    found = np.full((4, *shape), np.nan)
    for g in range(shape[0]):
        weights[:, g] = _cohort_weights(estimates, g)
        if not (cells := np.flatnonzero(weights[:, g].any(axis=0))).size:
            continue
        picked = sparse.csr_array(
            (np.ones(cells.size), (np.arange(cells.size), g * shape[1] + cells)),
            shape=(cells.size, first.att.size),
        )
        parts = _weighted(estimates, weights, picked, first.checkpoints[cells].tolist(), "cells")
        found[:, g, cells] = parts.estimate, parts.se, *parts.interval(level)
    return Combined(tuple(estimates), weights, *found)


def reweighted(
    whole: Contrast, estimates: Sequence[AttGt], weights: Float[np.ndarray, "E G C"]
) -> Contrast:
    """Return sums of cells with each cell a weighted sum of several estimates of it."""
    (part,) = whole.parts
    return _weighted(estimates, weights, part.weights, list(whole.labels), whole.kind)


def _weighted(
    estimates: Sequence[AttGt],
    weights: Float[np.ndarray, "E G C"],
    cells: sparse.csr_array,
    labels: list[object],
    kind: str,
) -> Contrast:
    shares = (sparse.csr_array(cells.multiply(own.ravel()[None, :])) for own in weights)
    return reduce(
        add,
        (
            contrast(one, share, labels, kind)
            for one, share in zip(estimates, shares, strict=True)
            if share.count_nonzero()
        ),
    )


def _cohort_weights(estimates: Sequence[AttGt], g: int) -> Float[np.ndarray, "E C"]:
    """Weights of the cells of one cohort."""
    width = len(estimates[0].checkpoints)
    known = np.stack([one.identified[g] for one in estimates])
    weights = np.where(known.any(axis=0), np.arange(len(known))[:, None] == known.argmax(0), 0.0)
    if not (known.sum(axis=0) > 1).any():
        return weights
    stacked = reduce(add, _stacked(estimates, known, g))
    covariance = stacked.covariance().reshape(len(known), width, len(known), width)
    for c in np.flatnonzero(known.sum(axis=0) > 1):
        used = np.flatnonzero(known[:, c])
        weights[used, c] = _inverse_variance(covariance[np.ix_(used, [c], used, [c])][:, 0, :, 0])
    return weights


def _stacked(
    estimates: Sequence[AttGt], known: Bool[np.ndarray, "E C"], g: int
) -> Iterator[Contrast]:
    """Yield each estimate's cells of cohort `g` as lines of their own among E·C."""
    width = known.shape[1]
    for e, one in enumerate(estimates):
        if (cells := np.flatnonzero(known[e])).size:
            place = e * width + cells, g * width + cells
            shape = len(estimates) * width, one.att.size
            yield contrast(one, sparse.csr_array((np.ones(cells.size), place), shape=shape))


def _inverse_variance(covariance: Float[np.ndarray, "E E"]) -> Float[np.ndarray, " E"]:
    """Weights of least variance, none negative; all on the first where nothing varies.

    Examples
    --------
    >>> _inverse_variance(np.array([[1.0, 0.0], [0.0, 3.0]]))
    array([0.75, 0.25])
    >>> _inverse_variance(np.array([[1.0, 2.0], [2.0, 9.0]]))
    array([1., 0.])
    """
    used = np.arange(len(covariance))
    if (np.diag(covariance) <= 0).any():
        return np.where(used == 0, 1.0, 0.0)
    while True:
        raw = np.linalg.pinv(covariance[np.ix_(used, used)], hermitian=True).sum(axis=1)
        if (raw >= 0).all():
            break
        used = np.delete(used, raw.argmin())
    weights = np.zeros(len(covariance))
    weights[used] = raw / raw.sum()
    return weights
