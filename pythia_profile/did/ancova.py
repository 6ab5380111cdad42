"""Regression adjustment on the base outcome: changes compared at equal starting points.

In: rows and what each cell compares. Out: the coefficient θ of the base outcome in every cell, the
slope of Y_c on Y_b among the cell's control rows, and how its being estimated moves the cell.

    ATT(g, c) = mean_g(Y_c − θ Y_b) − mean_C(Y_c − θ Y_b)

With θ = 1 this is difference-in-differences, with θ = 0 the plain difference. A row's deviation
from the regression times its distance from the controls' mean base outcome moves θ, hence the cell
by the gap between treated and controls at the base:

    influence of control i = −r_i [1/n_C + (X̄_g − X̄_C) (X_i − X̄_C) / S_XX],   X = Y_b

Sources: Heckman, Ichimura and Todd (1997); Callaway and Sant'Anna (2021), equation 2.8; the
influence function of Sant'Anna and Zhao (2020), section 3.1.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float

from pythia_profile.did.comparison import Comparison
from pythia_profile.did.cross_products import products
from pythia_profile.did.group_means import ROUNDING, Side
from pythia_profile.did.moments import Rows, Sums


@dataclass(frozen=True, slots=True, eq=False)
class Adjustment:
    """How the slopes being estimated moves the cells.

    Attributes
    ----------
    leverage : (G, C) gap of treated and controls at the base, over the controls' Σ (X − X̄)².
    base_mean : (G, C) mean base outcome of the controls.
    """

    leverage: Float[np.ndarray, "G C"]
    base_mean: Float[np.ndarray, "G C"]


def adjust(comparison: Comparison, rows: Rows) -> tuple[Float[np.ndarray, "G C"], Adjustment]:
    """Slope θ of each cell, and what its estimation adds.

    At the base itself, and where the base outcome is the same for all controls, θ is 1.
    """
    sums = products(comparison, rows)
    c, b = np.arange(rows.y.shape[1]), np.maximum(comparison.base, 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        weight = sums.controls(-1, -1)
        mean_b, mean_c = sums.controls(b, -1) / weight, sums.controls(c, -1) / weight
        square = sums.controls(b, b)
        spread = square - weight * mean_b**2
        cross = sums.controls(c, b) - weight * mean_c * mean_b
        gap = sums.treated(b, -1) / sums.treated(-1, -1) - mean_b
        varies = (spread > ROUNDING * square) & (c != comparison.base)
        theta = np.where(varies, cross / spread, 1.0)
        leverage = np.where(varies, gap / spread, 0.0)
    return theta, Adjustment(leverage, np.nan_to_num(mean_b))


def is_control(comparison: Comparison, g: int, h: int, groups: int) -> Bool[np.ndarray, " C"]:
    """Cells of cohort `g` that have group `h`, of `groups` in all, among their controls."""
    if h not in comparison.controls(groups) or h == g:
        return np.zeros(comparison.base.shape[1], bool)
    if comparison.control == "never":
        return np.ones(comparison.base.shape[1], bool)
    cells: Bool[np.ndarray, " C"] = comparison.pool[g] <= h
    return cells


def control_variance(
    comparison: Comparison, adjustment: Adjustment, rows: Rows, sums: Sums, control: Side
) -> Float[np.ndarray, "G C"]:
    """Variance of the control side of each cell, with that of its slope."""
    variance = np.zeros(comparison.base.shape)
    with np.errstate(divide="ignore"):
        share = np.where(control.rows > 0, 1.0 / control.weight, 0.0)
    for g in range(len(variance)):
        for h in rows.groups():
            if is_control(comparison, g, h, len(sums.rows)).any():
                scores = slope_scores(comparison, adjustment, rows, control, g, h, share[g])
                variance[g] += sums.factor[h] * (rows.by_cluster(scores, h) ** 2).sum(axis=0)
    return variance


def slope_scores(
    comparison: Comparison,
    adjustment: Adjustment,
    rows: Rows,
    control: Side,
    g: int,
    h: int,
    share: Float[np.ndarray, " C"] | float = 0.0,
) -> Float[np.ndarray, "n C"]:
    """Influence of the rows of group `h`, as controls, on the cells of cohort `g`.

    With `share` 0 the influence through the slope alone; with 1/n_C all of it.
    """
    y, weight = rows.y[rows.group(h)], rows.weight[rows.group(h)]
    cells = is_control(comparison, g, h, len(rows.group_starts) - 1)
    base = y[:, np.maximum(comparison.base[g], 0)]
    rest = y - comparison.theta[g] * base - np.nan_to_num(control.mean[g])
    factor = share + adjustment.leverage[g] * (base - adjustment.base_mean[g])
    scores: Float[np.ndarray, "n C"] = np.where(cells, -weight[:, None] * rest * factor, 0.0)
    return scores
