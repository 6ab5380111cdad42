"""ATT(g, c) and its placebo tests for every run of a study: the tables `ATT` and `PLACEBO`."""

from collections.abc import Sequence
from dataclasses import dataclass

import polars as pl

from pythia_profile.did import placebo
from pythia_profile.did.arguments import counted
from pythia_profile.did.estimation import effects
from pythia_profile.did.inference.att_table import att_table, cell_bands
from pythia_profile.did.inference.pretrends import Placebo
from pythia_profile.did.settings import Base, ClusterBy, Control, Estimation, Estimator, MissingRule
from pythia_profile.profiles.profile import panels
from pythia_profile.tables import ATT, PLACEBO, RUN, conform

__all__ = ["Effects", "estimate_effects"]

MOST_RUNS = 6
"""Runs that a summary names."""


@dataclass(frozen=True, slots=True, repr=False)
class Effects:
    """What the stage `att` finds; `print` it for a summary of each run.

    Attributes
    ----------
    att, placebo : the tables `ATT` and `PLACEBO`.
    notes : rows and cells that were dropped and why, families and critical values of the bands,
        and where they should not be trusted.
    """

    att: pl.DataFrame
    placebo: pl.DataFrame
    notes: tuple[str, ...]

    def __repr__(self) -> str:
        lines = ["Effects: cells from the cohort on, and how many bands of these exclude 0"]
        runs = list(self.att.group_by(*RUN, "outcome", maintain_order=True))
        for _, cells in runs[:MOST_RUNS]:
            suite, size, seed, outcome = cells.select(*RUN, "outcome").row(0)
            run = f"{suite} {size} seed {seed}, {outcome}"
            post = cells.filter(pl.col("checkpoint") >= pl.col("cohort"))
            marked = post.filter((pl.col("lower") > 0) | (pl.col("upper") < 0))
            mean = post.select(pl.col("att").mean()).item()
            lines.append(
                f"  {run}: {len(marked)} of {len(post)} cells of "
                f"{counted(cells['cohort'].n_unique(), 'cohort')}, mean {mean:.4f}"
                if mean is not None
                else f"  {run}: no cell has an estimate"
            )
        if (more := len(runs) - MOST_RUNS) > 0:
            lines.append(f"  and {counted(more, 'run')} more")
        tests = counted(len(self.placebo), "test")
        lines.append(
            f"tables: att ({counted(len(self.att), 'cell')}), placebo ({tests}); "
            f"notes: {len(self.notes)}"
        )
        return "\n".join(lines)


def estimate_effects(
    rows: pl.DataFrame | pl.LazyFrame,
    scores: pl.DataFrame | pl.LazyFrame,
    *,
    outcomes: str | Sequence[str] = ("log_likelihood",),
    control: Control = "never",
    base: Base = "universal",
    estimator: Estimator = "did",
    clusters: ClusterBy = "row",
    anticipation: int = 0,
    unbalanced: MissingRule = "error",
    draws: int = 1000,
    seed: int = 0,
    level: float = 0.95,
) -> Effects:
    """Estimate ATT(g, c) of every run in `scores`, and test that it is 0 before treatment.

    Parameters
    ----------
    rows, scores : the tables of a study, eager or lazy; what is needed of the rows is `row_id` and
        `treatment_step`, and `batch` to cluster by it.
    outcomes : columns of the scores, or one of them.
    control, base, estimator, anticipation : as in `did.att_gt`.
    clusters : `row`; `batch` where rows were drawn batch by batch; `auto`, by batch where rows
        share one (a note says which).
    unbalanced : what to do with rows that lack a score: `error`; `balanced` drops them; `available`
        uses what is there (`pythia_profile.did.missing`). The notes say how many.
    draws, seed, level : of the simultaneous bands; cells from the cohort on are one family, cells
        before it another.

    Raises
    ------
    TableError
        A table is no polars frame, is empty, or lacks a column.
    UnbalancedPanelError
        Rows lack a score, and no rule for that was chosen.
    EstimationError
        The panel allows no estimate, or a setting is out of range.
    """
    settings = Estimation(
        control=control,
        base=base,
        estimator=estimator,
        clusters=clusters,
        anticipation=anticipation,
        missing=unbalanced,
        draws=draws,
        seed=seed,
        level=level,
    )
    cells, tests, notes = [], [], []
    for laid in panels(rows, scores, outcomes, settings):
        att = effects(laid, settings)
        found = cell_bands(att, settings)
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
