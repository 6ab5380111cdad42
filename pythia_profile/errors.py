"""One class for each thing a researcher can get wrong; the root is `ProfileError`.

Messages are one line: what, where, got, expected, what to do. `exit_code` follows the command
line's convention: 1 failed, 2 usage or not found, 3 finished with failed or quarantined units,
4 refused beforehand.
"""

from collections.abc import Iterable
from difflib import get_close_matches
from pathlib import Path

from data_order.errors import OrderError, ProfileError

__all__ = [
    "ArgumentError",
    "CheckpointError",
    "EstimationError",
    "MissingTableError",
    "NotFoundError",
    "OrderError",
    "ProfileError",
    "RefusedError",
    "SettingsError",
    "StudyError",
    "TableError",
    "UnfinishedError",
    "as_path",
    "check_kind",
    "did_you_mean",
    "not_found",
]


class ArgumentError(ProfileError, TypeError):
    """An argument is of a kind that the function does not take."""

    exit_code = 2


class NotFoundError(ProfileError):
    """A suite, size, checkpoint, metric or study was named that does not exist."""

    exit_code = 2


class CheckpointError(ProfileError):
    """A checkpoint's files are not what a checkpoint of its architecture must be."""


class StudyError(ProfileError):
    """A study folder or its settings cannot be used."""

    exit_code = 2


class SettingsError(StudyError, ValueError):
    """A setting is unknown, or has a value that it cannot take."""


class MissingTableError(StudyError):
    """A stage was asked for before the stage that writes its input."""


class TableError(ProfileError):
    """A table does not have the columns, types or keys that its contract asks for."""


class UnfinishedError(ProfileError):
    """Work ended with failed or quarantined units."""

    exit_code = 3


class RefusedError(ProfileError):
    """Refused before any work: disk, memory, or a faulty checkpoint."""

    exit_code = 4


class EstimationError(ProfileError):
    """The panel does not allow the estimate that was asked for."""


def check_kind(value: object, kinds: type | tuple[type, ...], what: str, expected: str) -> None:
    """Refuse an argument of another kind.

    Raises
    ------
    ArgumentError
        It names the argument, what was got, and what is expected.

    Examples
    --------
    >>> check_kind(3, str, "outcome", "a column of the scores")
    Traceback (most recent call last):
    pythia_profile.errors.ArgumentError: outcome: got int, expected a column of the scores
    """
    if not isinstance(value, kinds):
        raise ArgumentError(f"{what}: got {type(value).__name__}, expected {expected}")


def as_path(value: object, what: str = "study") -> Path:
    """Take the path of a file or folder.

    Raises
    ------
    ArgumentError
        It is no path.
    """
    check_kind(value, (str, Path), what, "a path")
    return Path(value)  # type: ignore[arg-type]


def not_found(what: str, name: str, known: list[str]) -> NotFoundError:
    """Error for an unknown `name`, with near matches first.

    Examples
    --------
    >>> str(not_found("suite", "pythia-dedup", ["mini", "pythia", "pythia-deduped"]))
    "no suite 'pythia-dedup'; did you mean 'pythia-deduped'? known: mini, pythia, pythia-deduped"
    """
    listed = ", ".join(known) if known else "none"
    return NotFoundError(f"no {what} '{name}';{did_you_mean(name, known)} known: {listed}")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """Name what is spelt most like `name`, whole or by its last word; empty where nothing is.

    Examples
    --------
    >>> did_you_mean("drawz", ["sample.seed", "estimate.draws"]), did_you_mean("zzz", ["draws"])
    (" did you mean 'estimate.draws'?", '')
    """
    whole = {full: full for full in known}
    last = {full.rpartition(".")[2]: full for full in reversed(whole)}
    for words, asked in ((whole, name), (last, name.rpartition(".")[2])):
        if near := get_close_matches(asked, words, n=1, cutoff=0.6):
            return f" did you mean '{words[near[0]]}'?"
    return ""
