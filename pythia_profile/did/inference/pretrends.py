"""Placebo tests: effects before treatment, which are 0 where trends are parallel.

In: `AttGt`. Out: one joint test over all cells before treatment, one test for each cohort, and a
Wald test of the cohorts' mean placebo effects.

Cells of one cohort share rows and cells of all cohorts share controls, so the share of cells that
reject says little. The joint and the cohort tests compare the largest |ATT / σ| with the largest
one of the joint draws; the same draws serve all of them.

The Wald test is not that of R's did, which takes all cells before treatment at once and the
chi-square distribution as it is, and rejects .14 of true hypotheses at 5 % with six batches a
cohort. Ours takes one mean for each cohort and each mean's degrees of freedom (`_wald`), and
rejects .06 (.03 with three batches; .11 where later cohorts are the only controls).

Source: Callaway and Sant'Anna (2021), section 4.1 (pre-tests), algorithm 1 for the draws.
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Bool, Float, Num
from scipy import sparse
from scipy.special import chdtrc, ndtri, stdtr

from pythia_profile.did.arguments import Short
from pythia_profile.did.att import AttGt
from pythia_profile.did.errors import DegenerateError, EmptyFamilyError
from pythia_profile.did.inference.bootstrap import BootstrapSpec, cell_draws
from pythia_profile.did.inference.contrasts import contrast
from pythia_profile.did.inference.multipliers import Multiplier
from pythia_profile.did.inference.simultaneous import interquartile_sigma
from pythia_profile.did.threads import one_blas_thread

_LATER_ONLY = "with later cohorts as the only controls the test of means rejects .11 at 5 %"


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Placebo(Short):
    """Tests that effects before treatment are 0.

    Attributes
    ----------
    statistic : largest |z| over all cells before treatment, z on the normal scale.
    p_value : probability of a larger one under parallel trends.
    cells : cells tested; those without variance are left out.
    cohorts : (P,) cohorts that have such cells.
    cohort_statistic : (P,) largest |z| of each cohort.
    cohort_p : (P,) its p-value, for that cohort alone.
    cohort_p_adjusted : (P,) Holm's p-value for all cohorts together.
    wald : Wald statistic of the cohorts' mean placebo effects, each by Student's t put on the
        normal scale.
    wald_df : its degrees of freedom.
    wald_p : its p-value, from the chi-square distribution.
    note : what to know of these tests; empty where there is nothing.
    """

    statistic: float
    p_value: float
    cells: int
    cohorts: Num[np.ndarray, " P"]
    cohort_statistic: Float[np.ndarray, " P"]
    cohort_p: Float[np.ndarray, " P"]
    cohort_p_adjusted: Float[np.ndarray, " P"]
    wald: float
    wald_df: int
    wald_p: float
    note: str = ""

    def __str__(self) -> str:
        rejected = int((self.cohort_p_adjusted < 0.05).sum())
        return (
            f"placebo: largest |z| of {self.cells} cells {self.statistic:.2f}, p = "
            f"{self.p_value:.3f}; {rejected} of {len(self.cohorts)} cohorts reject at .05 after "
            f"Holm; means of cohorts: chi2({self.wald_df}) = {self.wald:.1f}, p = {self.wald_p:.3f}"
            + (f"; {self.note}" if self.note else "")
        )


@one_blas_thread
def placebo(
    att: AttGt,
    *,
    draws: int = 1000,
    seed: int = 0,
    multiplier: Multiplier = "normal",
    workers: int = 1,
) -> Placebo:
    """Test that the effects before treatment are 0, jointly and for each cohort.

    Raises
    ------
    EmptyFamilyError
        No cohort has a checkpoint before its base.
    DegenerateError
        None of these cells has a variance.

    Examples
    --------
    >>> from pythia_profile.did import NEVER, att_gt
    >>> rng = np.random.default_rng(1)
    >>> cohort = np.repeat([20, 30, NEVER], 40)
    >>> fine = att_gt(rng.normal(size=(120, 4)), cohort, [0, 10, 20, 30])
    >>> early = 3 * (cohort == 30)[:, None] * np.array([1, 0, 0, 0])
    >>> drift = att_gt(rng.normal(size=(120, 4)) - early, cohort, [0, 10, 20, 30])
    >>> placebo(fine).p_value > 0.05, placebo(drift).p_value < 0.01
    (True, True)
    """
    if not att.placebo.any():
        raise EmptyFamilyError(
            f"placebo: none of {len(att.cohorts)} cohorts has a scored checkpoint before its base; "
            "score earlier checkpoints"
        )
    spec = BootstrapSpec(draws, seed, multiplier, workers)
    members = att.placebo & (att.se > 0)
    having = np.flatnonzero(members.any(axis=1))
    if not having.size:
        raise DegenerateError(f"placebo: all {int(att.placebo.sum())} cells have zero variance")
    df = att.fit.variance.pooled_df(members)
    observed, largest = [], []
    for g, errors in enumerate(cell_draws(att, spec)):
        if (cells := np.flatnonzero(members[g])).size:
            sigma = interquartile_sigma(errors[cells])
            cells, sigma = cells[sigma > 0], sigma[sigma > 0]
            scaled = np.abs(att.att[g, cells]) / sigma
            observed.append(normal_scale(scaled, df[g, cells]).max(initial=0.0))
            largest.append((np.abs(errors[cells]) / sigma[:, None]).max(axis=0, initial=0.0))
    statistic, drawn = np.array(observed), np.array(largest)
    cohort_p = _p_value(statistic[:, None], drawn)
    wald, rank = _wald(att, members)
    return Placebo(
        statistic=float(statistic.max()),
        p_value=float(_p_value(statistic.max()[None, None], drawn.max(axis=0)[None])[0]),
        cells=int(members.sum()),
        cohorts=att.cohorts[having],
        cohort_statistic=statistic,
        cohort_p=cohort_p,
        cohort_p_adjusted=holm(cohort_p),
        wald=wald,
        wald_df=rank,
        wald_p=float(chdtrc(rank, wald)),
        note=_LATER_ONLY if att.settings.control == "not_yet" else "",
    )


def normal_scale(
    t: Float[np.ndarray, " n"], df: Float[np.ndarray, " n"]
) -> Float[np.ndarray, " n"]:
    """Values |t| of Student's t as those of the normal distribution with the same tail.

    Examples
    --------
    >>> normal_scale(np.array([2.262]), np.array([9.0])).round(2)
    array([1.96])
    """
    z: Float[np.ndarray, " n"] = -ndtri(np.maximum(stdtr(df, -t), 1e-300))
    return z


def _p_value(
    statistic: Float[np.ndarray, "n 1"], draws: Float[np.ndarray, "n B"]
) -> Float[np.ndarray, " n"]:
    p: Float[np.ndarray, " n"] = (1 + (draws >= statistic).sum(axis=1)) / (1 + draws.shape[1])
    return p


def holm(p: Float[np.ndarray, " n"]) -> Float[np.ndarray, " n"]:
    """Holm's adjusted p-values: their rejections hold for all tests together.

    Examples
    --------
    >>> holm(np.array([0.01, 0.04, 0.03])).tolist()
    [0.03, 0.06, 0.06]
    """
    order = np.argsort(p)
    steps = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    adjusted = np.empty_like(p)
    adjusted[order] = np.minimum(steps, 1.0)
    return adjusted


def _wald(att: AttGt, members: Bool[np.ndarray, "G C"]) -> tuple[float, int]:
    """Wald statistic of the cohorts' mean placebo effects, and the rank of their covariance."""
    row, column = np.nonzero(members)
    cohorts, number = np.unique(row, return_inverse=True)
    weight = 1.0 / np.bincount(number)[number]
    flat = row * members.shape[1] + column
    shape = (len(cohorts), members.size)
    means = contrast(att, sparse.csr_array((weight, (number, flat)), shape=shape), kind="placebo")
    # A variance from six batches is off by half, so squares of t values sum to far more than
    # chi-square. Each mean is brought to the normal scale first, and what scales it and correlates
    # it with the others is a variance per cluster pooled over cohorts, as in bands (`variance`).
    parts = means.variance
    unbiased = 1.0 if (att.fit.sums.factor > 1).any() else 1.0 + 1.0 / parts.treated_df
    treated, control = unbiased * parts.treated, parts.control
    t = means.estimate / np.sqrt(treated + control)
    z = np.sign(t) * normal_scale(np.abs(t), parts.pooled_df(means.se > 0))
    clusters = parts.treated_df + 1
    own = np.isfinite(clusters)  # infinite where no treated row varies, as of a rare yes or no
    pooled = float((treated[own] * clusters[own]).mean()) if own.any() else 0.0
    scale = np.sqrt(pooled / clusters + control)
    correlation = means.covariance() / np.outer(scale, scale)
    np.fill_diagonal(correlation, 1.0)
    inverse = np.linalg.pinv(correlation, rcond=1e-12, hermitian=True)
    rank = int(np.linalg.matrix_rank(correlation, tol=1e-12 * len(z), hermitian=True))
    return float(z @ inverse @ z), rank
