"""GPT-NeoX's three index maps, from document sizes and a seed: pure functions over arrays.

    D documents, E epochs, T tokens of one epoch, L sequence length, N samples

The E copies of the document list are shuffled together and laid end to end: a stream of E T
tokens. Sample k is the stream from k L to k L + L, both included, so neighbours share one token.
The samples are shuffled in turn: the trainer's row i is sample `shuffle_index[i]`.

Both shuffles come from one `numpy.random.RandomState(seed)`, documents first. At Pythia's size the
stream has 2.7e8 documents and 2e8 samples, so nothing here makes a temporary array of that length;
lookups of a few samples go through the ends of blocks of `BLOCK` documents.

Source: GPT-NeoX at Pythia's training commit, described anew; checked bit for bit against a plain
loop over documents with Python's own Mersenne twister.
"""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from data_order.errors import OrderError
from data_order.order import as_integers

Int32 = npt.NDArray[np.int32]
Int64 = npt.NDArray[np.int64]

BLOCK = 256
"""Documents of a block whose end in the stream is kept: 8 MB of ends at Pythia's size."""

LOOKUPS = 1 << 13
"""Lookups done at once: each looks into a whole block, so 16 MB an array."""

_CHUNK = BLOCK << 14


def document_sizes(sizes: npt.ArrayLike) -> Int32:
    """Return `sizes` (D,) as int32, without a copy where they are.

    Raises
    ------
    OrderError
        They are not whole numbers of 0 to 2**31 - 1 tokens, or hold no token at all.
    """
    if isinstance(sizes, np.ndarray) and sizes.dtype == np.int32:
        array: npt.NDArray[Any] = sizes
    else:
        array = as_integers(sizes, "sizes")
    top = np.iinfo(np.int32).max
    if array.ndim != 1 or array.size == 0:
        raise OrderError(f"sizes: got an array of shape {array.shape}, expected (D,) with D > 0")
    low, high = int(array.min()), int(array.max())
    if low < 0 or high > top:
        raise OrderError(f"sizes: {low if low < 0 else high} tokens, expected 0 to {top}")
    if high == 0:
        raise OrderError(f"sizes: all {len(array):,} documents are empty, expected some tokens")
    return array.astype(np.int32, copy=False)


