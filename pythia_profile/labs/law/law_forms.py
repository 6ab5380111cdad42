"""Four forms of the parametric memory law, fitted by least squares.

In: the drop of the mean loss, y = L_base - L (nats per answer token), of n runs, each with an
adapter rank r and a number of answer tokens l. Out: parameters and fit of

    power           y = C r^alpha l^-beta
    power_offset    y = C r^alpha l^-beta + b                      the law as published
    log_linear      y = c + alpha ln r - beta ln l
    saturating      y = L_base (1 - exp(-C r^alpha l^-beta))       cannot exceed the base loss

The log-linear form is the limit of `power_offset` as both exponents go to 0 together, C to
infinity and b to -C: where it fits as well, exponents are not identified (`law_profile`).

Source: Xu et al. (2026), arXiv 2605.30260, for the law; the other forms are this lab's own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pythia_profile.errors import EstimationError

__all__ = ["FORMS", "LARGEST", "Cells", "Form", "aicc", "exponent_sse", "fit_form", "fit_forms"]

Numbers = npt.NDArray[np.float64]

FORMS = ("power", "power_offset", "log_linear", "saturating")
LARGEST = 4.0
"""Largest exponent that is looked for; doubling the rank would then give 16 times as much."""


@dataclass(frozen=True, slots=True)
class Cells:
    """Runs that a law is fitted to.

    Attributes
    ----------
    rank, tokens : (n,) adapter rank, answer tokens.
    gain : (n,) base loss less the run's loss, nats per token.
    base : (n,) base loss, nats per token.
    """

    rank: Numbers
    tokens: Numbers
    gain: Numbers
    base: Numbers

    @property
    def logs(self) -> tuple[Numbers, Numbers]:
        """Natural logarithms of rank and tokens."""
        return np.log(self.rank), np.log(self.tokens)

    def take(self, which: npt.NDArray[Any]) -> "Cells":
        """Return the cells at `which`, indices or a mask."""
        return Cells(self.rank[which], self.tokens[which], self.gain[which], self.base[which])

    def with_gain(self, gain: Numbers) -> "Cells":
        """Return the same runs with other gains."""
        return Cells(self.rank, self.tokens, gain, self.base)


@dataclass(frozen=True, slots=True)
class Form:
    """One fitted form.

    Attributes
    ----------
    name : of `FORMS`.
    parameters : by name; the exponent of the length is `beta`, positive where gains fall with it.
    fitted : (n,) gains that it gives, nats per token.
    sse : sum of squared errors, nats^2.
    r2 : share of the variance explained.
    aicc : corrected Akaike criterion; the error's variance counts as a parameter.
    """

    name: str
    parameters: Mapping[str, float]
    fitted: Numbers
    sse: float
    r2: float
    aicc: float

    def predict(self, cells: Cells) -> Numbers:
        """Gains that the form gives for other cells, nats per token."""
        return _predict(self.name, self.parameters, cells)


def aicc(sse: float, n: int, parameters: int) -> float:
    """Corrected Akaike criterion of a least-squares fit; `parameters` with the error's variance.

    Examples
    --------
    >>> round(aicc(10.0, n=10, parameters=2), 4)
    5.7143

    Source: Hurvich and Tsai (1989), eq. 5, up to a constant that all forms share.
    """
    if n <= parameters + 1:
        raise EstimationError(
            f"{n} cells for {parameters} parameters; AICc needs {parameters + 2} or more: add "
            "ranks or lengths, or lower the loss below which a cell is saturated"
        )
    # a perfect fit has no finite likelihood; the smallest float keeps the order of the forms
    return float(
        n * np.log(max(sse / n, np.finfo(float).tiny))
        + 2 * parameters
        + 2 * parameters * (parameters + 1) / (n - parameters - 1)
    )


def fit_forms(cells: Cells) -> dict[str, Form]:
    """Fit all four forms; by name, in the order of `FORMS`."""
    return {name: fit_form(name, cells) for name in FORMS}


def fit_form(name: str, cells: Cells) -> Form:
    """Fit one form by least squares on the gains.

    Raises
    ------
    EstimationError
        Too few cells, or all of one rank or of one length.
    """
    for what, found in (("rank", cells.rank), ("length", cells.tokens)):
        if len(np.unique(found)) < 2:
            raise EstimationError(
                f"all {len(found)} cells have {what} {found[0]:g}; a law needs two at least"
                if len(found)
                else "no cell is left to fit a law to: all are saturated"
            )
    parameters = _FITTERS[name](cells)
    fitted = _predict(name, parameters, cells)
    sse = float(((cells.gain - fitted) ** 2).sum())
    total = float(((cells.gain - cells.gain.mean()) ** 2).sum())
    criterion = aicc(sse, len(fitted), len(parameters) + 1)
    return Form(name, parameters, fitted, sse, 1 - sse / total if total else 0.0, criterion)


def exponent_sse(alpha: Any, beta: Any, cells: Cells) -> Numbers:
    """Least squared error of `power_offset` at given exponents; C and b are solved for, C >= 0.

    Parameters
    ----------
    alpha, beta : arrays of one shape, or that broadcast to one.

    Returns
    -------
    Of that shape, nats^2: Syy - Sxy^2 / Sxx with x = r^alpha l^-beta.
    """
    x = _curve(alpha, beta, cells)
    x = x - x.mean(axis=-1, keepdims=True)
    y = cells.gain - cells.gain.mean()
    xy, xx = (x * y).sum(axis=-1), (x * x).sum(axis=-1)
    with np.errstate(divide="ignore", invalid="ignore"):
        explained = np.where((xx > 0) & (xy > 0), xy**2 / xx, 0.0)
    found: Numbers = np.maximum((y * y).sum() - explained, 0.0)
    return found


def _curve(alpha: Any, beta: Any, cells: Cells) -> Numbers:
    """r^alpha l^-beta less 1, scaled to a largest value of about 1; cells are the last axis."""
    ranks, lengths = cells.logs
    # centered logs keep the powers near 1; expm1 keeps their differences near exponents of 0
    power = np.multiply.outer(alpha, ranks - ranks.mean()) - np.multiply.outer(
        beta, lengths - lengths.mean()
    )
    top = np.abs(power).max(axis=-1, keepdims=True)
    found: Numbers = np.expm1(power) / np.maximum(np.expm1(top), np.finfo(float).tiny)
    return found


def _fit_power_offset(cells: Cells) -> dict[str, float]:
    from scipy.optimize import minimize

    # a coarse grid over both exponents, then the simplex: the surface has one long valley
    grid = np.linspace(0, LARGEST, 81)
    both = np.meshgrid(grid, grid, indexing="ij")
    coarse = exponent_sse(*both, cells)
    begin = [float(axis.ravel()[coarse.argmin()]) for axis in both]
    scale = max(float(coarse.max()), np.finfo(float).tiny)

    def height(at: Numbers) -> float:
        alpha, beta = np.clip(at, 0, LARGEST)
        return float(np.log(exponent_sse(alpha, beta, cells) / scale + 1e-30))

    steps = np.array([[0, 0], [0.05, 0], [0, 0.05]])
    options = {"initial_simplex": np.add(begin, steps), "xatol": 1e-7, "fatol": 1e-9}
    found = minimize(height, begin, method="Nelder-Mead", options=options).x
    alpha, beta = (float(value) for value in np.clip(found, 0, LARGEST))
    ranks, lengths = cells.logs
    design = np.column_stack([np.exp(alpha * ranks - beta * lengths), np.ones_like(ranks)])
    factor, offset = np.linalg.lstsq(design, cells.gain, rcond=None)[0]
    return {"C": float(factor), "alpha": alpha, "beta": beta, "b": float(offset)}


def _fit_power(cells: Cells) -> dict[str, float]:
    return _fit_curve("power", cells, np.log(np.maximum(cells.gain, _lowest(cells))))


def _fit_saturating(cells: Cells) -> dict[str, float]:
    share = np.clip(cells.gain / cells.base, 1e-3, 1 - 1e-3)
    return _fit_curve("saturating", cells, np.log(-np.log1p(-share)))


def _lowest(cells: Cells) -> float:
    """Return a gain that stands for those at or below 0 where a logarithm is taken."""
    return max(float(np.abs(cells.gain).max()) * 1e-3, np.finfo(float).tiny)


def _fit_curve(name: str, cells: Cells, transformed: Numbers) -> dict[str, float]:
    """Least squares on the gains, begun where the transformed gains are linear in the logs."""
    from scipy.optimize import least_squares

    begin = np.linalg.lstsq(_log_design(cells), transformed, rcond=None)[0]
    found = least_squares(
        lambda at: _predict(name, _named(at), cells) - cells.gain,
        begin,
        bounds=([-50, -LARGEST, -LARGEST], [50, LARGEST, LARGEST]),
        x_scale="jac",
    ).x
    return _named(found)


def _named(at: Numbers) -> dict[str, float]:
    return {"C": float(np.exp(at[0])), "alpha": float(at[1]), "beta": float(at[2])}


def _fit_log_linear(cells: Cells) -> dict[str, float]:
    found = np.linalg.lstsq(_log_design(cells), cells.gain, rcond=None)[0]
    return dict(zip(("c", "alpha", "beta"), found.tolist(), strict=True))


def _log_design(cells: Cells) -> Numbers:
    ranks, lengths = cells.logs
    return np.column_stack([np.ones_like(ranks), ranks, -lengths])


def _predict(name: str, parameters: Mapping[str, float], cells: Cells) -> Numbers:
    ranks, lengths = cells.logs
    line: Numbers = parameters["alpha"] * ranks - parameters["beta"] * lengths
    if name == "log_linear":
        return parameters["c"] + line
    power: Numbers = parameters["C"] * np.exp(line)
    if name == "saturating":
        return -cells.base * np.expm1(-power)
    return power + parameters.get("b", 0.0)


_FITTERS = {
    "power": _fit_power,
    "power_offset": _fit_power_offset,
    "log_linear": _fit_log_linear,
    "saturating": _fit_saturating,
}
