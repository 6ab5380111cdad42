"""Rows of a rebuilt order with their tokens, read piece by piece from the unshuffled documents."""

from typing import Any

import numpy as np
import numpy.typing as npt

from data_order.errors import StoreError
from data_order.neox.neox_order import NeoxOrder
from data_order.neox.pieces import document_starts
from data_order.store.byte_source import Where
from data_order.store.megatron import MegatronStore
from data_order.store.selection import selected
from data_order.store.token_stream import TokenStream

Documents = TokenStream | MegatronStore | Where


class NeoxRows:
    """Rows of a `NeoxOrder` with their tokens: what `TokenRows` is for a preshuffled store.

    It goes on where the preshuffled store ends: rows past the last step, which no update read,
    are in-distribution controls.

    Attributes
    ----------
    order : the index maps.
    stream : the unshuffled documents.
    """

    __slots__ = ("order", "stream")

    def __init__(self, order: NeoxOrder, store: Documents) -> None:
        """Open `store` and compare its length with the sizes of `order`.

        Raises
        ------
        StoreError
            They differ.
        """
        self.order = order
        self.stream = _documents(store)
        expected = int(order.sizes.sum(dtype=np.int64))
        if self.stream.tokens != expected:
            raise StoreError(
                f"{self.stream.source.name}: has {self.stream.tokens:,} tokens, but the document "
                f"sizes add up to {expected:,}; it is another store, or a shard is missing"
            )

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, key: object) -> npt.NDArray[Any]:
        """Row(s) `key`: (L + 1,) for one, (n, L + 1) for several."""
        asked = selected(key, len(self), "row")
        pieces = self.order.pieces(asked)
        starts = document_starts(pieces.document, self.order.sizes) + pieces.offset
        tokens = self.stream.read(starts, pieces.length)
        return tokens.reshape(*asked.shape, self.order.row_tokens)


def _documents(store: Documents) -> TokenStream:
    if isinstance(store, TokenStream):
        return store
    if isinstance(store, MegatronStore):
        return store.stream()
    return TokenStream.open(store)
