"""Sums of products of rows' outcomes, for the treated and the control rows of every cell.

In: rows and what each cell compares. Out: weighted sums over rows, not over clusters, as regression
on the base outcome and correlations with it need them.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int

from pythia_profile.did.comparison import Comparison
from pythia_profile.did.moments import Rows
from pythia_profile.did.threads import one_blas_thread

Index = Int[np.ndarray, "..."] | int


@dataclass(frozen=True, slots=True, eq=False)
class CrossProducts:
    """Sums of w Y_i Y_j by group and by pool of controls; index −1 stands for the constant 1.

    Attributes
    ----------
    comparison : what each cell compares.
    by_group : (H, C + 1, C + 1) sums over the rows of a group.
    by_pool : (P, C + 1, C + 1) sums over the rows of a pool.
    """

    comparison: Comparison
    by_group: Float[np.ndarray, "H C1 C1"]
    by_pool: Float[np.ndarray, "P C1 C1"]

    def treated(self, i: Index, j: Index) -> Float[np.ndarray, "G C"]:
        """Sum over each cell's treated rows of w Y_i Y_j."""
        total: Float[np.ndarray, "G C"] = self.by_group[self.comparison.own_group, i, j]
        return total

    def controls(self, i: Index, j: Index) -> Float[np.ndarray, "G C"]:
        """Sum over each cell's control rows of w Y_i Y_j."""
        pooled = self.by_pool[self.comparison.pool, i, j]
        (total,) = self.comparison.without_own([pooled], [self.treated(i, j)])
        return total


@one_blas_thread
def cross_products(comparison: Comparison, rows: Rows) -> CrossProducts:
    """Sum the products over the rows of each group and each pool."""
    by_group = np.stack([_of_group(rows, h) for h in rows.groups()])
    return CrossProducts(comparison, by_group, comparison.pools(by_group))


def _of_group(rows: Rows, h: int) -> Float[np.ndarray, "C1 C1"]:
    mine = rows.group(h)
    augmented = np.ones((mine.stop - mine.start, rows.y.shape[1] + 1))
    augmented[:, :-1] = rows.y[mine] + rows.level[mine, None]
    total: Float[np.ndarray, "C1 C1"] = augmented.T @ (rows.weight[mine, None] * augmented)
    return total
