"""Which columns a scorer adds to the scores, by its name alone: no model library is loaded.

A study names scorers, and outcomes by their columns; both are checked here before any work. Other
packages add scorers through the entry-point group `pythia_profile.scorers`: each entry is a
`scoring.outcomes.Outcome` under its name.
"""

import re
from collections.abc import Iterable, Sequence
from importlib.metadata import EntryPoint, entry_points

from pythia_profile.errors import not_found

__all__ = ["BASE", "GROUP", "KNOWN", "columns_of", "is_scorer", "plugin", "scorer_columns"]

GROUP = "pythia_profile.scorers"
BASE = "base"
KNOWN = (BASE, "first_64", "min_20", "min_20++", "zlib", "recall_32_32", "exact_32_32")
"""Names as examples; the numbers may be others."""

_COLUMNS = {
    BASE: ("log_likelihood", "accuracy", "mean_rank", "entropy"),
    "zlib": ("log_likelihood_per_zlib_bit",),
    r"first_(\d+)": ("log_likelihood_first_{}",),
    r"min_(\d+)": ("min_{}",),
    r"min_(\d+)\+\+": ("min_{}_standardized",),
    r"extraction_(\d+)": ("extraction_{}_share", "extraction_{}_full"),
    r"recall_(\d+)_(\d+)": ("recall_{}_{}_share", "recall_{}_{}_full", "recall_{}_{}_leading"),
    r"exact_(\d+)_(\d+)": ("exact_{}_{}_full", "exact_{}_{}_log_p"),
}


def scorer_columns(name: str) -> tuple[str, ...]:
    """Return the columns of one scorer.

    Raises
    ------
    NotFoundError
        There is none; a typo is answered with near matches.

    Examples
    --------
    >>> scorer_columns("first_32"), scorer_columns("extraction_8")
    (('log_likelihood_first_32',), ('extraction_8_share', 'extraction_8_full'))
    """
    for pattern, columns in _COLUMNS.items():
        if found := re.fullmatch(pattern, name):
            return tuple(column.format(*(int(n) for n in found.groups())) for column in columns)
    if (entry := plugin(name)) is not None:
        return tuple(entry.load().columns)
    raise not_found("outcome", name, [*KNOWN, *(entry.name for entry in entry_points(group=GROUP))])


def is_scorer(name: str) -> bool:
    """Whether this is the name of a scorer, built in or of another package."""
    return any(re.fullmatch(pattern, name) for pattern in _COLUMNS) or plugin(name) is not None


def plugin(name: str) -> EntryPoint | None:
    """Return the entry point of another package's scorer; None where no package has it."""
    return next(iter(entry_points(group=GROUP, name=name)), None)


def columns_of(scorers: Sequence[str]) -> list[str]:
    """Columns of the scores that these scorers give, the base ones always and first.

    Examples
    --------
    >>> columns_of(["zlib"])
    ['log_likelihood', 'accuracy', 'mean_rank', 'entropy', 'log_likelihood_per_zlib_bit']
    """
    found: Iterable[str] = (c for name in (BASE, *scorers) for c in scorer_columns(name))
    return list(dict.fromkeys(found))
