"""Balance of treated and control rows before treatment.

In: `AttGt`, or a panel. Out: standardized mean differences to look at before believing an effect.

    baseline_balance   treated less controls at the base, in standard deviations
    covariate_balance  treated less controls in the rows' covariates
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Bool, Float, Int
from scipy.special import ndtr

from pythia_profile.did.arguments import Short
from pythia_profile.did.att import AttGt
from pythia_profile.did.cross_products import cross_products
from pythia_profile.did.panels import Panel
from pythia_profile.tables import NEVER


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Balance(Short):
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
    sums = cross_products(att.fit.comparison, att.fit.rows)
    base = np.broadcast_to(b[:, None], att.att.shape)
    means, variances = [], []
    for pairs in (sums.treated(base, base), sums.controls(base, base)):
        with np.errstate(divide="ignore", invalid="ignore"):
            weight = pairs.weight[g, first]
            mean = pairs.first[g, first] / weight
            variances.append((pairs.product[g, first] / weight - mean**2, weight))
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
