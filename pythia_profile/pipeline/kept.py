"""Estimates of a study, kept in its folder so that stages run one by one estimate once.

    estimates/<key>.npz     panel and ATT(g, c) of one run and outcome; no pickles

The key is the hash of all that the numbers depend on. A file that is not the one that was written
is passed over and made again.
"""

import hashlib
import io
import json
import logging
import zipfile
from collections.abc import Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import polars as pl

from pythia_profile.did import Panel
from pythia_profile.did.errors import ConstantOutcomeError
from pythia_profile.did.settings import Estimation
from pythia_profile.did.stored import from_arrays, to_arrays
from pythia_profile.errors import TableError
from pythia_profile.pipeline.fingerprints import Fingerprints
from pythia_profile.pipeline.inputs import read_inputs, warn_of_unscored
from pythia_profile.profiles.estimates import Estimates, RunEstimate, estimate
from pythia_profile.store import atomic_write, digest
from pythia_profile.study import Study

__all__ = ["load_estimate", "save_estimate", "study_estimates"]

log = logging.getLogger(__name__)

_SUM = 32
"""Bytes of the hash that a file begins with."""
_FORMAT = 2
_INFERENCE = {"draws", "seed", "level", "family"}
"""Settings that no effect depends on, only what is made of them."""


def study_estimates(folder: Path, study: Study, files: Fingerprints | None = None) -> Estimates:
    """Estimate every run of a study, or read what has been estimated from the same inputs."""
    settings, paths = study.estimate, _paths(folder, study, files or Fingerprints(folder))
    known = {}
    for place, path in paths.items():
        if (one := load_estimate(path)) is not None:
            known[place] = _with_inference(one, settings)
    if len(known) == len(paths):
        scored = {size: known[size, study.outcomes[0]].panel.checkpoints for size in study.sizes}
        warn_of_unscored(folder, study, {size: {*grid.tolist()} for size, grid in scored.items()})
    if len(known) < len(paths):
        together = "sizes" in settings.covariates  # each size needs the others' outcomes
        for sizes in [study.sizes] if together else [(size,) for size in study.sizes]:
            lacking = [o for o in study.outcomes if any((s, o) not in known for s in sizes)]
            if not lacking:
                continue
            for one in _estimated(folder, study, sizes, lacking):  # a size at a time: memory
                place = one.panel.run[1], one.panel.outcome
                known[place] = one
                save_estimate(one, paths[place])
        for path in (folder / "estimates").glob("*.npz"):
            if path not in paths.values():  # of other settings or inputs
                path.unlink(missing_ok=True)
    return Estimates(tuple(known[place] for place in paths if place in known), settings)


def _estimated(
    folder: Path, study: Study, sizes: Sequence[str], outcomes: Sequence[str]
) -> tuple[RunEstimate, ...]:
    """Estimate some runs; one whose outcome never varies is left out, unless all of a size are."""
    rows, scores = read_inputs(folder, study, sizes)
    try:
        return estimate(rows, scores, study.estimate, outcomes=outcomes).runs
    except ConstantOutcomeError as error:
        if len(outcomes) == len(study.outcomes):
            raise
        log.warning("left out: %s", error)
        return ()


def _with_inference(one: RunEstimate, settings: Estimation) -> RunEstimate:
    """Let an estimate know the present settings of what is made of it."""
    own = one.att.fit.settings.replace(**{name: getattr(settings, name) for name in _INFERENCE})
    return replace(one, att=replace(one.att, fit=replace(one.att.fit, settings=own)))


def _paths(folder: Path, study: Study, files: Fingerprints) -> dict[tuple[str, str], Path]:
    """File of each size and outcome."""
    chosen = study.estimate.model_dump(exclude=_INFERENCE)
    asked = [study.suite, study.training_seed, study.checkpoints, study.score.model_dump()]
    inputs = files.of(("rows.parquet", "scores", "covariates.parquet"))
    found = {}
    for size in study.sizes:
        for outcome in study.outcomes:
            key = digest([_FORMAT, chosen, asked, inputs, size, outcome])
            found[size, outcome] = folder / "estimates" / f"{key[:32]}.npz"
    return found


def save_estimate(one: RunEstimate, path: Path) -> None:
    """Write an estimate behind the hash of the file's content.

    Raises
    ------
    StudyError
        The file cannot be written.
    """
    laid = {f.name: getattr(one.panel, f.name) for f in fields(Panel)}
    arrays = {f"panel.{name}": v for name, v in laid.items() if isinstance(v, np.ndarray)}
    arrays |= {f"beside.{name}": values for name, values in one.panel.beside.items()}
    arrays |= {f"att.{name}": array for name, array in to_arrays(one.att).items()}
    covariates = io.BytesIO()
    one.panel.covariates.write_ipc(covariates)
    arrays["covariates"] = np.frombuffer(covariates.getvalue(), np.uint8)
    plain = {name: laid[name] for name in ("run", "outcome", "notes")}
    arrays["plain"] = np.frombuffer(json.dumps(plain).encode(), np.uint8)
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    content = buffer.getvalue()
    with atomic_write(path) as file:
        file.write(hashlib.sha256(content).digest())
        file.write(content)


def load_estimate(path: Path) -> RunEstimate | None:
    """Read an estimate; None where there is none, or not the one that was written."""
    try:
        whole = path.read_bytes()
    except OSError:
        return None
    content = whole[_SUM:]
    if hashlib.sha256(content).digest() != whole[:_SUM]:
        log.warning("%s is damaged; the run is estimated again", path)
        return None
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as stored:
            arrays = {name: stored[name] for name in stored.files}
        return RunEstimate(_panel(arrays), from_arrays(_below(arrays, "att.")))
    except (KeyError, TypeError, ValueError, TableError, zipfile.BadZipFile):  # another version's
        return None


def _panel(arrays: dict[str, np.ndarray]) -> Panel:
    plain: dict[str, Any] = json.loads(arrays["plain"].tobytes())
    covariates = pl.read_ipc(io.BytesIO(arrays["covariates"].tobytes()))
    suite, size, seed = plain["run"]
    return Panel(
        run=(suite, size, seed),
        outcome=plain["outcome"],
        notes=tuple(plain["notes"]),
        covariates=covariates,
        beside=_below(arrays, "beside."),
        **_below(arrays, "panel."),
    )


def _below(arrays: dict[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {
        name.removeprefix(prefix): array
        for name, array in arrays.items()
        if name.startswith(prefix)
    }
