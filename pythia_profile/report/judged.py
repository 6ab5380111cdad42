"""The checks of a study as one table: for each a verdict, and the number that decides it.

In: the tables of the checks, by name. Out: `Judged`, one for each check and size. The
thresholds are conventions, stated beside the verdicts; whoever has others has the numbers.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import polars as pl

from pythia_profile.profiles.sentences import MOST_CHANGE, standing_out

__all__ = ["CHECKS_OF_EFFECTS", "Judged", "actions", "judge"]

ROBUST, FRAGILE, UNKNOWN = "robust", "fragile", "cannot be told"
_SURELY, _PERHAPS = 0.01, 0.05
"""A p-value below the first is evidence; one between the two says neither."""


@dataclass(frozen=True, slots=True)
class Judged:
    """Verdict on one check of one size.

    Attributes
    ----------
    check : key in `CHECKS_OF_EFFECTS`.
    size : of the model.
    verdict : robust, fragile or cannot be told.
    number : what decides it, as text; empty where there is nothing to decide by.
    """

    check: str
    size: str
    verdict: str
    number: str = ""

    @property
    def text(self) -> str:
        """Verdict and number."""
        return f"{self.verdict}: {self.number}" if self.number else self.verdict


@dataclass(frozen=True, slots=True)
class Check:
    """One question to the estimates.

    Attributes
    ----------
    name : what the table calls it.
    rule : how the number decides.
    action : what a reader does where it is fragile.
    judge : verdict and number from the lines of one size and outcome, by table; None without any.
    """

    name: str
    rule: str
    action: str
    judge: Callable[[Mapping[str, pl.DataFrame]], tuple[str, str] | None]


def judge(tables: Mapping[str, pl.DataFrame], outcome: str, sizes: Sequence[str]) -> list[Judged]:
    """Give the verdict of every check that the tables allow, check by check, size by size."""
    found = []
    for key, check in CHECKS_OF_EFFECTS.items():
        for size in sizes:
            lines = {
                name: table.filter(pl.col("size") == size, pl.col("outcome") == outcome)
                for name, table in tables.items()
                if {"size", "outcome"} <= {*table.columns}
            }
            if (said := check.judge(lines)) is not None:
                found.append(Judged(key, size, *said))
    return found


def actions(found: Sequence[Judged]) -> list[str]:
    """Say what to do, once for each check that is fragile for any size."""
    said = []
    for key, check in CHECKS_OF_EFFECTS.items():
        fragile = [one.size for one in found if one.check == key and one.verdict == FRAGILE]
        if fragile:
            said.append(f"{check.name} ({', '.join(fragile)}): {check.action}")
    return said


def _lines(tables: Mapping[str, pl.DataFrame], name: str) -> pl.DataFrame | None:
    table = tables.get(name)
    return None if table is None or table.is_empty() else table


def _by_p(p: float) -> str:
    if p < _SURELY:
        return FRAGILE
    return ROBUST if p >= _PERHAPS else UNKNOWN


def _before(tables: Mapping[str, pl.DataFrame]) -> tuple[str, str] | None:
    lines = _lines(tables, "placebo")
    joint = None if lines is None else lines.filter(pl.col("test") == "joint")
    if joint is None or joint.is_empty():
        return None
    p = joint["p_value"].item(0)
    return (UNKNOWN, "no test") if p is None else (_by_p(p), f"p = {p:.3f}")


def _order(tables: Mapping[str, pl.DataFrame]) -> tuple[str, str] | None:
    lines = _lines(tables, "assignment")
    if lines is None:
        return None
    p = float(lines["p_adjusted"].min())  # type: ignore[arg-type]
    return _by_p(p), f"p = {p:.3f}"


def _breakdown(effect: str) -> Callable[[Mapping[str, pl.DataFrame]], tuple[str, str] | None]:
    def judged(tables: Mapping[str, pl.DataFrame]) -> tuple[str, str] | None:
        lines = _lines(tables, "sensitivity")
        if lines is None:
            return None
        chosen = lines.filter(
            pl.col("cohort").is_null(), effect=effect, restriction="relative_magnitudes"
        )
        values = chosen["breakdown_m_bar"].drop_nulls()
        if not len(values):
            return None
        value = float(values[0])
        number = "M̄ any" if np.isinf(value) else f"M̄ {value:.2g}"
        if value <= 0:
            return UNKNOWN, number
        return (ROBUST if value >= 1 else FRAGILE), number

    return judged


def _single_checkpoints(tables: Mapping[str, pl.DataFrame]) -> tuple[str, str] | None:
    lines = _lines(tables, "leave_one_out")
    if lines is None:
        return None
    if len(suspects := lines.filter("suspect")):
        return FRAGILE, f"step {suspects['checkpoint'].item(0):,} stands out"
    known = lines.filter(pl.col("change_in_se").is_finite())
    if known.is_empty():
        return UNKNOWN, "no change known"
    largest = known.row(int(known["change_in_se"].abs().arg_max() or 0), named=True)
    change = largest["change_in_se"]
    number = f"{change:+.2f} se without {largest['checkpoint']:,}"
    return (FRAGILE if any(standing_out(lines)) else ROBUST), number


def _alike(tables: Mapping[str, pl.DataFrame]) -> tuple[str, str] | None:
    lines = _lines(tables, "balance")
    values = None if lines is None else lines["p_value"].drop_nulls().drop_nans()
    if values is None or not len(values):
        return None
    p = min(1.0, float(values.min()) * len(values))  # type: ignore[arg-type]
    return _by_p(p), f"p = {p:.3f}"


def _regression(tables: Mapping[str, pl.DataFrame]) -> tuple[str, str] | None:
    lines = _lines(tables, "alternatives")
    twfe = None if lines is None else lines.filter(pl.col("estimator") == "twfe")
    if twfe is None or twfe.is_empty():
        return None
    line = twfe.row(0, named=True)
    number = f"{line['estimate']:.3f}"
    if line["se"] is None or line["att"] is None or abs(line["estimate"]) <= 2 * line["se"]:
        return UNKNOWN, number
    return (ROBUST if line["estimate"] * line["att"] > 0 else FRAGILE), number


def _retrained(tables: Mapping[str, pl.DataFrame]) -> tuple[str, str] | None:
    lines = _lines(tables, "counterfactual_summary")
    if lines is None:
        return None
    line = lines.filter(pl.col("by") == "all").row(0, named=True)
    if not line["bias_se"]:
        return UNKNOWN, f"{line['bias']:+.4f}"
    off = line["bias"] / line["bias_se"]
    return (ROBUST if abs(off) <= 2 else FRAGILE), f"off by {off:+.1f} se"


CHECKS_OF_EFFECTS: dict[str, Check] = {
    "order": Check(
        "Order random",
        "smallest p of the tests of the order, Holm: fragile if p < 0.01, robust from 0.05",
        "what a row holds says when it was read. Prefer comparisons at equal covariates.",
        _order,
    ),
    "before": Check(
        "Nothing before reading",
        "joint placebo test: fragile if p < 0.01, robust from 0.05",
        "effects show before the rows are read. Look left of the stair for a checkpoint or cohort "
        "that stands out; allow for anticipation, or draw controls that are more alike.",
        _before,
    ),
    "first": Check(
        "At once, trends not parallel",
        "breakdown value M̄ of the first effect: robust from 1",
        "slopes no steeper than those before reading could explain the effect. Report M̄ with it, "
        "or score more rows.",
        _breakdown("first"),
    ),
    "average": Check(
        "Later, trends not parallel",
        "breakdown value M̄ of the mean over event times: robust from 1",
        "slopes no steeper than those before reading could explain the effect. Report M̄ with it, "
        "or score more rows.",
        _breakdown("average"),
    ),
    "single": Check(
        "Without any one checkpoint",
        "robust where none stands out: no difference before reading, and the mean over "
        f"all cells moves by {MOST_CHANGE:g} standard error or less without it",
        "one checkpoint moves the estimate. Look at its weights, and give the estimate without it.",
        _single_checkpoints,
    ),
    "alike": Check(
        "Rows alike before reading",
        "smallest p, Bonferroni: fragile if p < 0.01, robust from 0.05",
        "treated rows differ from controls before they are read. Estimate at equal covariates.",
        _alike,
    ),
    "regression": Check(
        "Two-way fixed effects",
        "robust if its sign is ours and 0 is beyond 2 standard errors",
        "a regression gives the opposite sign. It weighs some cells negatively; see which differ.",
        _regression,
    ),
    "retrained": Check(
        "Against retraining",
        "mean error of the estimate: robust up to 2 standard errors",
        "the estimate is off the true effect. Look at the errors by event time.",
        _retrained,
    ),
}
"""The checks, in the order of the table."""


def pivot(found: Sequence[Judged], sizes: Sequence[str]) -> Iterator[tuple[Check, list[Judged]]]:
    """Yield each check with its verdicts, one for each size; a size without one has `UNKNOWN`."""
    for key, check in CHECKS_OF_EFFECTS.items():
        by_size = {one.size: one for one in found if one.check == key}
        if by_size:
            yield check, [by_size.get(size, Judged(key, size, "–")) for size in sizes]
