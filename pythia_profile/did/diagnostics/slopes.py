"""How effects change with a feature of the rows: the slope of heterogeneity.

In: a panel and a column of numbers of the rows table. Out: `Slope`, by how much a mean effect grows
for each standard deviation of the feature. With D_i a row's own mean of Y_c − Y_b over the cells of
cohort g, weighted as in the mean effect,

    slope = Σ_g β_g(D, x among the cohort's rows) − Σ_g β(D, x among the never-treated rows)

β are least-squares slopes within each group: what the feature has to do with trends is in both, and
goes. As for effects, sums over clusters of the rows' influences x̃_i (D_i − D̄ − β x̃_i)/Σ x̃² give
the variance. The slope is that of the best line; an effect need not be a line of the feature.

Source: the interaction of treatment and covariate in a regression within cohorts, with
heteroskedasticity-robust errors (MacKinnon and White, 1985, HC1).
"""

from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Float
from scipy.special import stdtrit

from pythia_profile.did.errors import OptionError, SmallCohortError
from pythia_profile.did.estimation import effects
from pythia_profile.did.inference.aggregates import Kind, aggregate
from pythia_profile.did.moments import label
from pythia_profile.did.panels import Panel
from pythia_profile.did.settings import DEFAULT, Estimation
from pythia_profile.did.variance import group_components
from pythia_profile.errors import not_found
from pythia_profile.tables import NEVER

__all__ = ["Slope", "effect_slope"]


@dataclass(frozen=True, slots=True)
class Slope:
    """Change of a mean effect with a feature.

    Attributes
    ----------
    kind : which mean effect.
    column : the feature.
    deviation : standard deviation of the feature over the rows, in its own unit.
    estimate : change of the effect for each standard deviation, in units of the outcome.
    se : its standard error.
    df : degrees of freedom of the standard error (Welch and Satterthwaite).
    rows : rows with a value of the feature.
    """

    kind: str
    column: str
    deviation: float
    estimate: float
    se: float
    df: float
    rows: int

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Lower and upper end of the slope's interval, by Student's t."""
        half = float(stdtrit(self.df, (1 + level) / 2)) * self.se
        return self.estimate - half, self.estimate + half


def effect_slope(
    panel: Panel, column: str, settings: Estimation = DEFAULT, *, kind: Kind = "overall"
) -> Slope:
    """Estimate how a mean effect changes with a column of numbers of the rows table.

    Parameters
    ----------
    column : a covariate of the panel's rows; rows without a value are left out.
    kind : `instantaneous`, `persistent`, `residual` or `overall`.

    Raises
    ------
    NotFoundError
        The rows have no such column.
    OptionError
        It holds no numbers, is constant, or the settings ask for other controls than never-treated
        rows, other estimators than did and diff, or covariates.
    SmallCohortError
        A cohort has fewer than three rows, or one value of the feature.
    """
    chosen = (settings.control, settings.estimator != "ancova", settings.covariates)
    if chosen != ("never", True, ()):
        raise OptionError(
            f"slope: got control '{settings.control}', estimator '{settings.estimator}' and "
            f"covariates {list(settings.covariates)}, expected never-treated controls, did or "
            "diff, and none"
        )
    if column not in panel.covariates.columns:
        raise not_found("column of the rows", column, panel.covariates.columns)
    values = panel.covariates[column]
    if not values.dtype.is_numeric():
        raise OptionError(f"slope: column '{column}' is {values.dtype}, expected numbers")
    x = values.cast(pl.Float64).fill_null(np.nan).to_numpy()
    if not (known := np.isfinite(x)).all():
        panel, x = panel.keep(known, f"no {column}"), x[known]
    if not (len(x) and (deviation := float(x.std())) > 1e-12 * abs(x).max()):
        raise OptionError(f"slope: column '{column}' has one value for all {len(x)} rows")
    att = effects(panel, settings)
    mean, plan, rows = aggregate(att, kind).only([None]), att.fit.comparison, att.fit.rows
    share = mean.parts[0].weights.toarray().reshape(att.att.shape)
    feature = ((x - x.mean()) / deviation)[rows.input_index]
    estimate, variance, clusters = 0.0, [], []
    # Row means Σ_c w (Y_c − θ Y_b) by cohort; the never-treated rows serve all cohorts at once.
    own = [_on_outcomes(share[g], plan.theta[g], plan.base[g]) for g in range(len(share))]
    for h in rows.groups():
        never = rows.labels[h] == NEVER
        weights = np.sum(own, axis=0) if never else own[h]
        if not weights.any():
            continue
        y, w, z = rows.y[rows.group(h)] @ weights, rows.weight[rows.group(h)], None
        z = feature[rows.group(h)] - np.average(feature[rows.group(h)], weights=w)
        spread = float(w @ z**2)
        if len(y) < 3 or spread <= 1e-12 * float(w.sum()):
            raise SmallCohortError(
                f"slope of '{column}': cohort {label(rows.labels[h])} has {len(y)} rows and "
                f"{len(np.unique(z))} values; expected three rows and two values or more"
            )
        slope = float(w @ (z * y)) / spread
        rest = y - np.average(y, weights=w) - slope * z
        scores = rows.by_cluster((w * z * rest / spread)[:, None], h)
        n = len(scores)
        variance.append(float((scores**2).sum()) * (n / (n - 1)) * ((len(y) - 1) / (len(y) - 2)))
        clusters.append((n - 1, never))
        estimate += -slope if never else slope
    freedom, of_never = (np.array(part) for part in zip(*clusters, strict=True))
    parts = group_components(np.array(variance)[:, None], freedom, of_never.astype(bool))
    se = float(np.sqrt(parts.treated + parts.control)[0])
    return Slope(kind, column, deviation, estimate, se, float(parts.df()[0]), len(x))


def _on_outcomes(
    share: Float[np.ndarray, " C"], theta: Float[np.ndarray, " C"], base: np.ndarray
) -> Float[np.ndarray, " C"]:
    """Weights on outcomes of Σ_c share (Y_c − θ Y_b)."""
    weights = share.copy()
    np.add.at(weights, np.maximum(base, 0), -share * theta)
    return weights
