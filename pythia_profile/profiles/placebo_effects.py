"""Effects on placebo rows, which must be 0: rows that were read by steps that moved no weight.

In: `ROWS` with the column `placebo`, and `SCORES`. Out: lines of the table `CONTRASTS`, by the same
estimator, against the same controls as the effects of the study.
"""

from collections.abc import Iterator, Sequence
from typing import Any

import polars as pl

from pythia_profile.did import Contrast, aggregate
from pythia_profile.did.errors import EmptyFamilyError
from pythia_profile.did.settings import DEFAULT, Estimation
from pythia_profile.errors import ProfileError
from pythia_profile.profiles.estimates import Frame, estimate

__all__ = ["PLACEBO_ROWS", "placebo_lines"]

PLACEBO_ROWS = "placebo rows"
"""What the column `between` of `CONTRASTS` says of them."""

_KINDS = ("overall", "instantaneous", "persistent", "residual")


def placebo_lines(
    rows: Frame,
    scores: Frame,
    settings: Estimation = DEFAULT,
    outcomes: str | Sequence[str] = ("log_likelihood",),
) -> tuple[list[dict[str, Any]], list[str]]:
    """Lines of `CONTRASTS` for the placebo rows of each run, and notes; none where there are none.

    Covariates are left out: a study may have few placebo rows, or one batch of them.
    """
    table = rows.lazy().collect()
    if "placebo" not in table.columns or not table["placebo"].any():
        return [], []
    never = pl.col("treatment_step").is_null()
    chosen = table.filter(pl.col("placebo") | never).drop("placebo")
    plain = settings.replace(covariates=())
    try:
        found = estimate(chosen, scores, plain, outcomes=outcomes)
    except ProfileError as error:
        return [], [f"placebo rows: no effect could be estimated: {error}"]
    lines = []
    for one in found.runs:
        suite, size, seed = one.panel.run
        names = {"suite": suite, "seed": seed, "outcome": one.panel.outcome}
        groups = {"group_a": f"{size}, placebo rows", "group_b": "never-treated"}
        lines += [
            {**names, "between": PLACEBO_ROWS, **groups, "kind": kind, **line}
            for kind, line in _means(one.att, settings.level)
        ]
    return lines, []


def _means(att: Any, level: float) -> Iterator[tuple[str, dict[str, float]]]:
    for kind in _KINDS:
        try:
            mean: Contrast = aggregate(att, kind).only([None])  # type: ignore[arg-type]
        except EmptyFamilyError:
            continue
        lower, upper = mean.interval(level)
        values = mean.estimate[0], mean.se[0], lower[0], upper[0]
        names = "att", "se", "lower", "upper"
        yield kind, dict(zip(names, map(float, values), strict=True))
