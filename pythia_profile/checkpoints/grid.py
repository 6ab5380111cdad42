"""The checkpoints of a study: where each one is, what it hashes to, and whether it is sound.

In: a suite, sizes, steps; for a suite on the hub what is pinned. Out: a `Grid` with the location
of each checkpoint that can be read, and a verdict for each that was asked for. Suites in a folder
are judged in the same way, by the hashes of their files.
"""

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

from data_order.hub.access import Hub, HubFile
from data_order.hub.retry import RetryPolicy
from pythia_profile.checkpoints.configs import config_faults
from pythia_profile.checkpoints.listing import Checkpoint, Listing, Revision
from pythia_profile.checkpoints.pins import Pins, pin
from pythia_profile.checkpoints.prefetch import Source
from pythia_profile.checkpoints.source import HubCheckpoint
from pythia_profile.checkpoints.verdicts import (
    MISSING,
    OK,
    UNSAFE,
    UNSUPPORTED,
    Verdict,
    audit_listing,
    faulty,
)
from pythia_profile.errors import NotFoundError, RefusedError, StudyError
from pythia_profile.store import file_sha256
from pythia_profile.suites.model import Suite
from pythia_profile.suites.unreplayable import why_unlisted

__all__ = ["CHOICES", "Grid", "Located", "folder_listing", "locate"]

log = logging.getLogger(__name__)

_ONCE = RetryPolicy(retries=0)

CHOICES = ("refuse", "skip", "accept")
"""What to do with faulty checkpoints: refuse to score, leave them out, score them all the same."""


@dataclass(frozen=True, slots=True)
class Located:
    """One checkpoint that can be read.

    Attributes
    ----------
    size, step : which.
    source : where it is.
    weights : file name -> hash, of each weight file and of what is needed beside them.
    fault : why it cannot be loaded, where its config.json tells; it is not worth fetching.
    """

    size: str
    step: int
    source: Source
    weights: dict[str, str]
    fault: str = ""


@dataclass(frozen=True, slots=True)
class Grid:
    """Checkpoints of a study.

    Attributes
    ----------
    located : those that can be read, by size and step.
    verdicts : one for each that was asked for.
    pins : what the hub answered; None where no checkpoint is on the hub.
    """

    located: tuple[Located, ...]
    verdicts: tuple[Verdict, ...]
    pins: Pins | None = field(default=None, repr=False)

    @property
    def faulty(self) -> list[Verdict]:
        """Verdicts of checkpoints that can be read, but are not what they claim to be."""
        return [verdict for verdict in faulty(self.verdicts) if verdict.verdict != MISSING]

    @property
    def missing(self) -> list[Verdict]:
        """Verdicts of checkpoints that do not exist."""
        return [verdict for verdict in self.verdicts if verdict.verdict == MISSING]

    def chosen(self, choice: str) -> list[Located]:
        """Checkpoints to score, by the user's choice on faulty checkpoints.

        Raises
        ------
        RefusedError
            There are faulty ones, and the choice is to refuse them.
        StudyError
            There is no such choice.
        """
        if choice not in CHOICES:
            raise StudyError(f"faulty: got {choice!r}, expected one of {', '.join(CHOICES)}")
        bad = {(verdict.size, verdict.step): verdict for verdict in self.faulty}
        if bad and choice == "refuse":
            raise RefusedError(_refusal(self))
        left_out = bad if choice == "skip" else {}
        for verdict in self.missing:
            log.warning("%s step %d is missing: %s", verdict.size, verdict.step, _why(verdict))
        never = {key for key, one in bad.items() if one.verdict == UNSAFE}
        return [
            one
            for one in self.located
            if (one.size, one.step) not in left_out and (one.size, one.step) not in never
        ]


