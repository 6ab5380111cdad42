"""How the share of memorized sequences grows with a model's size: three forms, and what each says.

In: parameters and memorized sequences of n models, out of the same number each. Out: least-squares
fits of

    log_linear    100 p     = a + b log10 P       percentage points a decade
    power         log10 p   = a + b log10 P       the exponent
    logit         logit p   = a + b log10 P       log odds a decade

P parameters, p the share. R² is on the scale that is fitted. AICc is that of p itself: forms of
another scale are charged its derivative, else they could not be compared.

Source of the counts: Chen, Han and Miyao (2026, arXiv 2603.21658) compare such rates; the counts
themselves are the published ones of fully memorized sequences of Pythia (Biderman et al., 2023).
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import polars as pl
from scipy import stats

from pythia_profile.labs.recall.recall_errors import RecallError

__all__ = [
    "FORMS",
    "PUBLISHED",
    "PUBLISHED_ROWS",
    "RateFit",
    "fit_rate",
    "fit_rates",
    "fit_sentences",
    "fit_table",
    "read_models",
]

Numbers = npt.NDArray[np.float64]

FORMS = ("log_linear", "power", "logit")

PUBLISHED_ROWS = 146_432_000
"""Sequences of Pythia's training data that were prompted."""

_PARAMETERS = {
    "70m": 70_426_624,
    "160m": 162_322_944,
    "410m": 405_334_016,
    "1b": 1_011_781_632,
    "1.4b": 1_414_647_808,
    "2.8b": 2_775_208_960,
    "6.9b": 6_857_302_016,
    "12b": 11_846_072_320,
}
_COUNTS = {
    "pythia": (463_953, 689_673, 970_341, 1_256_141, 1_373_722, 1_675_077, 2_120_969, 2_382_326),
    "pythia-deduped": (
        *(411_448, 581_195, 811_039, 1_032_865),
        *(1_048_097, 1_355_211, 1_680_294, 1_871_215),
    ),
}
PUBLISHED: Mapping[str, pl.DataFrame] = {
    suite: pl.DataFrame(
        {
            "size": list(_PARAMETERS),
            "parameters": list(_PARAMETERS.values()),
            "memorized": counts,
            "rows": PUBLISHED_ROWS,
        }
    )
    for suite, counts in _COUNTS.items()
}
"""By suite: sequences that each size gives back whole, 32 tokens after 32."""


@dataclass(frozen=True, slots=True)
class RateFit:
    """One form, fitted to n models.

    Attributes
    ----------
    form : of `FORMS`.
    intercept, slope : a and b above; the slope is by decade of parameters.
    lower, upper : interval of the slope, of Student's t with n - 2 degrees of freedom.
    r2 : share of the variance explained, on the fitted scale.
    aicc : corrected Akaike criterion of the share; NaN below 5 models, where there is none.
    spread : residual standard deviation, on the fitted scale.
    decades : (n,) log10 of the parameters that it was fitted to.
    level : of intervals.
    """

    form: str
    intercept: float
    slope: float
    lower: float
    upper: float
    r2: float
    aicc: float
    spread: float
    decades: Numbers
    level: float

    def share(self, parameters: float) -> float:
        """Share of sequences that a model of so many parameters memorizes, by this form."""
        return _share(self.form, self.intercept + self.slope * np.log10(parameters))

    def interval(self, parameters: float) -> tuple[float, float]:
        """Prediction interval of that share: where a further model would lie."""
        x, n = self.decades, len(self.decades)
        center = np.log10(parameters)
        leverage = 1 / n + (center - x.mean()) ** 2 / ((x - x.mean()) ** 2).sum()
        width = _t(self.level, n) * self.spread * np.sqrt(1 + leverage)
        middle = self.intercept + self.slope * center
        return _share(self.form, middle - width), _share(self.form, middle + width)


