"""What each stage makes: it reads tables from the folder, calls one function, writes tables.

In: the folder, the settings and the options of one run. Out: files, and a message: one line, then
notes.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import polars as pl

from pythia_profile.errors import StudyError, not_found
from pythia_profile.execute.executors import Cluster
from pythia_profile.pipeline.inputs import (
    imported_scores,
    read_inputs,
    read_tables,
    ready_suite,
    run_marks,
    suite_if_known,
)
from pythia_profile.pipeline.kept import study_estimates
from pythia_profile.profiles.estimands import EstimandPlan, estimands
from pythia_profile.profiles.estimates import Estimates, estimate
from pythia_profile.profiles.token_scores import by_frequency, by_position, class_scores
from pythia_profile.scoring.records import scored_units
from pythia_profile.store import read_table, write_table
from pythia_profile.study import Study, open_study, update_lock
from pythia_profile.tables import (
    AGREEMENT,
    ATT,
    CHECKS,
    COUNTERFACTUAL,
    COUNTERFACTUAL_SUMMARY,
    COVARIATES,
    ESTIMANDS,
    FOUND,
    PLACEBO,
    PRECISION,
    PROFILES,
    REMEMBERED,
    ROWS,
    RUN,
)

__all__ = [
    "NOTE",
    "StageOptions",
    "draw_some",
    "make_att",
    "make_check",
    "make_counterfactual",
    "make_covariates",
    "make_estimands",
    "make_findings",
    "make_plot",
    "make_precision",
    "make_profile",
    "make_remembered",
    "make_sample",
    "make_score",
    "noise_of",
]


NOTE = "  note: "
"""Begins the lines of a stage's message that a reader must see, among other stages', too."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageOptions:
    """Options of one run of a stage; no number depends on them.

    Attributes
    ----------
    workers : processes at a time; the available cores by default.
    retry : whether quarantined units are scored again.
    shard : (i, n): score only the i-th of n parts of the units.
    estimands : what to estimate beside the default; the table keeps what was last asked for.
    require_complete : end with an error where a checkpoint that is asked for does not exist.
    cluster : machines beyond this one that score or retrain; by default none.
    out : where the report is written; by default into the study.
    """

    workers: int | None = None
    retry: bool = False
    shard: tuple[int, int] | None = None
    estimands: EstimandPlan | None = None
    require_complete: bool = False
    cluster: Cluster | None = None
    out: Path | None = None


def make_sample(folder: Path, study: Study, _: StageOptions) -> str:
    """Draw the rows, and say whether their order looks random before anything is scored."""
    from data_order.assignment import order_tests, order_verdict
    from pythia_profile.suites.sampling import sample_rows

    suite = ready_suite(folder, study)
    rows = sample_rows(suite, study.sample, checkpoints=study.checkpoints or None, near=folder)
    write_table(rows, folder / "rows.parquet", ROWS)
    controls = rows["treatment_step"].null_count()
    placebo = int(rows["placebo"].sum()) if "placebo" in rows.columns else 0
    others = f", and {placebo:,} placebo rows" if placebo else ""
    named = next(iter(study.sizes))
    grid = study.checkpoints or suite.usual_checkpoints(named)
    verdict = order_verdict(order_tests(rows, [*grid])) if len(grid) > 1 else ""
    if suite.not_exchangeable:
        verdict = f"the order is known not to be random: {suite.not_exchangeable}; {verdict}"
    return (
        f"sample: {len(rows) - controls - placebo:,} treated and {controls:,} never-treated "
        f"rows{others}" + (f"\n  {verdict}" if verdict else "")
    )


def make_covariates(folder: Path, study: Study, options: StageOptions) -> str:
    """Compute what is known of the rows whether or not they were read."""
    from pythia_profile.pipeline.row_covariates import HELD_OUT, covariate_table

    imported = imported_scores(folder) and study.reference != HELD_OUT
    suite = None if imported else ready_suite(folder, study)
    rows = read_table(folder / "rows.parquet", ROWS, "sample")
    table, provenance = covariate_table(folder, study, suite, rows, options.workers)
    write_table(table, folder / "covariates.parquet", COVARIATES)
    update_lock(folder, "covariates", provenance)
    made = "; ".join(f"{name}, {source}" for name, source in provenance.items())
    return f"covariates: {table.width - 1} columns ({made})"


