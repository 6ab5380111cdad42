"""Running the stages of a study: one of them, or all that are not current.

In: a study's folder. Out: the stages' files, and in the lock file what each was made from.
"""

import logging
import shlex
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from pythia_profile.errors import NotFoundError, StudyError, as_path
from pythia_profile.pipeline.fingerprints import MISSING, Fingerprints
from pythia_profile.pipeline.fits import check_fit
from pythia_profile.pipeline.makers import NOTE, StageOptions
from pythia_profile.pipeline.stages import (
    IMPORTED,
    STAGES,
    Stage,
    facts_now,
    inputs_of,
    is_current,
    is_own,
    key_of,
    left_out,
    stage_states,
    versions,
)
from pythia_profile.redaction import redact
from pythia_profile.store import can_write, remove_leftovers
from pythia_profile.study import Study, open_study, read_lock, update_lock
from pythia_profile.suites.folder import suite_facts
from pythia_profile.suites.registry import suite_facts_of

__all__ = ["check_settings", "run_all", "run_stage"]

log = logging.getLogger(__name__)

_OWN = {
    "sample": "rows.parquet was not drawn here and is kept; delete it to draw anew",
    "score": "the tables in scores/ were not scored here and are kept; delete them to score",
    "att": "att.parquet was not estimated here and is kept; delete it to estimate",
}
_LOCKED = "the study's folder cannot be written to"
_BEGINNINGS = ("sample", "score")
"""Stages that need no table of an imported one: they run when they are named."""


def run_stage(folder: Path, name: str, options: StageOptions | None = None) -> str:
    """Run one stage, whether or not it is current; return its message.

    Warns where what it draws on is older than the settings. One part of a stage is not the stage:
    after a run with a shard it is not marked as run. In a folder that cannot be written to, a stage
    that is current is left as it is, and the report goes to the folder where the program runs.

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


_UNWANTED = {
    "counterfactual": "study.toml asks for no retraining; set audit.size to one of its sizes and "
    "audit.cohorts to a number",
    "remembered": "rows are shown as text of the mini suite only; set show_rows = 'yes' to show "
    "those of this suite",
}


def _run(folder: Path, study: Study, stage: Stage, options: StageOptions) -> str:
    if not stage.wanted(study):
        raise StudyError(f"this study has no stage '{stage.name}': {_UNWANTED[stage.name]}")
    if options.out is not None and options.out.suffix != ".html":
        raise StudyError(f"out: got '{options.out}', expected a page's name, which ends in .html")
    remove_leftovers(folder)
    check_settings(folder, study)
    if can_write(folder):
        _note_imports(folder, study)
    if stage.name not in _BEGINNINGS and (reason := left_out(folder, study, stage)):
        return f"{stage.name}: left out: {reason}"
    if stage.name == "att" and is_own(folder, stage):
        raise StudyError(f"'{folder}': {_OWN['att']}")
    if not can_write(folder) and options.out is None:
        if stage.name == "report":
            elsewhere = Path.cwd() / f"{folder.resolve().name}-report.html"
            return f"{stage.make(folder, study, replace(options, out=elsewhere))} ({_LOCKED})"
        if is_current(folder, study, stage):
            return f"{stage.name}: up to date ({_LOCKED})"
    started = time.monotonic()
    message = stage.make(folder, study, options)
    if options.shard is not None or options.out is not None:
        return message
    facts = facts_now(Fingerprints(folder), study, stage)
    record = {
        "key": key_of(facts),
        **facts,
        "seconds": round(time.monotonic() - started, 1),
    }
    update_lock(folder, "stages", {stage.name: record})
    update_lock(folder, "versions", versions())
    return message


def run_all(
    folder: Path | str,
    workers: int | None = None,
    on_message: Callable[[str], None] = lambda _: None,
) -> None:
    """Run every stage that is not current, in order.

    Parameters
    ----------
    on_message : called with the first line of each stage's message, and the notes below it on which
        a reader must act; all notes are in the lock file.
    """
    folder = as_path(folder)
    study = open_study(folder)
    check_settings(folder, study)
    if can_write(folder):
        _note_imports(folder, study)
        line = redact(shlex.join(["pythia-profile", *sys.argv[1:]]))
        update_lock(folder, "command", {"line": line})
    for stage in STAGES:
        if not stage.wanted(study):
            continue
        if reason := left_out(folder, study, stage):
            on_message(f"{stage.name}: left out: {reason}")
        elif is_current(folder, study, stage):
            on_message(f"{stage.name}: up to date")
        elif is_own(folder, stage):
            on_message(f"{stage.name}: {_OWN[stage.name]}")
        else:
            message = _run(folder, study, stage, StageOptions(workers=workers))
            first, *more = message.splitlines()
            on_message("\n".join([first, *(line for line in more if line.startswith(NOTE))]))


def _older(folder: Path, study: Study, stage: Stage) -> list[str]:
    """Name the stages that `stage` draws on and that were run, but not with what is there now."""
    states, inputs = stage_states(folder), {*inputs_of(folder, study, stage)}
    makers = [s for s in STAGES if s.wanted(study) and set(s.outputs) & inputs]
    return [maker.name for maker in makers if states[maker.name] == "out of date"]


def check_settings(folder: Path, study: Study) -> None:
    """Refuse settings that do not fit the suite, or one that is not known here."""
    facts = None
    with suppress(NotFoundError):
        facts = suite_facts_of(study.suite, study.training_seed or None, near=folder)
    check_fit(folder, study, facts)


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


def _stage(name: str) -> Stage:
    return next(stage for stage in STAGES if stage.name == name)
