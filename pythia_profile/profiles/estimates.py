"""One estimate of every run of a study: panel and ATT(g, c), and the tables `ATT` and `PLACEBO`.

In: the tables `ROWS` and `SCORES`. Out: `Estimates`, which everything else of this room takes, so
that profiles, agreement and checks speak of the same rows, estimator, clusters and gap rule.
"""

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import polars as pl

from data_order.order import cohort_of_steps
from pythia_profile.did import AttGt, Panel, panel, placebo
from pythia_profile.did.arguments import Short, counted
from pythia_profile.did.errors import ConstantOutcomeError, CovariateError, OptionError
from pythia_profile.did.estimation import effects
from pythia_profile.did.inference.aggregates import first_cohort_note
from pythia_profile.did.inference.att_table import att_table, cell_bands
from pythia_profile.did.inference.pretrends import Placebo
from pythia_profile.did.inference.simultaneous import Bands
from pythia_profile.did.panel_tables import as_lazy, need_columns
from pythia_profile.did.precision import is_fact
from pythia_profile.did.settings import DEFAULT, Estimation
from pythia_profile.errors import TableError, check_kind, not_found
from pythia_profile.tables import ATT, PLACEBO, ROWS, RUN, SCORES, conform
from pythia_profile.tables.frames import small_to_large

__all__ = ["Estimates", "Frame", "RunEstimate", "estimate", "estimates_of"]

log = logging.getLogger(__name__)

Frame = pl.DataFrame | pl.LazyFrame
MOST_RUNS = 6
"""Runs that a summary names."""


@dataclass(frozen=True, slots=True, eq=False, repr=False)
class RunEstimate(Short):
    """Outcomes of one run, and their effects."""

    panel: Panel
    att: AttGt

    @property
    def names(self) -> dict[str, str | int]:
        """Suite, size, seed and outcome."""
        return {**dict(zip(RUN, self.panel.run, strict=True)), "outcome": self.panel.outcome}

    def named(self, lines: pl.DataFrame) -> pl.DataFrame:
        """Return lines with the columns that name the run and the outcome."""
        return lines.with_columns(pl.lit(value).alias(name) for name, value in self.names.items())

    def on(self, checkpoints: Sequence[int], settings: Estimation) -> "RunEstimate":
        """Estimate with some of the checkpoints only; itself where these are all."""
        laid, grid = self.panel, np.asarray(checkpoints)
        if np.array_equal(laid.checkpoints, grid):
            return self
        chosen = np.isin(laid.checkpoints, grid)
        cohort = cohort_of_steps(laid.cohort, grid)  # a cohort is itself the last step it may have
        beside = {name: values[:, chosen] for name, values in laid.beside.items()}
        laid = replace(laid, y=laid.y[:, chosen], cohort=cohort, checkpoints=grid, beside=beside)
        first = grid[min(settings.anticipation, len(grid) - 1)]
        if (early := (laid.cohort <= first)).any():
            laid = laid.keep(~early, f"read by checkpoint {first}, without a base")
        return RunEstimate(laid, effects(laid, settings))