def locate(
    suite: Suite,
    sizes: Sequence[str],
    steps: Sequence[int] | None = None,
    *,
    pins: Pins | None = None,
    hub: Hub | None = None,
    keep: int = 0,
) -> Grid:
    """Find the checkpoints of some sizes and judge them; no weight is fetched.

    Parameters
    ----------
    steps : checkpoints; those with which a study of this suite begins by default.
    pins : what is known of the hub; asked for where it is not given.
    hub : how to reach the hub, and where to keep checkpoints.
    keep : how many fetched checkpoints may stay on disk unused; -1 for all.

    Raises
    ------
    NotFoundError
        A size or checkpoint that the suite does not have.
    RemoteError
        The hub does not answer.
    """
    hub = hub or Hub()
    located: list[Located] = []
    verdicts: list[Verdict] = []
    wanted = {size: _steps(suite, size, steps) for size in sizes}
    for size in sizes:
        suite.check_steps(size, steps or ())
    asked = sorted({step for of_size in wanted.values() for step in of_size or ()})
    known, configs = pins, hub
    if any(suite.repository(size) is not None for size in sizes):
        pins = pin(suite, sizes, asked or None, known=pins, hub=hub)
    if pins == known:  # planned without a network, perhaps: what is not kept is asked for once
        configs = replace(hub, retry=_ONCE)
    for size in sizes:
        local = suite.repository(size) is None
        listing = (
            folder_listing(suite, size, wanted[size])
            if local or pins is None
            else pins.listing(suite, size)
        )
        of_size = wanted[size] or listing.known
        if not listing.steps and not local and (why := why_unlisted(suite.name)):
            raise NotFoundError(f"no checkpoints in {suite.repository(size)}: {why}")
        suite.check_steps(size, steps or (), listing.known)
        faults, answered = config_faults(suite, size, listing, of_size, configs)
        configs = configs if answered else replace(hub, retry=_ONCE)
        verdicts += audit_listing(suite, size, listing, of_size, faults)
        for step in of_size:
            revision = listing.steps.get(step)
            if revision is None or revision.checkpoint is None:
                continue
            source = _source(suite, size, step, revision, revision.checkpoint, hub, keep)
            reasons = [one.reason for one in faults.get(step, ()) if one.verdict == UNSUPPORTED]
            hashes = _hashes(revision.checkpoint)
            located.append(Located(size, step, source, hashes, "; ".join(reasons)))
    return Grid(tuple(located), tuple(verdicts), pins)


def folder_listing(suite: Suite, size: str, steps: Sequence[int]) -> Listing:
    """List the checkpoints of a suite that lies in a folder, with the hashes of their files.

    Raises
    ------
    NotFoundError
        The suite does not lie in a folder.
    """
    folders = {step: suite.folder_of(size, step) for step in steps}
    revisions = {
        step: Revision.of(
            folder.name, "", [_file(path) for path in sorted(folder.iterdir()) if path.is_file()]
        )
        for step, folder in folders.items()
        if folder.is_dir()
    }
    home = suite.folder_of(size, 0).parent
    return Listing(str(home), revisions, tuple(sorted(revisions)))


def _steps(suite: Suite, size: str, steps: Sequence[int] | None) -> tuple[int, ...]:
    """Return the steps to look for; empty where only the repository knows them."""
    return tuple(sorted(set(steps))) if steps else suite.usual_checkpoints(size)


def _source(
    suite: Suite,
    size: str,
    step: int,
    revision: Revision,
    checkpoint: Checkpoint,
    hub: Hub,
    keep: int,
) -> Source:
    repository = suite.repository(size)
    if repository is None:
        return suite.folder_of(size, step)
    return HubCheckpoint(
        repository=repository,
        commit=revision.commit,
        files=checkpoint.files,
        endpoint=hub.endpoint,
        cache="" if isinstance(hub.cache, bool) else str(hub.cache),
        keep=keep,
    )


def _hashes(checkpoint: Checkpoint) -> dict[str, str]:
    return {file.name: file.sha256 or f"git {file.blob}" for file in checkpoint.files}


def _file(path: Path) -> HubFile:
    matters = Revision.of("", "", [HubFile(path.name, 0, "", "")]).files
    return HubFile(path.name, path.stat().st_size, file_sha256(path) if matters else "", "")


def _why(verdict: Verdict) -> str:
    return "; ".join(verdict.reasons) or OK


def _refusal(grid: Grid) -> str:
    first = "; ".join(
        f"{verdict.size} step {verdict.step}: {_why(verdict)}" for verdict in grid.faulty[:3]
    )
    more = f" and {len(grid.faulty) - 3} more" if len(grid.faulty) > 3 else ""
    return (
        f"{len(grid.faulty)} of {len(grid.verdicts)} checkpoints are not what they claim to be: "
        f"{first}{more}; leave them out with faulty = 'skip' in study.toml, or score them all the "
        "same with 'accept'; `pythia-profile audit` lists them"
    )
