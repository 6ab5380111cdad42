"""The numbers of a study in words: one sentence for each thing that was measured.

In: the tables. Out: plain sentences, which the report sets beside its figures.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import polars as pl

from pythia_profile.figures.style import name_outcome

__all__ = [
    "agreement_sentences",
    "agreement_summary",
    "checkpoint_sentences",
    "counterfactual_sentences",
    "headline",
    "means_of",
    "placebo_sentences",
    "places_of",
    "rate_sentences",
    "share_left",
    "summary",
]

Tables = Mapping[str, pl.DataFrame]
MEANS = ("instantaneous", "persistent", "residual")
COLUMNS = {"instantaneous": "at once", "persistent": "later", "residual": "at the end"}
"""How the table of results heads the three means."""
_WHEN = {
    "instantaneous": "at the next checkpoint",
    "persistent": "on average over later checkpoints",
    "residual": "at the last checkpoint",
}
SMALL_SE = 0.002
"""Below this standard error, estimates are printed with a fourth decimal."""
_FEWEST = 3
"""Cohorts of a rank correlation."""


def summary(tables: Tables, outcomes: Sequence[str]) -> pl.DataFrame:
    """One line for each size and outcome: the three means, what is left, the placebo test.

    A command ends with this table, and the report begins with it.

    Parameters
    ----------
    tables : `profiles` and `placebo`, by name.
    """
    lines = []
    for outcome in outcomes:
        placebo = tables["placebo"].filter(pl.col("outcome") == outcome, pl.col("test") == "joint")
        p_values = dict(placebo.select("size", "p_value").iter_rows())
        for size, line in means_of(tables, outcome).items():
            share = share_left(line)
            p = p_values.get(size)
            lines.append(
                {
                    "size": size,
                    **{name: _estimate(line[kind]) for kind, name in COLUMNS.items()},
                    "kept": None if share is None else f"{share:.0%}",
                    "p before reading": None if p is None else f"{p:.3f}",
                    "unit": name_outcome(outcome),
                }
            )
    return pl.DataFrame(
        lines, schema_overrides=dict.fromkeys(("kept", "p before reading"), pl.String)
    )


def headline(tables: Tables, outcome: str) -> list[str]:
    """Instantaneous, persistent and residual memorization of each size, one sentence each."""
    sentences = []
    for size, line in means_of(tables, outcome).items():
        share = share_left(line)
        left = "" if share is None else f", {share:.0%} of the instantaneous effect"
        known = [kind for kind in MEANS if line[kind]["att"] is not None]
        verb = "changed" if any(line[kind]["att"] < 0 for kind in known[:1]) else "raised"
        parts = [f"by {_estimate(line[kind])} {_WHEN[kind]} ({kind})" for kind in known]
        lacking = [f"no {kind} effect" for kind in MEANS if kind not in known]
        sentences.append(
            f"{size}: training on a row {verb} its {name_outcome(outcome)} {_listed(parts)}{left}."
            + (f" There is {_listed(lacking)}: no cell of that kind." if lacking else "")
        )
    return sentences


def _listed(parts: Sequence[str]) -> str:
    """Join with commas and a last 'and'."""
    if len(parts) < 2:
        return "".join(parts)
    return f"{', '.join(parts[:-1])}{',' if len(parts) > 2 else ''} and {parts[-1]}"


def means_of(tables: Tables, outcome: str) -> dict[str, dict[str, dict[str, Any]]]:
    """Size -> kind -> line of the mean over cohorts."""
    means = tables["profiles"].filter(
        pl.col("outcome") == outcome,
        pl.col("cohort").is_null(),
        pl.col("event_time").is_null(),
        pl.col("kind").is_in(MEANS),
    )
    found: dict[str, dict[str, dict[str, Any]]] = {}
    for line in means.iter_rows(named=True):
        found.setdefault(line["size"], {})[line["kind"]] = line
    return found


def share_left(line: Mapping[str, Mapping[str, Any]]) -> float | None:
    """Residual as a share of the instantaneous effect, where the latter is told from 0."""
    now, last = line["instantaneous"], line["residual"]
    if None in (now["att"], last["att"], line["persistent"]["att"]):
        return None
    return float(last["att"] / now["att"]) if abs(now["att"]) > 2 * now["se"] else None


def placebo_sentences(tables: Tables, outcome: str) -> list[str]:
    """Give the result of the placebo tests, one sentence a size."""
    tests = tables["placebo"].filter(pl.col("outcome") == outcome)
    sentences = []
    for size in tests["size"].unique(maintain_order=True):
        of_size = tests.filter(pl.col("size") == size)
        joint = of_size.filter(pl.col("test") == "joint").row(0, named=True)
        cohorts = of_size.filter(pl.col("test") == "cohort")
        rejected = cohorts.filter(pl.col("p_value") < 0.05)
        verdict = "no evidence" if joint["p_value"] >= 0.01 else "evidence"
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
        if len(of_size) < _FEWEST:
            continue
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
        told = (
            "how far the true profiles agree cannot be told from so noisy estimates"
            if line["lower"] is None
            else f"without noise {line['disattenuated']:.2f} [{line['lower']:.2f}, "
            f"{line['upper']:.2f}]"
        )
        sentences.append(
            f"{line['size_a']} and {line['size_b']}: r = {line['pearson']:.2f} over "
            f"{line['cells']} cells, reliability {line['reliability_a']:.2f} and "
            f"{line['reliability_b']:.2f}; {told}."
        )
    return sentences


def agreement_summary(tables: Tables, outcome: str) -> str:
    """Range of the correlations between sizes, and of their reliabilities; empty without any."""
    lines = tables["agreement"].filter((pl.col("outcome") == outcome) & (pl.col("kind") == "post"))
    related = lines["pearson"].drop_nulls().drop_nans().to_list()
    reliable = [*lines["reliability_a"].drop_nulls(), *lines["reliability_b"].drop_nulls()]
    if not related or not reliable:
        return ""
    return (
        f"Profiles of two sizes correlate {_span(related)}, with reliabilities of {_span(reliable)}"
        " in each size."
    )


def _span(values: Sequence[float]) -> str:
    low, high = f"{min(values):.2f}", f"{max(values):.2f}"
    return low if low == high else f"{low} to {high}"


def counterfactual_sentences(summary: pl.DataFrame, level: float = 0.95) -> list[str]:
    """Bias against its standard error, correlation and coverage over all audited cells.

    Parameters
    ----------
    summary : the `COUNTERFACTUAL_SUMMARY` table.
    level : of the pointwise intervals whose coverage was counted.
    """
    line = summary.filter(pl.col("by") == "all").row(0, named=True)
    cohorts = len(summary.filter(pl.col("by") == "cohort"))
    bias = f"{line['bias']:+.4f} ± {line['bias_se']:.4f} on average over these cells"
    if line["bias_se"] > 0:
        bias += f", {abs(line['bias']) / line['bias_se']:.1f} standard errors from 0"
    related = line["correlation"]
    correlated = "" if related is None else f" It correlates {related:.2f} with the truth."
    found = line.get("interference")
    interference = [] if found is None else [_interference(found, line["interference_se"])]
    return [
        f"Retraining {line['size']} without each of {cohorts} cohorts gives the true effect on "
        f"{name_outcome(line['outcome'])} for {line['cells']} cells. The estimate is off by {bias}."
        f"{correlated} Its pointwise {100 * level:g} % intervals cover the truth in "
        f"{line['coverage']:.0%} of the cells.",
        "± is one standard error of the mean error. All cells of a cohort use the same rows, and "
        "all cells the same control rows, so their errors are correlated: errors of one sign for a "
        "whole cohort are to be expected, and the coverage is that of a few independent cases. The "
        "standard error accounts for this.",
        *interference,
    ]


def _interference(effect: float, se: float) -> str:
    return (
        "That a row's effect does not depend on which rows were read with it was tested: replacing "
        f"only the unscored rows of each cohort moved its scored rows by {effect:+.4f} ± {se:.4f} "
        "more than never-treated rows; 0 if there is no interference."
    )


def _estimate(line: Mapping[str, Any]) -> str:
    """Print three decimals, or four where the standard error would keep a single digit."""
    if line["att"] is None:
        return "–"
    places = places_of(line["se"])
    return f"{line['att']:.{places}f} ± {line['se']:.{places}f}"


def places_of(se: float | None) -> int:
    """Decimals of an estimate with this standard error.

    Examples
    --------
    >>> places_of(0.01), places_of(0.0012)
    (3, 4)
    """
    return 4 if se is not None and se < SMALL_SE else 3


def checkpoint_sentences(lock: Mapping[str, Any]) -> list[str]:
    """List faulty and missing checkpoints, and what was chosen for them."""
    audit = lock.get("audit", {})
    chosen = {"skip": "left out", "accept": "scored all the same"}.get(audit.get("choice"), "")
    return [
        f"{line['size']} step {line['step']} is {line['verdict']}: {'; '.join(line['reasons'])}"
        + (f" ({chosen})" if chosen and kind == "faulty" else "")
        for kind in ("faulty", "missing")
        for line in audit.get(kind, [])
    ]
