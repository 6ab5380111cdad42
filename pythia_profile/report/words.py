"""The numbers of a study in words: one honest sentence for each thing that was measured.

In: the tables. Out: plain sentences, which the report sets beside its figures.
"""

from collections.abc import Mapping
from typing import Any

import polars as pl

from pythia_profile.figures.style import name_outcome
from pythia_profile.profiles.verdicts import check_sentences

__all__ = [
    "agreement_sentences",
    "check_sentences",
    "checkpoint_sentences",
    "counterfactual_sentence",
    "headline",
    "placebo_sentences",
    "rate_sentences",
]

Tables = Mapping[str, pl.DataFrame]


def headline(tables: Tables, outcome: str) -> list[str]:
    """Instantaneous, persistent and residual memorization of each size, one sentence each."""
    profiles = tables["profiles"].filter(pl.col("outcome") == outcome)
    means = profiles.filter(pl.col("at").is_null())
    sentences = []
    for size in profiles["size"].unique(maintain_order=True):
        line = {
            row["kind"]: row for row in means.filter(pl.col("size") == size).iter_rows(named=True)
        }
        now, later, last = line["instantaneous"], line["persistent"], line["residual"]
        share = last["att"] / now["att"] if now["att"] > 0 else float("nan")
        sentences.append(
            f"{size}: training on a row raised its {name_outcome(outcome)} by {_estimate(now)} at "
            f"the next checkpoint, by {_estimate(later)} on average over later ones, and by "
            f"{_estimate(last)} at the last checkpoint, {share:.0%} of what it was at once."
        )
    return sentences


def placebo_sentences(tables: Tables, outcome: str) -> list[str]:
    """Say what the tests before treatment say of each size."""
    tests = tables["placebo"].filter(pl.col("outcome") == outcome)
    sentences = []
    for size in tests["size"].unique(maintain_order=True):
        of_size = tests.filter(pl.col("size") == size)
        joint = of_size.filter(pl.col("over") == "joint").row(0, named=True)
        cohorts = of_size.filter(pl.col("over") == "cohort")
        rejected = cohorts.filter(pl.col("p_value") < 0.05)
        verdict = "no sign" if joint["p_value"] >= 0.01 else "a sign"
        sentences.append(
            f"{size}: {verdict} of effects before treatment (largest |z| {joint['statistic']:.2f}, "
            f"p = {joint['p_value']:.3f}; {len(rejected)} of {len(cohorts)} cohorts reject at 5 % "
            "after Holm's correction)."
        )
    return sentences


def rate_sentences(tables: Tables, outcome: str) -> list[str]:
    """Rank correlation of the instantaneous effect with the cohort's mean learning rate."""
    lines = tables["profiles"].filter(
        (pl.col("outcome") == outcome)
        & (pl.col("kind") == "instantaneous")
        & pl.col("learning_rate").is_not_null()
    )
    sentences = []
    for size in lines["size"].unique(maintain_order=True):
        of_size = lines.filter(pl.col("size") == size)
        rho = of_size.select(pl.corr("att", "learning_rate", method="spearman")).item()
        sentences.append(
            f"{size}: Spearman correlation {rho:.2f} over {len(of_size)} cohorts, between "
            "instantaneous effect and mean learning rate."
        )
    return sentences


def agreement_sentences(tables: Tables, outcome: str) -> list[str]:
    """Correlation of each two sizes over all cells from the cohort on."""
    lines = tables["agreement"].filter((pl.col("outcome") == outcome) & (pl.col("kind") == "post"))
    sentences = []
    for line in lines.iter_rows(named=True):
        clean = line["disattenuated"]
        corrected = f"; between disjoint halves, corrected for noise, {clean:.2f}" if clean else ""
        sentences.append(
            f"{line['size_a']} and {line['size_b']}: r = {line['pearson']:.2f} "
            f"[{line['lower']:.2f}, {line['upper']:.2f}] over {line['cells']} cells, split-half "
            f"reliability {line['reliability_a']:.2f} and {line['reliability_b']:.2f}{corrected}."
        )
    return sentences


def counterfactual_sentence(summary: pl.DataFrame) -> str:
    """Bias, correlation and coverage over all audited cells."""
    line = summary.filter(pl.col("over") == "all").row(0, named=True)
    cohorts = len(summary.filter(pl.col("over") == "cohort"))
    return (
        f"Twin runs of {line['size']} that never read {cohorts} of the cohorts give the true "
        f"effect for {line['cells']} cells. The estimate is off by {line['bias']:+.4f} ± "
        f"{line['bias_se']:.4f} on average, correlates {line['correlation']:.2f} with the truth, "
        f"and its 95 % intervals hold the truth in {line['coverage']:.0%} of the cells."
    )


def _estimate(line: Mapping[str, float]) -> str:
    return f"{line['att']:.3f} ± {line['se']:.3f}"


def checkpoint_sentences(lock: Mapping[str, Any]) -> list[str]:
    """Say which checkpoints are not what they claim to be or are not there, and what was chosen."""
    audit = lock.get("audit", {})
    chosen = {"skip": "left out", "accept": "scored all the same"}.get(audit.get("choice"), "")
    return [
        f"{line['size']} step {line['step']} is {line['verdict']}: {'; '.join(line['reasons'])}"
        + (f" ({chosen})" if chosen and kind == "faulty" else "")
        for kind in ("faulty", "missing")
        for line in audit.get(kind, [])
    ]
