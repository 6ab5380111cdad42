"""What a user may write between the brackets of a store: one row, a slice, or an array of rows.

Numbers count from 0 and never from the end, and nothing is clipped: asking for a row that does
not exist is an error, never a short answer.
"""

import numpy as np
import numpy.typing as npt

from data_order.errors import OrderError, RowRangeError
from data_order.order import as_integers


def selected(key: object, length: int, what: str) -> npt.NDArray[np.int64]:
    """Numbers that `key` asks for, of 0 to `length` - 1, in the shape of the answer.

    Parameters
    ----------
    key : whole number of any integer type, slice, or array of whole numbers.
    length : how many there are.
    what : what is being numbered, for messages ("row").

    Raises
    ------
    RowRangeError
        A number, or a bound of the slice, does not exist.
    OrderError
        The key is something else.

    Examples
    --------
    >>> selected(slice(0, 6, 2), 10, "row")
    array([0, 2, 4])
    >>> selected(-1, 10, "row")
    Traceback (most recent call last):
    data_order.errors.RowRangeError: row -1 does not exist; the store has rows 0 to 9
    """
    if isinstance(key, slice):
        return _sliced(key, length, what)
    if isinstance(key, tuple) or key is None or key is Ellipsis:
        raise OrderError(f"{what}s: got {key!r}, expected a whole number, a slice or an array")
    numbers = as_integers(key, f"{what}s")  # type: ignore[arg-type]
    if numbers.size:
        low, high = int(numbers.min()), int(numbers.max())
        if low < 0 or high >= length:
            raise _absent(low if low < 0 else high, length, what)
    return numbers


def contiguous(key: slice, length: int) -> tuple[int, int] | None:
    """First number and count of a slice without gaps that is wholly inside; None of any other.

    Examples
    --------
    >>> contiguous(slice(2, 6), 10), contiguous(slice(2, 6, 2), 10), contiguous(slice(2, 16), 10)
    ((2, 4), None, None)
    """
    start, stop = key.start, key.stop
    if key.step is None and type(start) is int and type(stop) is int and 0 <= start <= stop:
        return (start, stop - start) if stop <= length else None
    return None


def _sliced(key: slice, length: int, what: str) -> npt.NDArray[np.int64]:
    try:
        start, stop, step = key.indices(length)
    except (TypeError, ValueError) as error:
        raise OrderError(f"{what}s: got {key!r}, expected a slice of whole numbers") from error
    for bound in (key.start, key.stop):
        if bound is not None and not 0 <= bound <= length:
            raise _absent(int(bound), length, what)
    return np.arange(start, stop, step, dtype=np.int64)


def _absent(number: int, length: int, what: str) -> RowRangeError:
    there = f"{what}s 0 to {length - 1:,}" if length else f"no {what}s"
    return RowRangeError(f"{what} {number} does not exist; the store has {there}")
