"""Questions and answers as token rows: a phone book, documents, or one's own file.

Only answers are learned. In one grid a shorter set is the beginning of a longer one, so that they
differ in nothing else.
"""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from data_order.store.token_rows import TokenRows
from pythia_profile.errors import StudyError
from pythia_profile.labs.law.law_base import Base
from pythia_profile.labs.law.law_settings import LawSettings
from pythia_profile.training.languages import phone_book

__all__ = ["Answers", "answers_of", "documents", "phone_numbers", "read_answers"]

Pair = tuple[Sequence[int], Sequence[int]]
_KEY = 4
"""Random tokens by which a document is asked for."""
_DIGITS = 10


@dataclass(frozen=True, slots=True)
class Answers:
    """n questions, each with its answer, side by side.

    Attributes
    ----------
    rows : (n, T) token ids: question, answer, and zeros that nothing reads.
    scored : (n, T - 1) whether a target, the token after, belongs to the answer.
    """

    rows: npt.NDArray[np.int64]
    scored: npt.NDArray[np.bool_]

    @classmethod
    def of(cls, pairs: Sequence[Pair]) -> "Answers":
        """Lay out token ids of questions and answers.

        Examples
        --------
        >>> found = Answers.of([([5], [1, 2]), ([6, 7], [3])])
        >>> found.rows.tolist(), found.scored.astype(int).tolist()
        ([[5, 1, 2], [6, 7, 3]], [[1, 1], [0, 1]])
        """
        longest = max(len(question) + len(answer) for question, answer in pairs)
        rows = np.zeros((len(pairs), longest), np.int64)
        scored = np.zeros((len(pairs), longest - 1), bool)
        for row, flags, (question, answer) in zip(rows, scored, pairs, strict=True):
            end = len(question) + len(answer)
            row[:end] = [*question, *answer]
            flags[len(question) - 1 : end - 1] = True
        return cls(rows, scored)

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def tokens(self) -> int:
        """Answer tokens."""
        return int(self.scored.sum())


