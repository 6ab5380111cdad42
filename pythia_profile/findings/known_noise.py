"""Regression of estimates whose errors are known: the common tool of these rooms' findings.

In: n estimates, regressors, and the covariance Σ of the estimates' errors. The model is

    y = X β + u + ε,    u ~ N(0, τ² I) what the regressors leave open,    ε ~ N(0, Σ) sampling noise

so estimates that share their noise (control rows, rows of other sizes) do not count as independent
points. τ² is by restricted maximum likelihood, β by generalized least squares, and intervals are
Student's, scaled by the weighted residuals (Knapp and Hartung, 2003): with Σ = 0 they are those of
ordinary least squares, with τ² = 0 and Σ known up to a factor they are exact.

Source: van Houwelingen, Arends and Stijnen (2002), "Advanced methods in meta-analysis".
"""

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float
from scipy.linalg import cho_factor, cho_solve
from scipy.optimize import minimize_scalar
from scipy.special import stdtr, stdtrit

__all__ = ["Regression", "regression", "signal", "spread_about"]

_DRAWS = 4000
_SHARE = 1e-10
"""Of the largest variance: what is added to each, so that a covariance without rank can be
inverted."""


@dataclass(frozen=True, slots=True, eq=False)
class Regression:
    """Coefficients with their errors.

    Attributes
    ----------
    coefficients : (p,) β, units of y over those of the regressors.
    covariance : (p, p) of the coefficients.
    spread : τ, unit of y: standard deviation about the line that is no sampling noise.
    df : degrees of freedom, n − p.
    """

    coefficients: Float[np.ndarray, " p"]
    covariance: Float[np.ndarray, "p p"]
    spread: float
    df: int

    @property
    def se(self) -> Float[np.ndarray, " p"]:
        """Standard error of each coefficient."""
        return np.sqrt(np.diag(self.covariance))

    def interval(self, level: float = 0.95) -> tuple[Float[np.ndarray, " p"], ...]:
        """Lower and upper end of each coefficient's interval, by Student's t."""
        half = stdtrit(self.df, (1 + level) / 2) * self.se
        return self.coefficients - half, self.coefficients + half

    def p_below(self, which: int) -> float:
        """P-value against a coefficient of 0 or more: small where it is clearly below 0."""
        return float(stdtr(self.df, self.coefficients[which] / self.se[which]))


def regression(
    y: Float[np.ndarray, " n"],
    x: Float[np.ndarray, "n p"],
    noise: Float[np.ndarray, "n n"],
    extra: Float[np.ndarray, " n"] | None = None,
) -> Regression:
    """Regress estimates with known noise.

    Parameters
    ----------
    y, x : estimates and regressors, an intercept among them; n > p, columns independent.
    noise : Σ, unit of y squared.
    extra : (n,) τ² of each estimate, where it is known from elsewhere; else one τ² for all is
        estimated.

    Examples
    --------
    >>> x = np.column_stack([np.ones(4), [0.0, 1, 2, 3]])
    >>> found = regression(np.array([0.0, 1.1, 1.9, 3.0]), x, np.zeros((4, 4)))
    >>> found.coefficients.round(3), found.df
    (array([0.03, 0.98]), 2)
    """
    tau2 = spread_about(y, x, noise) if extra is None else extra
    total = noise + np.diag(np.broadcast_to(tau2, len(y)))
    rounding = (1e-7 * float(np.abs(y).max()) or 1.0) ** 2  # where nothing is left to chance
    total += (_SHARE * float(np.diag(total).max()) + rounding) * np.eye(len(y))
    factor = cho_factor(total)
    weighted = cho_solve(factor, x)
    inverse = np.linalg.inv(x.T @ weighted)
    coefficients = inverse @ (weighted.T @ y)
    rest = y - x @ coefficients
    df = len(y) - x.shape[1]
    scale = float(rest @ cho_solve(factor, rest)) / df
    if extra is not None:
        # Sizes with the same noise have fewer residuals of their own than df counts, so a scale
        # below 1 would make their agreement look like precision.
        scale = max(scale, 1.0)
    return Regression(coefficients, scale * inverse, float(np.sqrt(np.mean(tau2))), df)


def spread_about(
    y: Float[np.ndarray, " n"], x: Float[np.ndarray, "n p"], noise: Float[np.ndarray, "n n"]
) -> float:
    """Return τ² by restricted maximum likelihood: variance about the line beyond the noise."""
    basis = np.linalg.qr(x, mode="complete")[0][:, x.shape[1] :]
    # In the eigenvectors of the residuals' noise, residuals are independent: λ_i + τ² each.
    values, vectors = np.linalg.eigh(basis.T @ noise @ basis)
    values, squares = np.maximum(values, 0.0), (vectors.T @ (basis.T @ y)) ** 2
    top = float(squares.max(initial=0.0))
    if top <= 0:
        return 0.0

    def deviance(tau2: float) -> float:
        variance = values + tau2 + _SHARE * top
        return float((np.log(variance) + squares / variance).sum())

    grid = np.concatenate([[0.0], top * np.geomspace(1e-8, 1, 60)])
    at = int(np.argmin([deviance(value) for value in grid]))
    ends = grid[max(at - 1, 0)], grid[min(at + 1, len(grid) - 1)]
    best = minimize_scalar(deviance, bounds=ends, method="bounded").x
    return float(best) if deviance(best) < deviance(0.0) else 0.0


def signal(
    y: Float[np.ndarray, " n"], noise: Float[np.ndarray, "n n"], seed: int = 0
) -> tuple[float, float]:
    """Reliability of n estimates, and the p-value of their being one number and noise.

    Reliability is the share of their variance that is not noise, 1 − tr(HΣ)/yᵀHy with H the
    centering; below 0 where noise alone would vary more.

    Examples
    --------
    >>> signal(np.array([0.0, 2.0, 4.0]), 0.01 * np.eye(3))[0]
    0.9975
    """
    centered = noise - noise.mean(axis=0)
    centered = centered - centered.mean(axis=1, keepdims=True)
    square = float(((y - y.mean()) ** 2).sum())
    values = np.maximum(np.linalg.eigvalsh(centered), 0.0)
    if square <= 0:
        return 0.0, 1.0
    drawn = np.random.default_rng(seed).chisquare(1, (_DRAWS, len(values))) @ values
    return 1 - float(values.sum()) / square, float((1 + (drawn >= square).sum()) / (1 + _DRAWS))
