"""Text that every machine with Python has: the standard library's own sources, as token rows.

Files in seeded random order, a byte-level BPE trained on a third of them, rows of fixed length,
rows dropped that share much with another row, and what is left shuffled **by row**: treatment is
then assigned at random, which is what makes parallel trends hold (whole files held out as controls
break them).
"""

import hashlib
import sysconfig
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

from pythia_profile.errors import ProfileError
from pythia_profile.mini.config import MiniConfig

__all__ = ["Corpus", "CorpusError", "read_corpus", "repeated_rows", "token_rows", "train_tokenizer"]

_LEFT_OUT = {
    "test",
    "tests",
    "encodings",
    "idlelib",
    "lib2to3",
    "tkinter",
    "distutils",
    "turtledemo",
    "ensurepip",
    "site-packages",
    "dist-packages",
    "__pycache__",
}
_BYTES_PER_ROW = 330
"""Bytes of source to read for one row that is kept: about 2.9 bytes a token of which 65 make a row,
a fifth of the rows dropped as near-duplicates, and a quarter in reserve."""


class CorpusError(ProfileError):
    """The standard library of the interpreter does not give enough text."""


@dataclass(frozen=True, slots=True)
class Corpus:
    """The texts of some files, in the order in which they are read.

    Attributes
    ----------
    texts : one source file each.
    sha256 : hash over the bytes of all of them.
    """

    texts: tuple[str, ...]
    sha256: str


def read_corpus(config: MiniConfig, folder: Path | None = None) -> Corpus:
    """Read as much of the standard library's sources as `config` needs.

    Parameters
    ----------
    folder : where the sources lie; by default this interpreter's standard library.

    Raises
    ------
    CorpusError
        The folder holds too little Python source.
    """
    root = folder or Path(sysconfig.get_path("stdlib"))
    paths = sorted(
        path
        for path in root.rglob("*.py")
        if not _LEFT_OUT.intersection(path.relative_to(root).parts)
    )
    np.random.default_rng([config.seed, 0]).shuffle(paths)
    needed = config.rows * _BYTES_PER_ROW
    texts, total, checksum = [], 0, hashlib.sha256()
    for path in paths:
        content = path.read_bytes()
        checksum.update(content)
        texts.append(content.decode("utf-8", errors="replace"))
        total += len(content)
        if total >= needed:
            return Corpus(tuple(texts), checksum.hexdigest())
    raise CorpusError(
        f"too little text: {len(paths)} Python files in '{root}' hold {total:,} bytes, the mini "
        f"suite needs {needed:,}; install Python with its sources (some systems split them off)"
    )


def train_tokenizer(texts: Sequence[str], vocabulary: int) -> Tokenizer:
    """Byte-level BPE of `vocabulary` entries, trained on the first third of the texts."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts[: max(1, len(texts) // 3)], trainer)
    return tokenizer


def token_rows(corpus: Corpus, tokenizer: Tokenizer, config: MiniConfig) -> npt.NDArray[np.uint16]:
    """All rows of the suite, shuffled: those trained on first, then never-treated, then spare.

    Returns
    -------
    (config.rows, config.row_tokens) token ids.

    Raises
    ------
    CorpusError
        Too few rows are left once near-duplicates are dropped.
    """
    encoded = tokenizer.encode_batch(list(corpus.texts))
    stream = np.concatenate([np.asarray(text.ids, dtype=np.uint16) for text in encoded])
    rows = stream[: len(stream) // config.row_tokens * config.row_tokens]
    rows = rows.reshape(-1, config.row_tokens)
    kept = rows[~repeated_rows(rows, config.duplicate_grams, config.duplicate_share)]
    if len(kept) < config.rows:
        raise CorpusError(
            f"too little text: {len(kept):,} of {len(rows):,} rows are left without near-"
            f"duplicates, the mini suite needs {config.rows:,}"
        )
    order = np.random.default_rng([config.seed, 1]).permutation(len(kept))
    return kept[order[: config.rows]]


def repeated_rows(rows: npt.NDArray[np.uint16], grams: int, share: float) -> npt.NDArray[np.bool_]:
    """Mark the rows of which at least `share` of the token n-grams occur in another row.

    Parameters
    ----------
    rows : (n, tokens) token ids.
    grams : length of an n-gram, in tokens.

    Returns
    -------
    (n,) True where a row repeats another one.

    Examples
    --------
    >>> rows = np.array([[1, 2, 3, 4], [1, 2, 3, 9], [5, 6, 7, 8]], dtype=np.uint16)
    >>> repeated_rows(rows, grams=3, share=0.5)
    array([ True,  True, False])
    """
    hashes = _gram_hashes(rows, grams)
    owner = np.repeat(np.arange(len(rows)), hashes.shape[1])
    order = np.argsort(hashes.ravel(), kind="stable")
    ordered, owners = hashes.ravel()[order], owner[order]
    starts = np.flatnonzero(np.r_[True, ordered[1:] != ordered[:-1]])
    ends = np.r_[starts[1:], len(ordered)] - 1
    shared = owners[starts] != owners[ends]
    in_another = np.empty(len(ordered), dtype=bool)
    in_another[order] = np.repeat(shared, ends - starts + 1)
    repeated: npt.NDArray[np.bool_] = in_another.reshape(hashes.shape).mean(axis=1) >= share
    return repeated


def _gram_hashes(rows: npt.NDArray[np.uint16], grams: int) -> npt.NDArray[np.uint64]:
    """(n, tokens - grams + 1) polynomial hashes modulo 2^64 of each row's n-grams."""
    width = rows.shape[1] - grams + 1
    hashes = np.zeros((len(rows), width), dtype=np.uint64)
    for offset in range(grams):
        hashes *= np.uint64(0x9E3779B97F4A7C15)
        hashes += rows[:, offset : offset + width].astype(np.uint64) + np.uint64(1)
    return hashes