def epochs_needed(tokens: int, samples: int, sequence_length: int) -> int:
    """Smallest E for which E epochs of `tokens` hold `samples` samples: (E T - 1) // L >= ns.

    Examples
    --------
    >>> epochs_needed(tokens=332_115_325_534, samples=147_164_160, sequence_length=2048)
    1
    """
    return -(-(samples * sequence_length + 1) // tokens)


def samples_available(tokens: int, epochs: int, sequence_length: int) -> int:
    """Whole samples that the stream holds: N = (E T - 1) // L.

    Examples
    --------
    >>> samples_available(332_115_325_534, epochs=1, sequence_length=2048)
    162165686
    """
    return (epochs * tokens - 1) // sequence_length


def shuffled_documents(low: int, high: int, epochs: int, rng: np.random.RandomState) -> Int32:
    """Documents `low` to `high` - 1, those of all epochs together, shuffled: (E D,) int32.

    Raises
    ------
    OrderError
        Entries of the list do not fit the format's 32 bits.
    """
    documents = high - low
    if epochs * documents > np.iinfo(np.int32).max:
        raise OrderError(
            f"{epochs:,} epochs of {documents:,} documents are {epochs * documents:,} entries, "
            "more than the format's 32 bits; ask for fewer samples"
        )
    # Shuffled in place as one list, as the original does: its random numbers depend on the length.
    copies = np.empty((epochs, documents), np.int32)
    copies[:] = np.arange(low, high, dtype=np.int32)
    listed = copies.reshape(-1)
    rng.shuffle(listed)
    return listed


def shuffle_dtype(samples: int) -> np.dtype[Any]:
    """Type of the shuffle index: uint32, and int64 from 2**32 - 2 samples on.

    Examples
    --------
    >>> shuffle_dtype(2**32 - 3), shuffle_dtype(2**32 - 2)
    (dtype('uint32'), dtype('int64'))
    """
    return np.dtype(np.int64 if samples >= 2**32 - 2 else np.uint32)


def shuffled_samples(bounds: list[int], rng: np.random.RandomState) -> npt.NDArray[Any]:
    """Sample that each row is: (N,), a permutation of 0 to N - 1.

    Parameters
    ----------
    bounds : 0, where a part ends that is shuffled by itself, ..., N.
    """
    order = np.arange(bounds[-1], dtype=shuffle_dtype(bounds[-1]))
    for low, high in pairwise(bounds):
        rng.shuffle(order[low:high])
    return order


def block_ends(sizes: Int32, document_index: Int32) -> Int64:
    """Stream position after each block of `BLOCK` entries of the document list: (blocks,)."""
    # Every size of the list is summed, but only the end of each block kept: 8 bytes for 256
    # documents instead of for one.
    sums = []
    for start in range(0, len(document_index), _CHUNK):
        lengths = sizes[document_index[start : start + _CHUNK]]
        sums.append(np.add.reduceat(lengths, np.arange(0, len(lengths), BLOCK), dtype=np.int64))
    return np.cumsum(np.concatenate(sums))


def sample_starts(
    samples: npt.ArrayLike, length: int, sizes: Int32, document_index: Int32, ends: Int64
) -> Int64:
    """Rows `samples` of the sample index, without the others: (n, 2).

    Parameters
    ----------
    samples : (n,) samples of 0 to N; the N-th is the end of the last one.
    length : the sequence length L.
    sizes, document_index : (D,) and (E D,).
    ends : what `block_ends` returned.

    Returns
    -------
    (n, 2) entry in the document list, and offset in that document, of the sample's first token.
    The first sample starts at (0, 0) even where that document is empty.
    """
    asked = np.asarray(samples, dtype=np.int64)
    found = np.empty((len(asked), 2), np.int64)
    for part in range(0, len(asked), LOOKUPS):
        stream = asked[part : part + LOOKUPS] * length
        # First the block by bisection, then the document within it by one comparison of 256 ends.
        block = np.searchsorted(ends, stream, side="right")
        entries, local = _block_ends_within(block, sizes, document_index, ends)
        column = (local > stream[:, None]).argmax(axis=1)
        entry = np.take_along_axis(entries, column[:, None], axis=1)[:, 0]
        end = np.take_along_axis(local, column[:, None], axis=1)[:, 0]
        found[part : part + len(stream), 0] = entry
        found[part : part + len(stream), 1] = stream - (end - sizes[document_index[entry]])
    found[asked == 0] = 0
    return found


def stream_starts(
    entries: npt.ArrayLike, sizes: Int32, document_index: Int32, ends: Int64
) -> Int64:
    """Stream position at which each of `entries` (n,) of the document list begins: (n,)."""
    asked = np.asarray(entries, dtype=np.int64)
    begins = np.empty(len(asked), np.int64)
    for part in range(0, len(asked), LOOKUPS):
        block, column = np.divmod(asked[part : part + LOOKUPS], BLOCK)
        _, local = _block_ends_within(block, sizes, document_index, ends)
        end = np.take_along_axis(local, column[:, None], axis=1)[:, 0]
        begins[part : part + len(end)] = end - sizes[document_index[asked[part : part + len(end)]]]
    return begins


def sample_index_blocks(
    samples: int, length: int, sizes: Int32, document_index: Int32
) -> Iterator[Int32]:
    """Yield the whole sample index in order, as (n, 2) int32 blocks: N + 1 rows in all."""
    begin = 0
    for start in range(0, len(document_index), _CHUNK):
        lengths = sizes[document_index[start : start + _CHUNK]]
        stops = begin + np.cumsum(lengths, dtype=np.int64)
        # Samples that begin in a document: those k with begin <= k L < stop, so ceilings of both.
        before = -(-(stops - lengths) // length)
        first, last = int(before[0]), min(-(-int(stops[-1]) // length), samples + 1)
        if last > first:
            after = np.minimum(np.append(before[1:], last), last)
            column = np.repeat(np.arange(len(lengths)), np.maximum(after - before, 0))
            block = np.empty((last - first, 2), np.int32)
            block[:, 0] = start + column
            block[:, 1] = np.arange(first, last) * length - (stops - lengths)[column]
            if first == 0:
                block[0] = 0
            yield block
        begin = int(stops[-1])


def _block_ends_within(
    block: Int64, sizes: Int32, document_index: Int32, ends: Int64
) -> tuple[Int64, Int64]:
    """Places of each block, and the stream position after each: (n, BLOCK) both.

    Past the end of the list the last entry is repeated, with nothing added to the position.
    """
    entries = block[:, None] * BLOCK + np.arange(BLOCK)
    last = len(document_index) - 1
    lengths = np.where(entries <= last, sizes[document_index[np.minimum(entries, last)]], 0)
    begins = np.where(block > 0, ends[block - 1], 0)
    return np.minimum(entries, last), begins[:, None] + np.cumsum(lengths, axis=1, dtype=np.int64)