def make_score(folder: Path, study: Study, options: StageOptions) -> str:
    """Score the rows at the checkpoints."""
    from pythia_profile.pipeline.score import score_study
    from pythia_profile.scoring.settings import RunOptions

    suite = ready_suite(folder, study)
    chosen = RunOptions(
        workers=options.workers,
        retry=options.retry,
        shard=options.shard,
        require_complete=options.require_complete,
        cluster=options.cluster,
    )
    return score_study(folder, study, suite, chosen)


def noise_of(
    folder: Path, *, size: str | None = None, checkpoint: int | None = None
) -> pl.DataFrame:
    """Measure the noise floor of a study; see `pipeline.score.study_noise`."""
    from pythia_profile.pipeline.score import study_noise

    study = open_study(folder)
    return study_noise(folder, study, ready_suite(folder, study), size=size, checkpoint=checkpoint)


def make_att(folder: Path, study: Study, _: StageOptions) -> str:
    """Estimate effects and test those before treatment."""
    found = study_estimates(folder, study)
    write_table(found.att, folder / "att.parquet", ATT)
    write_table(found.placebo, folder / "placebo.parquet", PLACEBO)
    update_lock(folder, "notes", {"att": list(found.notes)})
    marked = found.att.filter((pl.col("lower") > 0) | (pl.col("upper") < 0))
    notes = "".join(f"\n{NOTE}{note}" for note in found.remarks)
    return f"att: {len(found.att):,} cells, the band of {len(marked):,} excludes 0{notes}"


def make_precision(folder: Path, study: Study, _: StageOptions) -> str:
    """Put effects without covariates beside those at equal ones."""
    from pythia_profile.profiles.side_by_side import side_by_side, summary

    table = side_by_side(study_estimates(folder, study))
    write_table(table, folder / "precision.parquet", PRECISION)
    return f"precision: {summary(table)}"


def make_estimands(folder: Path, study: Study, options: StageOptions) -> str:
    """Estimate what depends on no grid of checkpoints; and strata, slopes and tokens, where asked.

    Raises
    ------
    StudyError
        Classes of tokens are asked for, and no statistics of tokens were kept.
    """
    plan, found = options.estimands or EstimandPlan(), study_estimates(folder, study)
    by_class = _by_class(folder, study, plan) if plan.tokens else None
    table = estimands(found, plan=plan, by_class=by_class)
    write_table(table, folder / "estimands.parquet", ESTIMANDS)
    kinds = table["estimand"].n_unique()
    return f"estimands: {len(table)} lines, {kinds} estimands by size and outcome"


def _by_class(folder: Path, study: Study, plan: EstimandPlan) -> Estimates:
    """Estimate effects on each class of tokens, of the rows that have some of it."""
    if imported_scores(folder):
        raise StudyError("tokens: the scores are imported, without statistics of single tokens")
    rows, known = read_inputs(folder, study)
    classes = (by_position if plan.tokens == "position" else by_frequency)(rows, plan.classes)
    wanted = {*known.select(*RUN, "checkpoint").unique().iter_rows()}
    kept = {(u.suite, u.size, u.seed, u.checkpoint): u for u in scored_units(folder / "scores")}
    units = ((unit, kept[unit].tokens()) for unit in sorted(wanted & kept.keys()))
    scores = class_scores(units, classes)
    whole = study.estimate.replace(missing="balanced")
    return estimate(rows, scores, whole, outcomes=classes.names)


def make_profile(folder: Path, study: Study, _: StageOptions) -> str:
    """Make profiles and compare those of sizes."""
    from pythia_profile.profiles.agreement import agreement
    from pythia_profile.profiles.profile import profile

    found = study_estimates(folder, study)
    profiles = profile(found, suite=suite_if_known(folder))
    agreed = agreement(found)
    write_table(profiles, folder / "profiles.parquet", PROFILES)
    write_table(agreed, folder / "agreement.parquet", AGREEMENT)
    return f"profile: {len(profiles):,} lines, {len(agreed):,} comparisons of sizes"


def make_check(folder: Path, study: Study, _: StageOptions) -> str:
    """Check what the effects rest on."""
    from pythia_profile.profiles.diagnostics import check
    from pythia_profile.profiles.placebo_effects import placebo_lines
    from pythia_profile.profiles.sentences import named_outstanding

    estimates = study_estimates(folder, study)
    # the estimates hold no placebo rows, so these are estimated from the tables
    known = pl.read_parquet_schema(folder / "rows.parquet")
    tables = read_inputs(folder, study) if "placebo" in known else None
    placebo = tables and placebo_lines(*tables, study.estimate, study.outcomes)
    found = check(estimates, placebo=placebo)
    for table in CHECKS:
        write_table(found.tables[table.name], folder / f"{table.name}.parquet", table)
    sentences = "".join(f"\n  {sentence}" for sentence in found.sentences)
    return f"check: {len(CHECKS)} tables; {named_outstanding(found.leave_one_out)}{sentences}"


