"""The hub asked once: branches to commits, commits to files, kept in a study's lock file.

A branch can be moved at any time; a commit cannot change. What is pinned here is asked for once
and then read by commit, so a run that lasts a week reads what it began with. Listings of commits
are also kept in the user's cache, because they cannot change either.
"""

import hashlib
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from huggingface_hub import is_offline_mode
from platformdirs import user_cache_path
from pydantic import TypeAdapter, ValidationError

from data_order.hub.client import hub_endpoint
from data_order.hub.retry import Patience
from pythia_profile.checkpoints.api import HubFile, list_branches, list_files
from pythia_profile.checkpoints.listing import Listing, Revision
from pythia_profile.errors import NotFoundError, StudyError
from pythia_profile.store import read_json, write_json
from pythia_profile.suites.model import Suite

__all__ = ["Hub", "Pins", "checkpoint_cache", "pin"]

log = logging.getLogger(__name__)

MAIN = "main"
_PARALLEL = 8

Branches = dict[str, str]
Files = tuple[HubFile, ...]


def checkpoint_cache(folder: Path | None = None) -> Path:
    """Folder for checkpoints and listings: `checkpoints` in `folder`, or in the user's cache."""
    return (folder or user_cache_path("pythia-profile")) / "checkpoints"


@dataclass(frozen=True, slots=True, kw_only=True)
class Hub:
    """How to reach the hub.

    Attributes
    ----------
    endpoint : address; by default `HF_ENDPOINT`, else the public one.
    patience : how often to ask again, and how long to wait.
    cache : folder for listings and checkpoints; the user's cache by default.
    """

    endpoint: str = field(default_factory=hub_endpoint)
    patience: Patience = field(default_factory=Patience)
    cache: Path | None = None


@dataclass(frozen=True, slots=True)
class Pins:
    """What the hub said, once.

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
                    commit: [[file.name, file.size, file.sha256, file.blob] for file in files]
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
                repository: TypeAdapter(dict[str, str]).validate_python(said["branches"])
                for repository, said in facts.items()
            }
            trees = {
                repository: {commit: _files(listed) for commit, listed in said["trees"].items()}
                for repository, said in facts.items()
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
    tell: Callable[[int, int], None] = lambda *_: None,
) -> Pins:
    """Pin the checkpoints of some sizes: one request a repository, one more for each checkpoint.

    The last checkpoint and the main branch are listed too, because what is wrong with a published
    checkpoint is most often that it equals them.

    Parameters
    ----------
    sizes : those whose weights lie on the hub; others are passed over.
    steps : checkpoints; all of the suite by default. Those that do not exist are not pinned.
    known : earlier pins; what they hold is not asked for again.
    tell : called with (listings read, listings to read).

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
            said = _branches(repository, hub)
            kept = {name: commit for name, commit in said.items() if _concerns(suite, name)}
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
            found = pool.map(lambda place: _tree(place[0], place[1], hub), wanted)
            for done, ((repository, commit), files) in enumerate(
                zip(wanted, found, strict=True), 1
            ):
                trees.setdefault(repository, {})[commit] = files
                tell(done, len(wanted))
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
    return replace(pins, trees=trees)


def moved_branches(pins: Pins, hub: Hub | None = None) -> list[str]:
    """Say which pinned branches point elsewhere by now; one request a repository."""
    hub, lines = hub or Hub(), []
    for repository, branches in pins.branches.items():
        now = list_branches(repository, hub.endpoint, hub.patience)
        for name, commit in branches.items():
            if now.get(name) != commit:
                there = now[name][:12] if name in now else "gone"
                lines.append(f"{repository} {name}: pinned at {commit[:12]}, now {there}")
    return lines


def _branches(repository: str, hub: Hub) -> Branches:
    """Branches as the hub says them; in offline mode, as it last said them."""
    key = hashlib.sha256(f"{hub.endpoint} {repository} branches".encode()).hexdigest()[:32]
    known = checkpoint_cache(hub.cache) / "listings" / f"{key}.json"
    if is_offline_mode() and known.is_file():
        log.warning("offline: branches of %s are those of an earlier listing", repository)
        return TypeAdapter(Branches).validate_python(read_json(known))
    said = list_branches(repository, hub.endpoint, hub.patience)
    with suppress(StudyError):
        write_json(said, known)
    return said


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


def _tree(repository: str, commit: str, hub: Hub) -> Files:
    """Files of a commit that matter; from the cache where they have been listed before."""
    key = hashlib.sha256(f"{hub.endpoint} {repository} {commit}".encode()).hexdigest()[:32]
    known = checkpoint_cache(hub.cache) / "listings" / f"{key}.json"
    try:
        if known.is_file():
            return _files(read_json(known, list))
    except (StudyError, OSError, ValidationError, ValueError, TypeError):
        log.warning("%s cannot be read; the hub is asked anew", known)
    listed = list_files(repository, commit, hub.endpoint, hub.patience)
    revision = Revision.of("", commit, listed)
    files = revision.files + tuple(file for file in listed if file.name in revision.unsafe)
    try:
        write_json([[file.name, file.size, file.sha256, file.blob] for file in files], known)
    except StudyError as error:
        log.warning("%s; the listing is not kept", error)
    return files


def _files(listed: Any) -> Files:
    lines = TypeAdapter(list[tuple[str, int, str, str]]).validate_python(listed)
    return tuple(HubFile(*line) for line in lines)
