"""The stages of a study: each reads tables from the folder, calls one function, writes tables.

    sample ─► covariates ─► score ─► att ─► precision ─► profile ─► check ─► counterfactual
    ─► plot ─► report

A stage is current when its settings, its inputs and its outputs are the ones that the lock file
remembers; `run_all` makes what is not current and leaves the rest alone.
"""

import logging
import shlex
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import polars as pl

from pythia_profile.errors import NotFoundError, StudyError
from pythia_profile.pipeline.fingerprints import MISSING, Fingerprints
from pythia_profile.pipeline.inputs import (
    any_scores,
    imported_effects,
    imported_scores,
    read_tables,
    ready_suite,
    suite_if_known,
)
from pythia_profile.pipeline.kept import study_estimates
from pythia_profile.pipeline.reasons import differences
from pythia_profile.profiles.estimands import EstimandPlan, estimands
from pythia_profile.redaction import redact
from pythia_profile.settings import Settings
from pythia_profile.store import digest, read_table, remove_leftovers, write_table
from pythia_profile.study import (
    Study,
    open_study,
    read_lock,
    update_lock,
)
from pythia_profile.suites.folder import suite_facts
from pythia_profile.suites.registry import suite_facts_of
from pythia_profile.tables import (
    AGREEMENT,
    ATT,
    CHECKS,
    COUNTERFACTUAL,
    COUNTERFACTUAL_SUMMARY,
    COVARIATES,
    ESTIMANDS,
    PLACEBO,
    PRECISION,
    PROFILES,
    ROWS,
)

__all__ = [
    "STAGES",
    "Stage",
    "StageOptions",
    "StageState",
    "estimands_of",
    "explain_stages",
    "is_current",
    "noise_of",
    "run_all",
    "run_stage",
    "stage_states",
]

log = logging.getLogger(__name__)

IMPORTED = "imported"
_OWN = {
    "sample": "rows.parquet was not drawn here and is kept; delete it to draw anew",
    "score": "the tables in scores/ were not scored here and are kept; delete them to score",
    "att": "att.parquet was not estimated here and is kept; delete it to estimate",
}
_BEGINNINGS = ("sample", "score")
"""Stages that need no table of an imported one: they run when they are named."""
_NEED_SCORES = (
    *("sample", "covariates", "score", "precision", "profile", "check", "counterfactual"),
)
_TO_DO = ("out of date", "not run", "partly run")
_LIBRARIES = ("torch", "transformers", "numpy", "polars", "scipy", "tokenizers", "safetensors")


