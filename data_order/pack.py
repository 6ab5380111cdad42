"""Held-out text packed into rows, as the published study packed its never-treated rows.

Documents are encoded one by one and concatenated without anything between them; the stream is cut
into rows of `row_tokens` that share no token, and the remainder is dropped. The same file,
tokenizer and row length always give the same row i.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
import polars as pl

from data_order.errors import OrderError, StoreError, StoreNotFoundError
from data_order.order import positive

_DOCUMENTS = 1000


class Tokenizer(Protocol):
    """What is needed of `tokenizers.Tokenizer`."""

    def encode_batch(self, texts: list[str], /, *, add_special_tokens: bool) -> list[Any]:
        """Encode texts; each result has `ids`."""


def pack_text(
    path: str | Path,
    tokenizer: Tokenizer | str | Path,
    row_tokens: int = 2049,
    *,
    field: str = "text",
    rows: int | None = None,
) -> npt.NDArray[np.uint32]:
    """Read, encode and pack a file of documents, one JSON object a line.

    Parameters
    ----------
    path : `.jsonl`, also compressed (`.jsonl.zst`, `.jsonl.gz`).
    tokenizer : a `tokenizers.Tokenizer`, a `tokenizer.json` file, or the folder of one.
    row_tokens : tokens of a row.
    field : key of the text in each object.
    rows : stop after so many rows; by default the whole file is packed.

    Returns
    -------
    (n, row_tokens) uint32 tokens.

    Raises
    ------
    StoreNotFoundError
        There is no such file, or no tokenizer.
    StoreError
        A line is no JSON object, or has no text.
    OrderError
        A token does not fit 32 bits, or the text does not fill one row.
    """
    encoder = open_tokenizer(tokenizer)
    texts = _texts(Path(path), field)
    packed = pack(_encoded(texts, encoder), row_tokens, rows=rows)
    if not len(packed):
        raise OrderError(f"{path}: {len(texts):,} documents do not fill one row of {row_tokens}")
    return packed


def pack(
    documents: Iterable[npt.ArrayLike], row_tokens: int = 2049, *, rows: int | None = None
) -> npt.NDArray[np.uint32]:
    """Concatenate token ids of documents, cut them into rows, and drop the remainder.

    Parameters
    ----------
    documents : each (L_i,) token ids.
    rows : stop after so many rows.

    Returns
    -------
    (n, row_tokens) uint32 tokens.

    Raises
    ------
    OrderError
        A token does not fit 32 bits.

    Examples
    --------
    >>> pack([[1, 2, 3], [4], [5, 6, 7, 8]], row_tokens=3)
    array([[1, 2, 3],
           [4, 5, 6]], dtype=uint32)
    """
    positive(row_tokens, "row_tokens")
    parts, length = [np.empty(0, np.uint32)], 0
    for number, document in enumerate(documents):
        tokens = np.asarray(document)
        if tokens.size and (tokens.dtype.kind not in "iu" or tokens.ndim != 1):
            raise OrderError(f"document {number}: got {tokens.dtype} of shape {tokens.shape}")
        if tokens.size and (int(tokens.max()) >= 2**32 or int(tokens.min()) < 0):
            raise OrderError(f"document {number}: a token does not fit 32 unsigned bits")
        parts.append(tokens.astype(np.uint32))
        length += len(tokens)
        if rows is not None and length >= rows * row_tokens:
            break
    stream = np.concatenate(parts)
    count = length // row_tokens if rows is None else min(rows, length // row_tokens)
    return stream[: count * row_tokens].reshape(count, row_tokens)


def open_tokenizer(tokenizer: Tokenizer | str | Path) -> Any:
    """Return the tokenizer of a `tokenizer.json` file or its folder, or the one that is given.

    Raises
    ------
    StoreNotFoundError
        There is no such file.
    StoreError
        It is no tokenizer.
    """
    if not isinstance(tokenizer, str | Path):
        return tokenizer
    path = Path(tokenizer)
    path = path / "tokenizer.json" if path.is_dir() else path
    if not path.is_file():
        raise StoreNotFoundError(f"{path}: no such file, expected a tokenizer.json")
    from tokenizers import Tokenizer as FileTokenizer

    try:
        return FileTokenizer.from_file(str(path))
    except Exception as error:
        raise StoreError(f"{path}: is no tokenizer ({error})") from error


def _texts(path: Path, field: str) -> list[str]:
    if not path.is_file():
        raise StoreNotFoundError(f"{path}: no such file, expected documents as JSON lines")
    try:
        texts = pl.scan_ndjson(path, schema={field: pl.String}).collect().to_series()
    except (pl.exceptions.PolarsError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise StoreError(f"{path}: a line is no JSON object, or damaged ({reason})") from error
    if texts.null_count():
        line = int(texts.is_null().arg_max() or 0) + 1
        raise StoreError(
            f"{path}: {texts.null_count():,} of {len(texts):,} documents have no '{field}', the "
            f"first in line {line}"
        )
    return texts.to_list()


def _encoded(texts: list[str], encoder: Any) -> Iterator[list[int]]:
    for start in range(0, len(texts), _DOCUMENTS):
        batch = encoder.encode_batch(texts[start : start + _DOCUMENTS], add_special_tokens=False)
        yield from (encoding.ids for encoding in batch)
