"""The checks of a study in words: one honest sentence for each thing that was found.

In: the tables that `check` makes, by name. Out: groups of plain sentences, for the verb and for the
report. Each sentence that gives a mean says which cells it averages and how it weights them, since
means over other cells, or with other weights, are other numbers.
"""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import polars as pl

from data_order.assignment import order_verdict
from pythia_profile.did.inference.honest import WINDOW
from pythia_profile.profiles.placebo_effects import PLACEBO_ROWS
from pythia_profile.tables import RUN

__all__ = [
    "MOST_CHANGE",
    "Group",
    "check_groups",
    "check_sentences",
    "named_outstanding",
    "standing_out",
]

Tables = Mapping[str, pl.DataFrame]
SMALL_P = 0.01
"""Differences of covariates with a p-value below this, after Bonferroni, are named."""

MOST_CHANGE = 1.0
"""A checkpoint without which the overall effect changes by more standard errors stands out."""

ALL_CELLS = "mean over all cells from the cohort on, each weighted by its cohort's rows"
"""What `aggregate(att, "overall")` is, in the words of these sentences."""


@dataclass(frozen=True, slots=True)
class Group:
    """Sentences about one question.

    Attributes
    ----------
    heading : the question's name.
    meaning : what its words mean, for a reader who meets them here first.
    sentences : one for each finding.
    """

    heading: str
    meaning: str
    sentences: tuple[str, ...]


def check_sentences(tables: Tables, outcome: str | None = None) -> list[str]:
    """Say what the tables say, of one outcome or of all, group by group."""
    return [sentence for group in check_groups(tables, outcome) for sentence in group.sentences]


def check_groups(tables: Tables, outcome: str | None = None) -> list[Group]:
    """Say what the tables say, of one outcome or of all.

    Groups without a finding, and tables that a study does not have, are left out.
    """
    kept = {
        name: table if outcome is None else table.filter(pl.col("outcome") == outcome)
        for name, table in tables.items()
        if name in _NAMES
    }
    named = [table["outcome"] for table in kept.values() if len(table)]
    outcomes = pl.concat(named).n_unique() if named else 0
    groups = []
    for name, heading, meaning, say in _GROUPS:
        sentences = []
        if name not in kept:
            continue
        for key, lines in kept[name].group_by(*RUN, "outcome", maintain_order=True):
            called = _name(str(key[1]), str(key[3]), outcomes)
            sentences += [f"{called}: {sentence}" for sentence in say(lines)]
        groups.append(Group(heading, meaning, tuple(sentences)))
    for between, heading, meaning in _CONTRASTED if "contrasts" in kept else ():
        lines = kept["contrasts"].filter(between=between)
        groups.append(Group(heading, meaning, tuple(_contrasts(lines, outcomes))))
    return [group for group in groups if group.sentences]


def _name(size: str, outcome: str, outcomes: int) -> str:
    return size if outcomes == 1 else f"{size}, {outcome}"


def _assignment(lines: pl.DataFrame) -> Iterator[str]:
    yield order_verdict(lines)


def _sensitivity(lines: pl.DataFrame) -> Iterator[str]:
    for effect, words in (
        (
            "first",
            "effect at the first checkpoint that has read the cohort (mean over cohorts, weighted "
            "by rows)",
        ),
        (
            "average",
            "mean effect over event times (at each one over the cohorts that reach it, weighted by "
            "rows; then every event time counts once)",
        ),
    ):
        mean = lines.filter(pl.col("cohort").is_null(), effect=effect)
        if len(mean):
            relative, smooth = (
                _one(mean, restriction) for restriction in ("relative_magnitudes", "smoothness")
            )
            yield f"{words} {relative['att']:.4f} ± {relative['se']:.4f}, " + (
                "does not exclude 0 even under parallel trends"
                if relative["breakdown_m_bar"] == smooth["breakdown_m"] == 0
                else f"excludes 0 under {_slopes(relative)}, or {_changes(smooth)}"
            )
    paths = lines.filter(pl.col("cohort").is_not_null(), restriction="relative_magnitudes")
    broken = paths.unique("cohort", maintain_order=True)["breakdown_m_bar"]
    if len(broken):
        yield (
            f"of {len(broken)} cohorts' own event studies (each one's mean effect over its "
            "checkpoints, against its own slopes before treatment), "
            f"{(broken > 0).sum()} exclude 0 under parallel trends and {(broken > 1).sum()} under "
            f"slopes as steep as the steepest of the last {WINDOW} before treatment; median "
            f"breakdown value {np.median(broken):.2g}"
        )