def answers_of(settings: LawSettings, base: Base, seed: int) -> dict[int, Answers]:
    """Return the answers of each length, by the number that was asked for.

    Raises
    ------
    StudyError
        An answer is empty or longer than the context, or there are too few.
    """
    most = max(settings.answer_tokens)
    tokenizer = base.tokenizer(settings.tokenizer)
    if settings.data == "phone_book":
        pairs = phone_numbers(-(-most // _DIGITS), tokenizer, seed=seed)
    elif settings.data == "documents":
        length = min(settings.document_tokens, *settings.answer_tokens)
        text = None if settings.random_share == 1 else _text(settings, base, tokenizer)
        pairs = documents(
            -(-most // length),
            length,
            base.vocabulary,
            random_share=settings.random_share,
            text=text,
            seed=seed,
        )
    else:
        if tokenizer is None:
            raise StudyError(_NO_TOKENIZER.format(what=f"'{settings.file}'", base=base.name))
        pairs = read_answers(Path(settings.file), tokenizer)
    _check(pairs, base)
    ends = np.cumsum([len(answer) for _, answer in pairs])
    if most > ends[-1]:
        raise StudyError(
            f"answer_tokens: got {most}, {len(pairs)} answers have {ends[-1]}; take shorter "
            "lengths or more answers"
        )
    return {
        length: Answers.of(pairs[: int(np.searchsorted(ends, length)) + 1])
        for length in settings.answer_tokens
    }


_NO_TOKENIZER = (
    "tokenizer: {what} is text and the suite of {base} brings no tokenizer here; name its "
    "tokenizer.json"
)


def _check(pairs: Sequence[Pair], base: Base) -> None:
    for number, (question, answer) in enumerate(pairs, 1):
        if not answer:
            raise StudyError(f"answer {number} is empty; each needs one token or more")
        if not question:
            raise StudyError(f"question {number} is empty; its answer would follow nothing")
        if len(question) + len(answer) - 1 > base.context:
            raise StudyError(
                f"answer {number} is longer than the context: {len(answer)} tokens after a "
                f"question of {len(question)}, {base.name} reads {base.context}"
            )
        if (largest := max(*question, *answer)) >= base.vocabulary:
            raise StudyError(
                f"answer {number} holds token {largest}, {base.name} has {base.vocabulary:,}; "
                "the tokenizer is another model's"
            )


def phone_numbers(entries: int, tokenizer: Any | None, *, seed: int) -> list[Pair]:
    """Names of 8 letters, each with a number of 10 digits: one token a digit.

    Parameters
    ----------
    tokenizer : writes `abcdefgh:` and each digit; without one, ids 0 to 36 are the symbols.

    Examples
    --------
    >>> [(question, answer)] = phone_numbers(1, None, seed=0)
    >>> len(question), len(answer), max(answer) < 10
    (9, 10, True)
    """
    book = phone_book(entries, seed=seed, digits=_DIGITS)
    names, numbers = np.split(book.rows, [book.answer], axis=1)
    if tokenizer is None:
        return list(zip(names.tolist(), numbers.tolist(), strict=True))
    digits = [_ids(tokenizer, str(digit))[-1] for digit in range(10)]
    if len({*digits}) < 10:
        raise StudyError("tokenizer: digits do not differ in their last token; use data documents")
    texts = ["".join(chr(97 + letter - 11) for letter in name[:-1]) + ":" for name in names]
    return [
        (_ids(tokenizer, text), [digits[digit] for digit in number])
        for text, number in zip(texts, numbers.tolist(), strict=True)
    ]


def documents(
    count: int,
    length: int,
    vocabulary: int,
    *,
    random_share: float = 1.0,
    text: npt.NDArray[np.integer[Any]] | None = None,
    seed: int,
) -> list[Pair]:
    """Documents of `length` tokens, each after a key of 4 random tokens.

    Parameters
    ----------
    random_share : of tokens that are drawn uniformly; the others are the text's.
    text : (n,) token ids, cut into documents from its beginning; not needed where all are random.

    Raises
    ------
    StudyError
        The text is too short.

    Examples
    --------
    >>> found = documents(2, 3, 100, random_share=0, text=np.arange(6), seed=0)
    >>> [answer for _, answer in found]
    [[0, 1, 2], [3, 4, 5]]
    """
    drawn = np.random.default_rng(seed).integers(vocabulary, size=(count, _KEY + length))
    keys, answers = drawn[:, :_KEY], drawn[:, _KEY:]
    if random_share < 1:
        if text is None or len(text) < count * length:
            raise StudyError(
                f"text: has {0 if text is None else len(text):,} tokens, {count:,} documents of "
                f"{length:,} need {count * length:,}; take a longer one, or random_share = 1"
            )
        kept = np.random.default_rng([seed, 1]).random((count, length)) >= random_share
        answers = np.where(kept, text[: count * length].reshape(count, length), answers)
    return list(zip(keys.tolist(), answers.tolist(), strict=True))


def read_answers(path: Path, tokenizer: Any) -> list[Pair]:
    """Read JSON lines with `question` and `answer`, encoded without anything between them.

    Raises
    ------
    StudyError
        There is no such file, or a line is not that; its number is named.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise StudyError(f"'{path}' cannot be read: {error}") from None
    pairs: list[Pair] = []
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        try:
            found = json.loads(line)
            question, answer = found["question"], found["answer"]
        except (ValueError, KeyError, TypeError, RecursionError):
            raise StudyError(
                f"'{path}' line {number}: expected an object with `question` and `answer`"
            ) from None
        for name, text in (("question", question), ("answer", answer)):
            if not isinstance(text, str) or not text:
                what = "empty" if text == "" else f"{text!r}"
                raise StudyError(f"'{path}' line {number}: {name} is {what}, expected a text")
        pairs.append((_ids(tokenizer, question), _ids(tokenizer, answer)))
    if not pairs:
        raise StudyError(f"'{path}' holds no question")
    return pairs


def _ids(tokenizer: Any, text: str) -> list[int]:
    found: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
    return found


def _text(settings: LawSettings, base: Base, tokenizer: Any | None) -> npt.NDArray[Any]:
    """Tokens of the text that was named, or of rows that the suite's run never read."""
    if settings.text:
        if tokenizer is None:
            raise StudyError(_NO_TOKENIZER.format(what=f"'{settings.text}'", base=base.name))
        try:
            content = Path(settings.text).read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise StudyError(f"text: '{settings.text}' cannot be read: {error}") from None
        return np.asarray(_ids(tokenizer, content), dtype=np.int64)
    suite = base.suite
    if not (suite.root and suite.store):
        raise StudyError(
            f"text: {base.name} lies in no folder with unread rows; name a text, or take "
            "random_share = 1"
        )
    rows = TokenRows.open(suite.root / suite.store, suite.row_tokens, vocabulary=suite.vocabulary)
    return rows[suite.batch_size * suite.steps :].reshape(-1)
