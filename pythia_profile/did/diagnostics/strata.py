"""One profile for each kind of row, and the differences between kinds.

In: a panel and a column of the rows table (domain, earlier exposure, length). Out: effects for each
stratum, each with controls of its own kind, so that kinds may follow different trends. Rows of two
strata are different rows: the difference of their contrasts has the variance of both.
"""

from collections.abc import Sequence

import numpy as np
import polars as pl

from pythia_profile.did.att import AttGt
from pythia_profile.did.errors import EmptyFamilyError, OptionError
from pythia_profile.did.estimation import effects
from pythia_profile.did.inference.contrasts import Contrast
from pythia_profile.did.panels import Panel
from pythia_profile.did.settings import DEFAULT, Estimation
from pythia_profile.errors import EstimationError, not_found

MANY = 20
"""A number column with more distinct values than this must be cut into ranges."""


def by_stratum(
    panel: Panel,
    column: str,
    settings: Estimation = DEFAULT,
    *,
    cut: int | Sequence[float] | None = None,
) -> dict[str, AttGt]:
    """Effects of each stratum of a column of the rows table.

    Parameters
    ----------
    column : a covariate of the panel's rows; `length` is the number of tokens.
    cut : for numbers: into how many groups of about equal size, or the inner edges of the ranges.
        A value on an edge belongs to the range below it.

    Returns
    -------
    Stratum -> effects, in ascending order; rows without a value are a stratum `null`.

    Raises
    ------
    NotFoundError, OptionError
        No such column, or numbers that were not cut.
    EstimationError
        A stratum has no controls, too few rows, …; the message names it.
    """
    if column not in panel.covariates.columns:
        raise not_found("column of the rows", column, panel.covariates.columns)
    strata = _strata(panel.covariates[column], column, cut)
    found = {}
    for name in strata.unique().sort().to_list():
        rows = (strata == name).to_numpy()
        try:
            found[name] = effects(panel.keep(rows, f"other {column} than {name}"), settings)
        except EstimationError as error:
            raise type(error)(f"stratum {column} = {name}, {rows.sum()} rows: {error}") from error
    return found


def difference(one: Contrast, other: Contrast) -> Contrast:
    """Difference of two contrasts over the labels that they share, rows matched by their ids.

    For strata, early against late cohorts, or two sizes that scored the same rows.

    Raises
    ------
    EmptyFamilyError
        They share no label.
    """
    common = [at for at in one.labels if at in other.labels]
    if not common:
        raise EmptyFamilyError(
            f"difference: {one.kind} with {len(one)} labels and {other.kind} with {len(other)} "
            "share none"
        )
    return one.only(common) - other.only(common)


def _strata(values: pl.Series, column: str, cut: int | Sequence[float] | None) -> pl.Series:
    if cut is None:
        if values.dtype.is_numeric() and values.n_unique() > MANY:
            raise OptionError(
                f"column '{column}' has {values.n_unique()} distinct numbers; say cut=2 for two "
                "groups of equal size, or give the edges of the ranges"
            )
        return values.cast(pl.String).fill_null("null")
    if not values.dtype.is_numeric():
        raise OptionError(f"column '{column}' is {values.dtype}; only numbers are cut into ranges")
    edges = _edges(values, cut)
    ends = ["-inf", *(f"{edge:g}" for edge in edges), "inf"]
    names = [f"{n}: {ends[n - 1]} < {column} <= {ends[n]}" for n in range(1, len(ends))]
    numbers = values.cast(pl.Float64).fill_null(np.nan).to_numpy()
    number = np.where(np.isnan(numbers), len(names), np.searchsorted(edges, numbers))
    return pl.Series(column, np.array([*names, "null"])[number])


def _edges(values: pl.Series, cut: int | Sequence[float]) -> np.ndarray:
    if isinstance(cut, int):
        if cut < 2:
            raise OptionError(f"cut: got {cut}, expected two groups or more")
        numbers = values.drop_nulls().cast(pl.Float64).to_numpy()
        inner = np.unique(np.quantile(numbers, np.arange(1, cut) / cut))
        return np.array(inner[inner < numbers.max()])
    edges = np.asarray(cut, dtype=np.float64)
    if edges.ndim != 1 or not edges.size or not (np.diff(edges) > 0).all():
        raise OptionError(f"cut: got {list(cut)}, expected ascending edges")
    return edges