@dataclass(frozen=True, slots=True, kw_only=True)
class StageOptions:
    """Options of one run of a stage; no number depends on them.

    Attributes
    ----------
    workers : processes at a time; the available cores by default.
    retry : whether quarantined units are scored again.
    shard : (i, n): score only the i-th of n parts of the units.
    """

    workers: int | None = None
    retry: bool = False
    shard: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of a study.

    Attributes
    ----------
    name : its verb.
    make : reads, computes and writes; returns a message: one line, then notes.
    settings : fields of `Study` on which its output depends.
    inputs, outputs : files and folders, relative to the study.
    wanted : whether a study has this stage at all.
    """

    name: str
    make: Callable[[Path, Study, StageOptions], str]
    settings: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    wanted: Callable[[Study], bool] = lambda _: True


def run_stage(folder: Path, name: str, options: StageOptions | None = None) -> str:
    """Run one stage, whether or not it is current; return its message.

    Warns where what it draws on is older than the settings. One part of a stage is not the stage:
    after a run with a shard it is not marked as run.

    Raises
    ------
    StudyError
        There is no study in `folder`, or the stage before has not been run.
    """
    study, stage = open_study(folder), _stage(name)
    if older := _older(folder, study, stage):
        log.warning(
            "%s is made from %s, older than the settings; `pythia-profile run %s` brings all up "
            "to date",
            name,
            ", ".join(older),
            shlex.quote(str(folder)),
        )
    return _run(folder, study, stage, options or StageOptions())


def _run(folder: Path, study: Study, stage: Stage, options: StageOptions) -> str:
    if not stage.wanted(study):
        raise StudyError(
            f"this study has no stage '{stage.name}': study.toml asks for no retraining; set "
            "audit.size to one of its sizes and audit.cohorts to a number"
        )
    remove_leftovers(folder)
    _note_imports(folder, study)
    if stage.name not in _BEGINNINGS and (reason := _left_out(folder, study, stage)):
        return f"{stage.name}: left out: {reason}"
    if stage.name == "att" and is_own(folder, stage):
        raise StudyError(f"'{folder}': {_OWN['att']}")
    started = time.monotonic()
    message = stage.make(folder, study, options)
    if options.shard is not None:
        return message
    facts = _facts(Fingerprints(folder), study, stage)
    record = {
        "key": _key(facts),
        **facts,
        "seconds": round(time.monotonic() - started, 1),
    }
    update_lock(folder, "stages", {stage.name: record})
    update_lock(folder, "versions", _versions())
    return message


def run_all(
    folder: Path | str,
    workers: int | None = None,
    on_message: Callable[[str], None] = lambda _: None,
) -> None:
    """Run every stage that is not current, in order.

    Parameters
    ----------
    on_message : called with the first line of each stage's message; its notes are in the lock file.
    """
    folder = Path(folder)
    study = open_study(folder)
    _note_imports(folder, study)
    update_lock(folder, "command", {"line": redact(shlex.join(["pythia-profile", *sys.argv[1:]]))})
    for stage in STAGES:
        if not stage.wanted(study):
            continue
        if reason := _left_out(folder, study, stage):
            on_message(f"{stage.name}: left out: {reason}")
        elif is_current(folder, study, stage):
            on_message(f"{stage.name}: up to date")
        elif is_own(folder, stage):
            on_message(f"{stage.name}: {_OWN[stage.name]}")
        else:
            on_message(_run(folder, study, stage, StageOptions(workers=workers)).partition("\n")[0])


@dataclass(frozen=True, slots=True)
class StageState:
    """How a stage stands.

    Attributes
    ----------
    state : up to date, out of date, not run, partly run, imported or left out.
    why : what differs, or why it is left out; empty where there is nothing to explain.
    """

    state: str
    why: str = ""

    @property
    def to_do(self) -> bool:
        """Whether `run` would run it."""
        return self.state in _TO_DO


def stage_states(folder: Path) -> dict[str, str]:
    """State of each stage of a study, without the reasons; see `explain_stages`."""
    return {name: found.state for name, found in explain_stages(folder).items()}


def explain_stages(folder: Path) -> dict[str, StageState]:
    """State of each stage of a study, and why: which setting, input or output changed.

    A stage is also out of date when one that it draws on is.
    """
    study, files = open_study(folder), Fingerprints(folder)
    states, stale = dict[str, StageState](), dict[str, str]()
    for stage in STAGES:
        if not stage.wanted(study):
            continue
        found = _state(folder, study, stage, files, stale)
        states[stage.name] = found
        if found.to_do:
            stale.update(dict.fromkeys(stage.outputs, stage.name))
    return states


def _state(
    folder: Path, study: Study, stage: Stage, files: Fingerprints, stale: Mapping[str, str]
) -> StageState:
    """State of one stage; `stale` names the outputs that are to be made again, and by whom."""
    if reason := _left_out(folder, study, stage):
        return StageState("left out", reason)
    awaited = dict.fromkeys(stale[name] for name in stage.inputs if name in stale)
    current = is_current(folder, study, stage, files)
    if current and not awaited:
        return StageState("up to date")
    if is_own(folder, stage, files):
        return StageState("not drawn here, kept" if stage.name == "sample" else IMPORTED)
    record = read_lock(folder).get("stages", {}).get(stage.name)
    if record is None:
        begun = stage.name == "score" and any((folder / "scores").rglob("done.json"))
        return StageState("partly run", "units are left") if begun else StageState("not run")
    found = [] if current else differences(record, _facts(files, study, stage))
    if not found:
        found = [f"{name} is to be run" for name in awaited]
    return StageState("out of date", ", ".join(found) or "settings or inputs changed")


def _older(folder: Path, study: Study, stage: Stage) -> list[str]:
    """Name the stages that `stage` draws on and that were run, but not with what is there now."""
    states = stage_states(folder)
    makers = [s for s in STAGES if s.wanted(study) and set(s.outputs) & set(stage.inputs)]
    return [maker.name for maker in makers if states[maker.name] == "out of date"]


def is_own(folder: Path, stage: Stage, files: Fingerprints | None = None) -> bool:
    """Whether rows, scores or effects are the user's: there, and not what the stage made."""
    if stage.name == "score":
        return bool(imported_scores(folder))
    if stage.name == "att":
        return imported_effects(folder)
    if stage.name != "sample" or not (folder / stage.outputs[0]).exists():
        return False
    record = read_lock(folder).get("stages", {}).get(stage.name, {})
    present = (files or Fingerprints(folder)).of(stage.outputs)
    return bool(record.get("source") == IMPORTED or record.get("outputs") != present)


