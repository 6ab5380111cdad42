"""What a study would have to sample to find an effect, from the variances of a pilot.

In: the tables `ROWS` and `SCORES` of a pilot, and designs. Out: `Power`, minimal detectable effect
of every design, and the best split of a budget of scored tokens. Formulas:
`pythia_profile.did.inference.power`.
"""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Any, Literal

import numpy as np
import polars as pl
from pydantic import Field

from pythia_profile.did import Bands, Panel, Pilot, Planned, bands, best_split, design, pilot
from pythia_profile.did.arguments import counted
from pythia_profile.did.estimation import effects
from pythia_profile.did.inference.aggregates import Kind
from pythia_profile.did.inference.power import Target
from pythia_profile.did.settings import DEFAULT, Estimation
from pythia_profile.errors import EstimationError, TableError, check_kind, not_found
from pythia_profile.profiles.estimates import Frame, panels, study_tables
from pythia_profile.profiles.side_by_side import covariate_sets
from pythia_profile.settings import Settings

__all__ = ["Power", "PowerPlan", "power"]

log = logging.getLogger(__name__)

Count = Annotated[int, Field(ge=1, lt=2**31)]
Several = Annotated[int, Field(ge=2, lt=2**31)]


class PowerPlan(Settings):
    """What a study is planned to look like: designs, and what bounds them."""

    size: str | None = Field(default=None, description="size of the pilot; its first unless given")
    outcome: str = Field(default="log_likelihood", description="column of the scores")
    effect: Literal["instantaneous", "persistent", "residual", "cohort"] = Field(
        default="instantaneous", description="effect; cohort is the mean from the cohort on"
    )
    target: Target = Field(
        default="cohort", description="the effect of one cohort, or the mean over cohorts"
    )
    cohorts: Count | None = Field(default=None, description="cohorts; the pilot's unless given")
    checkpoints: Several | None = Field(default=None, description="scored checkpoints")
    tokens: Count | None = Field(default=None, description="scored tokens of a row")
    batches: tuple[Count, ...] = Field(
        default=(5, 10, 20), min_length=1, description="batches a cohort: all combinations"
    )
    rows_per_batch: tuple[Count, ...] = Field(
        default=(1, 10), min_length=1, description="rows a batch: all combinations"
    )
    controls: tuple[Several, ...] = Field(
        default=(500, 2000), min_length=1, description="never-treated rows: all combinations"
    )
    families: tuple[Annotated[float, Field(ge=1, le=1e9)], ...] = Field(
        default=(),
        description="tests at a time, as independent ones; unless given, 1 and, for one cohort, as "
        "many as the pilot's own cells from the cohort on amount to",
    )
    budget: float | None = Field(
        default=None,
        gt=0,
        le=1e24,
        description="scored tokens to split; as many as the largest of the designs takes",
    )
    most_batches: Count | None = Field(
        default=None,
        description="batches that a cohort has; as many as the pilot has steps from one checkpoint "
        "to the next",
    )
    most_rows: Count | None = Field(default=None, description="rows that a batch has")
    most_controls: Several | None = Field(
        default=None, description="never-treated rows that there are"
    )
    power: float = Field(default=0.8, gt=0, lt=1, description="probability of finding the effect")


