"""The units of a plan: every checkpoint that a study asks for, how it stands, and what it takes.

From the listing, the cache and what is scored already; nothing is fetched and nothing is scored.
"""

import socket
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.request import getproxies

from data_order.errors import RemoteError, RemoteNotFoundError
from data_order.hub.access import Hub, hub_endpoint, origin
from pythia_profile.checkpoints.grid import Grid
from pythia_profile.checkpoints.source import HubCheckpoint
from pythia_profile.checkpoints.verdicts import MISSING, OK, UNSAFE, Verdict
from pythia_profile.pipeline.pinned import pins_of, study_grid
from pythia_profile.scoring.records import is_done, unfinished
from pythia_profile.scoring.units import Unit, Work, unit_key
from pythia_profile.store import read_json
from pythia_profile.study import Study, read_lock
from pythia_profile.suites.model import Suite
from pythia_profile.suites.registry import open_suite

__all__ = ["TO_DO", "PlannedUnit", "planned_grid", "planned_unit", "stored_bytes"]

DONE, TO_DO, QUARANTINED, LEFT_OUT, REFUSED = (
    "done",
    "to do",
    "quarantined",
    "left out",
    "refused",
)
UNMADE, UNLISTED = "not made yet", "not listed"
_STORED_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
_REACH_SECONDS = 1.0
_UNLISTED_REQUESTS = 4
"""For a checkpoint that was not listed: two for its listing, one small file, one of weights."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedUnit:
    """One checkpoint of a study.

    Attributes
    ----------
    size, checkpoint : which.
    state : `done`, `to do`, `quarantined`, `left out`, `refused` or `missing`.
    why : in words.
    fetch, here : bytes to fetch; bytes that are on this disk already.
    requests : to the hub, to fetch it.
    """

    size: str
    checkpoint: int
    state: str
    why: str
    fetch: int = 0
    here: int = 0
    requests: int = 0


def stored_bytes(suite: Suite, size: str) -> int:
    """Bytes of the weights of one checkpoint, by the shape and precision that the suite states."""
    found = suite.size(size)
    return found.parameters * _STORED_BYTES.get(found.precision, 4)


def planned_grid(
    folder: Path, study: Study, suite: Suite, hub: Hub | None
) -> tuple[Grid, tuple[str, ...]]:
    """Find the checkpoints; with notes.

    Those of a suite that is made here are opened once they were made. Those of a published suite
    are taken from its facts where the hub does not answer.
    """
    if suite.root is not None or suite.repository(study.sizes[0]) is not None:
        try:
            remote = suite.repository(study.sizes[0]) is not None
            if remote and hub is None and not pins_of(folder).branches:
                _check_reachable()
            return study_grid(folder, study, suite, hub), ()
        except RemoteNotFoundError:
            raise
        except RemoteError as error:
            stated = _stated(study, suite, UNLISTED, "not listed, the hub did not answer")
            if suite.root is not None or not stated.verdicts:
                raise
            return stated, (
                f"the hub did not answer ({error}): checkpoints and bytes are those of the "
                "package's facts on this suite, and faulty ones are not known",
            )
    if "suite" in read_lock(folder):
        made = open_suite(study.suite, study.sizes, study.training_seed, near=folder)
        return study_grid(folder, study, made, hub), ()
    return _stated(study, suite, UNMADE, "its models are trained on this machine first"), ()


def _check_reachable() -> None:
    """Find out at once that there is no network: a plan has something to fall back on.

    Raises
    ------
    RemoteError
        The hub's host does not take a connection, and no proxy is set that would.
    """
    scheme, host, port = origin(hub_endpoint())
    if scheme in getproxies():
        return
    try:
        socket.create_connection((str(host), port or 443), timeout=_REACH_SECONDS).close()
    except OSError as error:
        raise RemoteError(f"cannot reach {host} (is there a network?)") from error


def _stated(study: Study, suite: Suite, verdict: str, why: str) -> Grid:
    """Return the checkpoints that a study asks for, unseen."""
    steps = {size: study.checkpoints or suite.usual_checkpoints(size) for size in study.sizes}
    return Grid(
        (), tuple(Verdict(size, step, verdict, (why,)) for size in steps for step in steps[size])
    )


def planned_unit(
    folder: Path,
    study: Study,
    suite: Suite,
    verdict: Verdict,
    work: Work | None,
    checksum: str,
) -> PlannedUnit:
    """Say how one checkpoint stands, and what fetching it takes."""
    named: dict[str, Any] = {"size": verdict.size, "checkpoint": verdict.step}
    reasons = "; ".join(verdict.reasons)
    if verdict.verdict == UNMADE:
        return PlannedUnit(**named, state=TO_DO, why=reasons)
    if verdict.verdict == UNLISTED:
        return _unlisted(folder, study, suite, verdict)
    if work is None:
        state = MISSING if verdict.verdict != UNSAFE else REFUSED
        return PlannedUnit(**named, state=state, why=reasons or "missing")
    if verdict.verdict != OK and study.score.faulty != "accept":
        state = LEFT_OUT if study.score.faulty == "skip" else REFUSED
        return PlannedUnit(**named, state=state, why=f"{verdict.verdict}: {reasons}")
    source = work.checkpoint
    wanted: dict[str, Any] = {}
    if isinstance(source, HubCheckpoint):
        lacking = source.missing
        fetch = sum(file.size for file in lacking)
        bytes_here = source.size - fetch
        # a large file is asked for twice: its address, then its bytes
        wanted = {"fetch": fetch, "requests": sum(2 if file.sha256 else 1 for file in lacking)}
    else:
        bytes_here = sum(path.stat().st_size for path in source.iterdir() if path.is_file())
    state, why = _state(folder, study, work, checksum)
    found = PlannedUnit(size=verdict.size, checkpoint=verdict.step, state=state, why=why)
    return found if state != TO_DO else replace(found, here=bytes_here, **wanted)


def _unlisted(folder: Path, study: Study, suite: Suite, verdict: Verdict) -> PlannedUnit:
    """Plan a checkpoint that the hub did not list: bytes by its shape, all of them to fetch."""
    named: dict[str, Any] = {"size": verdict.size, "checkpoint": verdict.step}
    unit = Unit(suite=suite.name, seed=study.training_seed, weights={}, **named)
    if (folder / "scores" / unit.path / "done.json").exists():
        return PlannedUnit(**named, state=DONE, why="scored; not compared with the hub")
    stored = stored_bytes(suite, verdict.size)
    why = "; ".join(verdict.reasons)
    return PlannedUnit(**named, state=TO_DO, why=why, fetch=stored, requests=_UNLISTED_REQUESTS)


def _state(folder: Path, study: Study, work: Work, checksum: str) -> tuple[str, str]:
    if not checksum:
        return TO_DO, "rows are not drawn yet"
    scores = folder / "scores"
    key = unit_key(work.unit, checksum, study.score)
    if is_done(scores, work.unit, key):
        return DONE, "scored"
    given_up = unfinished(scores, work.unit, key)
    if given_up is not None:
        word, reason = given_up
        if word == QUARANTINED:
            return QUARANTINED, f"{word}: {reason}"
        return TO_DO, f"failed before: {reason}"
    record = scores / work.unit.path / "done.json"
    if record.exists():
        same = read_json(record).get("key") == key
        return TO_DO, "its table is damaged" if same else "rows, settings or weights have changed"
    return TO_DO, "not scored yet"
