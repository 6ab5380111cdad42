"""Labelled texts as token ids, and their losses under a model, padded to one length.

Labels are numbers from −1 to 1. Texts come from JSONL lines with `text` (or `tokens`) and `label`,
or from a table of rows with `tokens`, labelled by one of its columns.
"""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from torch.nn.functional import cross_entropy
from transformers.modeling_utils import PreTrainedModel

from pythia_profile.labs.steer.steer_settings import SteerError

__all__ = [
    "Labelled",
    "Tokens",
    "cut_to_context",
    "labelled_rows",
    "padded",
    "read_labelled",
    "read_labelled_file",
    "read_texts",
    "target_losses",
    "text_losses",
    "token_count",
]

Tokens = npt.NDArray[np.int64]
Encode = Callable[[str], Sequence[int]]


@dataclass(frozen=True, slots=True)
class Labelled:
    """Texts and what each is labelled.

    Attributes
    ----------
    texts : n arrays of token ids.
    labels : (n,) from −1 to 1.
    """

    texts: list[Tokens]
    labels: npt.NDArray[np.float64]

    def __post_init__(self) -> None:
        if not self.texts:
            raise SteerError("no labelled texts, expected two or more")
        odd = np.flatnonzero(~((self.labels >= -1) & (self.labels <= 1)))
        if len(odd):
            raise SteerError(
                f"label of text {odd[0] + 1}: got {self.labels[odd[0]]:g}, expected a number from "
                "-1 to 1"
            )
        if len(np.unique(self.labels)) < 2:
            raise SteerError(
                f"all {len(self.texts)} texts are labelled {self.labels[0]:g}; expected two or "
                "more different labels"
            )


def read_labelled_file(
    path: Path,
    encode: Encode | None = None,
    *,
    column: str | None = None,
    above: float | None = None,
) -> Labelled:
    """Read labelled texts from JSONL, or rows of a table labelled by a column of it.

    Raises
    ------
    SteerError
        The file is of another kind than what is asked of it, or a label cannot be used.
    """
    if (path.suffix == ".parquet") != (column is not None) or (above is not None and not column):
        raise SteerError(
            f"{path}: got --column {column} and --above {above}; a table of rows (.parquet) is "
            "labelled by a column, JSONL by its own labels"
        )
    if column is None:
        return read_labelled(path, encode)
    try:
        rows = pl.read_parquet(path)
    except (OSError, pl.exceptions.PolarsError) as error:
        raise SteerError(f"{path}: cannot be read as a table ({error})") from error
    return labelled_rows(rows, column, above)


def read_labelled(path: Path, encode: Encode | None = None) -> Labelled:
    """Read JSONL: each line an object with `label`, and `text` or `tokens`.

    Parameters
    ----------
    encode : from a text to token ids; without it only `tokens` can be read.

    Raises
    ------
    SteerError
        A line cannot be used; the message names it.
    """
    texts, labels = [], []
    for where, line in _lines(path):
        label = line.get("label")
        if not isinstance(label, int | float):
            raise SteerError(f"{where}: label: got {label!r}, expected a number from -1 to 1")
        texts.append(_token_ids(line, where, encode))
        labels.append(float(label))
    return Labelled(texts, np.array(labels))


def read_texts(path: Path, encode: Encode | None = None) -> list[Tokens]:
    """Read JSONL without labels, or plain text with one text a line."""
    if path.suffix == ".jsonl":
        return [_token_ids(line, where, encode) for where, line in _lines(path)]
    if encode is None:
        raise SteerError(f"{path}: plain text needs the model's tokenizer")
    return [np.array(encode(text)) for text in _read(path).splitlines() if text.strip()]


def _lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, text in enumerate(_read(path).splitlines(), 1):
        if not text.strip():
            continue
        where = f"{path}, line {number}"
        try:
            line = json.loads(text)
        except (ValueError, RecursionError) as error:  # RecursionError: nested too deep
            raise SteerError(f"{where}: no JSON ({error})") from error
        if not isinstance(line, dict):
            raise SteerError(f"{where}: got {text[:40]!r}, expected an object with text and label")
        yield where, line


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:
        raise SteerError(f"{path}: cannot be read ({error}); expected JSONL") from error


def _token_ids(line: dict[str, Any], where: str, encode: Encode | None) -> Tokens:
    if isinstance(given := line.get("tokens"), list) and all(type(one) is int for one in given):
        return np.array(given, dtype=np.int64)
    if not isinstance(text := line.get("text"), str):
        raise SteerError(f"{where}: text: got {text!r}, expected a string (or tokens, a list)")
    if not text.isprintable() and any("\ud800" <= one <= "\udfff" for one in text):
        raise SteerError(f"{where}: text: half of a pair of surrogates, which is no character")
    if encode is None:
        raise SteerError(f"{where}: text needs a tokenizer; name one, or give tokens")
    return np.array(encode(text), dtype=np.int64)


