"""ATT(g, c): the effect of being read at step g on a row's outcome at checkpoint c.

In: outcomes (rows, checkpoints) and the cohort of each row. Out: `AttGt`, the grid of effects with
standard errors, in units of the outcome; above 0 means that the outcome rose by being read.

    ATT(g, c) = [Ȳ_c(g) − θ Ȳ_b(g)] − [Ȳ_c(C) − θ Ȳ_b(C)]

with b the last checkpoint before g, C the control rows, and θ = 1 for difference-in-differences.

Sources: Callaway and Sant'Anna (2021), "Difference-in-differences with multiple time periods",
Theorem 1 without covariates; Lesci, Meister, Hofmann, Vlachos and Pimentel (2024), "Causal
estimation of memorisation profiles".
"""

from dataclasses import dataclass, field, replace

import numpy as np
import numpy.typing as npt
from jaxtyping import Bool, Float, Int, Num, Shaped
from scipy.special import stdtrit

from pythia_profile.did import arguments as inputs
from pythia_profile.did.ancova import Adjustment, adjust, control_variance
from pythia_profile.did.comparison import Comparison, compare
from pythia_profile.did.group_means import Side, sides
from pythia_profile.did.missing import Missing, pseudo_values
from pythia_profile.did.moments import Rows, Sums, gather, summarize
from pythia_profile.did.settings import Base, Control, Estimator
from pythia_profile.did.threads import one_blas_thread
from pythia_profile.did.variance import Spread
from pythia_profile.tables import NEVER

FEW_CLUSTERS = 30
"""Below this many clusters in a cohort, bands over single cells cover too rarely."""


