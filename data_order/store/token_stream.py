"""Tokens of unshuffled documents as one flat run, read in pieces, wherever the bytes lie."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from data_order.errors import StoreError
from data_order.hub.access import Hub
from data_order.store.byte_source import Where, open_source
from data_order.store.idx import DTYPES, token_type
from data_order.store.shards import ByteSource


@dataclass(frozen=True, slots=True)
class TokenStream:
    """The tokens of a store of documents, one document after the other.

    Attributes
    ----------
    source : where the bytes lie.
    dtype : type of a token.
    """

    source: ByteSource
    dtype: np.dtype[Any] = DTYPES[8]

    def __post_init__(self) -> None:
        if self.source.length % self.dtype.itemsize:
            raise StoreError(
                f"{self.source.name}: {self.source.length:,} bytes are no whole number of "
                f"{self.dtype.name} tokens; a shard is truncated, or dtype is another"
            )

    @classmethod
    def open(
        cls,
        where: Where,
        *,
        dtype: npt.DTypeLike = np.uint16,
        hub: Hub | None = None,
    ) -> "TokenStream":
        """Open the `.bin` file or shards of a store of documents; the `.idx` is not read.

        Parameters
        ----------
        where : prefix, folder, shard files in their order, or a dataset on the hub.
        dtype : type of a token.
        hub : how to read from the hub.
        """
        source, _ = open_source(where, hub)
        return cls(source, token_type(dtype))

    @property
    def tokens(self) -> int:
        """Number of tokens."""
        return self.source.length // self.dtype.itemsize

    def read(
        self, starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.int64]
    ) -> npt.NDArray[Any]:
        """Tokens `starts[i] : starts[i] + lengths[i]`, one piece after the other: (sum,)."""
        width = self.dtype.itemsize
        return self.source.read(starts * width, lengths * width).view(self.dtype)