def _left_out(folder: Path, study: Study, stage: Stage) -> str:
    """Why a stage has nothing to work from where tables were imported; empty where it has."""
    if stage.name in _NEED_SCORES and imported_effects(folder) and not any_scores(folder):
        return "the effects are imported, and there are no scores"
    if stage.name == "covariates" and imported_scores(folder) and not study.reference:
        return "the scores are imported; the suite is not opened to count its tokens"
    return ""


def _note_imports(folder: Path, study: Study) -> None:
    """Keep in the lock file which tables are of other origin, and what is known of the suite."""
    files = Fingerprints(folder)
    own = [stage for stage in STAGES if is_own(folder, stage, files)]
    known = read_lock(folder)
    records = {
        stage.name: {
            "source": IMPORTED,
            "outputs": {k: v for k, v in files.of(stage.outputs).items() if v != MISSING},
        }
        for stage in own
    }
    if any(known.get("stages", {}).get(name) != record for name, record in records.items()):
        update_lock(folder, "stages", records)
    if own and "suite" not in known:
        with suppress(NotFoundError):  # another's suite: its learning rates stay unknown
            facts = suite_facts_of(study.suite, study.training_seed or None, near=folder)
            update_lock(folder, "suite", suite_facts(facts))


def is_current(folder: Path, study: Study, stage: Stage, files: Fingerprints | None = None) -> bool:
    """Whether the stage's outputs are those of its present settings and inputs."""
    record = read_lock(folder).get("stages", {}).get(stage.name)
    if not isinstance(record, dict) or any(
        not (folder / output).exists() for output in stage.outputs
    ):
        return False
    facts = _facts(files or Fingerprints(folder), study, stage)
    return bool(record.get("key") == _key(facts) and record.get("outputs") == facts["outputs"])


def _sample(folder: Path, study: Study, _: StageOptions) -> str:
    from pythia_profile.suites.sampling import sample_rows

    suite = ready_suite(folder, study)
    rows = sample_rows(suite, study.sample, checkpoints=study.checkpoints or None, near=folder)
    write_table(rows, folder / "rows.parquet", ROWS)
    controls = rows["treatment_step"].null_count()
    return f"sample: {len(rows) - controls:,} treated and {controls:,} never-treated rows"


def _covariates(folder: Path, study: Study, options: StageOptions) -> str:
    from pythia_profile.pipeline.covariates import HELD_OUT, covariate_table

    imported = imported_scores(folder) and study.reference != HELD_OUT
    suite = None if imported else ready_suite(folder, study)
    rows = read_table(folder / "rows.parquet", ROWS, "sample")
    table, provenance = covariate_table(folder, study, suite, rows, options.workers)
    write_table(table, folder / "covariates.parquet", COVARIATES)
    update_lock(folder, "covariates", provenance)
    made = "; ".join(f"{name}, {source}" for name, source in provenance.items())
    return f"covariates: {table.width - 1} columns ({made})"


def _score(folder: Path, study: Study, options: StageOptions) -> str:
    from pythia_profile.pipeline.score import score_study
    from pythia_profile.scoring.settings import RunOptions

    suite = ready_suite(folder, study)
    chosen = RunOptions(workers=options.workers, retry=options.retry, shard=options.shard)
    return score_study(folder, study, suite, chosen)


def noise_of(
    folder: Path, *, size: str | None = None, checkpoint: int | None = None
) -> pl.DataFrame:
    """Measure the noise floor of a study; see `scoring.study.study_noise`."""
    from pythia_profile.pipeline.score import study_noise

    study = open_study(folder)
    return study_noise(folder, study, ready_suite(folder, study), size=size, checkpoint=checkpoint)


def _att(folder: Path, study: Study, _: StageOptions) -> str:
    found = study_estimates(folder, study)
    write_table(found.att, folder / "att.parquet", ATT)
    write_table(found.placebo, folder / "placebo.parquet", PLACEBO)
    update_lock(folder, "notes", {"att": list(found.notes)})
    marked = found.att.filter((pl.col("lower") > 0) | (pl.col("upper") < 0))
    notes = "".join(f"\n  note: {note}" for note in found.notes)
    return f"att: {len(found.att):,} cells, the band of {len(marked):,} excludes 0{notes}"


def _precision(folder: Path, study: Study, _: StageOptions) -> str:
    from pythia_profile.profiles.side_by_side import side_by_side, summary

    table = side_by_side(study_estimates(folder, study))
    write_table(table, folder / "precision.parquet", PRECISION)
    return f"precision: {summary(table)}"


def estimands_of(folder: Path, plan: EstimandPlan | None = None) -> pl.DataFrame:
    """Estimate what a study's tables do not hold of themselves; keep it in `estimands.parquet`.

    Raises
    ------
    StudyError
        There is no study in `folder`, or it has not been scored.
    """
    table = estimands(study_estimates(folder, open_study(folder)), plan=plan)
    return write_table(table, folder / "estimands.parquet", ESTIMANDS)


