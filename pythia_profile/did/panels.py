"""From the tables `SCORES` and `ROWS` to a matrix of outcomes, and from the effects to `ATT`.

In: scores of one run, and its rows. Out: `Panel`, outcomes (rows, checkpoints) with cohorts and
batches, and notes on everything that was dropped; then the `ATT` table. A row's cohort is the first
scored checkpoint at or after the step that read it. Gaps are never interpolated.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

import numpy as np
import polars as pl
from jaxtyping import Bool, Float, Int

from data_order.order import cohort_of_steps
from pythia_profile.did.arguments import Short, check_option, counted
from pythia_profile.did.errors import (
    CovariateError,
    DuplicateError,
    MissingOutcomeError,
    NoRowsError,
    UnbalancedPanelError,
)
from pythia_profile.did.panel_tables import as_lazy, check_keys, check_tables, only_run
from pythia_profile.did.readings import readings_of
from pythia_profile.did.settings import DEFAULT, Estimation, MissingRule
from pythia_profile.tables import NEVER, ROWS, SCORES

Early = Literal["error", "drop"]


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class Panel(Short):
    """Outcomes of one run.

    Attributes
    ----------
    run : suite, size and seed.
    outcome : column of the scores that `y` holds, in its unit and with its sign.
    y : (U, C) outcome of each row at each checkpoint; NaN only where gaps were kept.
    cohort : (U,) first scored checkpoint that has read the row; NEVER where none has.
    cluster : (U,) batch of the row; NEVER for rows without one, and where batches are not known.
    weight : (U,) sampling weight of the row; 1 unless a column of weights was named.
    row_id : (U,) ascending.
    checkpoints : (C,) ascending steps.
    covariates : (U,) the other columns of the rows table, line by line with `y`; the tokens only by
        their number, `length`.
    notes : what was dropped, and why.
    beside : (U, C) outcomes of other runs at the same checkpoints, by the name of the covariate.
    step : (U,) treatment step of each row; NEVER for never-treated rows; None where not known.
    second : (U,) step from which outcomes do not count, as the row's text is read again; NEVER for
        none; None where all outcomes count (`readings`).
    """

    run: tuple[str, str, int]
    outcome: str
    y: Float[np.ndarray, "U C"]
    cohort: Int[np.ndarray, " U"]
    cluster: Int[np.ndarray, " U"]
    weight: Float[np.ndarray, " U"]
    row_id: Int[np.ndarray, " U"]
    checkpoints: Int[np.ndarray, " C"]
    covariates: pl.DataFrame
    notes: tuple[str, ...]
    beside: Mapping[str, Float[np.ndarray, "U C"]] = field(default_factory=dict)
    step: Int[np.ndarray, " U"] | None = None
    second: Int[np.ndarray, " U"] | None = None

    def __len__(self) -> int:
        return len(self.y)

    def covariate_values(self, names: Sequence[str]) -> dict[str, np.ndarray]:
        """Look up covariates: `base` is the outcome itself, of which that at the base counts.

        A name that is no column stands for all columns `name.…`, such as `features.bigram`; of
        `reference.…`, for that of the panel's outcome.

        Raises
        ------
        CovariateError
            There is no such column of numbers.
        """
        columns = {column.name: column for column in self.covariates if column.dtype.is_numeric()}
        found: dict[str, np.ndarray] = {}
        for name in names:
            of_outcome = f"{name}.{self.outcome}"
            every = [*columns, *self.beside]
            chosen = [n for n in every if n == name] or [n for n in every if n == of_outcome]
            chosen = chosen or [n for n in every if n.startswith(f"{name}.")]
            if name != "base" and not chosen:
                raise CovariateError(
                    f"covariate '{name}': no such column of numbers; known: base, "
                    f"{', '.join(every) or 'none else'}"
                )
            for column in chosen:
                values = columns.get(column)
                found[column] = (
                    self.beside[column]
                    if values is None
                    else values.cast(pl.Float64).fill_null(np.nan).to_numpy()
                )
            if name == "base":
                found[name] = self.y
        return found

    def keep(self, rows: Bool[np.ndarray, " U"], why: str) -> "Panel":
        """Return the panel with these rows only, and a note that says why."""
        kept = self.row_id[rows]
        return replace(
            self,
            y=self.y[rows],
            cohort=self.cohort[rows],
            cluster=self.cluster[rows],
            weight=self.weight[rows],
            row_id=kept,
            covariates=self.covariates.filter(pl.Series(rows)),
            beside={name: values[rows] for name, values in self.beside.items()},
            step=None if self.step is None else self.step[rows],
            second=None if self.second is None else self.second[rows],
            notes=(*self.notes, f"{len(self) - len(kept)} of {len(self)} rows dropped: {why}"),
        )


_NO_COVARIATES = [
    *("row_id", "treatment_step", "second_step", "batch", "tokens", "state", "placebo"),
]
"""Columns of the rows that are no covariates."""


def panel(
    rows: pl.DataFrame | pl.LazyFrame,
    scores: pl.DataFrame | pl.LazyFrame,
    settings: Estimation = DEFAULT,
    *,
    outcome: str = "log_likelihood",
    early: Early = "error",
    weights: str | None = None,
) -> Panel:
    """Lay out the scores of one run as rows × checkpoints.

    Parameters
    ----------
    rows : `ROWS`, of which `row_id` and `treatment_step` are needed here, and `batch` to cluster
        by it; only rows of both tables are used.
    scores : `SCORES` of one run (suite, size, seed); other columns are ignored.
    settings : of these, `missing` says what to do where rows were not scored at every checkpoint
        (`available` keeps their gaps as NaN, see `pythia_profile.did.missing`); `second_reading`,
        what to do with rows whose text is read again (`pythia_profile.did.readings`);
        `anticipation` says which rows have a base.
    outcome : any numeric column of the scores; its sign is kept.
    early : what to do with rows read at or before the first checkpoint, or so soon after it that
        they have no base before `anticipation`: `error` leaves them to `effects`, which refuses
        them; `drop` drops them.
    weights : a column of the rows with their sampling weights, all above 0.

    Raises
    ------
    TableError
        A column is missing or of another type, or the scores hold no run or several.
    DuplicateError
        A row has two different outcomes at one checkpoint, or is duplicated among the rows.
    UnbalancedPanelError, MissingOutcomeError, NoRowsError
        Rows with gaps, infinite outcomes, no rows left.
    """
    check_option(early, Early, "early")
    lazy = as_lazy(scores, SCORES.name)
    table = check_tables(lazy, rows, outcome, weights)
    run = only_run(lazy)
    values = lazy.select("row_id", "checkpoint", pl.col(outcome).cast(pl.Float64)).collect()
    check_keys(values)
    checkpoints = values["checkpoint"].unique().sort().to_numpy().astype(np.int64)
    row_id, y, notes = _matrix(values, checkpoints, outcome)
    _check_values(y, outcome, row_id, checkpoints)
    lines, notes = _known_rows(table, row_id, notes)
    table = table[lines]
    if "placebo" in table.columns:
        table = table.filter(~pl.col("placebo"))
        aside = counted(len(lines) - len(table), "placebo row")
        notes = [*notes, f"{aside} set aside: read, but their steps moved no weight"]
    read = readings_of(table)
    if "tokens" in table.columns and "length" not in table.columns:
        table = table.with_columns(length=pl.col("tokens").list.len())
    kept = np.isin(row_id, table["row_id"].to_numpy())
    step = table["treatment_step"].fill_null(NEVER).to_numpy()
    twice = read.notes(settings.second_reading, int(checkpoints[-1]))
    laid = Panel(
        run=run,
        outcome=outcome,
        y=y[kept],
        cohort=cohort_of_steps(step, checkpoints),
        cluster=table["batch"].fill_null(NEVER).to_numpy(),
        weight=_weights(table, weights),
        row_id=row_id[kept],
        checkpoints=checkpoints,
        covariates=table.drop(_NO_COVARIATES, strict=False),
        notes=(*notes, *_late(step, checkpoints), *twice),
        step=step,
        second=read.cut(settings.second_reading),
    )
    if (dropped := read.dropped(settings.second_reading)).any():
        laid = laid.keep(~dropped, "their text is read more than once")
    if early == "drop":
        laid = _without_base_dropped(laid, settings.anticipation)
    laid = _settle_gaps(laid, settings.missing)
    if not len(laid):
        raise NoRowsError(f"no row is left: {'; '.join(laid.notes)}")
    return laid


def _weights(table: pl.DataFrame, column: str | None) -> Float[np.ndarray, " U"]:
    if column is None:
        return np.ones(len(table))
    return table[column].cast(pl.Float64).fill_null(np.nan).to_numpy()


def _matrix(
    values: pl.DataFrame, checkpoints: Int[np.ndarray, " C"], outcome: str
) -> tuple[Int[np.ndarray, " U"], Float[np.ndarray, "U C"], list[str]]:
    """Pivot the long table; a note counts repeated lines, of which one is kept."""
    ids = values["row_id"].to_numpy().astype(np.int64, copy=False)
    steps = values["checkpoint"].to_numpy().astype(np.int64, copy=False)
    value = values[outcome].fill_null(np.nan).to_numpy()
    row_id = values["row_id"].unique().sort().to_numpy().astype(np.int64)
    cell = np.searchsorted(row_id, ids) * len(checkpoints) + np.searchsorted(checkpoints, steps)
    y = np.full(len(row_id) * len(checkpoints), np.nan)
    seen = np.zeros(y.size, bool)
    y[cell], seen[cell] = value, True
    notes = []
    if (again := len(cell) - int(seen.sum())) > 0:
        differ = np.flatnonzero((y[cell] != value) & ~(np.isnan(y[cell]) & np.isnan(value)))
        if differ.size:
            at = differ[0]
            raise DuplicateError(
                f"table '{SCORES.name}': {counted(differ.size, 'line gives', 'lines give')} a row "
                f"a second, different '{outcome}' at a checkpoint; first: row {ids[at]} at "
                f"{steps[at]}, {value[at]:g} and {y[cell[at]]:g}; expected one line for each"
            )
        repeats = counted(again, "line dropped: it repeats", "lines dropped: they repeat")
        notes.append(f"{repeats} a row and checkpoint with the same value")
    return row_id, y.reshape(len(row_id), -1), notes


def _check_values(
    y: Float[np.ndarray, "U C"],
    outcome: str,
    row_id: Int[np.ndarray, " U"],
    checkpoints: Int[np.ndarray, " C"],
) -> None:
    if (infinite := np.isinf(y)).any():
        row, at = np.argwhere(infinite)[0]
        raise MissingOutcomeError(
            f"'{outcome}': {counted(int(infinite.sum()), 'infinite value')}, first row "
            f"{row_id[row]} at checkpoint {checkpoints[at]}; score these again"
        )


def _known_rows(
    rows: pl.DataFrame, row_id: Int[np.ndarray, " U"], notes: list[str]
) -> tuple[Int[np.ndarray, " n"], list[str]]:
    """Lines of the rows table that were scored, in ascending order of row."""
    ids = rows["row_id"].to_numpy()
    order = np.argsort(ids, kind="stable")
    if (twice := int((np.diff(ids[order]) == 0).sum())) > 0:
        raise DuplicateError(
            f"table '{ROWS.name}': {counted(twice, 'row is', 'rows are')} duplicated; "
            "expected one line for each"
        )
    lines = order[np.isin(ids[order], row_id)]
    if not lines.size:
        raise NoRowsError(
            f"none of {len(row_id)} scored rows is among the {len(ids)} rows of the sample; "
            "do the two tables belong together?"
        )
    if unscored := len(ids) - len(lines):
        never = "was" if unscored == 1 else "were"
        notes = [*notes, f"{unscored} of {len(ids)} sampled rows {never} never scored"]
    if unknown := len(row_id) - len(lines):
        notes = [*notes, f"{unknown} of {len(row_id)} rows dropped: scored but not in the sample"]
    return lines, notes


def _late(step: Int[np.ndarray, " n"], checkpoints: Int[np.ndarray, " C"]) -> list[str]:
    late = int(((step > checkpoints[-1]) & (step != NEVER)).sum())
    if not late:
        return []
    one, many = "it is never-treated, and serves as a control", "they are never-treated, and serve"
    return [
        f"{counted(late, 'row is', 'rows are')} read after the last checkpoint, {checkpoints[-1]}; "
        f"until then {one if late == 1 else f'{many} as controls'}"
    ]


def _without_base_dropped(laid: Panel, anticipation: int) -> Panel:
    """Drop rows that have no checkpoint before their cohort, or none before its anticipation."""
    first = laid.checkpoints[0]
    if (early := laid.cohort == first).any():
        laid = laid.keep(~early, f"read at or before the first checkpoint, {first}")
    last = laid.checkpoints[min(anticipation, len(laid.checkpoints) - 1)]
    if (early := laid.cohort <= last).any():
        laid = laid.keep(
            ~early, f"read by checkpoint {last}, without a base before the anticipation"
        )
    return laid


def _settle_gaps(laid: Panel, missing: MissingRule) -> Panel:
    gaps = np.isnan(laid.y)
    if not gaps.any():
        return laid
    with_gaps = gaps.any(axis=1)
    row, at = np.argwhere(gaps)[0]
    found = (
        f"{with_gaps.sum()} of {len(laid)} rows {'lacks' if with_gaps.sum() == 1 else 'lack'} "
        f"'{laid.outcome}' at one checkpoint or more ({counted(int(gaps.sum()), 'gap')}, first row "
        f"{laid.row_id[row]} at {laid.checkpoints[at]})"
    )
    if missing == "error":
        raise UnbalancedPanelError(
            f"{found}; score what is missing, or choose missing='balanced' to drop these rows "
            "or 'available' to use what is there"
        )
    if missing == "available":
        return replace(laid, notes=(*laid.notes, f"{found}; gaps kept"))
    return laid.keep(~with_gaps, f"not scored at every checkpoint; {found}")
