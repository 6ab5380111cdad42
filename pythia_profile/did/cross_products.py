"""Sums of products of rows' outcomes, for the treated and the control rows of every cell.

In: rows and what each cell compares. Out: weighted sums over rows, not over clusters, as regression
on the base outcome and correlations with it need them. Where scores are missing, a product of two
checkpoints is summed over the rows that were scored at both, with their own outcomes: pseudo-values
(`missing`) have the right means and the wrong products.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from pythia_profile.did.comparison import Comparison
from pythia_profile.did.moments import Rows
from pythia_profile.did.threads import one_blas_thread


@dataclass(frozen=True, slots=True, eq=False)
class Pairs:
    """Sums over the rows that were scored at both of two checkpoints i and j; any shape.

    Attributes
    ----------
    weight : Σ w.
    first : Σ w Y_i.
    second : Σ w Y_j.
    first_square, second_square, product : Σ w Y_i², Σ w Y_j², Σ w Y_i Y_j.
    """

    weight: Float[np.ndarray, "..."]
    first: Float[np.ndarray, "..."]
    second: Float[np.ndarray, "..."]
    first_square: Float[np.ndarray, "..."]
    second_square: Float[np.ndarray, "..."]
    product: Float[np.ndarray, "..."]


@dataclass(frozen=True, slots=True, eq=False)
class CrossProducts:
    """Sums by group and by pool of controls.

    Attributes
    ----------
    comparison : what each cell compares.
    by_group : (H, 4, C, C) for checkpoints i, j: Σ w Y_i Y_j, Σ w Y_i, Σ w Y_i² and Σ w, over the
        rows of a group that were scored at both.
    by_pool : (P, 4, C, C) sums over the rows of a pool.
    """

    comparison: Comparison
    by_group: Float[np.ndarray, "H 4 C C"]
    by_pool: Float[np.ndarray, "P 4 C C"]

    def treated(self, i: Int[np.ndarray, "..."], j: Int[np.ndarray, "..."]) -> Pairs:
        """Return the sums over each cell's treated rows; (G, C)."""
        return Pairs(*self._of(self.by_group, self.comparison.own_group, i, j))

    def controls(self, i: Int[np.ndarray, "..."], j: Int[np.ndarray, "..."]) -> Pairs:
        """Return the sums over each cell's control rows; (G, C)."""
        pooled = self._of(self.by_pool, self.comparison.pool, i, j)
        own = self._of(self.by_group, self.comparison.own_group, i, j)
        return Pairs(*self.comparison.without_own(pooled, own))

    def _of(
        self,
        sums: Float[np.ndarray, "P 4 C C"],
        at: Int[np.ndarray, "G C"],
        i: Int[np.ndarray, "..."],
        j: Int[np.ndarray, "..."],
    ) -> list[np.ndarray]:
        products, firsts, squares, weights = (sums[at, k, i, j] for k in range(4))
        return [weights, firsts, sums[at, 1, j, i], squares, sums[at, 2, j, i], products]


@one_blas_thread
def cross_products(comparison: Comparison, rows: Rows) -> CrossProducts:
    """Sum the products over the rows of each group and each pool."""
    by_group = np.stack([_of_group(rows, h) for h in rows.groups()])
    return CrossProducts(comparison, by_group, comparison.pools(by_group))


def _of_group(rows: Rows, h: int) -> Float[np.ndarray, "4 C C"]:
    mine = rows.group(h)
    weight = rows.weight[mine, None]
    if rows.scored is not None:
        known = ~np.isnan(rows.scored[mine])
        y, one = np.where(known, rows.scored[mine], 0.0), known.astype(np.float64)
        weighted = (weight * y, weight * one)
        return np.stack(
            [y.T @ weighted[0], y.T @ weighted[1], y.T**2 @ weighted[1], one.T @ weighted[1]]
        )
    augmented = np.ones((mine.stop - mine.start, rows.y.shape[1] + 1))
    augmented[:, :-1] = rows.y[mine] + rows.level[mine, None]
    total = augmented.T @ (weight * augmented)
    products, first = total[:-1, :-1], total[:-1, -1:]
    parts = (products, first, np.diag(products)[:, None], total[-1, -1])
    return np.stack([np.broadcast_to(part, products.shape) for part in parts])
