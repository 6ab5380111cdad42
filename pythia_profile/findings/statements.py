"""The findings in words: each sentence is made of lines of the tables, and of nothing else.

In: the tables of the stage `findings`, by name. Out: sentences for the verb and for the report.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import polars as pl

from pythia_profile.findings.summaries import MEANS
from pythia_profile.profiles.sentences import Group

__all__ = ["sentences", "topics"]

Tables = Mapping[str, pl.DataFrame]
Line = Mapping[str, Any]

_SHOWN = 3
"""Significant digits."""


def sentences(tables: Tables, outcome: str | None = None) -> list[str]:
    """Say what the tables say, of one outcome or of all; a table that is missing says nothing."""
    return [sentence for topic in topics(tables, outcome) for sentence in topic.sentences]


def topics(tables: Tables, outcome: str | None = None) -> list[Group]:
    """Say what the tables say, topic by topic; those without a finding are left out."""
    found = []
    for name, heading, meaning, say in _TOPICS:
        if name not in tables:
            continue
        lines = tables[name]
        if outcome is not None:
            lines = lines.filter(pl.col("outcome") == outcome)
        several = lines["outcome"].n_unique() > 1
        told = [
            f"{size}, {of_outcome}: {sentence}" if several else f"{size}: {sentence}"
            for (size, of_outcome), part in lines.group_by("size", "outcome", maintain_order=True)
            for sentence in say(part)
        ]
        found.append(Group(heading, meaning, tuple(told)))
    return [topic for topic in found if topic.sentences]


def _rates(lines: pl.DataFrame) -> Iterator[str]:
    lines = lines.filter(finding="learning_rate")
    for subset, words in (("all", ""), ("after_warmup", "without the cohorts of the warm-up, ")):
        told = lines.filter(subset=subset)
        slopes = {line["kind"]: line for line in _each(told.filter(quantity="slope_peak"))}
        parts = [
            f"{kind} {_signed(slopes[kind])}"
            for kind in ("instantaneous", "residual")
            if kind in slopes
        ]
        if not parts:
            continue
        cohorts = max(line["n"] for line in slopes.values())
        sentence = f"{words}from learning rate 0 to the peak, effects change by {', '.join(parts)}"
        for line in _each(told.filter(quantity="claim")):
            verdict = {
                "supported": "high rates go with high instantaneous and low residual effects",
                "contradicted": "that high rates go with high instantaneous and low residual "
                "effects is contradicted",
            }.get(
                line["verdict"],
                "whether high rates go with high instantaneous and low residual effects cannot be "
                "told",
            )
            sentence += f"; {verdict} (p = {line['p_value']:.2g})"
        yield f"{sentence}; {cohorts} effects by cohort"


def _seeds(lines: pl.DataFrame) -> Iterator[str]:
    lines = lines.filter(finding="seeds")
    for kind in MEANS:
        told = {(line["quantity"], line["subset"]): line for line in _each(lines.filter(kind=kind))}
        if ("mean", "mean") not in told:
            continue
        mean, between = told["mean", "mean"], told["between_sd", "mean"]
        yield (
            f"{kind}, mean over {mean['n']} training seeds {_interval(mean)}; standard deviation "
            f"between seeds {_interval(between)}, of which sampling is taken off "
            f"({told['within_sd', 'mean']['estimate']:.3g})"
        )
    for line in _each(lines.filter(verdict="outlier")):
        yield (
            f"{line['subset']} stands out: {line['kind']} {_signed(line)} from the other seeds' "
            f"mean (p = {line['p_value']:.2g})"
        )


def _exposure(lines: pl.DataFrame) -> Iterator[str]:
    lines = lines.filter(finding="exposure")
    told = {(line["quantity"], line["kind"]): line for line in _each(lines)}
    for kind in MEANS:
        if (line := told.get(("difference", kind))) is not None:
            yield f"{kind} effect, rows {line['subset']}: {_signed(line)}"
        if (line := told.get(("second", kind))) is not None:
            first, naive = told.get(("first_only", kind)), told.get(("first_naive", kind))
            sentence = f"{kind} effect of a second exposure {_interval(line)}"
            if first is not None and naive is not None:
                bias = naive["estimate"] - first["estimate"]
                sentence += (
                    f", of the first {_interval(first)} (with rows whose second had come "
                    f"{naive['estimate']:.3g}: biased by {bias:+.3g})"
                )
            yield sentence
        if (line := told.get(("dose", kind))) is not None:
            yield f"{kind} effect by number of copies: {_signed(line)} for each doubling"


def _prediction(lines: pl.DataFrame) -> Iterator[str]:
    for line in _each(lines.filter("chosen")):
        what = "each cell" if line["kind"] == "cell" else f"{line['kind']} by cohort"
        reliable = f"reliability {_share(line['reliability'])}"
        if line["verdict"] == "few_cohorts":
            yield f"{what}: {line['cohorts']} cohorts are too few, no prediction offered"
        elif line["verdict"] == "noise":
            yield (
                f"{what}: {reliable} (p = {line['reliability_p']:.2g} of noise alone), no "
                "prediction offered"
            )
        else:
            offered = (
                ""
                if line["verdict"] == "predicted"
                else "; the interval of its skill holds 0, no prediction offered"
            )
            sentence = (
                f"{what}, from {line['sources']} on other rows: skill {_skill(line, 'mean')} over "
                "the size's mean"
            )
            if line["skill_schedule"] is not None:
                sentence += f", {_skill(line, 'schedule')} over learning rates alone"
            yield (
                f"{sentence}; its intervals hold {line['coverage']:.0%} of {2 * line['cells']} "
                f"effects; {reliable}{offered}"
            )
    alone = lines.filter(~pl.col("sources").str.contains(","), verdict="predicted")
    for part in alone.filter(method="line").partition_by("kind", maintain_order=True):
        best = part.sort("skill_mean", descending=True, nulls_last=True)
        if len(best) > 1:
            told = ", ".join(
                f"{line['sources']} {_share(line['skill_mean'])}" for line in _each(best)
            )
            yield f"{best['kind'][0]}, told by one size alone, skill: {told}"


def _unseen(lines: pl.DataFrame) -> Iterator[str]:
    for line in _each(lines.filter(pl.col("fold").is_null() & pl.col("cohort").is_null())):
        yield (
            f"never scored; the line in log parameters through {line['sources']} leads to a mean "
            f"{line['kind']} effect of {line['predicted']:.3g} [{line['lower']:.3g}, "
            f"{line['upper']:.3g}]: an extrapolation, whose interval knows only how the line did "
            "at the sizes that were scored"
        )


def _decay(lines: pl.DataFrame) -> Iterator[str]:
    for subset, words in (
        ("constant", ""),
        ("early", "early cohorts, "),
        ("late", "late cohorts, "),
    ):
        part = lines.filter(subset=subset)
        if not len(part):
            continue
        line = part.sort("chosen", descending=True).row(0, named=True)
        of = f"{words}{line['cohorts']} followed for {line['horizon']:,} steps"
        if line["verdict"] == "noise":
            yield f"{of}: no effect to begin with can be told, and no decay"
        elif line["verdict"] == "constant":
            yield f"{of}: no decay can be told from {_of(line, 'initial')}"
        else:
            sentence = (
                f"{of}: {_LAWS[line['law']]} from {_of(line, 'initial')}; half of the fall is done "
                f"{_steps(line, 'half_life')} steps after the first checkpoint, 90 % "
                f"{_steps(line, 'levels_off')}"
            )
            if "plateau" in line["law"]:
                sentence += f"; it levels off at {_of(line, 'level')}"
            yield f"{sentence}; {_of(line, 'retained')} of it is left at the end"


def _bits(lines: pl.DataFrame) -> Iterator[str]:
    last = max(lines["checkpoint"].to_list(), default=0)
    total = lines.filter(per="checkpoint", checkpoint=last)
    share = lines.filter(per="parameter", checkpoint=last)
    for line in _each(total):
        sentence = (
            f"at checkpoint {last:,} the {line['rows']:,} rows read hold "
            f"{_count(line['bits'])} ± {_count(line['se'])} bits"
        )
        for one in _each(share):
            sentence += f", {one['bits']:.3g} ± {one['se']:.2g} for each parameter"
        yield f"{sentence} ({line['bits'] / line['rows']:.3g} a row)"


def _each(lines: pl.DataFrame) -> Iterator[Line]:
    return lines.iter_rows(named=True)


def _count(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.{_SHOWN}g}"


def _interval(line: Line) -> str:
    return f"{line['estimate']:.{_SHOWN}g} [{line['lower']:.{_SHOWN}g}, {line['upper']:.{_SHOWN}g}]"


def _signed(line: Line) -> str:
    ends = f"[{line['lower']:+.{_SHOWN}g}, {line['upper']:+.{_SHOWN}g}]"
    return f"{line['estimate']:+.{_SHOWN}g} {ends}"


def _skill(line: Line, floor: str) -> str:
    value, lower, upper = (line[f"skill_{floor}{end}"] for end in ("", "_lower", "_upper"))
    return f"{value:.2f} [{lower:.2f}, {upper:.2f}]"


def _share(value: float | None) -> str:
    return "unknown" if value is None else f"{max(value, 0.0):.2f}"


def _of(line: Line, name: str) -> str:
    value, lower, upper = (line[f"{name}{end}"] for end in ("", "_lower", "_upper"))
    return f"{value:.3g}" + ("" if lower is None else f" [{lower:.3g}, {upper:.3g}]")


def _steps(line: Line, name: str) -> str:
    value, lower, upper = (line[f"{name}{end}"] for end in ("", "_lower", "_upper"))
    return f"{value:,.0f}" + ("" if lower is None else f" [{lower:,.0f}, {upper:,.0f}]")


_LAWS = {
    "power": "a power law",
    "exponential": "an exponential law",
    "power_plateau": "a power law with a plateau",
    "exponential_plateau": "an exponential law with a plateau",
}

_TOPICS: tuple[tuple[str, str, str, Callable[[pl.DataFrame], Iterator[str]]], ...] = (
    (
        "findings",
        "Learning rate",
        "Effects by cohort against the mean learning rate of the steps that read the cohort, with "
        "the covariance of their errors; slopes in the outcome's unit, from rate 0 to the size's "
        "peak. Within one run the rate falls with the step, so a slope is also one in training "
        "progress.",
        _rates,
    ),
    (
        "prediction_skill",
        "Large from small",
        "Effects of a size predicted from smaller sizes on one half of the rows, compared on the "
        "other half. Skill is the share of a floor's squared error that the prediction takes away, "
        "noise taken off both; reliability the share of the size's variance that is not noise.",
        _prediction,
    ),
    (
        "prediction",
        "Sizes that were never scored",
        "Nothing was observed there; the interval is made of the errors of the same line at the "
        "sizes that were scored.",
        _unseen,
    ),
    (
        "findings",
        "Training seeds",
        "Runs that differ in their seed alone; what sampling of rows adds is taken off.",
        _seeds,
    ),
    (
        "findings",
        "Exposure",
        "Rows read before, again, or in several copies.",
        _exposure,
    ),
    (
        "decay",
        "Decay",
        "The law of least AICc for the mean effect by event time, of one constant set of cohorts.",
        _decay,
    ),
    (
        "bits",
        "Bits",
        "Effect times scored tokens over ln 2, for all rows that the run had read.",
        _bits,
    ),
)
"""Table, heading, what its words mean, and who says it."""