def make_findings(folder: Path, study: Study, _: StageOptions) -> str:
    """Find what the profiles say."""
    from pythia_profile.findings.whole import study_findings

    found = study_findings(study_estimates(folder, study), suite=suite_if_known(folder))
    for table in FOUND:
        write_table(found.tables[table.name], folder / f"{table.name}.parquet", table)
    sentences = "".join(f"\n  {sentence}" for sentence in found.sentences)
    return f"findings: {len(FOUND)} tables, {len(found.sentences)} sentences{sentences}"


def make_counterfactual(folder: Path, study: Study, options: StageOptions) -> str:
    """Retrain without cohorts, and compare with the effects."""
    from pythia_profile.mini.counterfactual import compare
    from pythia_profile.mini.retraining import retrain

    suite, size = ready_suite(folder, study), study.audit.size
    every = suite.usual_checkpoints(size)
    if study.checkpoints and study.checkpoints != tuple(every):
        raise StudyError(
            f"counterfactual retraining needs all {len(every)} checkpoints of the suite, "
            f"study.toml has {len(study.checkpoints)}; set checkpoints = [], or leave audit.size "
            "empty"
        )
    found = study_estimates(folder, study)
    one = found.run(size, study.outcomes[0])
    rows = read_table(folder / "rows.parquet", ROWS, "sample")
    retrained = retrain(
        suite,
        study.audit,
        rows,
        folder=folder / "retrained",
        workers=options.workers,
        cluster=options.cluster,
    )
    cells, summary = compare(one.panel, one.att, found.settings, retrained)
    write_table(cells, folder / "counterfactual.parquet", COUNTERFACTUAL)
    write_table(summary, folder / "counterfactual_summary.parquet", COUNTERFACTUAL_SUMMARY)
    line = summary.row(0, named=True)
    return (
        f"counterfactual: {line['cells']} cells of {size}, bias {line['bias']:+.4f} ± "
        f"{line['bias_se']:.4f}, correlation {line['correlation']:.2f}, coverage "
        f"{line['coverage']:.0%}"
    )


def make_remembered(folder: Path, study: Study, _: StageOptions) -> str:
    """Decode the rows that were remembered most and least."""
    from pythia_profile.pipeline.remembered import remembered_rows

    table = remembered_rows(folder, study, ready_suite(folder, study))
    write_table(table, folder / "remembered.parquet", REMEMBERED)
    return f"remembered: {len(table)} rows of {table['size'].item(0)}, token by token"


def make_plot(folder: Path, study: Study, _: StageOptions) -> str:
    """Draw the figures."""
    from pythia_profile.figures import draw_all
    from pythia_profile.pipeline.plugins import draw_plugins

    tables, marks = read_tables(folder, study), run_marks(folder, study)
    names = draw_all(tables, folder / "figures", study.outcomes, marks=marks)
    names += draw_plugins(tables, folder / "figures")
    return f"plot: {', '.join(names)}"


def draw_some(
    folder: Path,
    out: Path,
    *,
    which: Sequence[str] = (),
    sizes: Sequence[str] = (),
    formats: Sequence[str] = ("svg", "png"),
) -> list[Path]:
    """Draw some of a study's figures, some of its sizes, or other formats; return the files.

    Parameters
    ----------
    out : folder of the files; that of the stage's own figures stays as it is.

    Raises
    ------
    StudyError
        There is no study in `folder`, or nothing to draw yet.
    NotFoundError
        A figure, size or format does not exist.
    """
    from pythia_profile.figures import FORMATS, draw_all

    study = open_study(folder)
    for kind in formats:
        if kind not in FORMATS:
            raise not_found("format", kind, list(FORMATS))
    for size in sizes:
        if size not in study.sizes:
            raise not_found("size of this study", size, list(study.sizes))
    names = draw_all(
        read_tables(folder, study),
        out,
        study.outcomes,
        marks=run_marks(folder, study),
        which=which,
        sizes=sizes,
        formats=formats,
    )
    return [out / f"{name}.{kind}" for name in names for kind in formats]
