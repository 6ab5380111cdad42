"""ATT(g, c) and its placebo tests for every run of a study: the tables `ATT` and `PLACEBO`."""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from pythia_profile.did import placebo
from pythia_profile.did.draws import Drawing
from pythia_profile.did.pretrends import Placebo
from pythia_profile.did.table import att_table, cell_bands, effects
from pythia_profile.profiles.profile import panels
from pythia_profile.schema import ATT, PLACEBO, RUN, conform

__all__ = ["Effects", "estimate_effects"]


@dataclass(frozen=True, slots=True)
class Effects:
    """What the stage `att` finds.

    Attributes
    ----------
    att, placebo : the tables `ATT` and `PLACEBO`.
    notes : rows and cells that were dropped and why, families and critical values of the bands,
        and where they should not be trusted.
    """

    att: pl.DataFrame
    placebo: pl.DataFrame
    notes: tuple[str, ...]


def estimate_effects(
    rows: pl.DataFrame,
    scores: pl.DataFrame,
    *,
    outcomes: Sequence[str] = ("log_likelihood",),
    control: str = "never",
    base: str = "universal",
    clusters: str = "row",
    draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Effects:
    """Estimate ATT(g, c) of every run in `scores`, and test that it is 0 before treatment.

    Parameters
    ----------
    rows, scores : the tables of a study.
    outcomes : columns of the scores.
    control, base : as in `did.att_gt`.
    clusters : `row`, or `batch` where rows were drawn batch by batch.
    draws, seed, level : of the simultaneous bands; cells from the cohort on are one family, cells
        before it another.
    """
    how = Drawing(draws, seed)
    cells, tests, notes = [], [], []
    for laid in panels(rows, scores, outcomes):
        att = effects(laid, control=control, base=base, clusters=clusters)  # type: ignore[arg-type]
        found = cell_bands(att, how, level=level)
        cells.append(att_table(att, laid.run, laid.outcome, found))
        named = [pl.lit(value).alias(name) for name, value in zip(RUN, laid.run, strict=True)]
        if att.placebo.any():
            lines = _test_lines(placebo(att, draws=draws, seed=seed))
            tests.append(lines.with_columns(*named, outcome=pl.lit(laid.outcome)))
        said = [*att.notes, *(str(band) for band in found)]
        notes += [f"{laid.run[1]}, {laid.outcome}: {note}" for note in said]
    placebos = pl.concat(tests) if tests else pl.DataFrame(schema=PLACEBO.columns)
    return Effects(conform(pl.concat(cells), ATT), conform(placebos, PLACEBO), tuple(notes))


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
    schema = {"over": pl.String, "cohort": pl.Int64, "statistic": pl.Float64, "p_value": pl.Float64}
    return pl.DataFrame([*joint, *cohorts], schema=schema, orient="row")
