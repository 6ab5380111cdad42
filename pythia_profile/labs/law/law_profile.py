"""How sure the law's exponents are: profile and bootstrap intervals, a rank left out, a refusal.

Everything is about `power_offset`, the law as published. Its exponents are printed only where the
profile likelihood is not flat: where the log-linear form, their limit at 0, is rejected.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from pythia_profile.errors import EstimationError
from pythia_profile.labs.law.law_forms import LARGEST, Cells, Form, exponent_sse, fit_form

__all__ = ["Identified", "bootstrap", "identified", "leave_one_rank_out", "profile_interval"]

Numbers = npt.NDArray[np.float64]
_ZOOMS, _GRID = 4, 61


@dataclass(frozen=True, slots=True)
class Identified:
    """Whether the exponents of a law are identified, and in which intervals they lie.

    Attributes
    ----------
    flat : the profile likelihood does not tell the law from its log-linear limit.
    ratio : F statistic of the log-linear limit against the law, 1 and n - 4 degrees of freedom.
    critical : value above which the limit is rejected.
    alpha, beta : profile intervals; the upper end is infinite where none was found.
    """

    flat: bool
    ratio: float
    critical: float
    alpha: tuple[float, float]
    beta: tuple[float, float]

    @property
    def sentence(self) -> str:
        """What may be said of the exponents."""
        test = f"F = {self.ratio:.2f}, and {self.critical:.2f} would reject it"
        if self.flat:
            return (
                "No exponents: a line in ln r and ln l fits as well as the power law with an "
                f"offset ({test}), so the profile likelihood is flat towards exponents of 0. "
                "More ranks and lengths, further apart, may tell them apart."
            )
        return (
            f"alpha lies in {_interval(self.alpha)} and beta in {_interval(self.beta)}; the "
            f"log-linear limit is rejected (F = {self.ratio:.2f} > {self.critical:.2f})."
        )


def _interval(ends: tuple[float, float]) -> str:
    return f"[{ends[0]:.3f}, {ends[1]:.3f}]"


def identified(law: Form, line: Form, cells: Cells, *, level: float = 0.95) -> Identified:
    """Test the law against its log-linear limit and profile both exponents.

    Parameters
    ----------
    law, line : `power_offset` and `log_linear`, fitted to `cells`.
    """
    from scipy.stats import f

    free = len(cells.gain) - 4
    if free < 1:
        raise EstimationError(f"{free + 4} cells for the 4 parameters of the law; 5 are needed")
    critical = float(f.ppf(level, 1, free))
    least = max(law.sse, np.finfo(float).tiny)
    ratio = max(line.sse - law.sse, 0.0) / least * free
    ends = [profile_interval(name, law, cells, level=level) for name in ("alpha", "beta")]
    flat = ratio <= critical or law.r2 <= 0  # gains that do not vary have no exponents either
    return Identified(bool(flat), float(ratio), critical, ends[0], ends[1])


def profile_interval(
    name: str, law: Form, cells: Cells, *, level: float = 0.95
) -> tuple[float, float]:
    """Values of one exponent that the profile likelihood does not reject.

    The other exponent, C and b are fitted anew at each value. An exponent at value v is rejected
    where n ln(SSE(v) / SSE) exceeds what the F distribution with 1 and n - 4 degrees of freedom
    gives, exact for linear models and close to chi-square for many cells.

    Source: Bates and Watts (1988), Nonlinear Regression Analysis, section 6.1.
    """
    from scipy.optimize import brentq
    from scipy.stats import f

    free = len(cells.gain) - 4
    allowed = max(law.sse, np.finfo(float).tiny) * (1 + float(f.ppf(level, 1, free)) / free)

    def excess(value: float) -> float:
        return float(np.log(max(_least(name, value, cells), 1e-300) / allowed))

    at = law.parameters[name]
    low = 0.0 if excess(0.0) <= 0 else _root(brentq, excess, 0.0, at)
    high = np.inf if excess(LARGEST) <= 0 else _root(brentq, excess, LARGEST, at)
    return low, high


def _root(brentq, excess, outside: float, inside: float) -> float:  # type: ignore[no-untyped-def]
    if excess(inside) > 0:  # a perfect fit: nothing but the estimate itself is allowed
        return inside
    return float(brentq(excess, outside, inside, xtol=1e-5))


def _least(name: str, value: float, cells: Cells) -> float:
    """Least squared error with one exponent held; the other by a grid that is narrowed thrice."""
    low, high = 0.0, LARGEST
    for _ in range(_ZOOMS):
        other = np.linspace(low, high, _GRID)
        held = np.full_like(other, value)
        sse = exponent_sse(*((held, other) if name == "alpha" else (other, held)), cells)
        best, step = other[sse.argmin()], (high - low) / (_GRID - 1)
        low, high = max(best - step, 0.0), min(best + step, LARGEST)
    return float(sse.min())


def bootstrap(
    form: Form, cells: Cells, *, draws: int, rng: np.random.Generator, level: float = 0.95
) -> dict[str, tuple[float, float]]:
    """Percentile intervals of a form's parameters from `draws` residual bootstraps.

    Residuals are centered and scaled by sqrt(n / (n - p)), so that they vary as errors do; ranks
    and lengths stay, as in a designed grid.

    Source: Davison and Hinkley (1997), Bootstrap Methods, section 7.3.
    """
    n, p = len(cells.gain), len(form.parameters)
    errors = cells.gain - form.fitted
    errors = (errors - errors.mean()) * np.sqrt(n / max(n - p, 1))
    drawn = [
        fit_form(form.name, cells.with_gain(form.fitted + rng.choice(errors, n))).parameters
        for _ in range(draws)
    ]
    tails = [(1 - level) / 2, (1 + level) / 2]
    ends = {name: np.quantile([one[name] for one in drawn], tails) for name in form.parameters}
    return {name: (float(low), float(high)) for name, (low, high) in ends.items()}


def leave_one_rank_out(name: str, cells: Cells) -> float:
    """Root mean squared error of gains predicted from the other ranks, nats per token.

    Raises
    ------
    EstimationError
        There are fewer than three ranks.
    """
    ranks = np.unique(cells.rank)
    if len(ranks) < 3:
        raise EstimationError(f"{len(ranks)} ranks; leaving one out needs three at least")
    errors = np.empty_like(cells.gain)
    for rank in ranks:
        out = cells.rank == rank
        fitted = fit_form(name, cells.take(~out))
        errors[out] = cells.gain[out] - fitted.predict(cells.take(out))
    return float(np.sqrt((errors**2).mean()))
