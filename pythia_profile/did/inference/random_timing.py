"""What a random training order allows beyond parallel trends: a sharper estimate, an exact test.

In: effects by the plain difference, or a panel. Out: a contrast with smaller variance, or a p-value
that holds for any number of rows. A trainer that shuffles its rows assigns them to steps at random,
so outcomes before treatment differ between cohorts by chance alone.

    efficient            θ̂ − β' X̂, with X̂ the differences to the controls before treatment, which
                         are 0 in expectation, and β the coefficient that leaves the least variance.
                         With β = 1 on the base alone it is difference-in-differences.
    randomization_test   the share of reassignments of rows (or whole batches) to cohorts that give
                         an overall effect as large; or, before treatment, cohorts as far apart

Sources: Roth and Sant'Anna (2023), "Efficient estimation for staggered rollout designs", section 2;
Fisher (1935) for the test.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int, Num
from scipy import sparse

from pythia_profile.did.arguments import check_option, counted
from pythia_profile.did.att import AttGt
from pythia_profile.did.errors import EmptyFamilyError, OptionError
from pythia_profile.did.inference.aggregates import Kind, aggregate
from pythia_profile.did.inference.contrasts import Contrast, contrast
from pythia_profile.did.panels import Panel
from pythia_profile.did.threads import one_blas_thread
from pythia_profile.tables import NEVER

Before = Literal["base", "all"]
Hypothesis = Literal["no_effect", "placebo"]


@one_blas_thread
def efficient(att: AttGt, kind: Kind = "overall", *, before: Before = "base") -> Contrast:
    """Aggregate effects, adjusted for differences before treatment by their best coefficients.

    The coefficients are estimated; their error is of smaller order than that of the effect, as long
    as rows are many for each difference that is adjusted for.

    Parameters
    ----------
    att : by the plain difference (`estimator="diff"`).
    before : `base`, each cohort's difference at its base; `all`, at all checkpoints before it.

    Examples
    --------
    >>> from pythia_profile.did import NEVER, aggregate, att_gt
    >>> rng = np.random.default_rng(0)
    >>> cohort = np.repeat([10, 20, NEVER], 200)
    >>> y = rng.normal(size=(600, 1)) + 0.8 * rng.normal(size=(600, 3))
    >>> did, diff = (att_gt(y, cohort, [0, 10, 20], estimator=e) for e in ("did", "diff"))
    >>> usual = [aggregate(att, "overall").se[0] for att in (did, diff)]
    >>> bool(efficient(diff).se[0] < min(usual))
    True
    """
    check_option(before, Before, "before")
    if att.settings.estimator != "diff":
        raise OptionError(
            f"efficient: got estimator '{att.settings.estimator}', expected effects by 'diff', "
            "which the coefficients then adjust"
        )
    target = aggregate(att, kind)
    cells = att.placebo & (att.se > 0)
    if before == "base":
        last = np.where(cells.any(axis=1), cells.shape[1] - 1 - cells[:, ::-1].argmax(axis=1), -1)
        cells &= np.arange(cells.shape[1]) == last[:, None]
    index = np.flatnonzero(cells)
    if not index.size:
        raise EmptyFamilyError("efficient: no cohort has a checkpoint before it that varies")
    weights = target.parts[0].weights
    ones = (np.ones(index.size), (np.arange(index.size), index))
    earlier = sparse.csr_array(ones, shape=(index.size, cells.size))
    joint = contrast(att, sparse.vstack([weights, earlier], format="csr")).covariance()
    k = len(target)
    # Least squares of the target's error on the earlier differences' errors; the pseudo-inverse,
    # because differences of nearly equal checkpoints are nearly collinear.
    beta = joint[:k, k:] @ np.linalg.pinv(joint[k:, k:], rcond=1e-10, hermitian=True)
    adjusted = sparse.csr_array(weights - sparse.csr_array(beta) @ earlier)
    return contrast(att, adjusted, target.labels, f"{kind}, efficient")


@dataclass(frozen=True, slots=True)
class RandomizationTest:
    """An exact test by reassigning rows to cohorts.

    Attributes
    ----------
    hypothesis : `no_effect` (being read changes no outcome of any row), or `placebo` (cohorts are
        alike before any of them is read).
    statistic : overall effect, or largest variance ratio between cohorts.
    p_value : share of assignments, the true one among them, with a statistic as large.
    draws : reassignments drawn.
    units : rows, or batches, that were reassigned.
    """

    hypothesis: Hypothesis
    statistic: float
    p_value: float
    draws: int
    units: int

    def __str__(self) -> str:
        return (
            f"{self.hypothesis}: p = {self.p_value:.3f} by {self.draws} reassignments of "
            f"{counted(self.units, 'unit')} to cohorts; statistic {self.statistic:.4g}"
        )


@one_blas_thread
def randomization_test(
    panel: Panel,
    hypothesis: Hypothesis = "no_effect",
    *,
    by_batch: bool = False,
    draws: int = 999,
    seed: int = 0,
) -> RandomizationTest:
    """Test by permuting which unit was read when.

    Parameters
    ----------
    hypothesis : `no_effect` compares the overall effect (two-sided) over permutations of the rows
        that were read; `placebo` takes the checkpoints before the later half of the cohorts and the
        rows that none of them has read, and asks whether their cohorts' changes differ.
    by_batch : permute whole batches, as a trainer that shuffles batches does.

    Raises
    ------
    EmptyFamilyError
        There are fewer than two cohorts, or no two checkpoints before the later ones.
    """
    check_option(hypothesis, Hypothesis, "hypothesis")
    if draws < 1 or np.isnan(panel.y).any():
        raise OptionError(
            f"randomization: got {draws} draws and {int(np.isnan(panel.y).sum())} gaps, expected "
            "draws from 1 on and rows without gaps"
        )
    rng = np.random.default_rng(seed)
    cohorts = np.unique(panel.cohort[panel.cohort != NEVER])
    if len(cohorts) < 2:
        raise EmptyFamilyError(f"randomization: {counted(len(cohorts), 'cohort')}, expected two")
    if hypothesis == "no_effect":
        values, label, weight = _overall_values(panel, cohorts)
        rows = panel.cohort != NEVER
    else:
        rows = panel.cohort >= cohorts[len(cohorts) // 2]
        columns = panel.checkpoints < cohorts[len(cohorts) // 2]
        if columns.sum() < 2:
            raise EmptyFamilyError("placebo: one checkpoint before the later cohorts, expected two")
        values = np.diff(panel.y[rows][:, columns], axis=1)
        values -= values.mean(axis=0)
        label = np.unique(panel.cohort[rows], return_inverse=True)[1]
        weight = np.zeros(0)
    unit = np.arange(len(values))
    if by_batch:
        named = np.where(panel.cluster == NEVER, -1 - np.arange(len(panel)), panel.cluster)[rows]
        unit = np.unique(named, return_inverse=True)[1]
    of_unit = np.zeros(unit.max() + 1, dtype=np.int64)
    of_unit[unit] = label
    # Units move whole, so a statistic needs no more than their sums, and what it divides by stays.
    size, spread = np.bincount(unit), np.maximum((values**2).sum(axis=0), 1e-300)
    member = sparse.csr_array((np.ones(len(unit)), (unit, np.arange(len(unit)))))
    sums: Float[np.ndarray, "u m"] = member @ values

    def statistic(assigned: Int[np.ndarray, " u"]) -> float:
        if hypothesis == "no_effect":
            return abs(_overall(sums, size, assigned, weight))
        return _between(sums, size, assigned, spread)

    observed = statistic(of_unit)
    # Up to rounding, equal statistics count as equal: an assignment is as extreme as itself.
    bound = observed * (1 - 1e-12)
    beyond = sum(statistic(rng.permutation(of_unit)) >= bound for _ in range(draws))
    return RandomizationTest(
        hypothesis, float(observed), (1 + beyond) / (1 + draws), draws, len(of_unit)
    )


def _overall_values(
    panel: Panel, cohorts: Num[np.ndarray, " G"]
) -> tuple[Float[np.ndarray, "n G"], Int[np.ndarray, " n"], Float[np.ndarray, " G"]]:
    """Mean change of each treated row after each cohort's base, were it of that cohort.

    And the row's own cohort, and the never-treated rows' mean change, which is taken off.
    """
    base = np.searchsorted(panel.checkpoints, cohorts) - 1
    if (base < 0).any():
        raise EmptyFamilyError(f"randomization: cohort {cohorts[0]:g} has no checkpoint before it")
    post: Bool[np.ndarray, "G C"] = panel.checkpoints >= cohorts[:, None]
    change = panel.y @ (post / post.sum(axis=1, keepdims=True)).T - panel.y[:, base]
    never = panel.cohort == NEVER
    off = change[never].mean(axis=0) if never.any() else change.mean(axis=0)
    treated = ~never
    return change[treated], np.searchsorted(cohorts, panel.cohort[treated]), off


def _overall(
    sums: Float[np.ndarray, "u G"],
    size: Int[np.ndarray, " u"],
    assigned: Int[np.ndarray, " u"],
    off: Float[np.ndarray, " G"],
) -> float:
    """Overall effect of an assignment: mean change of rows less that of never-treated ones."""
    change = sums[np.arange(len(sums)), assigned] - size * off[assigned]
    return float(change.sum() / size.sum())


def _between(
    sums: Float[np.ndarray, "u C"],
    size: Int[np.ndarray, " u"],
    assigned: Int[np.ndarray, " u"],
    spread: Float[np.ndarray, " C"],
) -> float:
    """Largest share of a change's variance that lies between cohorts."""
    units = np.arange(len(assigned))
    total = sparse.csr_array((np.ones(len(units)), (assigned, units))) @ sums
    between = (total**2 / np.bincount(assigned, size)[:, None]).sum(axis=0)
    return float((between / spread).max())
