"""Token ids that the model's vocabulary does not have are refused where they are read."""

from typing import Any

import numpy as np
import numpy.typing as npt

from data_order.errors import StoreError
from data_order.order import positive


def vocabulary_size(vocabulary: int | None) -> int | None:
    """Return the number of token ids, or None for any that the token type can hold.

    Raises
    ------
    OrderError
        It is no whole number above 0.
    """
    if vocabulary is None:
        return None
    positive(vocabulary, "vocabulary")
    return int(vocabulary)


def check_vocabulary(
    tokens: npt.NDArray[Any], vocabulary: int | None, rows: npt.ArrayLike, where: str
) -> None:
    """Refuse token ids of `vocabulary` or more, naming the row and the position.

    Parameters
    ----------
    tokens : (n, L) tokens.
    rows : (n,) their row numbers, for the message.

    Raises
    ------
    StoreError
        A token id is not in the vocabulary.
    """
    if vocabulary is None or tokens.size == 0:
        return
    # The largest id tells of most arrays that all is right, at half the cost of a comparison.
    if int(tokens.max()) < vocabulary and (tokens.dtype.kind == "u" or int(tokens.min()) >= 0):
        return
    wrong = tokens >= vocabulary
    if tokens.dtype.kind != "u":
        wrong |= tokens < 0
    if wrong.any():
        flat = wrong.reshape(-1, tokens.shape[-1])
        index, position = (int(i) for i in np.argwhere(flat)[0])
        raise StoreError(
            f"{where}: row {np.ravel(rows)[index]}, position {position}: token id is "
            f"{tokens.reshape(flat.shape)[index, position]}, expected 0 to {vocabulary - 1}"
        )