@dataclass(frozen=True, slots=True, repr=False)
class Power:
    """Designs, with the effect that each would find; `print` it for the table.

    Attributes
    ----------
    designs : one line for each: `batches` a cohort, `rows` a batch, `controls`, `family` (tests at
        a time, as independent ones), `se`, `critical`, `df`, `mde` (unit of the outcome),
        `scored_rows`, `scored_tokens`.
    best : batches, rows and controls with the smallest standard error for `budget`, and what they
        would find alone (`mde`).
    budget : scored tokens.
    variances : of the pilot.
    covariates : at equal values of which rows are compared; empty for none.
    worth : for each set of covariates that the pilot knows, and none, the standard error of the
        first design (`se`), its `ratio` to that without covariates, and how many times the rows
        that one would need for it (`rows`).
    notes : what the figures rest on.
    """

    designs: pl.DataFrame
    best: dict[str, float]
    budget: float
    variances: Pilot
    covariates: tuple[str, ...]
    worth: pl.DataFrame
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Everything in plain values, for JSON."""
        return {
            "designs": self.designs.to_dicts(),
            "best": self.best,
            "budget": self.budget,
            "variances": asdict(self.variances),
            "covariates": list(self.covariates),
            "worth": self.worth.to_dicts(),
            "notes": list(self.notes),
        }

    def __repr__(self) -> str:
        return (
            f"Power: {counted(len(self.designs), 'design')}; print it for the table\n{self._split}"
        )

    def __str__(self) -> str:
        families = self.designs["family"].unique(maintain_order=True).to_list()
        tests = ["1 test" if family == 1 else f"{family:.0f} tests" for family in families]
        head = ("batches", "rows", "controls", "scored tokens", "se", *(f"mde, {t}" for t in tests))
        plans = self.designs.group_by("batches", "rows", "controls", maintain_order=True)
        lines = []
        for (b, r, n), plan in plans:
            scored, error = plan["scored_tokens"][0], plan["se"][0]
            found = (f"{mde:.4f}" for mde in plan["mde"])
            lines.append((f"{b:,}", f"{r:,}", f"{n:,}", f"{scored:.2g}", f"{error:.4f}", *found))
        widths = [max(map(len, column)) for column in zip(head, *lines, strict=True)]
        table = [
            "  ".join(cell.rjust(width) for cell, width in zip(line, widths, strict=True))
            for line in (head, *lines)
        ]
        return "\n".join([*table, self._split, *(f"note: {note}" for note in self.notes)])

    @property
    def _split(self) -> str:
        b, r, n = (int(self.best[name]) for name in ("batches", "rows", "controls"))
        return (
            f"best split of {self.budget:.3g} scored tokens: {counted(b, 'batch', 'batches')} of "
            f"{counted(r, 'row')} a cohort and {counted(n, 'control')} find {self.best['mde']:.4f}"
        )


def power(
    rows: Frame,
    scores: Frame,
    plan: PowerPlan | None = None,
    settings: Estimation = DEFAULT,
) -> Power:
    """Minimal detectable effect of each design, and the best split of a budget.

    Parameters
    ----------
    rows, scores : tables of the pilot, eager or lazy; of its rows, `batch` tells variances between
        batches, and `tokens` how long a row is unless the plan says it.
    plan : what is asked, and the designs.
    settings : of these, gap rule and anticipation lay out the pilot; variances are those of
        difference-in-differences with never-treated controls, at equal values of the `covariates`.
        `level` is the simultaneous coverage of the tests.

    Raises
    ------
    NotFoundError
        The pilot has no such size.
    TableError
        A table is no polars frame, is empty, or lacks a column.
    EstimationError
        The pilot has no never-treated rows, or lacks scores and no rule was chosen for that.
    """
    asked = plan or PowerPlan()
    check_kind(asked, PowerPlan, "plan", "pp.PowerPlan(...)")
    check_kind(settings, Estimation, "settings", "pp.Estimation(...)")
    rows, table = study_tables(rows, scores, [asked.outcome])
    sizes = table["size"].unique(maintain_order=True).to_list()
    if (chosen := asked.size or sizes[0]) not in sizes:
        raise not_found("size in the pilot", chosen, sizes)
    by_row = settings.replace(control="never", base="universal", estimator="did", clusters="row")
    needed = table if "sizes" in by_row.covariates else table.filter(pl.col("size") == chosen)
    every = panels(rows, needed, asked.outcome, by_row)
    laid = next(one for one in every if one.run[1] == chosen)
    att = effects(laid, by_row)
    variances = pilot(att, laid.cluster, asked.effect)
    own = _scored_tokens(rows, asked.tokens)
    fallback = asked.cohorts + 1 if asked.cohorts else len(att.checkpoints)
    planned = Planned(
        cohorts=asked.cohorts or len(att.cohorts),
        checkpoints=asked.checkpoints or fallback,
        tokens=asked.tokens or own,
        target=asked.target,
        power=asked.power,
        level=settings.level,
    )
    tests: Sequence[float | Bands] = asked.families or [1.0]
    if not asked.families and asked.target == "cohort":
        tests = [1.0, bands(att, settings.draws, settings.seed, level=settings.level)]
    designs = design(
        variances,
        planned,
        batches=asked.batches,
        rows=asked.rows_per_batch,
        controls=asked.controls,
        families=tests,
    )
    spend = asked.budget or float(designs["scored_tokens"].max())  # type: ignore[arg-type]
    steps = int(np.median(np.diff(att.checkpoints)))
    bounds = {
        "most_batches": steps if asked.most_batches is None else asked.most_batches,
        "most_rows": asked.most_rows,
        "most_controls": asked.most_controls,
    }
    split = best_split(variances, spend, planned, **bounds)  # type: ignore[arg-type]
    alone = design(
        variances,
        planned,
        batches=[split["batches"]],
        rows=[split["rows"]],
        controls=[split["controls"]],
    )
    spent = float(alone["scored_tokens"][0])
    used = f"{spent:.3g} of {spend:.3g} scored tokens"
    first = asked.batches[0], asked.rows_per_batch[0], asked.controls[0]
    worth = _worth(laid, by_row, asked.effect, planned, first)
    at_equal = f", at equal {', '.join(by_row.covariates)}" if by_row.covariates else ""
    notes = (
        f"variances of the {variances.effect} effect in {laid.run[0]} {chosen}, {asked.outcome}: "
        f"{variances.between:.3g} between batches, {variances.within:.3g} within, "
        f"{variances.control:.3g} of controls{at_equal}",
        *_worth_notes(worth, by_row.covariates),
        f"mde: effect found with probability {asked.power:g} at {settings.level:.0%} confidence, "
        + (
            "for one cohort"
            if asked.target == "cohort"
            else f"for the mean over {planned.cohorts} cohorts"
        ),
        *_length_note(own, planned.tokens),
        *_bound_notes(bounds, split, designs, used),
        *_falling_degrees(designs),
    )
    best = {**split, "se": alone["se"][0], "mde": alone["mde"][0]}
    return Power(designs, best, spend, variances, by_row.covariates, worth, notes)


def _worth(
    laid: Panel,
    settings: Estimation,
    effect: Kind,
    planned: Planned,
    first: tuple[int, int, int],
) -> pl.DataFrame:
    """Set one design without covariates beside the same at each set that the pilot knows."""
    sets = covariate_sets([*laid.covariates.columns, *laid.beside], settings.covariates)
    errors = dict[str, float]()
    for names in ((), *sets):
        try:
            att = effects(laid, settings.replace(covariates=names))
        except EstimationError as error:  # of a set that nobody asked for
            log.warning("covariates %s are of no use here: %s", ", ".join(names), error)
            continue
        (b, r, n), found = first, pilot(att, laid.cluster, effect)
        table = design(found, planned, batches=[b], rows=[r], controls=[n])
        errors[", ".join(names)] = float(table["se"][0])
    table = pl.DataFrame({"covariates": [*errors], "se": [*errors.values()]})
    ratio = pl.col("se") / pl.col("se").first()
    return table.with_columns(ratio=ratio, rows=ratio**-2)


def _worth_notes(worth: pl.DataFrame, used: tuple[str, ...]) -> Iterator[str]:
    """Say what each set of covariates is worth, and how to plan with it."""
    for line in worth.filter(pl.col("covariates") != "").to_dicts():
        names = line["covariates"]
        yield (
            f"at equal {names} the first design's standard error is {line['ratio']:.2f} of that "
            f"without covariates, as if {line['rows']:.1f} times the rows were scored"
            + ("" if names == ", ".join(used) else f" (--covariates {names.replace(' ', '')})")
        )


def _length_note(own: int, planned: int) -> Iterator[str]:
    """Say what follows where the pilot's rows are of another length."""
    if planned == own:
        return
    how = (
        "means over more tokens vary less, so these effects are on the large side"
        if planned > own
        else "means over fewer tokens vary more than these figures say"
    )
    yield f"the pilot's rows have {own} scored tokens, the planned ones {planned}: {how}"


