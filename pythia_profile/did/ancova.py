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
from jaxtyping import Float

from pythia_profile.did.comparison import Comparison
from pythia_profile.did.cross_products import cross_products
from pythia_profile.did.group_means import GroupMeans
from pythia_profile.did.moments import ROUNDING, Rows


@dataclass(frozen=True, slots=True, eq=False)
class Slopes:
    """How the cells move with the slopes being estimated.

    Attributes
    ----------
    leverage : (G, C) treated less controls at the base, over the controls' Σ (X − X̄)².
    base_mean : (G, C) mean base outcome of the controls that were scored at both checkpoints.
    intercept : (G, C) their mean of Y_c − θ Y_b.
    """

    leverage: Float[np.ndarray, "G C"]
    base_mean: Float[np.ndarray, "G C"]
    intercept: Float[np.ndarray, "G C"]


def adjust(comparison: Comparison, rows: Rows) -> tuple[Float[np.ndarray, "G C"], Slopes]:
    """Slope θ of each cell, and what its estimation adds.

    At the base itself, and where the base outcome is the same for all controls, θ is 1.
    """
    sums = cross_products(comparison, rows)
    c, b = comparison.columns, np.maximum(comparison.base, 0)
    pairs, at_base = sums.controls(b, c), (sums.treated(b, b), sums.controls(b, b))
    with np.errstate(divide="ignore", invalid="ignore"):
        mean_b, mean_c = pairs.first / pairs.weight, pairs.second / pairs.weight
        variation = pairs.first_square - pairs.weight * mean_b**2
        cross = pairs.product - pairs.weight * mean_c * mean_b
        treated, control = (one.first / one.weight for one in at_base)
        varies = (variation > ROUNDING * pairs.first_square) & (c != comparison.base)
        theta = np.where(varies, cross / variation, 1.0)
        leverage = np.where(varies, (treated - control) / variation, 0.0)
        rest = mean_c - theta * mean_b
    return theta, Slopes(leverage, np.nan_to_num(mean_b), np.nan_to_num(rest))


def slope_scores(
    comparison: Comparison,
    slopes: Slopes,
    rows: Rows,
    control: GroupMeans,
    g: int,
    h: int,
    share: Float[np.ndarray, " C"] | float = 0.0,
) -> Float[np.ndarray, "n C"]:
    """Influence of the rows of group `h`, as controls, on the cells of cohort `g`.

    With `share` 0 the influence through the slope alone; with 1/n_C all of it.
    """
    # Two terms: the row's share in the controls' mean, and its pull on the slope, which moves the
    # cell by the difference of treated and controls at the base (the leverage).
    mine, b, theta = rows.group(h), np.maximum(comparison.base[g], 0), comparison.theta[g]
    y, weight = rows.y[mine], rows.weight[mine, None]
    rest = y - theta * y[:, b] - np.nan_to_num(control.mean[g])
    if rows.scored is None:
        pull = slopes.leverage[g] * (y[:, b] - slopes.base_mean[g])
        scores = -weight * rest * (share + pull)
    else:
        # Pseudo-values tell the mean; the slope rests on what was scored at both checkpoints.
        known = rows.scored[mine]
        pull = slopes.leverage[g] * (known[:, b] - slopes.base_mean[g])
        on_slope = pull * (known - theta * known[:, b] - slopes.intercept[g])
        scores = -weight * (rest * share + np.nan_to_num(on_slope))
    used: Float[np.ndarray, "n C"] = np.where(comparison.uses(g, h), scores, 0.0)
    return used
