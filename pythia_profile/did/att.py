"""ATT(g, c): the effect of being read at step g on a row's outcome at checkpoint c.

In: outcomes (rows, checkpoints) and the cohort of each row. Out: `AttGt`, the grid of effects with
standard errors, in units of the outcome; above 0 means that the outcome rose by being read.

    ATT(g, c) = [Ȳ_c(g) − θ Ȳ_b(g)] − [Ȳ_c(C) − θ Ȳ_b(C)]

with b the last checkpoint before g, C the control rows, and θ = 1 for difference-in-differences.

Sources: Callaway and Sant'Anna (2021), "Difference-in-differences with multiple time periods",
Theorem 1 without covariates; Lesci, Meister, Hofmann, Vlachos and Pimentel (2024), "Causal
estimation of memorisation profiles".
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float, Int, Num, Shaped
from scipy.special import stdtrit

from pythia_profile.did import arguments
from pythia_profile.did.ancova import Slopes, adjust
from pythia_profile.did.arguments import Short
from pythia_profile.did.comparison import Comparison, compare
from pythia_profile.did.covariates import Covariates, covariates_of
from pythia_profile.did.errors import CovariateError, OptionError
from pythia_profile.did.group_means import GroupMeans, counts, group_means
from pythia_profile.did.known_rows import KnownMeans
from pythia_profile.did.missing import pseudo_values
from pythia_profile.did.moments import RowLabels, Rows, Sums, gather, summarize
from pythia_profile.did.regression import Regressions, regress
from pythia_profile.did.settings import (
    Adjustment,
    Base,
    Control,
    Estimation,
    Estimator,
    MissingRule,
)
from pythia_profile.did.threads import one_blas_thread
from pythia_profile.did.variance import VarianceComponents, cell_components, with_slopes
from pythia_profile.errors import SettingsError
from pythia_profile.tables import NEVER

FEW_CLUSTERS = 30
"""Below this many clusters in a cohort, bands over single cells cover too rarely."""


@dataclass(frozen=True, slots=True, eq=False)
class Fit:
    """What effects were made from, and what inference needs.

    Attributes
    ----------
    settings : control, base, estimator, anticipation, ….
    comparison : base, pool of controls and coefficient of each cell.
    sums : sufficient statistics of the groups.
    treated : treated rows of each cell: their number and mean of Y_c − θ Y_b.
    control : control rows of each cell.
    variance : variance of each cell by the rows it comes from, with its degrees of freedom.
    slopes : for ancova, how the estimated slopes move the cells.
    rows : the rows in canonical order.
    regressions : means whose rows have influences of their own: on covariates, or over the rows
        that are known at a checkpoint.
    """

    settings: Estimation
    comparison: Comparison
    sums: Sums
    treated: GroupMeans
    control: GroupMeans
    variance: VarianceComponents
    slopes: Slopes | None
    rows: Rows
    regressions: Regressions | KnownMeans | None = None


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class AttGt(Short):
    """ATT(g, c) on the grid of cohorts and checkpoints.

    Attributes
    ----------
    cohorts : (G,) treatment cohorts, ascending.
    checkpoints : (C,) checkpoint steps, ascending.
    att : (G, C) effect in units of the outcome; NaN where no row can serve as a control. At the
        base checkpoint it is 0 by construction.
    se : (G, C) analytic standard error, same unit.
    n_treated : (G, C) treated rows that were scored at the checkpoint.
    n_control : (G, C) control rows, likewise.
    fit : what the effects were made from.
    notes : what a reader of the estimates must know, one sentence each.
    """

    cohorts: Num[np.ndarray, " G"]
    checkpoints: Num[np.ndarray, " C"]
    att: Float[np.ndarray, "G C"]
    se: Float[np.ndarray, "G C"]
    n_treated: Int[np.ndarray, "G C"]
    n_control: Int[np.ndarray, "G C"]
    fit: Fit = field(repr=False)
    notes: tuple[str, ...] = ()

    @property
    def settings(self) -> Estimation:
        """Settings of the estimate."""
        return self.fit.settings

    @property
    def df(self) -> Float[np.ndarray, "G C"]:
        """Degrees of freedom of the standard errors (Welch and Satterthwaite); (G, C)."""
        return np.where(self.identified, self.fit.variance.df(), np.nan)

    @property
    def event_time(self) -> Num[np.ndarray, "G C"]:
        """Steps from the cohort to the checkpoint, c − g; (G, C)."""
        steps: Num[np.ndarray, "G C"] = self.checkpoints - self.cohorts[:, None]
        return steps

    @property
    def identified(self) -> Bool[np.ndarray, "G C"]:
        """Cells that have controls and a base; (G, C)."""
        known: Bool[np.ndarray, "G C"] = np.isfinite(self.att)
        return known

    @property
    def post(self) -> Bool[np.ndarray, "G C"]:
        """Identified cells with c ≥ g; (G, C)."""
        cells: Bool[np.ndarray, "G C"] = self.fit.comparison.post & self.identified
        return cells

    @property
    def placebo(self) -> Bool[np.ndarray, "G C"]:
        """Identified cells before treatment, the base left out; (G, C)."""
        cells: Bool[np.ndarray, "G C"] = self.fit.comparison.placebo & self.identified
        return cells

    def __str__(self) -> str:
        controls = "no" if not self.n_control.max() else f"up to {self.n_control.max()}"
        chosen = self.settings
        lines = [
            f"ATT(g, c) of {len(self.cohorts)} cohorts at {len(self.checkpoints)} checkpoints, "
            f"{self.fit.sums.rows[: len(self.cohorts)].sum()} treated rows, {controls} control "
            f"rows ('{chosen.control}'); estimator {chosen.estimator}, {chosen.base} base",
            *self.notes,
        ]
        return "\n".join(lines)

    def interval(self, level: float = 0.95) -> tuple[Float[np.ndarray, "G C"], ...]:
        """Lower and upper end of each cell's own `level` interval, by Student's t."""
        half = stdtrit(self.df, (1 + level) / 2) * self.se
        return self.att - half, self.att + half


@one_blas_thread
def att_gt(
    y: Shaped[npt.ArrayLike, "U C"],
    cohort: Shaped[npt.ArrayLike, " U"],
    checkpoints: Shaped[npt.ArrayLike, " C"],
    *,
    control: Control = "never",
    base: Base = "universal",
    estimator: Estimator = "did",
    clusters: Shaped[npt.ArrayLike, " U"] | None = None,
    weights: Shaped[npt.ArrayLike, " U"] | None = None,
    units: Shaped[npt.ArrayLike, " U"] | None = None,
    anticipation: int = 0,
    missing: MissingRule = "error",
    small_sample: bool | None = None,
    covariates: Mapping[str, Any] | Shaped[npt.ArrayLike, "..."] | None = None,
    adjustment: Adjustment = "regression",
) -> AttGt:
    """Estimate ATT(g, c) for every cohort and checkpoint.

    Why not a regression with row and checkpoint effects: with cohorts treated at different times
    it compares rows with rows that were read earlier, and weights cells oddly, even negatively.

    Parameters
    ----------
    y : (U, C) outcome of row u at checkpoint c, such as log-likelihood in nats per token.
    cohort : (U,) treatment cohort of each row, usually the first scored checkpoint that has read
        it; NEVER, NaN or infinity for rows that no step reads.
    checkpoints : (C,) strictly ascending steps; every cohort comes after the first. Dates and words
        are numbered in the order given, and a note says so.
    control : `never` (never-treated rows), `not_yet` (rows of later cohorts), `both`.
    base : `universal` compares every cell with the last checkpoint before the cohort; `varying`
        compares cells before treatment with the checkpoint before them.
    estimator : `did`; `diff`, the plain difference at c, which needs rows assigned to steps at
        random; `ancova`, changes adjusted for the base outcome by its slope among the controls.
    clusters : (U,) cluster of each row, usually its batch; a row with NEVER is its own cluster.
    weights : (U,) positive sampling weights of the rows.
    units : (U,) ids of the rows, which name their random multipliers in `bands`.
    anticipation : checkpoints before the cohort at which the effect may already show; the base is
        taken before them.
    missing : `error` refuses NaN; `balanced` drops the rows that have any; `available` uses what
        was scored (`pythia_profile.did.missing`).
    small_sample : multiply each group's variance by n/(n − 1), n its clusters (or rows); by default
        only where clusters are given, so that unclustered standard errors are those of R's did.
    covariates : by name, (U,) or (U, C) values each, or one array (U, K): rows are compared at
        equal values of these, of (U, C) those at the base (`pythia_profile.did.regression`).
    adjustment : `regression` of changes on the covariates among the controls; `doubly_robust`, by
        the probability of being treated as well.

    Raises
    ------
    PanelShapeError, CheckpointOrderError, MissingOutcomeError, ConstantOutcomeError
        The arrays do not fit together, or hold no usable outcomes.
    NoControlError, NoTreatedError, EarlyCohortError, SmallCohortError
        A group that the comparison needs is missing, too early or too small.
    ClusterError, DuplicateError, OptionError
        Clusters across cohorts, duplicated ids, unknown settings.
    CovariateError
        Covariates that are missing for a row, constant, or sums of one another.

    Examples
    --------
    Two rows read at step 10 gain 1, two held-out rows gain nothing beyond the trend.

    >>> y = [[0.0, 2.0], [1.0, 2.8], [0.0, 1.0], [1.0, 1.8]]
    >>> effect = att_gt(y, cohort=[10, 10, NEVER, NEVER], checkpoints=[0, 10])
    >>> effect.att.round(6)
    array([[0., 1.]])
    >>> effect.se.round(6)
    array([[0.  , 0.1]])

    Source: Callaway and Sant'Anna (2021), Theorem 1 and equation 2.10; their standard errors, from
    population variances.
    """
    checkpoints, cohort, renamed = arguments.numbered(checkpoints, cohort)
    grid = arguments.ascending(checkpoints)
    outcomes = arguments.outcomes(y)
    given = RowLabels(
        arguments.per_row(clusters, outcomes, "clusters", np.int64),
        arguments.per_row(weights, outcomes, "weights", np.float64),
        arguments.per_row(units, outcomes, "units", np.int64),
        None if covariates is None else covariates_of(covariates, outcomes.shape),
    )
    try:
        settings = Estimation(
            control=control,
            base=base,
            estimator=estimator,
            anticipation=anticipation,
            missing=missing,
            covariates=given.covariates.names if given.covariates else (),
            adjustment=adjustment,
        )
    except SettingsError as error:
        raise OptionError(str(error)) from None
    cohorts = arguments.labels(cohort, outcomes, grid)
    att = effects_of_rows(outcomes, cohorts, grid, given, settings, small_sample)
    return replace(att, notes=(*renamed, *att.notes))


@one_blas_thread
def effects_of_rows(
    y: Float[np.ndarray, "U C"],
    cohort: Num[np.ndarray, " U"],
    checkpoints: Num[np.ndarray, " C"],
    given: RowLabels,
    settings: Estimation,
    small_sample: bool | None = None,
) -> AttGt:
    """Estimate from rows; arguments as in `att_gt`."""
    arguments.check_outcomes(y, gaps=settings.missing != "error")
    arguments.positive(given.weights)
    notes: tuple[str, ...] = ()
    scored = None
    if (gaps := np.isnan(y)).any() and settings.missing == "balanced":
        whole = ~gaps.any(axis=1)
        notes = (f"{(~whole).sum()} of {len(y)} rows dropped: not scored at every checkpoint",)
        y, cohort, given = y[whole], cohort[whole], given.keep(whole)
    if given.second is not None:
        y = np.where(checkpoints >= given.second[:, None], np.nan, y)
    if (gaps := np.isnan(y)).any():
        if given.covariates is not None:
            rule = "missing='balanced'" if given.second is None else "second_reading='drop'"
            raise CovariateError(
                f"{gaps.any(axis=1).sum()} of {len(y)} rows lack a score, or are cut where they "
                f"are read again; covariates need all of them: choose {rule}"
            )
        scored, may_end = y, given.second is not None
        y = pseudo_values(y, cohort, checkpoints, given.weights, settings.estimator, may_end)
    rows = gather(y, cohort, given, levels=settings.estimator != "did", scored=scored)
    att = _every_cell(rows, checkpoints, settings, small_sample)
    if given.covariates is not None:
        att = at_equal_covariates(att, given.covariates.keep(rows.input_index))
    return replace(att, notes=(*notes, *att.notes))


def _every_cell(
    rows: Rows,
    checkpoints: Num[np.ndarray, " C"],
    settings: Estimation,
    small_sample: bool | None,
) -> AttGt:
    """Estimate every cell from the groups' sums."""
    sums = summarize(rows)
    cohorts = sums.labels[sums.labels != NEVER]
    never = len(cohorts) < len(sums.labels)
    comparison = compare(cohorts, checkpoints, never=never, settings=settings)
    arguments.check_sizes(sums.labels, sums.rows, sums.clusters)
    clustered = bool((sums.clusters < sums.rows).any())
    if clustered if small_sample is None else small_sample:
        sums = replace(sums, factor=sums.clusters / (sums.clusters - 1))
    slopes = None
    if settings.estimator == "ancova":
        theta, slopes = adjust(comparison, rows)
        comparison = replace(comparison, theta=theta)
    treated, control = group_means(comparison, sums)
    variance = cell_components(comparison, sums, treated, control)
    if slopes is not None:
        variance = with_slopes(variance, comparison, slopes, rows, sums, control)
    n_treated, n_control = counts(comparison, sums, rows)
    known = (n_control > 0) & ((comparison.base >= 0) | (comparison.theta == 0))
    known &= n_treated > 0  # a cohort may be read again as a whole
    with np.errstate(invalid="ignore"):
        effect = treated.mean - control.mean
        total = variance.treated + variance.control
    masked = replace(
        variance,
        treated=np.where(known, variance.treated, 0.0),
        control=np.where(known, variance.control, 0.0),
    )
    att = AttGt(
        cohorts=cohorts,
        checkpoints=checkpoints,
        att=np.where(known, effect, np.nan),
        se=np.where(known, np.sqrt(total), np.nan),
        n_treated=n_treated,
        n_control=n_control,
        fit=Fit(settings, comparison, sums, treated, control, masked, slopes, rows),
    )
    return replace(att, notes=(*_unidentified(att), *few_clusters(att)))


