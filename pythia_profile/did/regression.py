"""Effects at equal covariates: outcome regression, and its doubly robust form.

In: rows with covariates, and what each cell compares. Out: `Regressions`, from which the effect of
every cell follows, its variance, and the influence of every row on it. With D = Y_c − θ Y_b, X a
constant and the covariates at the base b, β the regression of D on X among the cell's control rows,
and R = D − Xβ,

    regression       ATT(g, c) = mean_g R
    doubly robust    ATT(g, c) = mean_g R − Σ_C ω R / Σ_C ω,    ω = w p/(1 − p)

p the logit probability of being of cohort g rather than a control. The first is right where the
regression is, the second where the regression or the probability is. Where rows are assigned at
random neither is needed to be right, and both take off the variance that X explains.

    influence of a treated row    w (R − mean_g R)/W_g  −  w (1 − p) X·κ
    influence of a control row    −w R X·λ  −  ω (R − η)/Σω  +  w p X·κ

λ = S⁻¹(X̄_g − X̄_ω), S = Σ_C w XXᵀ, η = Σ_C ωR/Σω, κ = H⁻¹ Σ_C ω(R − η)X/Σω, H = Σ w p(1 − p) XXᵀ;
for regression X̄_ω, η, κ and the terms in ω are absent. Cells with the same base and the same
controls share X, so influences are made for one cohort and one group of rows at a time, and no
array of rows × cohorts × checkpoints is ever built.

Sources: Callaway and Sant'Anna (2021), equations 2.8 and 2.10; Sant'Anna and Zhao (2020), section
3.1; `reg_did_panel` and `drdid_panel` of R's DRDID.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from jaxtyping import Float, Int
from scipy.special import expit

from pythia_profile.did.comparison import Comparison
from pythia_profile.did.covariates import Covariates
from pythia_profile.did.errors import CovariateError
from pythia_profile.did.moments import Rows, Sums, label
from pythia_profile.did.settings import Adjustment
from pythia_profile.did.variance import VarianceComponents

__all__ = ["Regressions", "regress"]

COLLINEAR = 1e-9
"""A covariate of which less than this share of the variance is its own is a sum of the others."""
LARGEST_PROBABILITY = 0.999
"""Beyond this a treated row has no control like it, as in R's did."""
NEWTON_STEPS = 50


@dataclass(frozen=True, slots=True, eq=False)
class Regressions:
    """The regressions behind each cell.

    Attributes
    ----------
    covariates : of the rows, in their canonical order.
    center, scale : (G, C, K) mean and standard deviation of the covariates among the controls.
    slopes : (G, C, K + 1) β, of the constant and the standardized covariates.
    leverage : (G, C, K + 1) λ.
    treated, control : (G, C) mean_g R, and η (0 for regression).
    odds : (G, C, K + 1) coefficients of log p/(1 − p); None for regression.
    bend : (G, C, K + 1) κ; None for regression.
    odds_mass : (G, C) Σω; None for regression.
    """

    covariates: Covariates
    center: Float[np.ndarray, "G C K"]
    scale: Float[np.ndarray, "G C K"]
    slopes: Float[np.ndarray, "G C K1"]
    leverage: Float[np.ndarray, "G C K1"]
    treated: Float[np.ndarray, "G C"]
    control: Float[np.ndarray, "G C"]
    odds: Float[np.ndarray, "G C K1"] | None
    bend: Float[np.ndarray, "G C K1"] | None
    odds_mass: Float[np.ndarray, "G C"] | None

    @property
    def effect(self) -> Float[np.ndarray, "G C"]:
        """ATT(g, c); NaN where a cell has no controls or no base."""
        found: Float[np.ndarray, "G C"] = self.treated - self.control
        return found

    def scores(
        self,
        rows: Rows,
        comparison: Comparison,
        g: int,
        h: int,
        weights: Float[np.ndarray, "M C"] | None = None,
    ) -> Float[np.ndarray, "n M"]:
        """Influence of the rows of group `h` on the cells of cohort `g`.

        Parameters
        ----------
        weights : (M, C) of M sums of these cells; all cells by themselves unless given.
        """
        place, width = rows.group(h), rows.y.shape[1]
        found = None
        for cells in _alike(comparison, g):
            if h != g and not comparison.uses(g, h)[cells[0]]:
                continue
            mix = None if weights is None else weights[:, cells].T
            part = self._influence(rows, comparison, g, h, cells, mix)
            if weights is None and len(cells) < width:
                found = np.zeros((len(part), width)) if found is None else found
                found[:, cells] = part
            else:
                found = part if found is None else found + part
        columns = width if weights is None else len(weights)
        return np.zeros((place.stop - place.start, columns)) if found is None else found

    def _influence(
        self,
        rows: Rows,
        comparison: Comparison,
        g: int,
        h: int,
        cells: Int[np.ndarray, " m"],
        mix: Float[np.ndarray, "m M"] | None,
    ) -> Float[np.ndarray, "n M"]:
        """Influence on cells that share base and controls, or on sums of them by weights `mix`."""
        place, first = rows.group(h), cells[0]
        base = max(int(comparison.base[g, first]), 0)
        y, weight = rows.y[place], rows.weight[place]
        x = _design(self.covariates.at(place, base), self.center[g, first], self.scale[g, first])
        # The base outcome is one more regressor, of coefficient θ: one product gives D − Xβ.
        slopes = np.vstack([self.slopes[g, cells].T, comparison.theta[g, cells]])
        treated, control = self.treated[g, cells], self.control[g, cells]
        outcome = y if len(cells) == y.shape[1] else y[:, cells]
        bend = None if self.bend is None else self.bend[g, cells].T
        # Influences are linear in the cells, so sums of cells need no influence on each.
        if mix is not None:
            outcome, slopes = outcome @ mix, slopes @ mix
            treated, control = treated @ mix, control @ mix
            bend = None if bend is None else bend @ mix
        rest = outcome - np.column_stack([x, y[:, base]]) @ slopes
        if h == g:
            rest -= treated
            rest *= (weight / weight.sum())[:, None]
        else:
            share = -weight * (x @ self.leverage[g, first])
            if self.odds is not None and self.odds_mass is not None:
                omega = weight * np.exp(x @ self.odds[g, first]) / self.odds_mass[g, first]
                rest *= (share - omega)[:, None]
                rest += omega[:, None] * control
            else:
                rest *= share[:, None]
        if self.odds is not None and bend is not None:
            chance = expit(x @ self.odds[g, first])
            pull = weight * (chance - (h == g))
            rest += pull[:, None] * (x @ bend)
        influence: Float[np.ndarray, "n M"] = rest
        return influence

    def groups_of(self, comparison: Comparison, g: int) -> list[int]:
        """Return the groups whose rows have influence on the cells of cohort `g`."""
        return [h for h in range(comparison.groups) if h == g or comparison.uses(g, h).any()]

    def components(
        self, rows: Rows, comparison: Comparison, sums: Sums, plain: VarianceComponents
    ) -> VarianceComponents:
        """Variance of each cell; each covariate takes a degree of freedom from the controls."""
        variance = np.zeros((2, *comparison.base.shape))
        for g in range(len(comparison.base)):
            for h in self.groups_of(comparison, g):
                scores = rows.by_cluster(self.scores(rows, comparison, g, h), h)
                variance[int(h != g), g] += sums.factor[h] * np.einsum("kc,kc->c", scores, scores)
        freedom = np.maximum(plain.control_df - len(self.covariates.names), 1.0)
        return VarianceComponents(variance[0], plain.treated_df, variance[1], freedom)