def fit_rate(
    form: str, parameters: npt.ArrayLike, shares: npt.ArrayLike, *, level: float = 0.95
) -> RateFit:
    """Fit one form by least squares.

    Parameters
    ----------
    parameters, shares : (n,) of each model; shares from 0 to 1.

    Raises
    ------
    RecallError
        Fewer than three models, all of one size, or a share that the form cannot take: 0 or 1 of
        a power or logit.
    """
    size, share = np.asarray(parameters, np.float64), np.asarray(shares, np.float64)
    if len(size) < 3 or len(np.unique(size)) < 2:
        raise RecallError(
            f"{len(size)} models of {len(np.unique(size))} sizes; a rate against size needs three "
            "models of two sizes or more"
        )
    if form != "log_linear" and not ((share > 0) & (share < 1)).all():
        raise RecallError(
            f"form '{form}': a share of {share.min():g} to {share.max():g}, expected between 0 and "
            "1; leave such models out or fit 'log_linear'"
        )
    x, y = np.log10(size), _scaled(form, share)
    n, center = len(x), x - x.mean()
    slope = float(center @ y / (center @ center))
    intercept = float(y.mean() - slope * x.mean())
    errors = y - intercept - slope * x
    sse, total = float(errors @ errors), float(((y - y.mean()) ** 2).sum())
    spread = float(np.sqrt(sse / (n - 2)))
    width = _t(level, n) * spread / float(np.sqrt(center @ center))
    # -2 log likelihood of the share itself: the density of a changed scale times its derivative
    cost = n * np.log(max(sse / n, np.finfo(float).tiny)) - 2 * _log_derivative(form, share).sum()
    aicc = float(cost + 6 + 24 / (n - 4)) if n > 4 else float("nan")
    return RateFit(
        form=form,
        intercept=intercept,
        slope=slope,
        lower=slope - width,
        upper=slope + width,
        r2=1 - sse / total if total else 0.0,
        aicc=aicc,
        spread=spread,
        decades=x,
        level=level,
    )


def fit_rates(
    parameters: npt.ArrayLike, shares: npt.ArrayLike, *, level: float = 0.95
) -> list[RateFit]:
    """Fit every form that the shares allow, in the order of `FORMS`."""
    share = np.asarray(shares, np.float64)
    allowed = FORMS if ((share > 0) & (share < 1)).all() else FORMS[:1]
    return [fit_rate(form, parameters, share, level=level) for form in allowed]


def fit_table(
    models: pl.DataFrame, *, until: float | None = None, level: float = 0.95
) -> pl.DataFrame:
    """Fit all forms to a table of models, and predict the largest from smaller ones.

    Parameters
    ----------
    models : a line a model: `parameters`, `memorized`, `rows`.
    until : largest number of parameters that the prediction is fitted to; by default all but the
        largest model are.

    Returns
    -------
    A line a form: slope and its interval, R², AICc above the best form's, and of the largest model
    its share, the one predicted from the others, and the prediction interval (percent).
    """
    ordered = models.sort("parameters")
    size = ordered["parameters"].cast(pl.Float64).to_numpy()
    share = (ordered["memorized"] / ordered["rows"]).to_numpy()
    smaller = size <= until if until is not None else size < size[-1]
    if smaller[-1]:
        raise RecallError(
            f"until: got {until:g} parameters, expected fewer than the {size[-1]:g} of the largest"
        )
    fits = fit_rates(size, share, level=level)
    best = min((fit.aicc for fit in fits), default=float("nan"))
    lines = []
    for fit in fits:
        line = {
            "form": fit.form,
            "slope": fit.slope,
            "lower": fit.lower,
            "upper": fit.upper,
            "r2": fit.r2,
            "aicc_above_best": fit.aicc - best,
            "observed": 100 * float(share[-1]),
        }
        if smaller.sum() >= 4:  # with three there is one degree of freedom, and no telling
            without = fit_rate(fit.form, size[smaller], share[smaller], level=level)
            low, high = without.interval(size[-1])
            line |= {
                "predicted": 100 * without.share(size[-1]),
                "predicted_lower": 100 * low,
                "predicted_upper": 100 * high,
            }
        lines.append(line)
    return pl.DataFrame(lines)