def _one(lines: pl.DataFrame, restriction: str) -> dict[str, float]:
    return lines.filter(restriction=restriction).row(0, named=True)


def _slopes(line: Mapping[str, float]) -> str:
    if np.isinf(line["breakdown_m_bar"]):
        return "slopes of any size"
    return (
        f"slopes up to {line['breakdown_m_bar']:.2g} times the steepest of the last "
        f"{WINDOW} seen before treatment (its breakdown value)"
    )


def _changes(line: Mapping[str, float]) -> str:
    if np.isinf(line["breakdown_m"]):
        return "slopes that change by any amount"
    return f"slopes that change by up to {line['breakdown_m']:.2g} a checkpoint"


def standing_out(lines: pl.DataFrame) -> tuple[list[int], list[int]]:
    """Return the checkpoints of `LEAVE_ONE_OUT` that stand out, as words and verdicts mean it.

    Those that differ before reading, and those without which the overall effect changes by more
    than `MOST_CHANGE` of its standard errors.
    """
    moves = (pl.col("change_in_se").abs().fill_nan(None) > MOST_CHANGE).fill_null(False)
    before, without = (lines.filter(which)["checkpoint"] for which in (pl.col("suspect"), moves))
    return before.unique().sort().to_list(), without.unique().sort().to_list()


def named_outstanding(lines: pl.DataFrame) -> str:
    """Name the checkpoints that stand out, in either way."""
    before, without = (", ".join(map(str, steps)) or "none" for steps in standing_out(lines))
    return (
        f"checkpoints that stand out before reading: {before}; without which the overall effect "
        f"changes by more than {MOST_CHANGE:g} standard error: {without}"
    )


def _leave_one_out(lines: pl.DataFrame) -> Iterator[str]:
    sentence = named_outstanding(lines)
    known = lines.filter(pl.col("change_in_se").is_not_null())
    if len(known):
        worst = known.row(int(known["change_in_se"].abs().arg_max() or 0), named=True)
        sentence += (
            f"; without checkpoint {worst['checkpoint']} it ({ALL_CELLS}) changes most, by "
            f"{worst['change']:+.4f} ({worst['change_in_se']:+.2f} standard errors)"
        )
    yield sentence


def _balance(lines: pl.DataFrame) -> Iterator[str]:
    is_level = pl.col("covariate") == "base_outcome"
    levels = lines.filter(pl.col("standardized").is_not_null() & is_level)
    if len(levels):
        worst = levels.row(int(levels["standardized"].abs().arg_max() or 0), named=True)
        adjusted = min(1.0, float(levels["p_value"].min()) * len(levels))  # type: ignore[arg-type]
        yield (
            f"outcome before treatment: largest difference to the controls "
            f"{worst['difference']:+.4f}, {worst['standardized']:+.2f} standard deviations (cohort "
            f"{worst['cohort']}); smallest p-value of {len(levels)} cohorts after Bonferroni "
            f"{adjusted:.3f}"
        )
    covariates = lines.filter(~is_level)
    apart = covariates.filter(pl.col("p_value") * len(covariates) < SMALL_P)
    for line in apart.iter_rows(named=True):
        yield (
            f"treated rows differ from the never-treated in '{line['covariate']}' by "
            f"{line['difference']:+.4g} (p = {line['p_value']:.2g}): estimate by strata, or draw "
            "controls alike"
        )


