"""The hub asked once: branches to commits, commits to files, kept in a study's lock file.

A branch can be moved at any time; a commit cannot change. What is pinned here is asked for once
and then read by commit, so a run that lasts a week reads what it began with.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass, field, replace
from typing import Any

from pydantic import TypeAdapter, ValidationError

from data_order.hub.access import Hub, HubFile
from data_order.hub.listings import list_branches, list_files
from pythia_profile.checkpoints.listing import Listing, Revision, is_safe, matters
from pythia_profile.errors import NotFoundError, StudyError
from pythia_profile.suites.model import Suite

__all__ = ["Pins", "moved_branches", "pin"]

MAIN = "main"
_PARALLEL = 8
_LINES = TypeAdapter(list[tuple[str, int, str, str]])
_BRANCHES = TypeAdapter(dict[str, str])

Files = tuple[HubFile, ...]


@dataclass(frozen=True, slots=True)
class Pins:
    """What the hub answered, once.

    Attributes
    ----------
    branches : repository -> branch -> commit.
    trees : repository -> commit -> the files that matter.
    """

    branches: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    trees: Mapping[str, Mapping[str, Files]] = field(default_factory=dict)

    def listing(self, suite: Suite, size: str) -> Listing:
        """Checkpoints of a size, as they are pinned.

        Raises
        ------
        NotFoundError
            The size's repository has not been pinned.
        """
        repository = suite.repository(size)
        if repository is None or repository not in self.branches:
            raise NotFoundError(f"{suite.name} {size}: its repository has not been pinned")
        branches, trees = self.branches[repository], self.trees.get(repository, {})
        names = _names_by_step(suite, branches)
        steps = {
            step: Revision.of(name, branches[name], trees[branches[name]])
            for step, name in names.items()
            if branches[name] in trees
        }
        main = branches.get(MAIN, "")
        return Listing(
            repository,
            steps,
            tuple(sorted(names)),
            Revision.of(MAIN, main, trees[main]) if main in trees else None,
        )

    def facts(self) -> dict[str, Any]:
        """Return plain values for a lock file; `Pins.read` takes them back."""
        return {
            repository: {
                "branches": dict(branches),
                "trees": {
                    commit: [list(astuple(file)) for file in files]
                    for commit, files in self.trees.get(repository, {}).items()
                },
            }
            for repository, branches in self.branches.items()
        }

    @classmethod
    def read(cls, facts: Mapping[str, Any]) -> "Pins":
        """Take back what `facts` gave.

        Raises
        ------
        StudyError
            A value is of another form.
        """
        try:
            branches = {
                repository: _BRANCHES.validate_python(facts_of["branches"])
                for repository, facts_of in facts.items()
            }
            trees = {
                repository: {commit: _files(listed) for commit, listed in facts_of["trees"].items()}
                for repository, facts_of in facts.items()
            }
        except (ValidationError, KeyError, TypeError, AttributeError, ValueError) as error:
            raise StudyError(
                "the lock file's checkpoints are not in the form in which they were written; "
                "delete that section to pin anew"
            ) from error
        return cls(branches, trees)


def pin(
    suite: Suite,
    sizes: Sequence[str],
    steps: Sequence[int] | None = None,
    *,
    known: Pins | None = None,
    hub: Hub | None = None,
    on_progress: Callable[[int, int], None] = lambda *_: None,
) -> Pins:
    """Pin the checkpoints of some sizes: one request a repository, one more for each checkpoint.

    The last checkpoint and the main branch are listed too, because what is wrong with a published
    checkpoint is most often that it equals them.

    Parameters
    ----------
    sizes : those whose weights lie on the hub; others are passed over.
    steps : checkpoints; all of the suite by default. Those that do not exist are not pinned.
    known : earlier pins; what they hold is not asked for again.
    on_progress : called with (listings read, listings to read).

    Returns
    -------
    `known` and what was added to it.

    Raises
    ------
    RemoteNotFoundError
        A repository does not exist, or is not shown to us.
    RemoteError
        The hub does not answer.
    """
    hub, pins = hub or Hub(), known or Pins()
    for size in sizes:
        repository = suite.repository(size)
        if repository is not None and repository not in pins.branches:
            branches = list_branches(repository, hub)
            kept = {name: commit for name, commit in branches.items() if _concerns(suite, name)}
            pins = replace(pins, branches={**pins.branches, repository: kept})
    wanted = [
        (repository, commit)
        for size in sizes
        if (repository := suite.repository(size)) is not None
        for commit in _commits(suite, pins.branches[repository], steps)
        if commit not in pins.trees.get(repository, {})
    ]
    trees = {repository: dict(files) for repository, files in pins.trees.items()}
    with ThreadPoolExecutor(_PARALLEL) as pool:
        try:
            # Unsafe names are kept too: a revision that has one is refused.
            found = pool.map(
                lambda one: list_files(one[0], one[1], hub, only=_is_kept),
                wanted,
            )
            for done, ((repository, commit), files) in enumerate(
                zip(wanted, found, strict=True), 1
            ):
                trees.setdefault(repository, {})[commit] = files
                on_progress(done, len(wanted))
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    return replace(pins, trees=trees)


def moved_branches(pins: Pins, hub: Hub | None = None) -> list[str]:
    """List which pinned branches point elsewhere by now; one request a repository."""
    hub, lines = hub or Hub(), []
    for repository, branches in pins.branches.items():
        now = list_branches(repository, hub)
        for name, commit in branches.items():
            if now.get(name) != commit:
                found = now[name][:12] if name in now else "gone"
                lines.append(f"{repository} {name}: pinned at {commit[:12]}, now {found}")
    return lines


def _is_kept(name: str) -> bool:
    return matters(name) or not is_safe(name)


def _concerns(suite: Suite, branch: str) -> bool:
    return branch == MAIN or suite.step_of(branch) is not None


def _names_by_step(suite: Suite, branches: Iterable[str]) -> dict[int, str]:
    """Branch of each step, ascending by step; of several, the first in the order of names."""
    found: dict[int, str] = {}
    for name in sorted(branches):
        step = suite.step_of(name)
        if step is not None:
            found.setdefault(step, name)
    return dict(sorted(found.items()))


def _commits(
    suite: Suite, branches: Mapping[str, str], steps: Sequence[int] | None
) -> dict[str, None]:
    """Return the commits of the asked steps, the last step and the main branch, each once."""
    names = _names_by_step(suite, branches)
    asked = names if steps is None else [step for step in steps if step in names]
    last = list(names)[-1:]
    chosen = [branches[names[step]] for step in [*asked, *last]]
    return dict.fromkeys([*chosen, *([branches[MAIN]] if MAIN in branches else [])])


def _files(listed: Any) -> Files:
    return tuple(HubFile(*line) for line in _LINES.validate_python(listed))
