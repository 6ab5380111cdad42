"""Where texts were planted into a training order at random: Hubble's insertions, recomputed.

In: how many texts each store holds, a seed, the run's steps. Out: the row and step of each text;
with the pieces of those rows, also where in the row it begins. Rows are drawn without replacement
from the steps of a window, so when a text is read is randomized: an experiment.

Copies of a text are documents of their own. With stores in the order of their names, all their
documents one after the other, n of them,

    rng = default_rng(seed)
    rows = rng.choice(rows of the window, n, replace=False)         document k goes to rows[k]
    of each document k: p = rng.choice(pieces of the row); if p > 0, w = rng.choice(its length)

and it begins at start − w, with start the tokens before piece p and w held within the row.

Source: allegro-lab/hubble at e086892, `scripts/perturbation_utils/perturb_hubble.py`.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import ceil, floor

import numpy as np
import numpy.typing as npt
import polars as pl

from data_order.errors import OrderError
from data_order.order import as_integers, positive

__all__ = ["Insertions", "insertion_rows", "insertion_starts"]

Integers = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Insertions:
    """What was planted where.

    Attributes
    ----------
    store : (n,) name of the store of each document, in ascending order of names.
    document : (n,) its number in the store.
    length : (n,) its tokens.
    row : (n,) row of the training order that holds it.
    step : (n,) optimizer step that reads this row.
    seed : of the draw.
    candidates : (first, end) rows that were drawn from.
    """

    store: npt.NDArray[np.str_]
    document: Integers
    length: Integers
    row: Integers
    step: Integers
    seed: int
    candidates: tuple[int, int]

    def __len__(self) -> int:
        return len(self.row)

    def frame(self, starts: Integers | None = None) -> pl.DataFrame:
        """One line per text: store, document, length, row_id, treatment_step, and its start.

        Parameters
        ----------
        starts : (n,) first token of each in its row, from `insertion_starts`.
        """
        table = pl.DataFrame(
            {
                "store": self.store,
                "document": self.document,
                "length": self.length,
                "row_id": self.row,
                "treatment_step": self.step,
            }
        )
        return table if starts is None else table.with_columns(start=pl.Series(starts))


def insertion_rows(
    stores: Mapping[str, npt.ArrayLike],
    *,
    steps: int,
    seed: int,
    window: tuple[float, float] = (0.0, 1.0),
    batch_size: int = 1024,
) -> Insertions:
    """Recompute the rows of all documents of some stores.

    Parameters
    ----------
    stores : by name, tokens of each document: (n,) sizes of an `.idx`.
    steps, batch_size : of the run.
    seed : of the draw; Hubble's is 123 for 100B tokens, 4321 for 500B.
    window : share of the run that is drawn from, such as (0, 0.25).

    Raises
    ------
    OrderError
        The window has fewer rows than there are documents, or is none.

    Examples
    --------
    >>> found = insertion_rows({"b": [40], "a": [30, 30]}, steps=10, seed=0, batch_size=4)
    >>> found.store.tolist(), found.row.tolist(), found.step.tolist()
    (['a', 'a', 'b'], [24, 20, 32], [7, 6, 9])
    """
    positive(steps, "steps")
    positive(batch_size, "batch_size")
    begin, end = window
    if not 0 <= begin < end <= 1:
        raise OrderError(f"window: got {window}, expected two shares of the run, ascending")
    names = sorted(stores)
    lengths = [as_integers(stores[name], f"store '{name}'") for name in names]
    count = sum(map(len, lengths))
    first, last = floor(steps * begin) * batch_size, ceil(steps * end) * batch_size
    if count > last - first:
        raise OrderError(
            f"{count:,} documents to plant in {last - first:,} rows of the window {window}"
        )
    # choice from an array draws places in it, so the array itself need not be made
    drawn = np.random.default_rng(seed).choice(last - first, count, replace=False)
    row = first + drawn.astype(np.int64)
    empty = np.empty(0, np.int64)
    return Insertions(
        store=np.repeat(np.array(names, dtype=np.str_), [len(own) for own in lengths]),
        document=np.concatenate([np.arange(len(own)) for own in lengths] or [empty]),
        length=np.concatenate(lengths or [empty]),
        row=row,
        step=row // batch_size + 1,
        seed=seed,
        candidates=(first, last),
    )


def insertion_starts(
    planted: Insertions, pieces: Sequence[npt.ArrayLike], *, row_tokens: int = 2049
) -> Integers:
    """First token of each document in its row.

    Parameters
    ----------
    pieces : of each insertion, the tokens of the documents' pieces that its row is made of.
    row_tokens : tokens of a row, the last target included.

    Returns
    -------
    (n,) tokens before the document.

    Raises
    ------
    OrderError
        Pieces of another number of rows, or of rows of another length.
    """
    if len(pieces) != len(planted):
        raise OrderError(f"pieces: got {len(pieces)} rows, expected {len(planted)}")
    first, end = planted.candidates
    rng = np.random.default_rng(planted.seed)
    rng.choice(end - first, len(planted), replace=False)  # the draw of the rows comes before
    found = np.zeros(len(planted), np.int64)
    for k, own in enumerate(pieces):
        lengths = as_integers(own, f"pieces of row {planted.row[k]}")
        if lengths.sum() != row_tokens:
            raise OrderError(
                f"pieces of row {planted.row[k]}: {lengths.sum()} tokens, expected {row_tokens}"
            )
        piece = int(rng.choice(len(lengths), 1)[0])
        if piece > 0:
            length, start = int(planted.length[k]), int(lengths[:piece].sum())
            back = int(rng.choice(length, 1)[0])
            found[k] = start - max(min(back, start), start + length - row_tokens)
    return found
