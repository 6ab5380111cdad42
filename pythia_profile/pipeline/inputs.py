"""What the stages of a study read: its suite, its rows and scores, its tables.

In: a study's folder and settings. Out: tables, each checked against its contract. Logs what is not
scored yet.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import polars as pl

from pythia_profile.errors import MissingTableError, StudyError
from pythia_profile.pipeline.row_covariates import with_covariates
from pythia_profile.pipeline.score import rows_hash
from pythia_profile.scoring.columns import columns_of
from pythia_profile.scoring.records import read_scores
from pythia_profile.store import read_table
from pythia_profile.study import Study, read_lock, update_lock
from pythia_profile.suites.folder import suite_facts, suite_from_facts
from pythia_profile.suites.model import Suite
from pythia_profile.suites.registry import open_suite
from pythia_profile.tables import (
    ACROSS,
    AGREEMENT,
    ATT,
    CHECKS,
    COUNTERFACTUAL,
    COUNTERFACTUAL_SUMMARY,
    CROSSOVER_MEANS,
    ESTIMANDS,
    FOUND,
    INSERTIONS,
    MEMORY_DATES,
    NOISE,
    PLACEBO,
    PRECISION,
    PROFILES,
    REMEMBERED,
    ROWS,
    SCORES,
    Table,
    conform,
)

__all__ = [
    "BESIDE",
    "any_scores",
    "check_outcomes",
    "imported_effects",
    "imported_scores",
    "known_suite",
    "read_inputs",
    "read_tables",
    "ready_suite",
    "run_marks",
    "study_scores",
    "suite_if_known",
    "warn_of_unscored",
]

log = logging.getLogger(__name__)

MOSTLY, SLICES = 0.5, 50
"""Share of a row's tokens that had been read before, from which on it is marked; the slices of a
run over whose rows it is averaged."""
_EFFECT_ROWS = {name: ROWS.columns[name] for name in ("row_id", "treatment_step")}

BESIDE = (
    *FOUND,
    PRECISION,
    ESTIMANDS,
    CROSSOVER_MEANS,
    INSERTIONS,
    ACROSS,
    MEMORY_DATES,
    REMEMBERED,
    NOISE,
)
"""Tables that a study may hold and need not; the report shows those that exist."""


def ready_suite(folder: Path, study: Study) -> Suite:
    """Return the study's suite, ready to read; remember its facts for the later stages."""
    suite = open_suite(study.suite, study.sizes, study.training_seed, near=folder)
    update_lock(folder, "suite", suite_facts(suite))
    return suite


def known_suite(folder: Path) -> Suite:
    """Return the facts of the study's suite from the lock file, without the suite itself."""
    facts = read_lock(folder).get("suite")
    if facts is None:
        raise MissingTableError(
            f"'{folder}' has not been scored; run `pythia-profile score {folder}` first"
        )
    return suite_from_facts(facts)


def suite_if_known(folder: Path) -> Suite | None:
    """Facts of the suite; None where scores were imported of one that is not known here."""
    if "suite" not in read_lock(folder) and imported_scores(folder):
        return None
    return known_suite(folder)


def check_outcomes(folder: Path, study: Study) -> None:
    """Refuse outcomes that no scorer of the study gives, before any work; not of imported tables.

    Raises
    ------
    StudyError
        The first such outcome, and the columns that there will be.
    """
    if imported_scores(folder) or imported_effects(folder):
        return
    known = columns_of(study.score.scorers)
    for name in study.outcomes:
        if name not in known:
            raise StudyError(
                f"outcomes: got '{name}', the scores will have {', '.join(known)}; or name a "
                f"scorer, as in `pythia-profile set {folder} outcomes=log_likelihood,first_64`"
            )


