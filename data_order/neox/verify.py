"""Is a rebuilt order the one that was published? Its index maps, entry by entry."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from data_order.neox.index_maps import sample_index_blocks
from data_order.neox.map_files import MAPS, load_map, map_files
from data_order.neox.neox_order import NeoxOrder
from data_order.store.files import replacing

_BLOCK = 1 << 22


@dataclass(frozen=True, slots=True)
class Comparison:
    """How much of one published thing is as it was rebuilt.

    Attributes
    ----------
    what : the map.
    entries : entries compared: documents or samples.
    differing : how many of them differ.
    first : number of the first that differs, or None.
    note : a difference that no entry shows (type or length), or nothing.
    """

    what: str
    entries: int
    differing: int
    first: int | None
    note: str = ""

    @property
    def same(self) -> bool:
        """Nothing differs."""
        return self.differing == 0 and not self.note


def save_maps(order: NeoxOrder, prefix: str | Path) -> list[Path]:
    """Write the three maps as the trainer wrote them: `{prefix}_doc_idx.npy` and so on.

    The sample index is made block by block, so no more memory is needed than the order has.
    """
    prefix = Path(prefix)
    paths = []
    for name in MAPS:
        path = prefix.with_name(f"{prefix.name}_{name}.npy")
        shape, dtype = _shape(order, name)
        header = {"descr": dtype.str, "fortran_order": False, "shape": shape}
        with replacing(path) as file:
            np.lib.format.write_array_header_1_0(file, header)
            for block in _blocks(order, name):
                file.write(block.tobytes())
        paths.append(path)
    return paths


def compare_maps(order: NeoxOrder, where: str | Path) -> list[Comparison]:
    """Compare published index maps with those of `order`, entry by entry.

    Parameters
    ----------
    where : folder of the three `.npy` files, or the common start of their names.

    Returns
    -------
    One comparison for each map.
    """
    compared = []
    for name, path in map_files(where).items():
        published = load_map(path)
        shape, dtype = _shape(order, name)
        notes = []
        if published.shape != shape:
            notes.append(f"has shape {published.shape}, expected {shape}")
        if published.dtype != dtype:
            notes.append(f"is {published.dtype}, expected {dtype}")
        comparable = published.ndim == len(shape) and published.shape[1:] == shape[1:]
        blocks = _blocks(order, name) if comparable else iter(())
        compared.append(_compared(name, published, blocks, "; ".join(notes)))
    return compared


def _shape(order: NeoxOrder, name: str) -> tuple[tuple[int, ...], np.dtype[Any]]:
    if name == "doc_idx":
        return order.document_index.shape, order.document_index.dtype
    if name == "sample_idx":
        return (len(order) + 1, 2), np.dtype(np.int32)
    return order.shuffle_index.shape, order.shuffle_index.dtype


def _blocks(order: NeoxOrder, name: str) -> Iterator[npt.NDArray[Any]]:
    if name == "sample_idx":
        return sample_index_blocks(
            len(order), order.sequence_length, order.sizes, order.document_index
        )
    whole = order.document_index if name == "doc_idx" else order.shuffle_index
    return (whole[start : start + _BLOCK] for start in range(0, len(whole), _BLOCK))


def _compared(
    name: str, published: npt.NDArray[Any], blocks: Iterator[npt.NDArray[Any]], note: str
) -> Comparison:
    entries, differing, first = 0, 0, None
    for block in blocks:
        other = published[entries : entries + len(block)]
        wrong = (other != block[: len(other)]).reshape(len(other), -1).any(axis=1)
        if first is None and wrong.any():
            first = entries + int(np.argmax(wrong))
        differing += int(wrong.sum())
        entries += len(other)
    return Comparison(name, entries, differing, first, note)