@dataclass(frozen=True, slots=True, eq=False)
class AttGt:
    """ATT(g, c) on the grid of cohorts and checkpoints.

    Attributes
    ----------
    cohorts : (G,) treatment cohorts, ascending.
    checkpoints : (C,) checkpoint steps, ascending.
    att : (G, C) effect in units of the outcome; NaN where no row can serve as a control. At the
        base checkpoint it is 0 by construction.
    se : (G, C) analytic standard error, same unit.
    df : (G, C) degrees of freedom of the standard error (Welch and Satterthwaite).
    spread : variance by side, with its degrees of freedom.
    treated : treated side of each cell: rows, mean of Y_c − θ Y_b, its variance.
    control : control side of each cell.
    comparison : base, pool of controls and coefficient of each cell.
    sums : sufficient statistics of the groups.
    adjustment : for ancova, how the estimated slopes move the cells.
    rows : the rows in canonical order; None where only their sums are known.
    base : the base the cells before treatment are compared with.
    estimator : did, diff or ancova.
    anticipation : checkpoints before the cohort at which the effect may already show.
    notes : what a reader of the estimates must know, one sentence each.
    """

    cohorts: Num[np.ndarray, " G"]
    checkpoints: Num[np.ndarray, " C"]
    att: Float[np.ndarray, "G C"]
    se: Float[np.ndarray, "G C"]
    df: Float[np.ndarray, "G C"]
    spread: Spread = field(repr=False)
    treated: Side = field(repr=False)
    control: Side = field(repr=False)
    comparison: Comparison = field(repr=False)
    sums: Sums = field(repr=False)
    adjustment: Adjustment | None = field(repr=False)
    rows: Rows | None = field(repr=False)
    base: Base
    estimator: Estimator
    anticipation: int
    notes: tuple[str, ...]

    @property
    def n_treated(self) -> Int[np.ndarray, "G C"]:
        """Treated rows of each cell; (G, C)."""
        return self.treated.rows

    @property
    def n_control(self) -> Int[np.ndarray, "G C"]:
        """Control rows of each cell; (G, C)."""
        return self.control.rows

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
        cells: Bool[np.ndarray, "G C"] = self.comparison.post & self.identified
        return cells

    @property
    def placebo(self) -> Bool[np.ndarray, "G C"]:
        """Identified cells before treatment, the base left out; (G, C)."""
        cells: Bool[np.ndarray, "G C"] = self.comparison.placebo & self.identified
        return cells

    def __str__(self) -> str:
        controls = "no" if not self.n_control.max() else f"up to {self.n_control.max()}"
        lines = [
            f"ATT(g, c) of {len(self.cohorts)} cohorts at {len(self.checkpoints)} checkpoints, "
            f"{self.sums.rows[: len(self.cohorts)].sum()} treated rows, {controls} control rows "
            f"('{self.comparison.control}'); estimator {self.estimator}, {self.base} base",
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
    missing: Missing = "error",
    small_sample: bool | None = None,
) -> AttGt:
    """Estimate ATT(g, c) for every cohort and checkpoint.

    Why not a regression with row and checkpoint effects: with cohorts treated at different times
    it compares rows with rows that were read earlier, and weights cells oddly, even negatively.

    Parameters
    ----------
    y : (U, C) outcome of row u at checkpoint c, such as log-likelihood in nats per token.
    cohort : (U,) treatment cohort of each row, usually the first scored checkpoint that has read
        it; NEVER for rows that no step reads.
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
    missing : `error` refuses NaN; `available` uses what was scored (`pythia_profile.did.missing`).
    small_sample : multiply each group's variance by n/(n − 1), n its clusters (or rows); by default
        only where clusters are given, so that unclustered standard errors are those of R's did.

    Raises
    ------
    PanelShapeError, CheckpointOrderError, MissingOutcomeError, ConstantOutcomeError
        The arrays do not fit together, or hold no usable outcomes.
    NoControlError, NoTreatedError, EarlyCohortError, SmallCohortError
        A group that the comparison needs is missing, too early or too small.
    ClusterError, DuplicateError, OptionError
        Clusters across cohorts, ids that stand twice, unknown settings.

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
    checkpoints, cohort, renamed = inputs.numbered(checkpoints, cohort)
    grid = inputs.ascending(checkpoints)
    outcomes = inputs.outcomes(y)
    inputs.check_option(missing, Missing, "missing")
    inputs.check_outcomes(outcomes, gaps=missing == "available")
    labels = inputs.labels(cohort, outcomes, grid)
    mass = inputs.positive(inputs.per_row(weights, outcomes, "weights", np.float64))
    if missing == "available":
        levels = estimator == "diff"
        outcomes = pseudo_values(outcomes, labels, grid, weights=mass, levels=levels)
    rows = gather(
        outcomes,
        labels,
        clusters=inputs.per_row(clusters, outcomes, "clusters", np.int64),
        weights=mass,
        units=inputs.per_row(units, outcomes, "units", np.int64),
        levels=estimator != "did",
    )
    groups = np.unique(labels)
    cohorts = groups[groups != NEVER]
    comparison = compare(
        cohorts,
        grid,
        never=len(groups) > len(cohorts),
        control=control,
        base=base,
        estimator=estimator,
        anticipation=anticipation,
    )
    inputs.check_sizes(groups, np.diff(rows.group_starts), rows.cluster_counts())
    corrected = rows.clustered if small_sample is None else bool(small_sample)
    sums = summarize(rows, small_sample=corrected)
    adjustment = None
    if estimator == "ancova":
        theta, adjustment = adjust(comparison, rows)
        comparison = replace(comparison, theta=theta)
    att = assemble(
        cohorts, grid, comparison, sums, rows, adjustment, base, estimator, int(anticipation)
    )
    return replace(att, notes=(*renamed, *att.notes))


def assemble(
    cohorts: Num[np.ndarray, " G"],
    checkpoints: Num[np.ndarray, " C"],
    comparison: Comparison,
    sums: Sums,
    rows: Rows | None,
    adjustment: Adjustment | None,
    base: Base,
    estimator: Estimator,
    anticipation: int,
) -> AttGt:
    """Estimate every cell from the groups' sums."""
    treated, control = sides(comparison, sums)
    if adjustment is not None and rows is not None:
        adjusted = control_variance(comparison, adjustment, rows, sums, control)
        control = replace(control, variance=np.where(control.variance > 0, adjusted, 0.0))
    known = (control.rows > 0) & ((comparison.base >= 0) | (comparison.theta == 0))
    spread = Spread(
        np.where(known, treated.variance, 0.0),
        treated.clusters - 1.0,
        np.where(known, control.variance, 0.0),
        control.clusters - 1.0,
    )
    with np.errstate(invalid="ignore"):
        effect = treated.mean - control.mean
        variance = treated.variance + control.variance
    return AttGt(
        cohorts=cohorts,
        checkpoints=checkpoints,
        att=np.where(known, effect, np.nan),
        se=np.where(known, np.sqrt(variance), np.nan),
        df=np.where(known, spread.df(), np.nan),
        spread=spread,
        treated=treated,
        control=control,
        comparison=comparison,
        sums=sums,
        adjustment=adjustment,
        rows=rows,
        base=base,
        estimator=estimator,
        anticipation=anticipation,
        notes=_notes(cohorts, sums, known),
    )


def _notes(
    cohorts: Num[np.ndarray, " G"], sums: Sums, known: Bool[np.ndarray, "G C"]
) -> tuple[str, ...]:
    notes = []
    if (missing := known.size - int(known.sum())) > 0:
        notes.append(
            f"{missing} of {known.size} cells have no controls or no base, and no estimate"
        )
    return (*notes, *few_clusters(sums, len(cohorts)))


def few_clusters(sums: Sums, cohorts: int) -> tuple[str, ...]:
    """Return a warning where cohorts have too few clusters for bands over single cells."""
    fewest = int(sums.clusters[:cohorts].min())
    if fewest >= FEW_CLUSTERS or not (sums.clusters < sums.rows).any():
        return ()
    return (
        f"cohorts have as few as {fewest} clusters: do not trust bands over single cells, "
        "trust aggregates over cohorts",
    )