def regress(
    rows: Rows,
    comparison: Comparison,
    covariates: Covariates,
    adjustment: Adjustment,
) -> Regressions:
    """Fit the regressions of every cell.

    Parameters
    ----------
    covariates : in the canonical order of the rows.

    Raises
    ------
    CovariateError
        Among the controls of a cell a covariate is constant or a sum of others, or there are too
        few of them; for doubly_robust, treated rows have no controls like them.
    """
    cells, count = comparison.base.shape, len(covariates.names)
    found: dict[str, Any] = {name: np.zeros((*cells, count)) for name in ("center", "scale")}
    names = ("slopes", "leverage", "odds", "bend")
    found |= {name: np.zeros((*cells, count + 1)) for name in names}
    found |= {name: np.full(cells, np.nan) for name in ("treated", "control", "odds_mass")}
    for g in range(len(comparison.base)):
        for some in _alike(comparison, g):
            fit = _fit(rows, comparison, covariates, adjustment, g, some)
            for name, values in fit.items():
                found[name][g, some] = values
    if adjustment == "regression":
        found |= dict.fromkeys(("odds", "bend", "odds_mass"))
    return Regressions(covariates, **found)


def _alike(comparison: Comparison, g: int) -> Iterator[Int[np.ndarray, " m"]]:
    """Cells of cohort `g` by base and controls; those without either are left out."""
    base, pool = comparison.base[g], comparison.pool[g]
    needed = (base >= 0) | (comparison.theta[g] == 0)
    for b, p in sorted(set(zip(base[needed].tolist(), pool[needed].tolist(), strict=True))):
        cells = np.flatnonzero(needed & (base == b) & (pool == p))
        if any(h != g for h in comparison.controls[p:]):
            yield cells