@dataclass(frozen=True, eq=False, repr=False)
class Estimates:
    """Panel and ATT(g, c) of every run and outcome; `print` it for a summary of each.

    Attributes
    ----------
    runs : from the smallest size on, whatever the order of the scores, outcome by outcome.
    settings : by which they were estimated.
    """

    runs: tuple[RunEstimate, ...]
    settings: Estimation

    def run(self, size: str, outcome: str) -> RunEstimate:
        """Estimate of one size and outcome.

        Raises
        ------
        NotFoundError
            There is none.
        """
        known = {(one.panel.run[1], one.panel.outcome): one for one in self.runs}
        if (size, outcome) not in known:
            raise not_found("estimate of", f"{size}, {outcome}", [", ".join(k) for k in known])
        return known[size, outcome]

    @cached_property
    def _bands(self) -> list[list[Bands]]:
        return [cell_bands(one.att, self.settings) for one in self.runs]

    @cached_property
    def att(self) -> pl.DataFrame:
        """The table `ATT`, with simultaneous bands."""
        cells = [
            att_table(one.att, one.panel.run, one.panel.outcome, found)
            for one, found in zip(self.runs, self._bands, strict=True)
        ]
        return conform(pl.concat(cells), ATT)

    @cached_property
    def placebo(self) -> pl.DataFrame:
        """The table `PLACEBO`: tests that effects before treatment are 0."""
        draws, seed = self.settings.draws, self.settings.seed
        tests = [
            one.named(_test_lines(placebo(one.att, draws=draws, seed=seed)))
            for one in self.runs
            if one.att.placebo.any()
        ]
        return conform(pl.concat(tests) if tests else pl.DataFrame(schema=PLACEBO.columns), PLACEBO)

    @cached_property
    def notes(self) -> tuple[str, ...]:
        """What was dropped and why, families and critical values of the bands, and warnings."""
        return tuple(
            f"{one.panel.run[1]}, {one.panel.outcome}: {note}"
            for one, found in zip(self.runs, self._bands, strict=True)
            for note in (*one.att.notes, *first_cohort_note(one.att), *map(str, found))
        )

    @cached_property
    def remarks(self) -> tuple[str, ...]:
        """The notes on which a reader must act, each once with the runs that it holds for."""
        held: dict[str, list[str]] = {}
        for one in self.runs:
            for note in one.att.notes:
                if not (note.startswith("clusters='auto'") or is_fact(note)):
                    held.setdefault(note, []).append(f"{one.panel.run[1]}, {one.panel.outcome}")
        whole = len(self.runs)
        return tuple(
            note if len(runs) == whole else f"{'; '.join(runs)}: {note}"
            for note, runs in held.items()
        )

    def __repr__(self) -> str:
        lines = ["Estimates: cells from the cohort on, and how many bands of these exclude 0"]
        runs = list(self.att.group_by(*RUN, "outcome", maintain_order=True))
        for _, cells in runs[:MOST_RUNS]:
            suite, size, seed, outcome = cells.select(*RUN, "outcome").row(0)
            run = f"{suite} {size} seed {seed}, {outcome}"
            post = cells.filter(pl.col("checkpoint") >= pl.col("cohort"))
            marked = post.filter((pl.col("lower") > 0) | (pl.col("upper") < 0))
            mean = post.select(pl.col("att").mean()).item()
            lines.append(
                f"  {run}: {len(marked)} of {len(post)} cells of "
                f"{counted(cells['cohort'].n_unique(), 'cohort')}, mean {mean:.4f}"
                if mean is not None
                else f"  {run}: no cell has an estimate"
            )
        if (more := len(runs) - MOST_RUNS) > 0:
            lines.append(f"  and {counted(more, 'run')} more")
        tests = counted(len(self.placebo), "test")
        lines.append(
            f"tables: att ({counted(len(self.att), 'cell')}), placebo ({tests}); "
            f"notes: {len(self.notes)}"
        )
        return "\n".join(lines)


def estimate(
    rows: Frame,
    scores: Frame,
    settings: Estimation = DEFAULT,
    *,
    outcomes: str | Sequence[str] = ("log_likelihood",),
) -> Estimates:
    """Estimate ATT(g, c) of every run in `scores`.

    Rows read at or before a run's first checkpoint, or so soon after it that they have no base
    before the anticipation, have nothing to be compared with; they are dropped, and notes say so.
    A run whose outcome never varies is left out with a warning, unless no other is left.

    Parameters
    ----------
    rows, scores : the tables of a study, eager or lazy; what is needed of the rows is `row_id` and
        `treatment_step`, and `batch` to cluster by it.
    outcomes : columns of the scores, or one of them.

    Raises
    ------
    TableError
        A table is no polars frame, is empty, or lacks a column.
    UnbalancedPanelError
        Rows lack a score, and no rule for that was chosen.
    EstimationError
        The panel allows no estimate.
    """
    check_kind(settings, Estimation, "settings", "pp.Estimation(...)")
    found, constant = [], list[ConstantOutcomeError]()
    for laid in panels(rows, scores, outcomes, settings):
        try:
            found.append(RunEstimate(laid, effects(laid, settings)))
        except ConstantOutcomeError as error:  # such as whole matches of a size that gives none
            constant.append(error)
    if constant and not found:
        raise constant[0]
    for left_out in constant:
        log.warning("left out: %s", left_out)
    return Estimates(tuple(found), settings)


