"""Checkpoints that lie in a suite's own folder: where, and what their files hash to."""

from pathlib import Path

from pythia_profile.checkpoints.weights import find_weights
from pythia_profile.errors import NotFoundError
from pythia_profile.store import file_sha256
from pythia_profile.suites.model import Suite

__all__ = ["checkpoint_folder", "weight_hashes"]


def checkpoint_folder(suite: Suite, size: str, step: int) -> Path:
    """Folder of one checkpoint of a suite that lies on this machine.

    Raises
    ------
    NotFoundError
        The suite is not a local one, or the folder is not there.
    """
    if suite.root is None:
        raise NotFoundError(f"suite '{suite.name}' is not a folder on this machine")
    folder = suite.root / suite.size(size).weights / f"step{step}"
    if not folder.is_dir():
        raise NotFoundError(f"checkpoint {step} of {suite.name} {size} is missing: no '{folder}'")
    return folder


def weight_hashes(folder: Path) -> dict[str, str]:
    """Sha256 of each weight file and of the config of a checkpoint, by file name."""
    files = (*find_weights(folder).paths, folder / "config.json")
    return {path.name: file_sha256(path) for path in files if path.exists()}
