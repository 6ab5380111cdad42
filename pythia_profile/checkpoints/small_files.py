"""Small JSON files of a checkpoint, read as data: bounded, and without torch."""

import json
from pathlib import Path
from typing import Any

from pythia_profile.checkpoints.listing import LARGEST_JSON
from pythia_profile.errors import CheckpointError

__all__ = ["read_json_file"]


def read_json_file(path: Path) -> Any:
    """Read a small JSON file of a checkpoint.

    Raises
    ------
    CheckpointError
        It is missing, larger than a config can be, or not JSON.
    """
    if not path.is_file():
        raise CheckpointError(f"'{path.name}' is missing in '{path.parent}'")
    size = path.stat().st_size
    if size > LARGEST_JSON:
        raise CheckpointError(f"{path} has {size:,} bytes, expected at most {LARGEST_JSON:,}")
    try:
        return json.loads(path.read_bytes())
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path} is not valid JSON: {error}") from error
