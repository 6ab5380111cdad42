"""A checkpoint in a folder of this machine: what its files hash to."""

from pathlib import Path

from pythia_profile.checkpoints.weights import find_weights
from pythia_profile.store import file_sha256

__all__ = ["weight_hashes"]


def weight_hashes(folder: Path) -> dict[str, str]:
    """Sha256 of each weight file and of the config of a checkpoint, by file name."""
    files = (*find_weights(folder).paths, folder / "config.json")
    return {path.name: file_sha256(path) for path in files if path.exists()}