def estimates_of(
    rows: Frame | Estimates,
    scores: Frame | None,
    settings: Estimation,
    outcomes: str | Sequence[str],
) -> Estimates:
    """Return estimates that are given, or make them from tables.

    Raises
    ------
    TableError
        Neither both tables nor estimates alone were given.
    """
    check_kind(settings, Estimation, "settings", "pp.Estimation(...)")
    if isinstance(rows, Estimates):
        if scores is not None:
            raise TableError("got estimates and scores; expected estimates, or rows and scores")
        return rows
    if scores is None:
        raise TableError("table 'scores': missing; expected rows and scores, or estimates")
    return estimate(rows, scores, settings, outcomes=outcomes)


def panels(
    rows: Frame, scores: Frame, outcomes: str | Sequence[str], settings: Estimation
) -> Iterator[Panel]:
    """Lay out each run of `scores`, the smallest size first, once for each outcome."""
    names = names_of(outcomes)
    rows, table = study_tables(rows, scores, names)
    runs = {(run[0], run[2], run[1]): part for run, part in table.group_by(*RUN)}
    sizes = {size: at for at, size in enumerate(small_to_large({str(key[2]) for key in runs}))}
    laid = (
        panel(rows, runs[run], settings, outcome=outcome, early="drop")
        for run in sorted(runs, key=lambda run: (run[:2], sizes[str(run[2])]))
        for outcome in names
    )
    yield from _with_other_sizes(list(laid)) if "sizes" in settings.covariates else laid


def _with_other_sizes(laid: list[Panel]) -> Iterator[Panel]:
    """Lay the outcomes of the other sizes of a run beside each panel: the covariates `sizes.…`."""
    for one in laid:
        beside = {}
        for other in laid:
            (suite, size, seed), own = other.run, (one.run[0], one.run[2], one.outcome)
            if size == one.run[1] or (suite, seed, other.outcome) != own:
                continue
            if not np.array_equal(other.checkpoints, one.checkpoints):
                raise CovariateError(
                    f"covariate 'sizes': {size} was not scored at the same checkpoints as "
                    f"{one.run[1]}; score both alike, or leave the covariate out"
                )
            at = np.searchsorted(other.row_id, one.row_id).clip(max=len(other) - 1)
            found = other.row_id[at] == one.row_id
            beside[f"sizes.{size}"] = np.where(found[:, None], other.y[at], np.nan)
        yield replace(one, beside=beside)


def study_tables(
    rows: Frame, scores: Frame, outcomes: Sequence[str]
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Collect rows, and of the scores the columns that are needed.

    Raises
    ------
    TableError
        One of the two is no polars frame, has no lines, or lacks a column.
    """
    lazy_rows, lazy_scores = as_lazy(rows, ROWS.name), as_lazy(scores, SCORES.name)
    needed = list(dict.fromkeys([*RUN, "checkpoint", "row_id", *outcomes]))
    need_columns(lazy_rows.collect_schema(), ["row_id", "treatment_step"], ROWS.name)
    need_columns(lazy_scores.collect_schema(), needed, SCORES.name)
    collected = lazy_rows.collect(), lazy_scores.select(needed).collect()
    for frame, table in zip(collected, (ROWS, SCORES), strict=True):
        if not len(frame):
            raise TableError(f"table '{table.name}': got no lines, expected one or more")
    return collected


def names_of(names: str | Sequence[str]) -> tuple[str, ...]:
    """Take one outcome, or several, as a tuple.

    Raises
    ------
    OptionError
        There is none, or one of them is no text.

    Examples
    --------
    >>> names_of("accuracy"), names_of(["accuracy", "entropy"])
    (('accuracy',), ('accuracy', 'entropy'))
    """
    several = (names,) if isinstance(names, str) or not isinstance(names, Iterable) else (*names,)
    if not several or not all(isinstance(name, str) for name in several):
        raise OptionError(f"outcomes: got {names!r}, expected one name or more")
    return tuple(dict.fromkeys(several))


def _test_lines(test: Placebo) -> pl.DataFrame:
    """Lay out the joint test, the Wald test of the cohorts' means, and the test of each cohort."""
    joint = [("joint", None, test.statistic, test.p_value), ("wald", None, test.wald, test.wald_p)]
    cohorts = zip(
        ["cohort"] * len(test.cohorts),
        test.cohorts.tolist(),
        test.cohort_statistic.tolist(),
        test.cohort_p_adjusted.tolist(),
        strict=True,
    )
    schema = {"test": pl.String, "cohort": pl.Int64, "statistic": pl.Float64, "p_value": pl.Float64}
    return pl.DataFrame([*joint, *cohorts], schema=schema, orient="row")