def fit_sentences(table: pl.DataFrame) -> Sequence[str]:
    """Say what a table of fits allows to say, a sentence each."""
    units = {
        "log_linear": "{:.3f} percentage points a decade",
        "power": "power {:.3f} of the parameters",
        "logit": "{:.3f} in log odds a decade",
    }
    said = [
        f"{units[line['form']].format(line['slope'])} [{line['lower']:.3f}, {line['upper']:.3f}], "
        f"R² {line['r2']:.3f}."
        for line in table.iter_rows(named=True)
    ]
    gaps = table["aicc_above_best"].to_numpy()
    if len(table) > 1 and np.isfinite(gaps).all():
        best, near = table["form"][int(gaps.argmin())], np.sort(gaps)[1]
        said.append(
            f"{best} fits best (AICc {near:.1f} below the next)."
            if near > 2
            else f"The forms cannot be told apart in sample (AICc {near:.1f} apart)."
        )
    for line in table.iter_rows(named=True):
        if line.get("predicted") is not None:
            side = "under" if line["predicted"] < line["observed"] else "over"
            inside = line["predicted_lower"] <= line["observed"] <= line["predicted_upper"]
            said.append(
                f"From smaller models {line['form']} {side}-predicts the largest: "
                f"{line['predicted']:.2f} % [{line['predicted_lower']:.2f}, "
                f"{line['predicted_upper']:.2f}] against {line['observed']:.2f} %"
                f"{'' if inside else ', outside its interval'}."
            )
    return said


def read_models(path: Path) -> pl.DataFrame:
    """Read a table of models: `parameters`, `memorized`, `rows`; .parquet or .csv.

    Raises
    ------
    RecallError
        There is no such table, a column is missing or not of numbers, or counts cannot be.
    """
    readers: dict[str, Callable[[Path], pl.DataFrame]] = {
        ".parquet": pl.read_parquet,
        ".csv": pl.read_csv,
    }
    if not path.is_file() or path.suffix not in readers:
        raise RecallError(f"no table of models at '{path}'; expected a .parquet or .csv file")
    try:
        found = readers[path.suffix](path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise RecallError(f"'{path}' cannot be read: {str(error).splitlines()[0]}") from None
    for name in ("parameters", "memorized", "rows"):
        if name not in found.columns or not found.schema[name].is_numeric():
            raise RecallError(
                f"'{path}': column '{name}' is missing or no number; got {', '.join(found.columns)}"
            )
    wrong = found.filter(
        ~(
            pl.col("memorized").is_between(0, pl.col("rows"))
            & (pl.col("parameters") > 0)
            & (pl.col("rows") > 0)
            & pl.all_horizontal(pl.col("parameters", "memorized", "rows").cast(float).is_finite())
        )
    )
    if (
        len(wrong)
        or found.select("parameters", "memorized", "rows").null_count().row(0) != (0,) * 3
    ):
        raise RecallError(
            f"'{path}': expected finite parameters and rows above 0, and 0 to `rows` "
            "memorized, in every line"
        )
    return found


def _scaled(form: str, share: Numbers) -> Numbers:
    scaled: dict[str, Callable[[Numbers], Numbers]] = {
        "log_linear": lambda p: 100 * p,
        "power": lambda p: np.log10(p),
        "logit": lambda p: np.log(p) - np.log1p(-p),
    }
    if form in scaled:
        return scaled[form](share)
    raise RecallError(f"no form '{form}'; known: {', '.join(FORMS)}")


def _share(form: str, value: float) -> float:
    match form:
        case "log_linear":
            return float(value / 100)
        case "power":
            return float(10**value)
    return float(1 / (1 + np.exp(-value)))


def _log_derivative(form: str, share: Numbers) -> Numbers:
    """(n,) log of the derivative of the fitted scale by the share."""
    if form == "log_linear":
        return np.full(len(share), np.log(100.0))
    by_share: Numbers = -np.log(share)
    return by_share - (np.log(np.log(10.0)) if form == "power" else np.log1p(-share))


def _t(level: float, n: int) -> float:
    return float(stats.t.ppf((1 + level) / 2, n - 2))
