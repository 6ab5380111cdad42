"""The three index maps as `.npy` files, as the trainer writes them: found, mapped into memory."""

from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from data_order.errors import StoreError, StoreNotFoundError

MAPS = ("doc_idx", "sample_idx", "shuffle_idx")


def map_files(where: str | Path) -> dict[str, Path]:
    """Find the three index maps under `where`: a folder, or the common start of their names.

    Raises
    ------
    StoreNotFoundError
        One of them is missing.
    StoreError
        The folder holds several of one kind.
    """
    where = Path(where)
    found = {}
    for name in MAPS:
        if where.is_dir():
            paths = sorted(where.glob(f"*{name}.npy"))
        else:
            paths = [
                path for path in [where.with_name(f"{where.name}_{name}.npy")] if path.exists()
            ]
        if not paths:
            raise StoreNotFoundError(f"{where}: holds no {name}.npy, expected {', '.join(MAPS)}")
        if len(paths) > 1:
            raise StoreError(f"{where}: holds {len(paths)} files *{name}.npy; name one of them")
        found[name] = paths[0]
    return found


def load_map(path: Path) -> npt.NDArray[Any]:
    """Map one published index map into memory.

    Raises
    ------
    StoreError
        It is no `.npy` file of numbers.
    """
    try:
        return np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    except (ValueError, EOFError, OSError) as error:
        raise StoreError(f"{path}: is no .npy file of numbers ({error})") from error
