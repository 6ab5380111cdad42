"""The stages of a study: each reads tables from the folder, calls one function, writes tables.

    sample ─► covariates ─► score ─► att ─► precision ─► profile ─► estimands ─► check ─► findings
    ─► counterfactual ─► plot ─► report

A stage is current when its settings, its inputs and its outputs are the ones that the lock file
remembers.
"""

import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from glob import escape
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pythia_profile.errors import StudyError
from pythia_profile.pipeline.fingerprints import Fingerprints
from pythia_profile.pipeline.inputs import (
    BESIDE,
    any_scores,
    imported_effects,
    imported_scores,
    read_tables,
)
from pythia_profile.pipeline.makers import (
    StageOptions,
    make_att,
    make_check,
    make_counterfactual,
    make_covariates,
    make_estimands,
    make_findings,
    make_plot,
    make_precision,
    make_profile,
    make_remembered,
    make_sample,
    make_score,
)
from pythia_profile.pipeline.reasons import differences
from pythia_profile.settings import Settings
from pythia_profile.store import digest
from pythia_profile.study import (
    FILE_NAME,
    Study,
    open_study,
    read_lock,
)
from pythia_profile.tables import (
    CHECKS,
    FOUND,
)

__all__ = [
    "IMPORTED",
    "PUBLISHED",
    "STAGES",
    "Stage",
    "StageState",
    "explain_stages",
    "facts_now",
    "inputs_of",
    "is_current",
    "is_own",
    "key_of",
    "left_out",
    "of_earlier_versions",
    "stage_states",
    "versions",
]

IMPORTED = "imported"
_NEED_SCORES = (
    *("sample", "covariates", "score", "precision", "profile", "estimands", "check"),
    *("findings", "counterfactual", "remembered"),
)
_EARLIER = ("gaps.parquet", "influence.parquet", "witnesses.parquet", "twins")
_TO_DO = ("out of date", "not run", "partly run")
_LIBRARIES = ("torch", "transformers", "numpy", "polars", "scipy", "tokenizers", "safetensors")


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of a study.

    Attributes
    ----------
    name : its verb.
    make : reads, computes and writes; returns a message: one line, then notes.
    settings : fields of `Study` on which its output depends.
    inputs, outputs : files and folders, relative to the study.
    named : further inputs, by settings: files of the study, or beside it, or anywhere.
    wanted : whether a study has this stage at all.
    """

    name: str
    make: Callable[[Path, Study, StageOptions], str]
    settings: tuple[str, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    named: Callable[[Study], tuple[str, ...]] = lambda _: ()
    wanted: Callable[[Study], bool] = lambda _: True


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
    if reason := left_out(folder, study, stage):
        return StageState("left out", reason)
    inputs = inputs_of(folder, study, stage)
    awaited = dict.fromkeys(stale[name] for name in inputs if name in stale)
    current = is_current(folder, study, stage, files)
    if current and not awaited:
        return StageState("up to date")
    if is_own(folder, stage, files):
        return StageState("not drawn here, kept" if stage.name == "sample" else IMPORTED)
    record = read_lock(folder).get("stages", {}).get(stage.name)
    if record is None:
        begun = stage.name == "score" and any((folder / "scores").rglob("done.json"))
        return StageState("partly run", "units are left") if begun else StageState("not run")
    found = [] if current else differences(record, facts_now(files, study, stage, record))
    if not found:
        found = [f"{name} is to be run" for name in awaited]
    return StageState("out of date", ", ".join(found) or "settings or inputs changed")


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


def left_out(folder: Path, study: Study, stage: Stage) -> str:
    """Why a stage has nothing to work from where tables were imported; empty where it has."""
    if stage.name in _NEED_SCORES and imported_effects(folder) and not any_scores(folder):
        return "the effects are imported, and there are no scores"
    if stage.name == "covariates" and imported_scores(folder) and not study.reference:
        return "the scores are imported; the suite is not opened to count its tokens"
    if stage.name == "remembered" and imported_scores(folder):
        return "the scores are imported; there are no checkpoints to read rows with"
    return ""


def refuse_own(path: Path, folder: Path | None = None) -> None:
    """Refuse to write over what stages read or write.

    Parameters
    ----------
    folder : of the study; every study that `path` lies in by default.

    Raises
    ------
    StudyError
        `path` is a file of a study.
    """
    own = {PUBLISHED, FILE_NAME, "scores", *(name for stage in STAGES for name in stage.outputs)}
    place = path.resolve()
    homes = [folder.resolve()] if folder else place.parents
    for home in homes:
        if folder is None and not (home / FILE_NAME).is_file():
            continue
        inside = place.relative_to(home).parts if place.is_relative_to(home) else ()
        if inside and inside[0] in own:
            raise StudyError(f"'{path}' is a file of the study; write under another name")


def of_earlier_versions(folder: Path) -> list[str]:
    """Name files and folders that studies of format 1 had and that nothing reads any more."""
    return [name for name in _EARLIER if (folder / name).exists()]


def is_current(folder: Path, study: Study, stage: Stage, files: Fingerprints | None = None) -> bool:
    """Whether the stage's outputs are those of its present settings and inputs."""
    record = read_lock(folder).get("stages", {}).get(stage.name)
    if not isinstance(record, dict) or any(
        not (folder / output).exists() for output in stage.outputs
    ):
        return False
    facts = facts_now(files or Fingerprints(folder), study, stage, record)
    return bool(record.get("key") == key_of(facts) and record.get("outputs") == facts["outputs"])


