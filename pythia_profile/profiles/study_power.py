"""What a study would have to sample to find an effect, from the variances of a pilot.

In: the tables `ROWS` and `SCORES` of a pilot, and designs. Out: `Power`, minimal detectable effect
of every design, and the best split of a budget of scored tokens. Formulas:
`pythia_profile.did.inference.power`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
import polars as pl

from pythia_profile.did import Pilot, bands, best_split, design, pilot
from pythia_profile.did.arguments import counted
from pythia_profile.did.estimation import effects
from pythia_profile.did.settings import Estimation
from pythia_profile.errors import TableError, not_found
from pythia_profile.profiles.profile import panels
from pythia_profile.profiles.study_inputs import study_tables

__all__ = ["Power", "power"]


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
    notes : what the figures rest on.
    """

    designs: pl.DataFrame
    best: dict[str, float]
    budget: float
    variances: Pilot
    notes: tuple[str, ...]

    def as_dict(self) -> dict[str, Any]:
        """Everything in plain values, for JSON."""
        return {
            "designs": self.designs.to_dicts(),
            "best": self.best,
            "budget": self.budget,
            "variances": asdict(self.variances),
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
    rows: pl.DataFrame | pl.LazyFrame,
    scores: pl.DataFrame | pl.LazyFrame,
    *,
    size: str | None = None,
    outcome: str = "log_likelihood",
    effect: str = "instantaneous",
    target: str = "cohort",
    cohorts: int | None = None,
    checkpoints: int | None = None,
    tokens: int | None = None,
    batches: Sequence[int] = (5, 10, 20),
    rows_per_batch: Sequence[int] = (1, 10),
    controls: Sequence[int] = (500, 2000),
    families: Sequence[float] | None = None,
    budget: float | None = None,
    most_batches: int | None = None,
    most_rows: int | None = None,
    most_controls: int | None = None,
    power: float = 0.8,
    level: float = 0.95,
    draws: int = 1000,
    seed: int = 0,
) -> Power:
    """Minimal detectable effect of each design, and the best split of a budget.

    Parameters
    ----------
    rows, scores : tables of the pilot, eager or lazy; of its rows, `batch` tells variances between
        batches, and `tokens` how long a row is unless `tokens` is given.
    size : which of the pilot's sizes; its first unless given.
    outcome : column of the scores.
    effect : `instantaneous`, `persistent`, `residual`, or `cohort`, the mean from the cohort on.
    target : the effect of one `cohort`, or the `mean` over cohorts.
    cohorts, checkpoints, tokens : of the planned study: cohorts, scored checkpoints, scored tokens
        of a row; those of the pilot unless given.
    batches, rows_per_batch, controls : batches a cohort, rows a batch, never-treated rows: all
        combinations.
    families : tests at a time, as independent ones; unless given, 1 and, for one cohort, as many as
        the pilot's own cells from the cohort on amount to.
    budget : scored tokens to split; unless given, as many as the largest of the designs takes.
    most_batches : batches that a cohort has; unless given, as many as the pilot has steps from one
        checkpoint to the next.
    most_rows, most_controls : rows that a batch has, and never-treated rows there are; unless
        given, nothing bounds them. A note says where one of these three bounds binds.
    power : probability of finding the effect.
    level : simultaneous coverage of the family.
    draws, seed : of the pilot's bands.

    Raises
    ------
    NotFoundError
        The pilot has no such size.
    TableError
        A table is no polars frame, is empty, or lacks a column.
    EstimationError
        The pilot has no never-treated rows, or a setting is out of range.
    """
    rows, table = study_tables(rows, scores, [outcome])
    sizes = table["size"].unique(maintain_order=True).to_list()
    if (chosen := size or sizes[0]) not in sizes:
        raise not_found("size in the pilot", chosen, sizes)
    settings = Estimation(clusters="row")
    laid = next(panels(rows, table.filter(pl.col("size") == chosen), [outcome], settings))
    att = effects(laid, settings)
    variances = pilot(att, laid.cluster, effect)  # type: ignore[arg-type]
    own = _scored_tokens(rows, tokens)
    planned: dict[str, Any] = {
        "cohorts": cohorts or len(att.cohorts),
        "checkpoints": checkpoints or (cohorts + 1 if cohorts else len(att.checkpoints)),
        "tokens": tokens or own,
        "target": target,
    }
    tests: Sequence[Any] = [1.0] if families is None else families
    if families is None and target == "cohort":
        tests = [1.0, bands(att, draws, seed, level=level)]
    designs = design(
        variances,
        batches=batches,
        rows=rows_per_batch,
        controls=controls,
        families=tests,
        power=power,
        level=level,
        **planned,
    )
    spend = budget or float(designs["scored_tokens"].max())  # type: ignore[arg-type]
    steps = int(np.median(np.diff(att.checkpoints)))
    bounds = {
        "most_batches": steps if most_batches is None else most_batches,
        "most_rows": most_rows,
        "most_controls": most_controls,
    }
    split = best_split(variances, spend, **bounds, **planned)  # type: ignore[arg-type]
    alone = design(
        variances,
        **{name: [value] for name, value in split.items()},  # type: ignore[arg-type]
        power=power,
        level=level,
        **planned,
    )
    notes = [
        f"variances of the {variances.effect} effect in {laid.run[0]} {chosen}, {outcome}: "
        f"{variances.between:.3g} between batches, {variances.within:.3g} within, "
        f"{variances.control:.3g} of controls",
        f"mde: effect found with probability {power:g} at {level:.0%} confidence, for "
        + ("one cohort" if target == "cohort" else f"the mean over {planned['cohorts']} cohorts"),
    ]
    if planned["tokens"] != own:
        notes.append(
            f"the pilot's rows have {own} scored tokens, the planned ones {planned['tokens']}: "
            "means over more tokens vary less, so these effects are on the large side"
            if planned["tokens"] > own
            else f"the pilot's rows have {own} scored tokens, the planned ones "
            f"{planned['tokens']}: means over fewer tokens vary more than these figures say"
        )
    spent = float(alone["scored_tokens"][0])
    used = f"{spent:.3g} of {spend:.3g} scored tokens"
    notes += [*_bound_notes(bounds, split, designs, used), *_falling_degrees(designs)]
    best = {**split, "se": alone["se"][0], "mde": alone["mde"][0]}
    return Power(designs, best, spend, variances, tuple(notes))


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
