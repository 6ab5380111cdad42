"""What kind a memorized sequence is: why it can be given back, and what sort of text it is.

In: counts in the corpus, token rows, texts. Both rules are stated here and nothing else decides:

- `reconstruction`: a template, which repeats or counts on, so that it need not be remembered;
  else `recitation`: read at least `recited` times; else `recollection`: read a few times only
  (after Prashanth et al., 2024, arXiv 2406.17746).
- `table`, `list`, `code` and `prose`, by the shares of lines of each form (`domain`).
"""

import re
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt
import polars as pl

from pythia_profile.labs.recall.recall_errors import RecallError

__all__ = ["DOMAINS", "KINDS", "composition", "counts_on", "domain", "kinds", "repeats"]

KINDS = ("recitation", "reconstruction", "recollection")
DOMAINS = ("code", "table", "list", "prose")

_NUMBER = re.compile(r"\d+")
_LIST = re.compile(r"\s*([-*•]|\d+[.)]|[a-z][.)])\s+\S")
_TABLE = re.compile(r".*(\|.*\||\t.*\t|,[^, ]+,[^, ]+,)")
_CODE = re.compile(
    r".*([{};]\s*$|^\s*(def|class|import|from|return|if|for|while|elif|else|try|const|var|let"
    r"|public|static|void|#include)\b.*[(:;]|\w\(.*\)\s*[:;{]?\s*$|[=!<>]=|->|=>|\w\s*=\s*[\w\"'\[({])"
)


def repeats(rows: npt.NDArray[np.integer[Any]], times: int = 3) -> npt.NDArray[np.bool_]:
    """Mark rows that are one piece, said `times` times or more; (n,).

    Parameters
    ----------
    rows : (n, T) token ids; some period p of at most T / `times` holds for all of a row.

    Examples
    --------
    >>> repeats(np.array([[1, 2, 1, 2, 1, 2], [1, 2, 3, 1, 2, 3]])).tolist()
    [True, False]
    """
    found = np.zeros(len(rows), dtype=bool)
    for period in range(1, rows.shape[1] // times + 1):
        found |= (rows[:, period:] == rows[:, :-period]).all(axis=1)
    return found


def counts_on(text: str, least: int = 4) -> bool:
    """Whether the numbers of a text are `least` or more in steps of one size other than 0.

    Examples
    --------
    >>> counts_on("item 3, item 4, item 5, item 6"), counts_on("1, 2, 4, 8")
    (True, False)
    """
    numbers = [int(one) for one in _NUMBER.findall(text) if len(one) < 16]
    steps = {after - before for before, after in pairwise(numbers)}
    return len(numbers) >= least and len(steps) == 1 and steps != {0}


def kinds(
    counts: npt.ArrayLike,
    rows: npt.NDArray[np.integer[Any]],
    texts: Sequence[str] | None = None,
    *,
    recited: int = 5,
) -> npt.NDArray[np.str_]:
    """Name the kind of each memorized sequence; (n,) of `KINDS`.

    Parameters
    ----------
    counts : (n,) how often each occurs in the corpus.
    rows : (n, T) token ids; texts : of the same rows, where there is a tokenizer.
    recited : occurrences from which on a sequence counts as recited.
    """
    often = np.asarray(counts) >= recited
    template = repeats(rows)
    if texts is not None:
        if len(texts) != len(rows):
            raise RecallError(f"{len(texts)} texts of {len(rows)} rows; expected one for each")
        template |= np.array([counts_on(text) for text in texts], dtype=bool)
    return np.select([template, often], ["reconstruction", "recitation"], "recollection")


def domain(text: str) -> str:
    """Name the form of a text: the first of table, list and code that half of its lines have.

    A line is of a table with two or more cell borders (`|`, tabs, or commas without spaces), of a
    list when it begins with a bullet or a number, of code when it ends in `;`, a brace or a call,
    begins with a keyword, assigns or compares. Blank lines count for nothing; the rest is `prose`.

    Examples
    --------
    >>> domain("for x in rows:" + chr(10) + "    total += x"), domain("It rained all day.")
    ('code', 'prose')
    """
    lines = [line for line in text.splitlines() if line.strip()]
    for name, form in (("table", _TABLE), ("list", _LIST), ("code", _CODE)):
        if lines and 2 * sum(bool(form.match(line)) for line in lines) >= len(lines):
            return name
    return "prose"


def composition(names: Sequence[str], exact: npt.ArrayLike, known: Sequence[str]) -> pl.DataFrame:
    """Count kinds or domains among all sequences and among memorized ones.

    Parameters
    ----------
    names : (k,) kind or domain of each sequence; known : all that there are, in order.
    exact : (k,) whether it is given back whole.

    Returns
    -------
    A line a name: `sequences`, `memorized`, `rate` (null of none), shares of all and of the
    memorized, and `enrichment`, the second share over the first (null where there is none).
    """
    flags, given = np.asarray(exact, dtype=bool), np.asarray(names)
    lines = []
    for name in known:
        of_name = given == name
        n, hits = int(of_name.sum()), int((of_name & flags).sum())
        share = n / len(given) if len(given) else None
        held = hits / int(flags.sum()) if flags.any() else None
        lines.append(
            {
                "name": name,
                "sequences": n,
                "memorized": hits,
                "rate": hits / n if n else None,
                "share": share,
                "share_of_memorized": held,
                "enrichment": held / share if held is not None and share else None,
            }
        )
    floats = ("rate", "share", "share_of_memorized", "enrichment")
    return pl.DataFrame(lines, schema_overrides=dict.fromkeys(floats, pl.Float64))