def _alternatives(lines: pl.DataFrame) -> Iterator[str]:
    for line in lines.filter(estimator="twfe").iter_rows(named=True):
        yield (
            f"two-way fixed effects, one effect for all cells by regression, "
            f"{line['estimate']:.4f} ± {line['se']:.4f} (ours {line['att']:.4f}: {ALL_CELLS})"
        )
    for estimator, words in (
        ("event_study", "regression event study"),
        (
            "naive_double_demeaned",
            "naive double-demeaned (minus the mean over all checkpoints, those after treatment "
            "included)",
        ),
    ):
        for line in lines.filter(estimator=estimator, checkpoints_since=0).iter_rows(named=True):
            yield (
                f"{words}, at the first checkpoint that has read the cohort, "
                f"{line['estimate']:.4f} (ours {line['att']:.4f}: mean over cohorts, weighted by "
                "rows)"
            )


def _contrasts(lines: pl.DataFrame, outcomes: int) -> Iterator[str]:
    pairs = lines.group_by("group_a", "group_b", "outcome", maintain_order=True)
    for (a, b, outcome), of_pair in pairs:
        means = (
            f"{line['kind']} {line['att']:+.4f} [{line['lower']:+.4f}, {line['upper']:+.4f}]"
            for line in of_pair.iter_rows(named=True)
        )
        yield f"{_name(f'{a!s} minus {b!s}', str(outcome), outcomes)}: {', '.join(means)}"


_GROUPS = (
    (
        "assignment",
        "Was the order random?",
        "Where rows are read in a random order, nothing that is known of a row before it is read "
        "says when it is read. Each test compares the real order with random reassignments of the "
        "rows to their steps; p-values are after Holm over all tests of a run.",
        _assignment,
    ),
    (
        "sensitivity",
        "If trends were not parallel",
        "A slope is the change, from one checkpoint to the next, of the difference that treated "
        "rows would have had to their controls without treatment; parallel trends mean slopes of "
        "0. The breakdown value is the smallest violation at which the interval of an effect "
        "reaches 0: with slopes after treatment up to that many times the steepest one seen "
        "before it, the interval still excludes 0.",
        _sensitivity,
    ),
    (
        "leave_one_out",
        "The estimate without single checkpoints",
        "A checkpoint stands out before reading where cohorts that it should not have read differ "
        "from their controls more than at other checkpoints, beyond chance: look at its weights. "
        "The overall effect of the same cohorts is estimated again without each checkpoint.",
        _leave_one_out,
    ),
    (
        "balance",
        "Treated rows and controls before treatment",
        "Levels may differ and trends be parallel; a large difference is a reason to look again.",
        _balance,
    ),
    (
        "alternatives",
        "Other estimators, for contrast",
        "Where effects change with time, as forgetting makes them, none of these estimates the "
        "effects of this report.",
        _alternatives,
    ),
)
"""Table, heading, what its words mean, and who says it."""

_MEANS = (
    "Differences of the three means over cohorts, weighted by rows: at the first checkpoint that "
    "has read the cohort (instantaneous), over its later checkpoints (persistent), at the last "
    "checkpoint (residual); pointwise intervals in brackets."
)
_CONTRASTED = (
    (
        PLACEBO_ROWS,
        "Rows that were read and moved no weight",
        "Masked rows, and rows of steps at rate 0 or skipped: their effect must be 0 (of update 1 "
        "next to 0: its gradient stays in the optimizer's moments). An interval that excludes 0 "
        "speaks against the order, the checkpoints or the controls.",
    ),
    ("cohorts", "Late minus early cohorts", _MEANS),
    ("sizes", "Sizes against each other, on the same rows", _MEANS),
)
_NAMES = frozenset({*(name for name, *_ in _GROUPS), "contrasts"})
