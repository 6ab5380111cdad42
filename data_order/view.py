"""Everything that is known of a row, side by side: when it was read, what it says, where from."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from data_order.neox.exposure import exposures
from data_order.neox.neox_order import NeoxOrder
from data_order.order import NEVER, TrainingOrder, as_integers
from data_order.sample import RowSource


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """Tokens of a row that come from one document: `length` of them from `offset` on."""

    start: int
    document: int
    offset: int
    length: int


@dataclass(frozen=True, slots=True, kw_only=True)
class EarlierRead:
    """Tokens of a row that another row had read: `tokens` of them from `start` on."""

    start: int
    tokens: int
    by_row: int
    by_step: int
    repeated: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RowView:
    """One row of the training order; what was not asked for is None.

    Attributes
    ----------
    row : 0-based number in the training order.
    step : optimizer step that reads it; None where no step does.
    batch, position : its batch and its position in it; None where no step reads it.
    checkpoint : first of the given checkpoints that has read it.
    tokens : its tokens.
    text : its tokens, decoded.
    documents : the pieces it was packed from.
    seen, repeated : how many of its tokens another row had read before, and how many of these in
        another copy of their document.
    reads : these reads, earliest first.
    """

    row: int
    step: int | None
    batch: int | None
    position: int | None
    checkpoint: int | None
    tokens: list[int] | None = None
    text: str | None = None
    documents: list[Piece] | None = None
    seen: int | None = None
    repeated: int | None = None
    reads: list[EarlierRead] | None = None


def view_rows(
    training: TrainingOrder,
    rows: npt.ArrayLike,
    *,
    checkpoints: Sequence[int] = (),
    source: RowSource | None = None,
    tokenizer: Any = None,
    maps: NeoxOrder | None = None,
    with_exposures: bool = False,
) -> list[RowView]:
    """Gather what is known of each row.

    Parameters
    ----------
    rows : (n,) rows of the training order.
    checkpoints : saved steps, ascending.
    source : store of the rows, for their tokens.
    tokenizer : decodes tokens; a `tokenizers.Tokenizer`.
    maps : index maps of the run, for documents and exposures.
    with_exposures : count what had been read before; one pass over the maps, seconds for Pythia.

    Raises
    ------
    RowRangeError
        A row does not exist.

    Examples
    --------
    >>> (seen,) = view_rows(TrainingOrder(1024, 143_000), [1_023_999], checkpoints=[0, 1000, 2000])
    >>> seen.step, seen.batch, seen.position, seen.checkpoint
    (1000, 999, 1023, 1000)
    """
    ids = as_integers(rows, "rows").reshape(-1)
    steps = training.step_of(ids)
    first = training.cohort_of(ids, list(checkpoints)) if checkpoints else np.full(len(ids), NEVER)
    tokens = None if source is None else np.asarray(source[ids])
    texts = None
    if tokens is not None and tokenizer is not None:
        texts = [tokenizer.decode(row.tolist(), skip_special_tokens=False) for row in tokens]
    documents = None if maps is None else _pieces(maps, ids)
    earlier = _earlier(maps, ids, training) if maps is not None and with_exposures else None
    views = []
    for i, (row, step, checkpoint) in enumerate(
        zip(ids.tolist(), steps.tolist(), first.tolist(), strict=True)
    ):
        read = step != NEVER
        seen, repeated, reads = (None, None, None) if earlier is None else earlier[i]
        views.append(
            RowView(
                row=row,
                step=step if read else None,
                batch=step - 1 if read else None,
                position=row - training.first_row_of(step) if read else None,
                checkpoint=None if checkpoint == NEVER else checkpoint,
                tokens=None if tokens is None else tokens[i].tolist(),
                text=None if texts is None else texts[i],
                documents=None if documents is None else documents[i],
                seen=seen,
                repeated=repeated,
                reads=reads,
            )
        )
    return views


def escaped(text: str) -> str:
    r"""Make `text` safe to show in a terminal: what is not printable is spelled out.

    Control characters, escape sequences, and characters that change the direction or hide what
    follows come out as their escapes; line ends too, so that a text is one line.

    Examples
    --------
    >>> print(escaped("caf\u00e9\n\x1b[31mred\u202e"))
    café\n\x1b[31mred\u202e
    """
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def _pieces(maps: NeoxOrder, ids: npt.NDArray[np.int64]) -> list[list[Piece]]:
    found = maps.pieces(ids)
    lists: list[list[Piece]] = [[] for _ in ids]
    columns = (found.owner(), found.starts(), found.document, found.offset, found.length)
    for owner, start, document, offset, length in zip(
        *(column.tolist() for column in columns), strict=True
    ):
        lists[owner].append(Piece(start=start, document=document, offset=offset, length=length))
    return lists


def _earlier(
    maps: NeoxOrder, ids: npt.NDArray[np.int64], training: TrainingOrder
) -> list[tuple[int, int, list[EarlierRead]]]:
    """Exposures of each row: tokens seen, of these repeated, and the reads."""
    found = exposures(maps, np.unique(ids), training=training)
    reads: dict[int, list[EarlierRead]] = {row: [] for row in ids.tolist()}
    for line in found.reads.iter_rows(named=True):
        reads[line["row_id"]].append(
            EarlierRead(**{name: line[name] for name in EarlierRead.__dataclass_fields__})
        )
    return [
        (int(found.tokens[i]), int(found.repeated[i]), reads[row])
        for i, row in zip(np.searchsorted(found.rows, ids).tolist(), ids.tolist(), strict=True)
    ]
