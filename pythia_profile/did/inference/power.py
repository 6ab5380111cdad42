"""How large an effect must be to be found, and how to spend a budget of scored tokens.

In: variances from a pilot estimate, and a design: cohorts, batches a cohort, rows a batch,
controls, checkpoints, size of the family. Out: standard error and minimal detectable effect, in
units of the outcome; the best split of a budget.

    se² of one cohort's effect   = between / b + within / (b r) + control / n₀
    se² of the mean over cohorts = (between / b + within / (b r)) / G + shared / n₀

for b batches of r rows, n₀ control rows and G cohorts. `between` and `within` are the components of
the variance of a row's own change, between and within batches; `control` and `shared` those of the
control rows' changes for one cohort and for the mean over cohorts, which all cohorts share.

    minimal detectable effect = (t(critical) + t(power)) · se

Source: the two-sample power formula with variance components, as in Bloom (1995).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from typing import Literal

import numpy as np
import polars as pl
from jaxtyping import Float, Int
from scipy.special import stdtrit

from pythia_profile.did.arguments import check_option, counted, per_row
from pythia_profile.did.att import AttGt
from pythia_profile.did.errors import OptionError
from pythia_profile.did.inference.aggregates import Kind, aggregate
from pythia_profile.did.inference.contrasts import Contrast, contrast
from pythia_profile.did.inference.influence import row_scores
from pythia_profile.did.inference.simultaneous import Bands
from pythia_profile.did.threads import one_blas_thread

Target = Literal["cohort", "mean"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Pilot:
    """Variances of the rows' changes that make up an effect.

    Attributes
    ----------
    effect : which effect, such as `instantaneous`.
    between : of treated rows, between batches.
    within : of treated rows, within batches; all of it where batches are unknown.
    control : of control rows, for the effect of one cohort.
    shared : of control rows, for the mean over cohorts.
    """

    effect: str
    between: float
    within: float
    control: float
    shared: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Planned:
    """A study that is planned, and what is to be found in it.

    Attributes
    ----------
    cohorts : number of cohorts.
    checkpoints : scored checkpoints; cohorts + 1 unless given.
    tokens : scored tokens of a row.
    target : the effect of one `cohort`, or the `mean` over cohorts.
    power : probability of finding an effect of the minimal size.
    level : simultaneous coverage of a family of tests.

    Raises
    ------
    OptionError
        A number is out of range, or the target unknown.
    """

    cohorts: int
    checkpoints: int | None = None
    tokens: int = 2048
    target: Target = "cohort"
    power: float = 0.8
    level: float = 0.95

    def __post_init__(self) -> None:
        if self.cohorts < 1:
            raise OptionError(f"cohorts: got {self.cohorts}, expected one or more")
        for name, value in (("power", self.power), ("level", self.level)):
            if not 0 < value < 1:
                raise OptionError(f"{name}: got {value}, expected a number between 0 and 1")
        check_option(self.target, Target, "target")

    @property
    def tokens_of_a_row(self) -> int:
        """Scored tokens of a row over all checkpoints."""
        return self.tokens * (self.checkpoints or self.cohorts + 1)


@one_blas_thread
def pilot(
    att: AttGt,
    clusters: Int[np.ndarray, " U"] | None = None,
    effect: Kind = "instantaneous",
) -> Pilot:
    """Variances from an estimate with never-treated controls.

    Parameters
    ----------
    clusters : (U,) batch of each row, in the order of the rows given to `att_gt`.
    effect : `instantaneous`, `persistent`, `residual` or `cohort`: one effect for each cohort.

    Raises
    ------
    OptionError
        Another effect, another estimator, or other controls than never-treated rows.
    """
    if effect not in ("instantaneous", "persistent", "residual", "cohort"):
        raise OptionError(
            f"effect: got {effect!r}, expected instantaneous, persistent, residual or cohort"
        )
    if att.fit.slopes is not None or att.settings.control != "never":
        raise OptionError("pilot: expected an estimate by did or diff, with never-treated controls")
    each = aggregate(att, effect)
    single = each.only([at for at in each.labels if at is not None])
    mean = _mean(att, single)
    batches = per_row(clusters, att.fit.rows.y, "clusters", np.int64)
    labels = None if batches is None else batches[att.fit.rows.input_index]
    components, control, shared = [], np.array([]), 0.0
    common = dict(row_scores(mean.parts[0]))
    for h, scores in row_scores(single.parts[0]):
        rows, count = att.fit.rows.group(h), att.fit.sums.rows[h]
        changes = count * scores
        if h == len(att.cohorts):
            control = changes.var(axis=0)
            shared = float((count * common[h][:, 0]).var())
        elif (mine := np.flatnonzero(scores.any(axis=0))).size:
            batch = np.arange(count) if labels is None else labels[rows]
            components.append(_components(changes[:, mine[0]], batch))
    between, within = np.mean(components, axis=0)
    return Pilot(
        effect=effect,
        between=float(between),
        within=float(within),
        control=float(control.mean()),
        shared=shared,
    )


def design(
    variances: Pilot,
    planned: Planned,
    *,
    batches: Sequence[int] = (5, 10, 20),
    rows: Sequence[int] = (5, 10, 20),
    controls: Sequence[int] = (500, 2000, 8000),
    families: Sequence[float | Bands] = (1,),
) -> pl.DataFrame:
    """Minimal detectable effect of each combination of batches, rows, controls and family.

    Parameters
    ----------
    planned : cohorts, checkpoints and tokens, and the tests: target, power, level.
    batches, rows, controls : batches a cohort, rows a batch, never-treated rows in all.
    families : sizes of the family, as independent tests; or bands of the pilot, whose effective
        size is taken.

    Returns
    -------
    One line for each combination: `batches`, `rows`, `controls`, `family`, `se`, `critical`
    (on Student's t), `df` (its degrees of freedom), `mde` (unit of the outcome), `scored_rows`,
    `scored_tokens`. With few batches `mde` may rise with the controls though `se` falls: the more
    controls, the more of the variance is known from the few batches alone, and the test has their
    few degrees of freedom. A test simulated at its own power says the same.

    Examples
    --------
    >>> small = Pilot(effect="instantaneous", between=0.0, within=0.04, control=0.04, shared=0.02)
    >>> table = design(small, Planned(cohorts=16), batches=[10], rows=[10], controls=[2000])
    >>> [round(value, 4) for value in table.select("se", "mde").row(0)]
    [0.0205, 0.0579]
    """
    cohorts, lines = planned.cohorts, []
    for b, r, n, family in product(batches, rows, controls, families):
        if min(b, r, n) < 1 or b * r < 2 or n < 2:
            raise OptionError(
                f"design: {counted(b, 'batch', 'batches')} of {counted(r, 'row')} and "
                f"{counted(n, 'control')}; expected two treated rows and two controls or more"
            )
        size = family.effective if isinstance(family, Bands) else float(family)
        if not 1 <= size < np.inf:
            raise OptionError(f"families: got {size:g}, expected numbers of tests from 1 on")
        error, df = _error(variances, cohorts, b, r, n, planned.target)
        tail = 1 - planned.level ** (1 / size)
        critical = float(stdtrit(df, 1 - tail / 2))
        scored = cohorts * b * r + n
        lines.append(
            {
                "batches": b,
                "rows": r,
                "controls": n,
                "family": size,
                "se": error,
                "critical": critical,
                "df": df,
                "mde": (critical + float(stdtrit(df, planned.power))) * error,
                "scored_rows": scored,
                "scored_tokens": scored * planned.tokens_of_a_row,
            }
        )
    return pl.DataFrame(lines)


def best_split(
    variances: Pilot,
    budget: float,
    planned: Planned,
    *,
    most_batches: int,
    most_rows: int | None = None,
    most_controls: int | None = None,
) -> dict[str, int]:
    """Batches, rows and controls with the smallest standard error for a budget of scored tokens.

    Rows of one batch share its shocks, so batches come first: one row each, and more only when
    `most_batches` of a cohort are used up. Part of the budget is left where there are no more rows.

    Parameters
    ----------
    most_batches, most_rows, most_controls : batches that a cohort has, rows that a batch has, and
        never-treated rows; None where nothing bounds them.

    Raises
    ------
    OptionError
        The budget does not pay for two rows a cohort and two controls, or there are not as many.

    Examples
    --------
    >>> small = Pilot(effect="instantaneous", between=0.0, within=0.04, control=0.04, shared=0.02)
    >>> study = Planned(cohorts=10, tokens=1000, checkpoints=20)
    >>> best_split(small, 1e8, study, most_batches=100)
    {'batches': 100, 'rows': 4, 'controls': 1000}
    >>> best_split(small, 1e8, study, most_batches=30, most_rows=8, most_controls=500)
    {'batches': 30, 'rows': 8, 'controls': 500}
    """
    _check_bounds(most_batches, most_rows, most_controls)
    cohorts, affordable = planned.cohorts, int(budget // planned.tokens_of_a_row)
    most = (affordable - 2) // cohorts
    if most_rows is not None:
        most = min(most, most_batches * most_rows)
    best: tuple[float, dict[str, int]] | None = None
    for per_cohort in _candidates(most).tolist():
        b = min(per_cohort, most_batches)
        r = per_cohort // b
        n = min(affordable - cohorts * b * r, most_controls or affordable)
        error, _ = _error(variances, cohorts, b, r, n, planned.target)
        if best is None or error < best[0]:
            best = error, {"batches": b, "rows": r, "controls": n}
    if best is None:
        raise OptionError(
            f"budget: {budget:g} tokens pay for {counted(affordable, 'row')}; expected "
            f"{2 * cohorts + 2} or more for {counted(cohorts, 'cohort')}"
        )
    return best[1]


def _check_bounds(batches: int, rows: int | None, controls: int | None) -> None:
    for name, bound, least in (
        ("most_batches", batches, 1),
        ("most_rows", rows, 1),
        ("most_controls", controls, 2),
    ):
        if bound is not None and bound < least:
            raise OptionError(f"{name}: got {bound}, expected {least} or more")
    if rows is not None and batches * rows < 2:
        raise OptionError(
            "most_batches, most_rows: got 1 batch of 1 row, expected two rows or more a cohort"
        )


def _candidates(most: int) -> Int[np.ndarray, " n"]:
    """Rows a cohort to try: all up to 2,000, then in steps of a thousandth."""
    fine = np.arange(2, min(most, 2000) + 1)
    if most <= 2000:
        return fine
    coarse = np.geomspace(2000, most, 1 + int(1000 * np.log(most / 2000)))
    return np.unique(np.append(fine, np.floor(coarse).astype(np.int64)))


def _error(
    variances: Pilot, cohorts: int, b: int, r: int, n: int, target: Target
) -> tuple[float, float]:
    """Return the standard error and its degrees of freedom (Welch and Satterthwaite)."""
    treated = variances.between / b + variances.within / (b * r)
    control = variances.control / n
    clusters = b if variances.between > 0 else b * r
    df = max(clusters - 1, 1)
    if target == "mean":
        treated, control, df = treated / cohorts, variances.shared / n, cohorts * df
    total = treated + control
    if total == 0:
        return 0.0, np.inf
    return float(np.sqrt(total)), float(total**2 / (treated**2 / df + control**2 / (n - 1)))


def _mean(att: AttGt, single: Contrast) -> Contrast:
    """Mean of the cohorts' effects, each with the same weight: designs have cohorts of one size."""
    weights = single.parts[0].weights
    return contrast(att, weights.sum(axis=0).reshape(1, *att.att.shape) / weights.shape[0])


def _components(
    changes: Float[np.ndarray, " n"], batch: Int[np.ndarray, " n"]
) -> tuple[float, float]:
    """Variance between and within batches, by analysis of variance; not below 0."""
    _, number, size = np.unique(batch, return_inverse=True, return_counts=True)
    n, k = len(changes), len(size)
    if k in (1, n):
        return 0.0, float(changes.var(ddof=1))
    means = np.bincount(number, changes) / size
    within = ((changes - means[number]) ** 2).sum() / (n - k)
    among = (size * (means - changes.mean()) ** 2).sum() / (k - 1)
    typical = (n - (size**2).sum() / n) / (k - 1)
    between = max((among - within) / typical, 0.0)
    return between, float(within if between else changes.var(ddof=1))