def _scored_tokens(rows: pl.DataFrame, planned: int | None) -> int:
    """Scored tokens of a row of the pilot."""
    if "tokens" in rows.columns:
        return int(np.median(rows["tokens"].list.len().to_numpy())) - 1
    if planned is None:
        raise TableError(
            "table 'rows': 'tokens' is missing; add it, or give tokens, the scored tokens of a row"
        )
    return planned


def _bound_notes(
    bounds: Mapping[str, int | None], split: Mapping[str, int], designs: pl.DataFrame, used: str
) -> Iterator[str]:
    """Say which bounds the best split has reached, and how many designs lie beyond one."""
    known = {name: most for name in split if (most := bounds[f"most_{name}"]) is not None}
    whose = {
        "batches": "batches a cohort has",
        "rows": "rows a batch has",
        "controls": "never-treated rows there are",
    }
    if reached := [name for name, most in known.items() if split[name] >= most]:
        taken = ", ".join(f"{known[name]:,} {whose[name]}" for name in reached)
        options = ", ".join(f"most_{name}" for name in reached)
        yield (f"the best split takes all {taken}, and {used}; for a plan with more, set {options}")
    plans = designs.unique(["batches", "rows", "controls"])
    for name, most in known.items():
        if beyond := len(plans.filter(pl.col(name) > most)):
            yield (
                f"{counted(beyond, 'design asks', 'designs ask')} for more than the {most:,} "
                f"{whose[name]}"
            )


def _falling_degrees(designs: pl.DataFrame) -> Iterator[str]:
    """Say why more controls may find less, at the largest such step."""
    ordered = designs.sort("batches", "rows", "family", "controls")
    same = ["batches", "rows", "family"]
    steps = ordered.with_columns(
        pl.col("controls", "mde", "df").shift(1).over(same).name.prefix("fewer_")
    ).filter(pl.col("mde") > pl.col("fewer_mde") * (1 + 1e-9))
    if not len(steps):
        return
    worst = steps.row(int((steps["mde"] / steps["fewer_mde"]).arg_max() or 0), named=True)
    yield (
        f"with {counted(worst['batches'], 'batch', 'batches')} of {counted(worst['rows'], 'row')}, "
        f"{worst['controls']:,} controls find {worst['mde']:.4f}, {worst['fewer_controls']:,} find "
        f"{worst['fewer_mde']:.4f}, though more controls lower the standard error: its variance is "
        "then known from the few batches alone, and Student's t has fewer degrees of freedom "
        f"({worst['fewer_df']:.1f} down to {worst['df']:.1f}); draw more batches, not controls"
    )
