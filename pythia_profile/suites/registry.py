"""Suites by name: published ones, those of installed packages, and any folder with a suite.toml.

A name may stand for several training runs (PolyPythias): the training seed says which; the name of
a published order (`pythia-seed1`) stands for the run that read it. Another
package adds suites through the entry-point group `pythia_profile.suites`: each entry is a
`SuiteEntry` under the suite's name.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import entry_points
from pathlib import Path

from data_order.published import ORDERS
from pythia_profile.errors import NotFoundError, check_kind, not_found
from pythia_profile.suites.folder import FILE_NAME, read_suite
from pythia_profile.suites.model import Suite
from pythia_profile.suites.pythia import PUBLISHED
from pythia_profile.suites.unreplayable import why_unknown

__all__ = [
    "GROUP",
    "SuiteEntry",
    "as_suite",
    "facts_of",
    "is_known",
    "known_suites",
    "open_suite",
    "suite_facts_of",
    "suite_there",
]

GROUP = "pythia_profile.suites"


@dataclass(frozen=True, slots=True)
class SuiteEntry:
    """What an installed package says of one of its suites.

    Attributes
    ----------
    facts : gives the suite's facts without making or fetching anything.
    open : gives the suite with the named sizes ready to read, of one training seed.
    there : gives its rows, and those sizes that are on this machine, of one training seed.
    """

    facts: Callable[[], Suite]
    open: Callable[[Sequence[str], int], Suite]
    there: Callable[[int], Suite]


def known_suites() -> list[str]:
    """Names of all suites that `open_suite` knows, sorted."""
    return sorted({*PUBLISHED, *(entry.name for entry in entry_points(group=GROUP))})


def is_known(name: str) -> bool:
    """Whether a suite, or the published order of one of its runs, is called so; not a folder."""
    return name in known_suites() or bool(_of_order(name))


def open_suite(
    name: str, sizes: Sequence[str] = (), seed: int = 0, *, near: Path | None = None
) -> Suite:
    """Return a suite with `sizes` ready to read; nothing is fetched.

    Parameters
    ----------
    name : a known name (of a suite, or of the published order of one of its runs), or a folder
        that holds a `suite.toml`.
    sizes : those needed; a suite that is made here makes what is missing.
    seed : training seed, where a suite has several.
    near : folder against which a relative path is read.

    Raises
    ------
    NotFoundError
        No suite or folder of that name, or a size or training seed it does not have.

    Examples
    --------
    >>> open_suite("polypythias", ["70m"], seed=3).size("70m").weights
    'EleutherAI/pythia-70m-seed3'
    >>> open_suite("pythia-seed3", ["70m"], seed=3).name
    'polypythias'
    """
    suite = _in_folder(name, near) or _published(name, seed) or _entry(name).open(sizes, seed)
    for size in sizes:
        suite.size(size)
    return suite


def suite_facts_of(name: str, seed: int | None = None, *, near: Path | None = None) -> Suite:
    """Return what is known of a suite, without making or fetching anything of it.

    Parameters
    ----------
    seed : training seed of a published suite; its first by default.

    Raises
    ------
    NotFoundError
        No suite or folder of that name, or no such training seed.
    """
    return _in_folder(name, near) or _published(name, seed) or _entry(name).facts()


def as_suite(suite: Suite | str | Path, sizes: Sequence[str] = ()) -> Suite:
    """Take a suite, its name or its folder; with `sizes` ready to read where it is a name.

    Raises
    ------
    NotFoundError
        There is no such suite.
    ArgumentError
        It is none of these.
    """
    return suite if isinstance(suite, Suite) else open_suite(str(_named(suite)), sizes)


def facts_of(suite: Suite | str | Path) -> Suite:
    """Take a suite, or what is known of one by its name or in its folder."""
    return suite if isinstance(suite, Suite) else suite_facts_of(str(_named(suite)))


def _named(suite: object) -> object:
    check_kind(suite, (str, Path), "suite", "a suite, its name, or its folder")
    return suite


def suite_there(name: str, seed: int | None = None) -> Suite:
    """Return a suite as far as it is available here: what is made here is not made anew.

    Raises
    ------
    NotFoundError
        No suite or folder of that name, or no such training seed.
    """
    return _in_folder(name, None) or _published(name, seed) or _entry(name).there(seed or 0)


def _in_folder(name: str, near: Path | None) -> Suite | None:
    _named(name)
    folder = (near / name) if near is not None else Path(name)
    return read_suite(folder) if (folder / FILE_NAME).is_file() else None


def _published(name: str, seed: int | None) -> Suite | None:
    runs = {suite.seed: suite for suite in PUBLISHED.get(name) or _of_order(name)}
    if not runs:
        return None
    if seed is None:
        return next(iter(runs.values()))
    if seed not in runs:
        raise NotFoundError(
            f"no training seed {seed} of suite '{name}'; known: {', '.join(map(str, runs))}"
        )
    return runs[seed]


def _of_order(name: str) -> list[Suite]:
    """Training runs that read the published order of this name: usually one."""
    return [suite for runs in PUBLISHED.values() for suite in runs if suite.published == name]


def _entry(name: str) -> SuiteEntry:
    entries = {entry.name: entry for entry in entry_points(group=GROUP)}
    if name not in entries and Path(name).is_dir():
        raise NotFoundError(f"no {FILE_NAME} in '{name}'; expected a folder that describes a suite")
    if name not in entries and (why := why_unknown(name)):
        raise NotFoundError(f"no suite '{name}': {why}")
    if name not in entries:
        raise not_found("suite", name, sorted({*known_suites(), *ORDERS}))
    found: SuiteEntry = entries[name].load()
    return found
