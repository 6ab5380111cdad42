"""The order in which GPT-NeoX packed documents into rows and read them, rebuilt from its inputs.

In: document sizes (an `.idx` file alone will do) and a seed. Out: which pieces of which documents
each row of the training order was packed from; with a store of documents, the row's tokens. The
order also holds rows that no step read, past the last step.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from data_order.errors import OrderError
from data_order.neox.index_maps import (
    Int32,
    Int64,
    block_ends,
    document_sizes,
    epochs_needed,
    sample_index_blocks,
    samples_available,
    shuffled_documents,
    shuffled_samples,
)
from data_order.neox.layout import Layout, whole
from data_order.neox.map_files import load_map, map_files
from data_order.neox.pieces import Pieces, pieces_of
from data_order.order import TrainingOrder
from data_order.published import ORDERS, PYTHIA
from data_order.store.files import idx_path, store_prefix
from data_order.store.idx import read_index
from data_order.store.selection import selected

PYTHIA_SAMPLES = ORDERS["pythia"].samples


@dataclass(frozen=True, slots=True, eq=False)
class NeoxOrder:
    """Index maps of one GPT-NeoX run.

    Attributes
    ----------
    sizes : (D,) int32 tokens of each document.
    document_index : (E D,) int32 documents of all E epochs, shuffled together.
    shuffle_index : (N,) uint32 or int64; row i of the training order is sample `shuffle_index[i]`.
    sequence_length : L; a row has L + 1 tokens, the last of which is only a target.
    ends : (blocks,) int64 stream position after each block of the document list.
    training : batch size and steps of the run, where known.
    epochs : times that each document that is read stands in the document list.

    Examples
    --------
    >>> order = NeoxOrder.from_sizes([5, 0, 9, 4], Layout(seed=1, samples=4, sequence_length=4))
    >>> len(order), order.epochs
    (4, 1)
    >>> order.pieces([0]).frame().rows()
    [(0, 0, 3, 0, 4), (0, 4, 2, 0, 1)]
    """

    sizes: Int32
    document_index: Int32
    shuffle_index: npt.NDArray[Any]
    sequence_length: int
    ends: Int64
    training: TrainingOrder | None = None
    epochs: int = 1

    @classmethod
    def from_sizes(
        cls,
        sizes: npt.ArrayLike,
        layout: Layout | None = None,
        training: TrainingOrder | None = None,
    ) -> "NeoxOrder":
        """Rebuild the maps from document sizes.

        Parameters
        ----------
        sizes : (D,) tokens of each document, in the order of the store; empty ones count.
        layout : seed, samples and length of the run; Pythia's by default.
        training : batch size and steps of the run; Pythia's where `samples` is Pythia's.

        Raises
        ------
        OrderError
            The documents hold no token, or their list is too long for the format.
        """
        lengths, layout = document_sizes(sizes), layout or Layout()
        low, high = layout.documents_of(len(lengths))
        tokens = int(lengths[low:high].sum(dtype=np.int64))
        if tokens == 0:
            raise OrderError(f"split '{layout.split}': its documents are empty")
        length, rng = layout.sequence_length, np.random.RandomState(int(layout.seed))
        epochs = epochs_needed(tokens, int(layout.samples), length)
        rows = samples_available(tokens, epochs, length)
        # The list is shuffled at once, or all but the last epoch and then the last; documents first
        # and samples after them, from one generator.
        apart = layout.last_epoch_is_apart(tokens, epochs)
        parts = [epochs - 1, 1] if apart else [epochs]
        lists = [shuffled_documents(low, high, part, rng) for part in parts]
        documents = np.concatenate(lists) if apart else lists[0]
        before = samples_available(tokens, epochs - 1, length) if apart else 0
        shuffle = shuffled_samples([0, before, rows] if apart else [0, rows], rng)
        ends = block_ends(lengths, documents)
        if training is None and layout.samples == PYTHIA_SAMPLES:
            training = PYTHIA
        return cls(lengths, documents, shuffle, int(length), ends, training, epochs)

    @classmethod
    def from_idx(
        cls,
        path: str | Path,
        layout: Layout | None = None,
        training: TrainingOrder | None = None,
    ) -> "NeoxOrder":
        """Rebuild the maps from the `.idx` file of a store of documents; no tokens are needed.

        Raises
        ------
        StoreError
            The file is missing, or damaged.
        """
        sizes = np.array(read_index(idx_path(store_prefix(path))).sizes)
        return cls.from_sizes(sizes, layout, training)

    @classmethod
    def from_maps(
        cls,
        sizes: npt.ArrayLike,
        document_index: npt.NDArray[Any],
        shuffle_index: npt.NDArray[Any],
        sequence_length: int = Layout().sequence_length,
        training: TrainingOrder | None = None,
    ) -> "NeoxOrder":
        """Take published maps as they are, for instance `np.load`ed with `mmap_mode="r"`.

        Raises
        ------
        OrderError
            A map holds documents or samples that do not exist, or a sample twice.
        """
        lengths = document_sizes(sizes)
        whole("sequence_length", sequence_length, 1, 2**62)
        documents = _published(document_index, len(lengths), "document index")
        narrow = documents.astype(np.int32, copy=False)
        ends = block_ends(lengths, narrow)
        available = samples_available(int(ends[-1]), 1, sequence_length)
        shuffle = _published(shuffle_index, available, "shuffle index")
        if len(shuffle) != available:
            raise OrderError(
                f"shuffle index: has {len(shuffle):,} samples, but the documents make {available:,}"
            )
        _check_permutation(shuffle)
        epochs = int(np.count_nonzero(narrow == narrow[0]))
        return cls(lengths, narrow, shuffle, int(sequence_length), ends, training, epochs)

    @classmethod
    def from_npy(
        cls,
        where: str | Path,
        sizes: npt.ArrayLike,
        sequence_length: int = Layout().sequence_length,
        training: TrainingOrder | None = PYTHIA,
    ) -> "NeoxOrder":
        """Take the published `doc_idx.npy` and `shuffle_idx.npy` under `where`.

        Parameters
        ----------
        where : folder of the `.npy` files, or the common start of their names.
        sizes : (D,) tokens of each document, as in the `.idx` file.

        Raises
        ------
        OrderError
            A map is damaged, as one of those that are published is.
        """
        files = map_files(where)
        document_index, shuffle_index = load_map(files["doc_idx"]), load_map(files["shuffle_idx"])
        return cls.from_maps(sizes, document_index, shuffle_index, sequence_length, training)

    def __len__(self) -> int:
        return len(self.shuffle_index)

    def __repr__(self) -> str:
        return (
            f"NeoxOrder({len(self):,} rows of {self.row_tokens} tokens from {self.epochs} epochs "
            f"of {len(self.sizes):,} documents)"
        )

    @property
    def row_tokens(self) -> int:
        """Tokens of a row: the sequence length and one more, the last target."""
        return self.sequence_length + 1

    @property
    def sample_index(self) -> Int32:
        """The whole sample index (N + 1, 2), made anew: 1.6 GB for Pythia. Lookups need none."""
        blocks = sample_index_blocks(
            len(self), self.sequence_length, self.sizes, self.document_index
        )
        whole = np.empty((len(self) + 1, 2), np.int32)
        filled = 0
        for block in blocks:
            whole[filled : filled + len(block)] = block
            filled += len(block)
        return whole

    def pieces(self, rows: object) -> Pieces:
        """Return the pieces of documents that each of `rows` was packed from.

        Parameters
        ----------
        rows : row, slice or (n,) rows of the training order; those past the last step exist too.

        Raises
        ------
        RowRangeError
            A row does not exist.
        """
        asked = selected(rows, len(self), "row").reshape(-1)
        return pieces_of(
            asked,
            self.shuffle_index[asked],
            self.sequence_length,
            self.sizes,
            self.document_index,
            self.ends,
        )


def _published(index: npt.NDArray[Any], below: int, name: str) -> npt.NDArray[Any]:
    array = np.asarray(index)
    if array.ndim != 1 or array.size == 0 or array.dtype.kind not in "iu":
        raise OrderError(
            f"{name}: got {array.dtype} of shape {array.shape}, expected (n,) whole numbers"
        )
    low, high = int(array.min()), int(array.max())
    if low < 0 or high >= below:
        raise OrderError(f"{name}: holds {low if low < 0 else high}, expected 0 to {below - 1}")
    return array


def _check_permutation(shuffle: npt.NDArray[Any]) -> None:
    seen = np.zeros(len(shuffle), bool)
    seen[shuffle] = True
    distinct = int(np.count_nonzero(seen))
    if distinct != len(shuffle):
        raise OrderError(
            f"shuffle index: {len(shuffle):,} rows hold only {distinct:,} different samples; "
            f"sample {int(np.argmin(seen)):,} is missing, so the file is damaged"
        )