def at_equal_covariates(att: AttGt, covariates: Covariates) -> AttGt:
    """Adjust an estimate for covariates, in the canonical order of its rows."""
    fit, rows = att.fit, att.fit.rows
    if fit.slopes is not None:
        raise OptionError(
            "covariates: got estimator 'ancova'; choose did, with the base outcome as a covariate"
        )
    found = regress(rows, fit.comparison, covariates, fit.settings.adjustment)
    variance = found.components(rows, fit.comparison, fit.sums, fit.variance)
    se = np.sqrt(variance.treated + variance.control)
    how = fit.settings.adjustment.replace("_", " ")
    note = f"rows are compared at equal {', '.join(covariates.names) or 'nothing'} ({how})"
    return replace(
        att,
        att=found.effect,
        se=np.where(np.isfinite(found.effect), se, np.nan),
        fit=replace(fit, variance=variance, regressions=found),
        notes=(*att.notes, note),
    )


def _unidentified(att: AttGt) -> tuple[str, ...]:
    cells = att.att.size
    if not (without := cells - int(att.identified.sum())):
        return ()
    lacking = "controls or no base" if att.n_treated.all() else "rows, no controls or no base"
    return (f"{without} of {cells} cells have no {lacking}, and no estimate",)


def few_clusters(att: AttGt) -> tuple[str, ...]:
    """Return a warning where cohorts have too few clusters for bands over single cells."""
    sums = att.fit.sums
    fewest = int(sums.clusters[: len(att.cohorts)].min())
    if fewest >= FEW_CLUSTERS or not (sums.clusters < sums.rows).any():
        return ()
    return (
        f"cohorts have as few as {fewest} clusters: do not trust bands over single cells, "
        "trust aggregates over cohorts",
    )