def labelled_rows(rows: pl.DataFrame, column: str, above: float | None = None) -> Labelled:
    """Label the rows of a table by a column: true and false become 1 and −1.

    Parameters
    ----------
    rows : with `tokens`; rows without a value are left out.
    above : where given, larger values become 1 and all others −1.

    Raises
    ------
    SteerError
        There is no such column, or its values are no labels.
    """
    for name in ("tokens", column):
        if name not in rows.columns:
            raise SteerError(f"rows: no column '{name}'; known: {', '.join(rows.columns)}")
    kept = rows.drop_nulls(column)
    kind = kept.schema[column]
    if not (kind.is_numeric() or kind == pl.Boolean):
        raise SteerError(f"rows: column '{column}' is {kind}, expected numbers, or true and false")
    values = kept[column].cast(pl.Float64).to_numpy()
    if above is not None or kind == pl.Boolean:
        values = np.where(values > (above or 0), 1.0, -1.0)
    elif len(values) and np.abs(values).max() > 1:
        raise SteerError(
            f"rows: column '{column}' goes from {values.min():g} to {values.max():g}, labels from "
            "-1 to 1; --above NUMBER labels larger values 1 and all others -1"
        )
    return Labelled([np.array(one) for one in kept["tokens"].to_list()], values)


def cut_to_context(
    model: PreTrainedModel, texts: Sequence[Tokens], longest: int | None = None
) -> tuple[list[Tokens], list[str]]:
    """Cut texts to what a model reads; return them, and a note where some were cut.

    Parameters
    ----------
    longest : tokens of a text; by default the model's context and the target behind it.

    Raises
    ------
    SteerError
        A text has less than two tokens, or a token that the model does not have.
    """
    context = getattr(model.config, "max_position_embeddings", None)
    most = min(longest or 2**31, 2**31 if context is None else context + 1)
    vocabulary = token_count(model)
    for number, text in enumerate(texts, 1):
        if len(text) < 2:
            raise SteerError(f"text {number} has {len(text)} tokens, expected two or more")
        if text.min() < 0 or text.max() >= vocabulary:
            odd = text[(text < 0) | (text >= vocabulary)][0]
            raise SteerError(
                f"text {number} has token {odd:,}, the model's are 0 to {vocabulary - 1:,}; text "
                "and model have different tokenizers"
            )
    long = [len(text) for text in texts if len(text) > most]
    notes = []
    if long:
        what = "the longest has" if len(long) > 1 else "it has"
        notes = [
            f"{len(long):,} of {len(texts):,} texts cut to {most:,} tokens, which is what "
            f"{'the settings ask for' if most == longest else 'the model reads and predicts'}; "
            f"{what} {max(long):,}"
        ]
    return [text[:most] for text in texts], notes


def token_count(model: PreTrainedModel) -> int:
    """How many tokens a model gives scores to."""
    head = model.get_output_embeddings()  # type: ignore[no-untyped-call]
    return len(head.weight) if head is not None else int(model.config.vocab_size)


def padded(texts: Sequence[Tokens], device: torch.device | str = "cpu") -> tuple[Any, Any]:
    """Lay texts side by side: token ids (B, T), and which of the T − 1 targets are real.

    Padding stands behind a text, where no earlier position of a causal model can see it.
    """
    longest = max(len(text) for text in texts)
    ids = torch.zeros(len(texts), longest, dtype=torch.int64)
    for row, text in zip(ids, texts, strict=True):
        row[: len(text)] = torch.from_numpy(np.asarray(text, dtype=np.int64))
    lengths = torch.tensor([len(text) for text in texts])
    real = torch.arange(1, longest)[None] < lengths[:, None]
    return ids.to(device), real.to(device)


def target_losses(model: PreTrainedModel, ids: torch.Tensor) -> torch.Tensor:
    """Surprisal of every target of padded texts (B, T); (B, T − 1) nats, from float32 logits."""
    logits = model(input_ids=ids[:, :-1], use_cache=False).logits.float()
    losses = cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), reduction="none")
    return losses.reshape(len(ids), -1)


@torch.no_grad()
def text_losses(
    model: PreTrainedModel, texts: Sequence[Tokens], *, batch_size: int = 64
) -> list[npt.NDArray[np.float32]]:
    """Surprisal of every target of every text, nats; of a text of T tokens (T − 1,).

    Inside a `steered` block these are the steered model's. The model is in evaluation mode for it.
    """
    found: list[npt.NDArray[np.float32]] = []
    was_training = model.training
    model.train(False)
    for first in range(0, len(texts), batch_size):
        part = texts[first : first + batch_size]
        ids, _ = padded(part, model.device)
        losses = target_losses(model, ids).cpu().numpy()
        found += [row[: len(text) - 1] for row, text in zip(losses, part, strict=True)]
    model.train(was_training)
    return found
