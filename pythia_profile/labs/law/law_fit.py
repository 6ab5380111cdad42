"""The law on a table of runs: which cells are saturated, the four forms, what may be said of them.

In: a table with columns rank, answer_tokens, loss and base_loss (nats per answer token), one line a
run; other columns are ignored but `method`, of which one is fitted, and `budget`, of which it is
`updates`. Out: `LawFit`.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl
from pydantic import Field

from pythia_profile.errors import MissingTableError, TableError, not_found
from pythia_profile.labs.law.law_forms import Cells, Form, fit_forms
from pythia_profile.labs.law.law_profile import (
    Identified,
    bootstrap,
    identified,
    leave_one_rank_out,
)
from pythia_profile.settings import Settings
from pythia_profile.tables.frames import polars_frame

__all__ = ["Fitting", "GivenTableError", "LawFit", "fit_law", "given", "read_runs"]

COLUMNS = ("rank", "answer_tokens", "loss", "base_loss")
MOST_LOSS = 1e6
"""Nats per token beyond which a loss is no loss; fits in floating point break down above it."""
EXPONENTS = ("C", "alpha", "beta", "b")


class GivenTableError(TableError):
    """A file that a researcher gave is no such table."""

    exit_code = 2


@contextmanager
def given(path: Path) -> Iterator[None]:
    """Name the file whose table is wrong."""
    try:
        yield
    except TableError as error:
        named = "" if str(path) in str(error) else f"'{path}': "
        raise GivenTableError(f"{named}{error}") from None


class Fitting(Settings):
    """How the law is fitted."""

    saturated: float = Field(
        0.1, ge=0, description="loss below which a cell is saturated and left out, nats per token"
    )
    draws: int = Field(200, ge=20, description="bootstrap draws")
    level: float = Field(0.95, gt=0, lt=1, description="level of intervals and of the refusal")
    seed: int = Field(0, ge=0, description="of the bootstrap")


@dataclass(frozen=True, slots=True)
class LawFit:
    """What was fitted, to how many cells.

    Attributes
    ----------
    cells : that the forms were fitted to.
    dropped : saturated cells, which were left out.
    settings : that were used.
    forms : by name, in the order of AICc, best first.
    left_out : root mean squared error by name, each rank predicted from the others, nats per token.
    identified : whether the published law's exponents are.
    intervals : bootstrap intervals of the published law's parameters; empty where it was refused.
    """

    cells: Cells
    dropped: int
    settings: Fitting
    forms: dict[str, Form]
    left_out: dict[str, float]
    identified: Identified
    intervals: dict[str, tuple[float, float]]

    def table(self) -> pl.DataFrame:
        """One line a form; parameters only of forms of which they may be said."""
        best = min(form.aicc for form in self.forms.values())
        return pl.DataFrame(
            [
                {
                    "form": name,
                    "r2": form.r2,
                    "aicc_above_best": form.aicc - best,
                    "left_out_rmse": self.left_out[name],
                    **{each: self._said(form).get(each) for each in ("c", *EXPONENTS)},
                }
                for name, form in self.forms.items()
            ],
            schema_overrides=dict.fromkeys(("c", *EXPONENTS), pl.Float64),
        )

    def _said(self, form: Form) -> dict[str, float]:
        refused = self.identified.flat and form.name in ("power", "power_offset")
        return {} if refused else dict(form.parameters)

    def sentences(self) -> list[str]:
        """Say in words what was found."""
        first, second, *_ = self.forms.values()
        gap = second.aicc - first.aicc
        verdict = (
            f"{first.name} fits best (R² {first.r2:.3f})"
            if gap > 2
            else f"{first.name} and {second.name} fit about equally well (AICc {gap:.1f} apart)"
        )
        lines = [
            f"{len(self.cells.gain)} cells; {self.dropped} saturated (loss below "
            f"{self.settings.saturated:g} nats per token) left out.",
            f"{verdict}.",
            self.identified.sentence,
        ]
        if self.intervals:
            listed = ", ".join(
                f"{name} [{low:.3g}, {high:.3g}]" for name, (low, high) in self.intervals.items()
            )
            lines.append(f"Bootstrap intervals of the law: {listed}.")
        return lines


def read_runs(path: Path) -> pl.DataFrame:
    """Read a table of runs, .parquet or .csv."""
    if not path.is_file():
        raise MissingTableError(f"no table of runs at {path}; `lab law train` writes runs.parquet")
    readers: dict[str, Any] = {".parquet": pl.read_parquet, ".csv": pl.read_csv}
    if path.suffix not in readers:
        raise TableError(f"{path}: expected a .parquet or .csv table")
    try:
        found: pl.DataFrame = readers[path.suffix](path)
    except (pl.exceptions.PolarsError, OSError) as error:
        raise TableError(f"{path}: no {path.suffix} table ({str(error).splitlines()[0]})") from None
    return found


def fit_law(runs: Any, settings: Fitting | None = None, *, method: str | None = None) -> LawFit:
    """Fit the four forms to a table of runs, and say what of it is identified.

    Parameters
    ----------
    runs : polars or pandas table, see above.
    method : that is fitted; needed where the table holds several.

    Raises
    ------
    TableError
        A column is missing, a value is not a number, or a rank or length is below 1.
    EstimationError
        Too few cells are left.
    """
    settings = settings or Fitting()
    frame = _of_method(polars_frame(runs, "runs").lazy().collect(), method)
    cells = _cells(frame)
    loss = cells.base - cells.gain
    kept = cells.take(loss >= settings.saturated)
    forms = fit_forms(kept)
    found = identified(forms["power_offset"], forms["log_linear"], kept, level=settings.level)
    intervals = {}
    if not found.flat:
        rng = np.random.default_rng(settings.seed)
        law = forms["power_offset"]
        intervals = bootstrap(law, kept, draws=settings.draws, rng=rng, level=settings.level)
    return LawFit(
        kept,
        int((loss < settings.saturated).sum()),
        settings,
        dict(sorted(forms.items(), key=lambda item: item[1].aicc)),
        {name: leave_one_rank_out(name, kept) for name in forms},
        found,
        intervals,
    )


def _of_method(frame: pl.DataFrame, method: str | None) -> pl.DataFrame:
    if "budget" in frame.columns and (frame["budget"] == "updates").any():
        frame = frame.filter(pl.col("budget") == "updates")  # a run that is in both counts once
    if "method" not in frame.columns:
        return frame
    known = frame["method"].unique(maintain_order=True).to_list()
    if method is None and len(known) > 1:
        raise TableError(f"runs of {len(known)} methods; choose one: {', '.join(map(str, known))}")
    if method is not None and method not in known:
        raise not_found("method", method, [str(name) for name in known])
    return frame.filter(pl.col("method") == method) if method else frame


def _cells(frame: pl.DataFrame) -> Cells:
    for name in COLUMNS:
        if name not in frame.columns:
            raise TableError(f"table 'runs': '{name}' is missing; it needs {', '.join(COLUMNS)}")
        if not frame[name].dtype.is_numeric():
            raise TableError(f"table 'runs': '{name}' is {frame[name].dtype}, expected numbers")
    rank, tokens, loss, base = (
        frame[name].cast(pl.Float64).fill_null(np.nan).to_numpy() for name in COLUMNS
    )
    if not np.isfinite([rank, tokens, loss, base]).all():
        raise TableError("table 'runs': a value is missing or not finite; drop its line")
    if (rank < 1).any() or (tokens < 1).any() or (base <= 0).any():
        raise TableError("table 'runs': rank and answer_tokens from 1, base_loss above 0 expected")
    if np.abs([loss, base]).max(initial=0) > MOST_LOSS:
        raise TableError(
            f"table 'runs': got a loss of {np.abs([loss, base]).max():g}, expected nats per token, "
            f"{MOST_LOSS:,.0f} at most; drop its line"
        )
    return Cells(rank, tokens, base - loss, base)
