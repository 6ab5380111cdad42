"""What could be wrong with a panel: reliability, batches, balance of treated and control rows.

In: `AttGt`, or a panel. Out: numbers to look at before believing an effect.

    reliability        ρ of Y_c and Y_b: difference-in-differences has about 2 (1 − ρ) times the
                       variance of the plain difference, so below .5 it costs precision
    batch_icc          share of the variance of changes that rows of one batch have in common
    baseline_balance   treated less controls at the base, in standard deviations
    covariate_balance  treated less controls in the rows' covariates
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Bool, Float, Int
from scipy.special import ndtr

from pythia_profile.did.arguments import per_row
from pythia_profile.did.att import AttGt
from pythia_profile.did.cross_products import cross_products
from pythia_profile.did.panels import Panel
from pythia_profile.tables import NEVER

LOW_RHO = 0.5
"""Below this correlation with the base, the plain difference has the smaller variance."""


def reliability(att: AttGt) -> Float[np.ndarray, "G C"]:
    """Correlation ρ of Y_c and Y_b within the treated and the control rows of each cell; (G, C).

    NaN where one of the two does not vary, and where a cell has no base or no controls.

    Raises
    ------
    NoRowsError
        The estimate was made from moments alone.
    """
    plan = att.fit.comparison
    sums = cross_products(plan, att.fit.rows_for("reliability"))
    c, b = np.arange(len(att.checkpoints)), np.maximum(plan.base, 0)

    def within(i: np.ndarray, j: np.ndarray) -> Float[np.ndarray, "G C"]:
        sides = (sums.treated, sums.controls)
        total: Float[np.ndarray, "G C"] = sum(
            side(i, j) - side(i, -1) * side(j, -1) / side(-1, -1) for side in sides
        )
        return total

    with np.errstate(divide="ignore", invalid="ignore"):
        rho = within(c, b) / np.sqrt(within(c, c) * within(b, b))
    clipped: Float[np.ndarray, "G C"] = np.clip(rho, -1.0, 1.0)
    clipped[~att.identified] = np.nan
    return clipped


def batch_icc(att: AttGt, clusters: Int[np.ndarray, " U"]) -> Float[np.ndarray, "G C"]:
    """Intraclass correlation of changes Y_c − θ Y_b within clusters, for each cell; (G, C).

    One-way analysis of variance of each cohort, with clusters of unequal size; 0 means that rows of
    a batch are no more alike than others, and slightly negative values are chance. NaN where all
    clusters have one row, or all rows one cluster.

    Parameters
    ----------
    clusters : (U,) cluster of each row, in the order of the rows given to `att_gt`.
    """
    plan, rows = att.fit.comparison, att.fit.rows_for("batch_icc")
    labels = per_row(clusters, rows.y, "clusters", np.int64)[rows.place]
    icc = np.full(att.att.shape, np.nan)
    for g in range(len(icc)):
        mine = rows.group(g)
        _, number, size = np.unique(labels[mine], return_inverse=True, return_counts=True)
        n, k = len(number), len(size)
        if not 1 < k < n:
            continue
        y = rows.y[mine]
        change = y - plan.theta[g] * y[:, np.maximum(plan.base[g], 0)]
        means = np.stack([np.bincount(number, column) / size for column in change.T], axis=1)
        between = (size[:, None] * (means - change.mean(axis=0)) ** 2).sum(axis=0) / (k - 1)
        within = ((change - means[number]) ** 2).sum(axis=0) / (n - k)
        typical = (n - (size**2).sum() / n) / (k - 1)
        with np.errstate(divide="ignore", invalid="ignore"):
            icc[g] = (between - within) / (between + (typical - 1) * within)
    icc[~att.identified] = np.nan
    return icc


@dataclass(frozen=True, slots=True, eq=False)
class Balance:
    """Treated less controls before treatment, one line for each cohort or covariate.

    Attributes
    ----------
    labels : what is compared: the cohort, or the covariate.
    difference : of means; for a covariate of words, the largest difference of shares.
    standardized : the difference in standard deviations of the controls.
    p_value : of no difference; rows are independent under it.
    """

    labels: tuple[object, ...]
    difference: Float[np.ndarray, " n"]
    standardized: Float[np.ndarray, " n"]
    p_value: Float[np.ndarray, " n"]


def baseline_balance(att: AttGt) -> Balance:
    """Balance of levels at each cohort's base checkpoint.

    Difference-in-differences removes it; the plain difference takes it for an effect, and a large
    difference makes parallel trends less credible.
    """
    first = np.argmax(att.fit.comparison.post, axis=1)
    first[~att.fit.comparison.post.any(axis=1)] = -1
    g = np.arange(len(att.cohorts))
    b = np.maximum(att.fit.comparison.base[g, first], 0)
    sums = cross_products(att.fit.comparison, att.fit.rows_for("balance"))
    grid = np.broadcast_to(b[:, None], att.att.shape)
    means, variances = [], []
    for side in (sums.treated, sums.controls):
        with np.errstate(divide="ignore", invalid="ignore"):
            weight = side(-1, -1)[g, first]
            mean = side(grid, -1)[g, first] / weight
            variances.append((side(grid, grid)[g, first] / weight - mean**2, weight))
        means.append(mean)
    difference = means[0] - means[1]
    with np.errstate(divide="ignore", invalid="ignore"):
        se = np.sqrt(sum(variance / weight for variance, weight in variances))
        standardized = difference / np.sqrt(variances[1][0])
        p = 2 * ndtr(-np.abs(difference / se))
    return Balance(tuple(att.cohorts.tolist()), difference, standardized, p)


def covariate_balance(panel: Panel) -> Balance:
    """Balance of each covariate of the rows between treated and never-treated rows.

    Numbers are compared by their means, words by their shares (chi-square test).
    """
    treated = panel.cohort != NEVER
    columns = [column for column in panel.covariates if not column.dtype.is_nested()]
    lines = [_one_covariate(column, treated) for column in columns]
    difference, standardized, p = np.array(lines).reshape(-1, 3).T
    return Balance(tuple(column.name for column in columns), difference, standardized, p)


def _one_covariate(
    values: pl.Series, treated: Bool[np.ndarray, " U"]
) -> tuple[float, float, float]:
    if values.dtype.is_numeric():
        numbers = values.cast(pl.Float64).to_numpy()
        known = np.isfinite(numbers)
        return _compare_means(numbers[treated & known], numbers[~treated & known])
    words, number = np.unique(values.cast(pl.String).fill_null("null"), return_inverse=True)
    rows = (treated, ~treated)
    return _compare_shares(np.stack([np.bincount(number[r], minlength=len(words)) for r in rows]))


def _compare_means(
    on: Float[np.ndarray, " n"], off: Float[np.ndarray, " m"]
) -> tuple[float, float, float]:
    if min(len(on), len(off)) < 2:
        return np.nan, np.nan, np.nan
    difference, scale = on.mean() - off.mean(), off.std()
    se = np.hypot(on.std() / len(on) ** 0.5, scale / len(off) ** 0.5)
    standardized = difference / scale if scale > 0 else np.nan
    if se == 0:
        return difference, np.nan, float(difference == 0)
    return difference, standardized, float(2 * ndtr(-abs(difference / se)))


def _compare_shares(counts: Int[np.ndarray, "2 k"]) -> tuple[float, float, float]:
    from scipy.stats import chi2_contingency

    if not counts.sum(axis=1).all():
        return np.nan, np.nan, np.nan
    treated, controls = counts / counts.sum(axis=1, keepdims=True)
    largest = np.argmax(np.abs(treated - controls))
    difference, share = (treated - controls)[largest], controls[largest]
    scale = np.sqrt(share * (1 - share))
    p = float(chi2_contingency(counts, correction=False).pvalue)
    return difference, difference / scale if scale > 0 else np.nan, p
