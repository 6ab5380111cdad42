"""Weight files of a checkpoint folder: which there are, and their tensors one at a time.

A folder is read as data: names in an index that leave the folder are refused, pickles are opened
with `weights_only`, and what a file claims about its size is checked before anything is allocated:
headers and JSON are bounded, and an archive may not hold more than the file has bytes.
"""

import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open

from pythia_profile.checkpoints.small_files import read_json_file
from pythia_profile.errors import CheckpointError

__all__ = ["CheckpointError", "WeightFiles", "find_weights", "tensors"]

LARGEST_HEADER = 16 * 2**20
"""Bytes of the largest safetensors header that is parsed; that of 12b has 60 kB."""

_FORMATS = (
    ("safetensors", "model.safetensors"),
    ("bin", "pytorch_model.bin"),
)


@dataclass(frozen=True, slots=True)
class WeightFiles:
    """The weight files of one folder.

    Attributes
    ----------
    kind : `safetensors` or `bin`.
    paths : the files, in the order of their names.
    """

    kind: str
    paths: tuple[Path, ...]


def find_weights(folder: Path) -> WeightFiles:
    """Find the weights in `folder`, safetensors before pickles, single file before shards.

    Shards are found through their index, or without one by their numbers.

    Raises
    ------
    CheckpointError
        There is none, a shard is missing, or the index names a file outside the folder.
    """
    for kind, name in _FORMATS:
        if (folder / name).is_file():
            return WeightFiles(kind, (folder / name,))
        index = folder / f"{name}.index.json"
        if index.is_file():
            return WeightFiles(kind, _shards(index))
        numbered = _numbered(folder, name)
        if numbered:
            return WeightFiles(kind, numbered)
    found = sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []
    raise CheckpointError(
        f"no weights in '{folder}': got {', '.join(found) or 'an empty or missing folder'}, "
        "expected model.safetensors, pytorch_model.bin or an index of shards; fetch it again"
    )


def tensors(files: WeightFiles) -> Iterator[tuple[str, torch.Tensor]]:
    """Yield each tensor's name and value, on the CPU, holding one of them at a time.

    Raises
    ------
    CheckpointError
        A file is truncated, damaged, or a pickle that holds more than tensors.
    """
    for path in files.paths:
        try:
            yield from _SOURCES[files.kind](path)
        except (SafetensorError, OSError) as error:
            raise CheckpointError(f"{path} is damaged or truncated: {error}") from error


def _shards(index: Path) -> tuple[Path, ...]:
    content = read_json_file(index)
    names = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(names, dict) or not all(isinstance(name, str) for name in names.values()):
        raise CheckpointError(f"{index} has no 'weight_map' from tensors to files")
    paths = []
    for name in sorted(set(names.values())):
        if Path(name).name != name or name in (".", ".."):
            raise CheckpointError(f"{index} names '{name}', a file outside its folder; refused")
        if not (index.parent / name).is_file():
            raise CheckpointError(f"shard '{name}' is missing in '{index.parent}'")
        paths.append(index.parent / name)
    return tuple(paths)


def _numbered(folder: Path, name: str) -> tuple[Path, ...]:
    stem, ending = name.split(".")
    paths = sorted(folder.glob(f"{stem}-[0-9]*-of-[0-9]*.{ending}"))
    if not paths:
        return ()
    count = int(paths[0].stem.rsplit("-", 1)[1])
    wanted = [folder / f"{stem}-{i:05d}-of-{count:05d}.{ending}" for i in range(1, count + 1)]
    missing = [path.name for path in wanted if path not in paths]
    if missing or len(paths) != count:
        raise CheckpointError(
            f"'{folder}' holds {len(paths)} shards, expected {count}; missing: "
            f"{', '.join(missing[:4]) or 'none, but some are of another set'}"
        )
    return tuple(paths)


def _from_safetensors(path: Path) -> Iterator[tuple[str, torch.Tensor]]:
    _check_header(path)
    with safe_open(path, framework="pt") as file:
        for name in file.keys():  # noqa: SIM118 (not a mapping)
            yield name, file.get_tensor(name)


def _check_header(path: Path) -> None:
    with path.open("rb") as file:
        header = int.from_bytes(file.read(8), "little")
    if header > LARGEST_HEADER:
        raise CheckpointError(
            f"{path} claims a header of {header:,} bytes, expected at most {LARGEST_HEADER:,}; it "
            "is damaged or no safetensors file"
        )


def _from_pickle(path: Path) -> Iterator[tuple[str, torch.Tensor]]:
    content = _unpickle(path)
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} holds a {type(content).__name__}, expected named tensors")
    for name, value in content.items():
        if not isinstance(value, torch.Tensor):
            raise CheckpointError(
                f"{path}: '{name}' is a {type(value).__name__}, expected a tensor"
            )
        if value.layout != torch.strided or value.is_quantized or value.is_meta:
            kind = "quantized" if value.is_quantized else str(value.layout).removeprefix("torch.")
            raise CheckpointError(f"{path}: '{name}' is stored as {kind}, expected a dense tensor")
        yield name, value


def _unpickle(path: Path) -> Any:
    zipped = _is_zip(path)
    try:
        if zipped:
            _check_archive(path)
        return torch.load(path, map_location="cpu", weights_only=True, mmap=zipped)
    except CheckpointError:
        raise
    except Exception as error:
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise CheckpointError(
            f"{path} is damaged, truncated, or a pickle that would run code; it was not executed "
            f"({reason})"
        ) from error


def _check_archive(path: Path) -> None:
    """Refuse an archive that unpacks to more than it is."""
    with zipfile.ZipFile(path) as archive:
        entries = archive.infolist()
    packed = [entry.filename for entry in entries if entry.compress_type != zipfile.ZIP_STORED]
    total, size = sum(entry.file_size for entry in entries), path.stat().st_size
    if packed or total > size:
        raise CheckpointError(
            f"{path} is a packed archive ({len(packed)} packed entries, {total:,} bytes from "
            f"{size:,}); a checkpoint's is not; it was not unpacked"
        )


def _is_zip(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(4) == b"PK\x03\x04"


_SOURCES = {"safetensors": _from_safetensors, "bin": _from_pickle}
