"""Outcomes of classes of tokens: which part of a row is remembered.

In: the tables of single tokens that scoring keeps (`score.token_table = true`), and the rows. Out:
one outcome for each class of tokens, a row's mean log-likelihood over its tokens of that class, as
further columns of the scores. So every estimate of an outcome is one of a class of tokens.

    position    the place in the row, in ranges of about equal length
    frequency   how often the token occurs in the sampled rows, in classes of about equal numbers of
                occurrences, rarest first

Surprisals of single tokens are kept to three digits; over a class of 50 tokens that is .0003 nats.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import polars as pl
from jaxtyping import Int

from pythia_profile.errors import TableError
from pythia_profile.tables import RUN

__all__ = ["TokenClasses", "by_frequency", "by_position", "class_scores"]


@dataclass(frozen=True, slots=True, eq=False)
class TokenClasses:
    """Class of every scored token.

    Attributes
    ----------
    names : (K,) what the classes are, in their order.
    row_id : (U,) rows.
    number : (U, T) class of each of a row's T targets.
    """

    names: tuple[str, ...]
    row_id: Int[np.ndarray, " U"]
    number: Int[np.ndarray, "U T"]


def by_position(rows: pl.DataFrame, classes: int) -> TokenClasses:
    """Classes by place in the row; target 1 is a row's second token, the first to be predicted.

    Examples
    --------
    >>> by_position(pl.DataFrame({"row_id": [7], "tokens": [[5, 6, 5, 5, 6]]}), 2).names
    ('tokens 1-2', 'tokens 3-4')
    """
    targets = _targets(rows)
    length = targets.shape[1]
    number = np.arange(length) * min(classes, length) // length
    ends = [np.flatnonzero(number == k)[[0, -1]] + 1 for k in range(number[-1] + 1)]
    names = tuple(f"tokens {first}-{last}" for first, last in ends)
    return TokenClasses(names, rows["row_id"].to_numpy(), np.tile(number, (len(rows), 1)))


def by_frequency(rows: pl.DataFrame, classes: int) -> TokenClasses:
    """Classes by how often a token occurs among the targets of these rows, rarest first.

    Examples
    --------
    >>> found = by_frequency(pl.DataFrame({"row_id": [7], "tokens": [[9, 5, 5, 6, 5]]}), 2)
    >>> found.names, found.number.tolist()
    (('seen 1 times', 'seen 3 times'), [[1, 1, 0, 1]])
    """
    targets = _targets(rows)
    _, which, count = np.unique(targets, return_inverse=True, return_counts=True)
    seen = count[which].reshape(targets.shape)
    of_count = np.bincount(seen.ravel())  # occurrences of tokens that are seen so often
    middle = (np.cumsum(of_count) - of_count / 2) / seen.size
    present, number = np.unique((classes * middle).astype(np.int64)[seen], return_inverse=True)
    number = number.reshape(targets.shape)
    inside = [seen[number == k] for k in range(len(present))]
    ends = [(int(counts.min()), int(counts.max())) for counts in inside]
    names = tuple(f"seen {a} times" if a == b else f"seen {a}-{b} times" for a, b in ends)
    return TokenClasses(names, rows["row_id"].to_numpy(), number)


def class_scores(
    units: Iterable[tuple[tuple[str, str, int, int], pl.DataFrame]], classes: TokenClasses
) -> pl.DataFrame:
    """Mean log-likelihood of each row's tokens of each class; null where it has none.

    Parameters
    ----------
    units : suite, size, seed and checkpoint of each unit, and its table of tokens: `row_id` and
        `surprisal`, an array of the row's targets.

    Returns
    -------
    Lines like `SCORES`, one column for each class.

    Raises
    ------
    TableError
        A unit holds other rows, or rows of another length.
    """
    order = np.argsort(classes.row_id, kind="stable")
    known, parts = classes.row_id[order], []
    members = [classes.number == k for k in range(len(classes.names))]
    for names, table in units:
        ids, surprisal = table["row_id"].to_numpy(), table["surprisal"].to_numpy()
        at = np.searchsorted(known, ids).clip(max=len(known) - 1)
        if surprisal.shape[1:] != classes.number.shape[1:] or (known[at] != ids).any():
            raise TableError(
                f"tokens of {names[1]} at checkpoint {names[3]}: "
                f"{surprisal.shape} surprisals are not those of the {len(known)} rows with "
                f"{classes.number.shape[1]} targets; score again"
            )
        columns = {}
        for name, member in zip(classes.names, members, strict=True):
            inside = member[order[at]]
            count = inside.sum(axis=1)
            total = np.where(inside, surprisal.astype(np.float32), 0.0).sum(axis=1)
            mean = -total / np.maximum(count, 1)
            columns[name] = pl.Series(np.where(count > 0, mean, np.nan)).fill_nan(None)
        lines = pl.DataFrame({"row_id": ids, **columns})
        keys = zip((*RUN, "checkpoint"), names, strict=True)
        parts.append(lines.with_columns(pl.lit(value).alias(name) for name, value in keys))
    if not parts:
        raise TableError("tokens: no unit has a table of its tokens; expected one or more")
    return pl.concat(parts)


def _targets(rows: pl.DataFrame) -> Int[np.ndarray, "U T"]:
    lengths = rows["tokens"].list.len()
    if lengths.n_unique() != 1:
        raise TableError("table 'rows': rows are not of one length; classes of tokens need that")
    tokens: Int[np.ndarray, "U T"] = rows["tokens"].explode().to_numpy().reshape(len(rows), -1)
    return tokens[:, 1:]
