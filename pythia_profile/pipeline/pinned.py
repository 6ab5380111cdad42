"""The checkpoints of a study: pinned once in its lock file, judged, and recorded with the choice.

What is in the lock file is not asked for again, whatever becomes of the branches on the hub; delete
its section `checkpoints` to pin anew.
"""

from pathlib import Path
from typing import Any

from data_order.hub.access import Hub
from pythia_profile.checkpoints.grid import Grid, locate
from pythia_profile.checkpoints.pins import Pins, moved_branches
from pythia_profile.checkpoints.verdicts import Verdict
from pythia_profile.study import Study, read_lock, update_lock
from pythia_profile.suites.model import Suite

__all__ = ["moved_since", "pins_of", "study_grid"]


def study_grid(folder: Path, study: Study, suite: Suite, hub: Hub | None = None) -> Grid:
    """Find and judge the checkpoints of a study; pin what is not pinned, and record what was found.

    Raises
    ------
    NotFoundError
        A size or checkpoint that the suite does not have.
    RemoteError
        Something is not pinned yet, and the hub does not say what it has.
    """
    grid = locate(
        suite,
        study.sizes,
        study.checkpoints or None,
        pins=pins_of(folder),
        hub=hub,
        keep=study.score.keep,
    )
    if grid.pins is not None:
        update_lock(folder, "checkpoints", grid.pins.facts())
    found = {
        "choice": study.score.faulty,
        "checkpoints": len(grid.verdicts),
        "faulty": [_record(verdict) for verdict in grid.faulty],
        "missing": [_record(verdict) for verdict in grid.missing],
    }
    update_lock(folder, "audit", found)
    return grid


def pins_of(folder: Path) -> Pins:
    """Return what a study has pinned; nothing for a new one."""
    return Pins.read(read_lock(folder).get("checkpoints", {}))


def moved_since(folder: Path, hub: Hub | None = None) -> list[str]:
    """Say which branches have moved since a study pinned them; one request a repository.

    Raises
    ------
    RemoteError
        The hub does not answer.
    """
    return moved_branches(pins_of(folder), hub)


def _record(verdict: Verdict) -> dict[str, Any]:
    return {
        "size": verdict.size,
        "step": verdict.step,
        "verdict": verdict.verdict,
        "reasons": list(verdict.reasons),
    }