def run_marks(folder: Path, study: Study) -> dict[str, int]:
    """Name the steps at which something happened to a study's runs, for axes of time.

    These are the turns of the learning rate, where they are the same for all sizes, and the step
    from which on most of a row had been read before. That is no step at which a second epoch
    begins: Pythia shuffled the documents of both together. What is not known is left out.
    """
    suite = suite_if_known(folder) if "suite" in read_lock(folder) else None
    courses = [suite.milestones(size) for size in study.sizes] if suite else []
    found = {k: v for k, v in (courses or [{}])[0].items() if all(v == c.get(k) for c in courses)}
    path = folder / "rows.parquet"
    names = pl.scan_parquet(path).collect_schema().names() if path.exists() else []
    if {"treatment_step", "earlier_exposure"} <= {*names}:
        rows = pl.read_parquet(path, columns=["treatment_step", "earlier_exposure"]).drop_nulls()
        width = max(int(rows["treatment_step"].max() or 1) // SLICES, 1)  # type: ignore[arg-type]
        part = rows.group_by(pl.col("treatment_step") // width).agg(
            pl.col("earlier_exposure").mean()
        )
        repeated = part.filter(pl.col("earlier_exposure") >= MOSTLY)["treatment_step"]
        if len(repeated):
            found["most of a row read before"] = int(repeated.min()) * width  # type: ignore[arg-type]
    return dict(sorted(found.items(), key=lambda mark: mark[1]))


def read_inputs(
    folder: Path, study: Study, sizes: Sequence[str] = ()
) -> tuple[pl.DataFrame, pl.DataFrame]:
    """Read rows, with their covariates, and scores; neither needs the checkpoints any more.

    Parameters
    ----------
    sizes : whose scores; all of the study unless given, which at Pythia's own grid are gigabytes.
    """
    sizes = sizes or study.sizes
    of_others = imported_scores(folder)  # effects need neither tokens nor exposure of their rows
    asked = replace(ROWS, columns=pl.Schema(_EFFECT_ROWS)) if of_others else ROWS
    rows, suite = read_table(folder / "rows.parquet", asked, "sample"), suite_if_known(folder)
    rows = with_covariates(folder, rows)
    scores = study_scores(folder, study, suite, sizes)
    by_size = scores.group_by("size").agg(pl.col("checkpoint").unique())
    scored = {size: {*steps} for size, steps in by_size.iter_rows()}
    warn_of_unscored(folder, study, {size: scored.get(size, set()) for size in sizes})
    return rows, scores


def any_scores(folder: Path) -> bool:
    """Whether the folder holds scores, of any origin."""
    return any(not path.name.startswith(".") for path in (folder / "scores").rglob("*.parquet"))


def imported_effects(folder: Path) -> bool:
    """Whether `att.parquet` is of other origin: there, and with no scores to estimate it from.

    Scores that are added later do not change what was noted in the lock file.
    """
    if not (folder / "att.parquet").exists():
        return False
    record = read_lock(folder).get("stages", {}).get("att")
    if record is None:
        return not any_scores(folder)
    return bool(record.get("source") == "imported")


def imported_scores(folder: Path) -> list[Path]:
    """Tables in `scores/` that were not scored here; none where anything was."""
    scores = folder / "scores"
    if any(scores.rglob("done.json")):
        return []
    return sorted(path for path in scores.rglob("*.parquet") if not path.name.startswith("."))


def _read_imported(paths: list[Path], study: Study, sizes: Sequence[str]) -> pl.DataFrame:
    """Read tables of other origin: what names a line, and the outcomes of the study."""
    types = {
        name: SCORES.columns.get(name, pl.Float64()) for name in (*SCORES.key, *study.outcomes)
    }
    asked = Table(SCORES.name, pl.Schema(types), SCORES.key, frozenset(study.outcomes))
    wanted = (pl.col("seed") == study.training_seed) & pl.col("size").is_in(sizes)
    tables = [read_table(path, asked, "score", where=wanted).select(*types) for path in paths]
    filled = [table for table in tables if len(table)]
    scores = conform(pl.concat(filled), asked) if len(filled) > 1 else (filled or tables)[0]
    by_size = {size: scores.filter(pl.col("size") == size) for size in sizes}
    if lacking := [size for size, lines in by_size.items() if not len(lines)]:
        keys = pl.concat(pl.scan_parquet(path).select("size", "seed").unique() for path in paths)
        known = keys.collect().filter(pl.col("seed") == study.training_seed)["size"].unique()
        raise MissingTableError(
            f"the tables in '{paths[0].parent}' have no scores of size '{lacking[0]}' and seed "
            f"{study.training_seed}; they have {', '.join(known.sort()) or 'none of that seed'}"
        )
    return pl.concat(by_size.values())


def study_scores(
    folder: Path, study: Study, suite: Suite | None, sizes: Sequence[str] = ()
) -> pl.DataFrame:
    """Read the `SCORES` of a study at its checkpoints, without those it leaves out as faulty.

    Parameters
    ----------
    sizes : all of the study unless given.
    """
    sizes = sizes or study.sizes
    if imported := imported_scores(folder):
        scores = _read_imported(imported, study, sizes)
    else:
        suite = suite or known_suite(folder)
        scores = read_scores(
            folder / "scores",
            rows_hash(folder),
            suite=suite.name,
            sizes=sizes,
            seed=suite.seed,
            settings=study.score,
        )
    if study.checkpoints:
        scores = scores.filter(pl.col("checkpoint").is_in(study.checkpoints))
    audit = read_lock(folder).get("audit", {})
    faulty = audit.get("faulty", []) if study.score.faulty == "skip" else []
    for line in faulty:
        scores = scores.filter(
            (pl.col("size") != line["size"]) | (pl.col("checkpoint") != line["step"])
        )
    return scores


def warn_of_unscored(folder: Path, study: Study, scored: Mapping[str, set[int]]) -> None:
    """Warn of the checkpoints that a study asks for and has not scored.

    Parameters
    ----------
    scored : checkpoints of each size to warn of.
    """
    suite = suite_if_known(folder)
    if suite is None and not study.checkpoints:
        return
    audit = read_lock(folder).get("audit", {})
    left_out = audit.get("faulty", []) if study.score.faulty == "skip" else []
    gone = {(line["size"], line["step"]) for line in left_out}
    for size, known in scored.items():
        wanted = study.checkpoints or (suite.usual_checkpoints(size) if suite else ())
        lacking = [step for step in wanted if step not in known and (size, step) not in gone]
        if lacking:
            some = ", ".join(map(str, lacking[:8])) + (" ..." if len(lacking) > 8 else "")
            log.warning(
                "%s: %d of %d checkpoints are missing or not scored yet (%s); their cohorts are "
                "pooled with the next ones",
                *(size, len(lacking), len(wanted), some),
            )


def read_tables(folder: Path, study: Study) -> dict[str, pl.DataFrame]:
    """Read every table of a study that figures and report draw on, by name.

    Of imported effects, tables that only scores could give are empty.
    """
    wanted = [(ATT, "att"), (PLACEBO, "att"), (PROFILES, "profile"), (AGREEMENT, "profile")]
    if study.audit.size:
        audit = "counterfactual"
        wanted += [(COUNTERFACTUAL, audit), (COUNTERFACTUAL_SUMMARY, audit)]
    wanted += [
        (table, "check")
        for table in (*CHECKS, *BESIDE)
        if (folder / f"{table.name}.parquet").exists()
    ]
    imported, tables = imported_effects(folder), dict[str, pl.DataFrame]()
    for table, stage in wanted:
        path = folder / f"{table.name}.parquet"
        if path.exists() or not imported:
            tables[table.name] = read_table(path, table, stage)
        elif not table.name.startswith("counterfactual"):
            tables[table.name] = pl.DataFrame(schema=table.columns)
    if imported:
        tables["att"] = _of_study(tables["att"], folder, study)
    if "learning_rate" not in tables["profiles"].columns:  # those of an unknown suite
        rate = pl.lit(None, pl.Float64).alias("learning_rate")
        tables["profiles"] = tables["profiles"].with_columns(rate)
    return tables


def _of_study(effects: pl.DataFrame, folder: Path, study: Study) -> pl.DataFrame:
    """Keep what the study asks for of imported effects, in its order of sizes."""
    effects = effects.filter(pl.col("seed") == study.training_seed)
    known = {*effects.select("size", "outcome").unique().iter_rows()}
    for size in study.sizes:
        for outcome in study.outcomes:
            if (size, outcome) not in known:
                raise MissingTableError(
                    f"'{folder / 'att.parquet'}' has no effects of size '{size}', seed "
                    f"{study.training_seed} and outcome '{outcome}'; it has "
                    f"{', '.join(sorted(' '.join(pair) for pair in known)) or 'none of that seed'}"
                )
    return pl.concat([effects.filter(pl.col("size") == size) for size in study.sizes])