def _fit(
    rows: Rows,
    comparison: Comparison,
    covariates: Covariates,
    adjustment: Adjustment,
    g: int,
    cells: Int[np.ndarray, " m"],
) -> dict[str, Any]:
    """Fit the regression of some cells of cohort `g` that share base and controls."""
    pool = comparison.controls[int(comparison.pool[g, cells[0]]) :]
    base, name = max(int(comparison.base[g, cells[0]]), 0), label(rows.labels[g])
    own = rows.group(g)
    control = np.arange(rows.group_starts[pool.start], rows.group_starts[pool.stop])
    control = control[(control < own.start) | (control >= own.stop)]
    raw, weight = covariates.at(control, base), rows.weight[control]
    center, scale = _scaled(raw, weight, covariates.names, name)
    x, x_treated = _design(raw, center, scale), _design(covariates.at(own, base), center, scale)
    of_treated = rows.weight[own] / rows.weight[own].sum()
    theta, columns = comparison.theta[g, cells], [base]
    change = rows.y[control][:, cells] - theta * rows.y[control][:, columns]
    square = x.T @ (weight[:, None] * x)
    slopes = np.linalg.solve(square, x.T @ (weight[:, None] * change))
    rest = rows.y[own][:, cells] - theta * rows.y[own][:, columns] - x_treated @ slopes
    found = {
        "center": center,
        "scale": scale,
        "slopes": slopes.T,
        "leverage": np.linalg.solve(square, of_treated @ x_treated),
        "treated": of_treated @ rest,
        "control": 0.0,
    }
    if adjustment == "regression":
        return found
    odds, hessian = _log_odds(x, x_treated, weight, rows.weight[own], name)
    omega = weight * np.exp(x @ odds)
    mass, rest = omega.sum(), change - x @ slopes
    eta = omega @ rest / mass
    pulled = x.T @ (omega[:, None] * (rest - eta)) / mass
    return found | {
        "leverage": np.linalg.solve(square, of_treated @ x_treated - omega @ x / mass),
        "control": eta,
        "odds": odds,
        "bend": np.linalg.solve(hessian, pulled).T,
        "odds_mass": mass,
    }


def _design(
    x: Float[np.ndarray, "n K"], center: Float[np.ndarray, " K"], scale: Float[np.ndarray, " K"]
) -> Float[np.ndarray, "n K1"]:
    """Return a constant and the standardized covariates, which keeps the normal equations exact."""
    return np.concatenate([np.ones((len(x), 1)), (x - center) / scale], axis=1)


def _scaled(
    x: Float[np.ndarray, "n K"],
    weight: Float[np.ndarray, " n"],
    names: tuple[str, ...],
    cohort: str,
) -> tuple[Float[np.ndarray, " K"], Float[np.ndarray, " K"]]:
    """Center and scale of the controls' covariates, each of which must add something of its own."""
    if len(x) < (least := x.shape[1] + 3):
        raise CovariateError(
            f"cohort {cohort}: {len(x)} control rows for {len(names)} covariates, expected "
            f"{least} or more"
        )
    center = weight @ x / weight.sum()
    scale = np.sqrt(weight @ (x - center) ** 2 / weight.sum())
    still = scale <= 1e-12 * np.maximum(1.0, np.abs(center))
    if still.any():
        raise CovariateError(
            f"covariate '{names[int(np.argmax(still))]}': the same for all {len(x)} control rows "
            f"of cohort {cohort}; leave it out"
        )
    standard = (x - center) / scale
    values, vectors = np.linalg.eigh(standard.T @ (weight[:, None] * standard) / weight.sum())
    # The inverse's diagonal is one over the share of a covariate that the others do not explain.
    share = 1.0 / (vectors**2 / np.maximum(values, 1e-14)).sum(axis=1)
    if (sums := share < COLLINEAR).any():
        raise CovariateError(
            f"covariates {', '.join(repr(names[k]) for k in np.flatnonzero(sums))}: one of them is "
            f"a sum of the others among the control rows of cohort {cohort}; leave it out"
        )
    return center, scale


def _log_odds(
    control: Float[np.ndarray, "m K1"],
    treated: Float[np.ndarray, "n K1"],
    control_weight: Float[np.ndarray, " m"],
    treated_weight: Float[np.ndarray, " n"],
    cohort: str,
) -> tuple[Float[np.ndarray, " K1"], Float[np.ndarray, "K1 K1"]]:
    """Coefficients of a logit of being treated, by Newton's method, and the Hessian there."""
    x = np.concatenate([treated, control])
    weight = np.concatenate([treated_weight, control_weight])
    is_treated = np.arange(len(x)) < len(treated)
    odds = np.zeros(x.shape[1])
    odds[0] = np.log(treated_weight.sum() / control_weight.sum())
    for _ in range(NEWTON_STEPS):
        chance = expit(x @ odds)
        hessian = x.T @ ((weight * chance * (1 - chance))[:, None] * x)
        if np.linalg.cond(hessian) > 1e15:
            break
        step = np.linalg.solve(hessian, x.T @ (weight * (is_treated - chance)))
        odds = odds + step
        if np.abs(step).max() < 1e-12 * (1.0 + np.abs(odds).max()):
            break
    chance = expit(x @ odds)
    if (alone := int((chance > LARGEST_PROBABILITY).sum())) or not np.isfinite(odds).all():
        raise CovariateError(
            f"cohort {cohort}: covariates tell treated from control rows ({alone} rows have no "
            "counterpart); choose adjustment='regression', or leave out the covariate that "
            "treatment depends on"
        )
    hessian = x.T @ ((weight * chance * (1 - chance))[:, None] * x)
    return odds, hessian