def _report(folder: Path, study: Study, options: StageOptions) -> str:
    from pythia_profile.report.page import write_report

    states = stage_states(folder)
    stale = [name for name, state in states.items() if state == "out of date" and name != "report"]
    tables = read_tables(folder, study)
    path = write_report(folder, study, tables, stale=stale, out=options.out)
    return f"report: {path}"


def inputs_of(folder: Path, study: Study, stage: Stage) -> tuple[str, ...]:
    """Files that a stage reads: those of every study, and those that this one's settings name.

    Of a store that is named by its prefix, all its files. What is nowhere here (on the hub, or a
    suite of the package) is not among them: its own hashes are pinned in the lock file.
    """
    found = list(stage.inputs)
    for name in filter(None, stage.named(study)):
        path = folder / name
        with suppress(OSError, ValueError):  # no name that a file can have
            if path.exists() or name == COVARIATES_FILE:
                found.append(name)
                continue
            shards = path.parent.glob(f"{escape(path.name)}[.-]*")
            found += sorted(str(Path(name).with_name(p.name)) for p in shards if p.is_file())
    return tuple(found)


def facts_now(
    files: Fingerprints, study: Study, stage: Stage, record: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Everything that the stage's output depends on, and the hashes of the output.

    A file outside the study that a stage has read (`record`) and that is gone is taken to be what
    it was: a study that moved without its sources stays current.
    """
    inputs = files.of(inputs_of(files.folder, study, stage))
    return {
        "settings": {name: _plain(getattr(study, name)) for name in stage.settings},
        "inputs": {**(record or {}).get("inputs", {}), **inputs},
        "version": versions()["pythia-profile"],
        "outputs": files.of(stage.outputs),
    }


def key_of(facts: Mapping[str, Any]) -> str:
    """Hash of what the output depends on."""
    return digest({name: facts[name] for name in ("settings", "inputs", "version")})


def _plain(value: Any) -> Any:
    return value.model_dump(mode="json") if isinstance(value, Settings) else value


def versions() -> dict[str, str]:
    """Versions of this package, of Python and of the libraries that numbers depend on."""
    from pythia_profile import __version__

    found = {"pythia-profile": __version__, "python": sys.version.split()[0]}
    for name in _LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


_WHAT = ("suite", "sizes", "training_seed", "checkpoints")
_INFERENCE = ("outcomes", "estimate", "score", "sizes", "checkpoints")
_INPUTS = ("rows.parquet", "scores")
COVARIATES_FILE = "covariates.parquet"
PUBLISHED = "published.parquet"
"""Given effects beside a panel: the study's own are estimated from it."""
_TABLES = ("att.parquet", "placebo.parquet", "profiles.parquet", "agreement.parquet")
_CHECK_TABLES = tuple(f"{table.name}.parquet" for table in CHECKS)
_FOUND_TABLES = tuple(f"{table.name}.parquet" for table in FOUND)
_BESIDE = tuple(f"{table.name}.parquet" for table in BESIDE)
_AUDIT_TABLES = ("counterfactual.parquet", "counterfactual_summary.parquet")


def _suite_file(study: Study) -> tuple[str, ...]:
    return (f"{study.suite}/suite.toml",)  # of a suite that is a folder


def _texts(study: Study) -> tuple[str, ...]:
    chosen = study.sample
    return (*_suite_file(study), chosen.held_out, chosen.held_out_tokenizer, chosen.documents)


def _used_covariates(study: Study) -> tuple[str, ...]:
    """Return the table of covariates where effects are estimated at equal ones."""
    own = {*study.estimate.covariates} - {"sizes"}  # other sizes' outcomes are in the scores
    return (COVARIATES_FILE,) if own else ()


STAGES = (
    Stage("sample", make_sample, (*_WHAT, "sample"), (), ("rows.parquet",), named=_texts),
    Stage(
        "covariates",
        make_covariates,
        (*_WHAT, "reference"),
        ("rows.parquet",),
        (COVARIATES_FILE,),
        named=lambda study: (*_suite_file(study), study.reference),
    ),
    Stage(
        "score",
        make_score,
        (*_WHAT, "score"),
        ("rows.parquet",),
        ("scores",),
        named=_suite_file,
    ),
    Stage("att", make_att, _INFERENCE, _INPUTS, _TABLES[:2], named=_used_covariates),
    Stage(
        "precision",
        make_precision,
        _INFERENCE,
        (*_INPUTS, COVARIATES_FILE),
        ("precision.parquet",),
    ),
    Stage(
        "profile",
        make_profile,
        _INFERENCE,
        _INPUTS,
        _TABLES[2:],
        named=lambda study: (*_used_covariates(study), *_suite_file(study)),  # its learning rates
    ),
    Stage(
        "estimands",
        make_estimands,
        _INFERENCE,
        _INPUTS,
        ("estimands.parquet",),
        named=_used_covariates,
    ),
    Stage("check", make_check, _INFERENCE, (*_INPUTS, COVARIATES_FILE), _CHECK_TABLES),
    Stage(
        "findings",
        make_findings,
        _INFERENCE,
        _INPUTS,
        _FOUND_TABLES,
        named=lambda study: (*_used_covariates(study), *_suite_file(study)),
    ),
    Stage(
        "counterfactual",
        make_counterfactual,
        ("audit", *_INFERENCE),
        _INPUTS,
        _AUDIT_TABLES,
        named=_used_covariates,
        wanted=lambda study: bool(study.audit.size),
    ),
    Stage(
        "remembered",
        make_remembered,
        ("show_rows", "training_seed", *_INFERENCE),
        _INPUTS,
        ("remembered.parquet",),
        named=_used_covariates,
        wanted=lambda study: study.shows_rows,
    ),
    Stage(
        "plot", make_plot, ("outcomes",), (*_TABLES, *_FOUND_TABLES, *_AUDIT_TABLES), ("figures",)
    ),
    Stage(
        "report",
        _report,
        tuple(Study.model_fields),  # the page states them
        (*_TABLES, *_CHECK_TABLES, *_AUDIT_TABLES, *_BESIDE, "figures"),
        ("report.html",),
    ),
)
"""All stages, in the order in which a study runs them."""
