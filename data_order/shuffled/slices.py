"""Rows cut from token files: which file and which of its tokens a row is.

A token file is raw little-endian tokens without a header. Row r of a file of T tokens begins at
token L r; what is left after its last whole row is never read. Rows are numbered through all files
in the order of the run's configuration, in which a file may occur more than once.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from data_order.errors import OrderError, RowRangeError
from data_order.order import Rows, as_integers, positive

__all__ = ["Slices"]


@dataclass(frozen=True, slots=True, eq=False)
class Slices:
    """Rows of a list of token files.

    Attributes
    ----------
    names : (F,) files, in the order of the configuration.
    sizes : (F,) their bytes.
    row_tokens : L, tokens from one row of a file to the next.
    token_bytes : bytes of a token, 2 or 4.
    together : q, consecutive rows of a file that stay together when the order is drawn; a file's
        last rows that fill no such group are never read (OLMo-core with longer target rows).
    next_token : whether a row also holds the first token of the row behind it, as last target: then
        it has L + 1 tokens and L targets; else L tokens and L - 1 targets.

    Examples
    --------
    >>> slices = Slices.of({"a.npy": 40, "b.npy": 62}, row_tokens=4, token_bytes=2)
    >>> slices.rows, slices.locate([4, 5, 11])
    (12, (array([0, 1, 1]), array([16,  0, 24])))
    >>> slices.row_of("b.npy", 25)
    array([11])
    """

    names: tuple[str, ...]
    sizes: npt.NDArray[np.int64]
    row_tokens: int
    token_bytes: int = 4
    together: int = 1
    next_token: bool = False

    def __post_init__(self) -> None:
        for name in ("row_tokens", "together"):
            positive(getattr(self, name), name)
        if self.token_bytes not in (2, 4):
            raise OrderError(f"token_bytes: got {self.token_bytes}, expected 2 or 4")
        if not self.names or len(self.names) != len(self.sizes):
            raise OrderError(
                f"{len(self.names)} token files and {len(self.sizes)} sizes; expected as many, one "
                "or more"
            )
        if (odd := np.flatnonzero((self.sizes % self.token_bytes != 0) | (self.sizes < 0))).size:
            first = int(odd[0])
            raise OrderError(
                f"{self.names[first]}: {int(self.sizes[first]):,} bytes are no whole number of "
                f"tokens of {self.token_bytes} bytes"
            )

    @classmethod
    def of(
        cls,
        files: "dict[str, int] | Sequence[tuple[str, int]]",
        row_tokens: int,
        token_bytes: int = 4,
        together: int = 1,
        next_token: bool = False,
    ) -> "Slices":
        """Cut files, given as names with their bytes, into rows."""
        pairs = list(files.items() if isinstance(files, dict) else files)
        names = tuple(name for name, _ in pairs)
        sizes = np.array([size for _, size in pairs], dtype=np.int64)
        return cls(names, sizes, row_tokens, token_bytes, together, next_token)

    @property
    def width(self) -> int:
        """Tokens of a row, the last target included."""
        return self.row_tokens + self.next_token

    @property
    def starts(self) -> Rows:
        """(F + 1,) first row of each file, and the number of rows."""
        tokens = self.sizes // self.token_bytes - self.next_token
        groups = np.maximum(tokens, 0) // (self.row_tokens * self.together)
        return np.concatenate([[0], np.cumsum(groups * self.together)])

    @property
    def rows(self) -> int:
        """Number of rows, N."""
        return int(self.starts[-1])

    @property
    def unread_tokens(self) -> Rows:
        """(F,) tokens at the end of each file that are in no row."""
        held = np.diff(self.starts) * self.row_tokens
        unread: Rows = self.sizes // self.token_bytes - held
        return unread

    def locate(self, rows: npt.ArrayLike) -> tuple[Rows, Rows]:
        """File (n,) and first token in it (n,) of each row.

        Raises
        ------
        RowRangeError
            There is no such row.
        """
        ids, starts = as_integers(rows, "rows"), self.starts
        wrong = (ids < 0) | (ids >= starts[-1])
        if wrong.any():
            raise RowRangeError(
                f"no row {int(ids[wrong][0]):,}; the files hold rows 0 to {int(starts[-1]) - 1:,}"
            )
        # empty files have equal starts: the last of them is the one that holds the row
        file = np.searchsorted(starts, ids, side="right") - 1
        return file, (ids - starts[file]) * self.row_tokens

    def copies(self, rows: npt.ArrayLike) -> Rows:
        """Rows that hold the same tokens (n, K), the row itself included; -1 where there are fewer.

        They are those at the same place of the same file, where the list has it more than once.
        """
        ids = as_integers(rows, "rows")
        file, token = self.locate(ids)
        same: dict[str, list[int]] = {}
        for number, name in enumerate(self.names):
            same.setdefault(name, []).append(number)
        most = max(map(len, same.values()))
        listed = np.full((len(self.names), most), -1)
        for numbers in same.values():
            listed[numbers, : len(numbers)] = numbers
        others = listed[file]
        place = (token // self.row_tokens)[:, None]
        return np.where(others >= 0, self.starts[others] + place, -1)

    def row_of(self, name: str, token: int) -> Rows:
        """Rows that hold a token of a file: one for each time the file occurs in the list.

        Raises
        ------
        RowRangeError
            The file is not in the list, or the token lies in no row.
        """
        files = [number for number, other in enumerate(self.names) if _same(other, name)]
        if not files:
            raise RowRangeError(f"no file '{name}' among {len(self.names)} token files")
        counts = np.diff(self.starts)
        place = int(token) // self.row_tokens
        if token < 0 or place >= counts[files[0]]:
            read = int(counts[files[0]]) * self.row_tokens
            raise RowRangeError(
                f"{name}: token {token:,} is in no row; its first {read:,} tokens are"
            )
        return self.starts[files] + place


def _same(path: str, name: str) -> bool:
    """Whether a path is meant by a name: itself, or its end after a slash."""
    return path == name or path.endswith("/" + name)