def _profile(folder: Path, study: Study, _: StageOptions) -> str:
    from pythia_profile.profiles.agreement import agreement
    from pythia_profile.profiles.profile import profile

    found = study_estimates(folder, study)
    profiles = profile(found, suite=suite_if_known(folder))
    agreed = agreement(found)
    write_table(profiles, folder / "profiles.parquet", PROFILES)
    write_table(agreed, folder / "agreement.parquet", AGREEMENT)
    return f"profile: {len(profiles):,} lines, {len(agreed):,} comparisons of sizes"


def _check(folder: Path, study: Study, _: StageOptions) -> str:
    from pythia_profile.profiles.diagnostics import check

    found = check(study_estimates(folder, study))
    for table in CHECKS:
        write_table(found.tables[table.name], folder / f"{table.name}.parquet", table)
    suspects = found.leave_one_out.filter("suspect")["checkpoint"].unique().sort().to_list()
    sentences = "".join(f"\n  {sentence}" for sentence in found.sentences)
    return (
        f"check: {len(CHECKS)} tables; checkpoints that stand out: {suspects or 'none'}{sentences}"
    )


def _counterfactual(folder: Path, study: Study, options: StageOptions) -> str:
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
        suite, study.audit, rows, folder=folder / "retrained", workers=options.workers
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


def _plot(folder: Path, study: Study, _: StageOptions) -> str:
    from pythia_profile.figures import draw_all

    names = draw_all(read_tables(folder, study), folder / "figures", study.outcomes)
    return f"plot: {', '.join(names)}"


def _report(folder: Path, study: Study, _: StageOptions) -> str:
    from pythia_profile.report.page import write_report

    states = stage_states(folder)
    stale = [name for name, state in states.items() if state == "out of date" and name != "report"]
    path = write_report(folder, study, read_tables(folder, study), stale=stale)
    return f"report: {path}"


def _facts(files: Fingerprints, study: Study, stage: Stage) -> dict[str, Any]:
    """Everything that the stage's output depends on, and the hashes of the output."""
    return {
        "settings": {name: _plain(getattr(study, name)) for name in stage.settings},
        "inputs": files.of(stage.inputs),
        "version": _versions()["pythia-profile"],
        "outputs": files.of(stage.outputs),
    }


def _key(facts: Mapping[str, Any]) -> str:
    return digest({name: facts[name] for name in ("settings", "inputs", "version")})


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json") if isinstance(value, Settings) else value


def _versions() -> dict[str, str]:
    from pythia_profile import __version__

    found = {"pythia-profile": __version__, "python": sys.version.split()[0]}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _stage(name: str) -> Stage:
    return next(stage for stage in STAGES if stage.name == name)


_WHAT = ("suite", "sizes", "training_seed", "checkpoints")
_INFERENCE = ("outcomes", "estimation", "score", "sizes", "checkpoints")
_INPUTS = ("rows.parquet", "scores", "covariates.parquet")
_TABLES = ("att.parquet", "placebo.parquet", "profiles.parquet", "agreement.parquet")
_CHECK_TABLES = tuple(f"{table.name}.parquet" for table in CHECKS)
_AUDIT_TABLES = ("counterfactual.parquet", "counterfactual_summary.parquet")

STAGES = (
    Stage("sample", _sample, (*_WHAT, "sample"), (), ("rows.parquet",)),
    Stage(
        "covariates",
        _covariates,
        (*_WHAT, "reference"),
        ("rows.parquet",),
        ("covariates.parquet",),
    ),
    Stage("score", _score, (*_WHAT, "score"), ("rows.parquet",), ("scores",)),
    Stage("att", _att, _INFERENCE, _INPUTS, _TABLES[:2]),
    Stage("precision", _precision, _INFERENCE, _INPUTS, ("precision.parquet",)),
    Stage("profile", _profile, _INFERENCE, _INPUTS, _TABLES[2:]),
    Stage("check", _check, _INFERENCE, _INPUTS, _CHECK_TABLES),
    Stage(
        "counterfactual",
        _counterfactual,
        ("audit", *_INFERENCE),
        _INPUTS,
        _AUDIT_TABLES,
        wanted=lambda study: bool(study.audit.size),
    ),
    Stage("plot", _plot, ("outcomes",), (*_TABLES, *_AUDIT_TABLES), ("figures",)),
    Stage(
        "report",
        _report,
        tuple(Study.model_fields),  # the page states them
        (*_TABLES, *_CHECK_TABLES, *_AUDIT_TABLES, "figures"),
        ("report.html",),
    ),
)
"""All stages, in the order in which a study runs them."""
