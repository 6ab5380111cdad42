"""The checks of a study in words: one honest sentence for each thing that was found.

In: the tables that `check` makes, by name. Out: plain sentences, for the verb and for the report.
"""

from collections.abc import Iterator, Mapping

import numpy as np
import polars as pl

from pythia_profile.schema import RUN

__all__ = ["check_sentences"]

Tables = Mapping[str, pl.DataFrame]
SMALL_P = 0.01
"""Gaps of traits with a p-value below this, after Bonferroni over the traits, are named."""


def check_sentences(tables: Tables, outcome: str | None = None) -> list[str]:
    """Say what the tables say, of one outcome or of all, size by size."""
    kept = {
        name: table if outcome is None else table.filter(pl.col("outcome") == outcome)
        for name, table in tables.items()
    }
    sentences = []
    for key, influence in kept["influence"].group_by(*RUN, "outcome", maintain_order=True):
        chosen = dict(zip((*RUN, "outcome"), key, strict=True))
        name = _name(str(key[1]), str(key[3]), _outcomes(kept))
        for sentence in (
            *_sensitivity(kept["sensitivity"].filter(**chosen)),
            *_influence(influence),
            *_gaps(kept["gaps"].filter(**chosen)),
            *_witnesses(kept["witnesses"].filter(**chosen)),
        ):
            sentences.append(f"{name}: {sentence}")
    return [*sentences, *_contrasts(kept["contrasts"], _outcomes(kept))]


def _outcomes(tables: Tables) -> int:
    """Return how many outcomes the tables are about."""
    return tables["influence"]["outcome"].n_unique()


def _name(size: str, outcome: str, outcomes: int) -> str:
    return size if outcomes == 1 else f"{size}, {outcome}"


def _sensitivity(lines: pl.DataFrame) -> Iterator[str]:
    for effect, words in (
        ("first", "effect at c = cohort"),
        ("average", "mean effect from the cohort on"),
    ):
        mean = lines.filter(pl.col("cohort").is_null(), effect=effect)
        if len(mean):
            relative, smooth = (_one(mean, restriction) for restriction in ("relative", "smooth"))
            verdict = (
                "does not exclude 0 even under parallel trends"
                if relative["breakdown"] == smooth["breakdown"] == 0
                else f"excludes 0 under slopes up to {_size(relative)} times the steepest seen "
                f"before treatment, or slopes that change by up to {_size(smooth)} a checkpoint"
            )
            yield f"{words} {relative['att']:.4f} ± {relative['se']:.4f}, {verdict}"
    paths = lines.filter(pl.col("cohort").is_not_null(), restriction="relative")
    broken = paths.unique("cohort", maintain_order=True)["breakdown"]
    if len(broken):
        yield (
            f"of {len(broken)} cohorts' own paths, {(broken > 0).sum()} exclude 0 under parallel "
            f"trends and {(broken > 1).sum()} under slopes as steep as the steepest before "
            f"treatment; median breakdown value {np.median(broken):.2g}"
        )


def _one(lines: pl.DataFrame, restriction: str) -> dict[str, float]:
    return lines.filter(restriction=restriction).row(0, named=True)


def _size(line: Mapping[str, float]) -> str:
    return "any number of" if line["breakdown"] == float("inf") else f"{line['breakdown']:.2g}"


def _influence(lines: pl.DataFrame) -> Iterator[str]:
    suspects = lines.filter("suspect")["checkpoint"].to_list()
    named = ", ".join(map(str, suspects)) if suspects else "none"
    known = lines.filter(pl.col("share").is_not_null())
    sentence = f"checkpoints that stand out: {named}"
    if len(known):
        worst = known.row(int(known["share"].abs().arg_max() or 0), named=True)
        sentence += (
            f"; without checkpoint {worst['checkpoint']} the overall effect changes most, by "
            f"{worst['change']:+.4f} ({worst['share']:+.2f} standard errors)"
        )
    yield sentence


def _gaps(lines: pl.DataFrame) -> Iterator[str]:
    levels = lines.filter(pl.col("standardized").is_not_null(), over="level")
    if len(levels):
        worst = levels.row(int(levels["standardized"].abs().arg_max() or 0), named=True)
        adjusted = min(1.0, float(levels["p_value"].min()) * len(levels))  # type: ignore[arg-type]
        yield (
            f"levels before treatment: largest gap to the controls {worst['gap']:+.4f}, "
            f"{worst['standardized']:+.2f} standard deviations (cohort {worst['at']}); smallest "
            f"p-value of {len(levels)} cohorts after Bonferroni {adjusted:.3f}"
        )
    traits = lines.filter(over="trait")
    apart = traits.filter(pl.col("p_value") * len(traits) < SMALL_P)
    for line in apart.iter_rows(named=True):
        yield (
            f"treated rows differ from the never-treated in '{line['at']}' by {line['gap']:+.4g} "
            f"(p = {line['p_value']:.2g}): estimate by strata, or draw controls alike"
        )


def _witnesses(lines: pl.DataFrame) -> Iterator[str]:
    said = []
    for line in lines.filter(estimator="twfe").iter_rows(named=True):
        said.append(
            f"two-way fixed effects {line['estimate']:.4f} ± {line['se']:.4f} (ours "
            f"{line['att']:.4f})"
        )
    for estimator, words in (
        ("event_study", "regression event study"),
        ("naive_double_demeaned", "naive double-demeaned"),
    ):
        for line in lines.filter(estimator=estimator, at=0).iter_rows(named=True):
            said.append(f"{words} at c = cohort {line['estimate']:.4f} (ours {line['att']:.4f})")
    if said:
        yield "other estimators, for contrast: " + "; ".join(said)


def _contrasts(lines: pl.DataFrame, outcomes: int) -> Iterator[str]:
    pairs = lines.group_by("one", "other", "outcome", maintain_order=True)
    for (one, other, outcome), of_pair in pairs:
        said = (
            f"{line['kind']} {line['att']:+.4f} [{line['lower']:+.4f}, {line['upper']:+.4f}]"
            for line in of_pair.iter_rows(named=True)
        )
        yield f"{_name(f'{one!s} less {other!s}', str(outcome), outcomes)}: {', '.join(said)}"
