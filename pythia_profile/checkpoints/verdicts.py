"""Are checkpoints what they claim to be? From a listing alone, without reading a weight.

In: for each size which files each checkpoint has, with sizes and hashes. Out: one verdict for each
checkpoint that was asked for, with the reason.

    missing       no branch, or a branch without (all of) its weight files
    duplicate     the same weights as another step
    shared file   one weight file of several is another step's
    odd size      more or fewer bytes than the other checkpoints in this format
    unsafe        a file name that would lead out of the folder
    odd weights   values that do not fit those of the neighbors (see `continuity`)
    odd scores    scores that do not fit (see `plausible`)

Equal by design, and no fault: the main branch and the last step; two steps between which every
update had rate 0 (Pythia's steps 0 and 1).
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median

from data_order.hub.access import HubFile
from pythia_profile.checkpoints.listing import Checkpoint, Listing, Revision
from pythia_profile.suites.model import Suite

__all__ = ["FAULTY", "OK", "Verdict", "audit_listing", "faulty", "grid_of"]

OK = "ok"
MISSING, DUPLICATE, SHARED, ODD_SIZE, UNSAFE = (
    "missing",
    "duplicate",
    "shared file",
    "odd size",
    "unsafe",
)
ODD_WEIGHTS, ODD_SCORES = "odd weights", "odd scores"
FAULTY = (UNSAFE, MISSING, DUPLICATE, SHARED, ODD_WEIGHTS, ODD_SCORES, ODD_SIZE)
"""Verdicts that are faults, the gravest first."""

_ODD_SHARE = 0.1
_ENOUGH = 3


@dataclass(frozen=True, slots=True)
class Verdict:
    """What was found of one checkpoint.

    Attributes
    ----------
    size, step : which checkpoint.
    verdict : `ok`, or one of `FAULTY`, or a finding from weights or scores.
    reasons : what was seen, one line each.
    notes : what was reported elsewhere of this checkpoint.
    same_as : other steps with which it shares weight files.
    """

    size: str
    step: int
    verdict: str
    reasons: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    same_as: tuple[int, ...] = ()


def grid_of(suite: Suite, size: str, listing: Listing, steps: Sequence[int] | None) -> list[int]:
    """Checkpoints to be judged: those asked for, or all that the suite or the listing knows."""
    asked = steps or suite.size(size).checkpoints or listing.known
    return sorted(set(asked))


def audit_listing(
    suite: Suite, size: str, listing: Listing, steps: Sequence[int] | None = None
) -> list[Verdict]:
    """Judge the checkpoints of one size by their listing.

    Everything that is listed is compared, also what was not asked for: a checkpoint is wrong where
    it equals the last one, whether or not the last one is of interest.

    Parameters
    ----------
    steps : checkpoints to judge; all of the suite by default.

    Returns
    -------
    One verdict for each step, ascending.
    """
    found: dict[int, list[tuple[str, str]]] = defaultdict(list)
    same: dict[int, set[int]] = defaultdict(set)
    wanted = grid_of(suite, size, listing, steps)
    for step in wanted:
        found[step] += _missing(suite, listing, step)
    for group in _equal(suite, size, listing):
        for step in group.wrong:
            found[step].append((group.fault, group.reason))
            same[step] |= set(group.steps) - {step}
    for step, reason in _odd_sizes(listing.steps):
        found[step].append((ODD_SIZE, reason))
    return [_verdict(suite, size, step, found[step], same[step]) for step in wanted]


def faulty(verdicts: Iterable[Verdict]) -> list[Verdict]:
    """Those that are not ok."""
    return [verdict for verdict in verdicts if verdict.verdict != OK]


def _verdict(
    suite: Suite, size: str, step: int, found: list[tuple[str, str]], same: set[int]
) -> Verdict:
    notes = tuple(
        f"reported: {fault.what} [{', '.join(fault.threads) or 'no thread'}]"
        for fault in suite.faults
        if step in fault.steps and fault.size in ("", size)
    )
    if not found:
        return Verdict(size, step, OK, (), notes)
    kinds = {kind for kind, _ in found}
    gravest = next(kind for kind in FAULTY if kind in kinds)
    reasons = tuple(dict.fromkeys(why for _, why in found))
    return Verdict(size, step, gravest, reasons, notes, tuple(sorted(same)))


def _missing(suite: Suite, listing: Listing, step: int) -> list[tuple[str, str]]:
    revision = listing.steps.get(step)
    if revision is None:
        return [(MISSING, f"no branch {suite.revision_of(step)} in {listing.repository}")]
    if revision.unsafe:
        names = ", ".join(repr(name) for name in revision.unsafe[:3])
        return [(UNSAFE, f"names files outside its folder: {names}")]
    if revision.checkpoint is not None:
        return []
    formats = revision.formats
    if not formats:
        return [(MISSING, "no weight files")]
    lacking = formats[0].lacking
    more = f" and {len(lacking) - 3} more" if len(lacking) > 3 else ""
    return [(MISSING, f"weight files are missing: {', '.join(lacking[:3])}{more}")]


@dataclass(frozen=True, slots=True)
class _Group:
    """Steps that share weight files, and those of them that are wrong."""

    steps: tuple[int, ...]
    wrong: tuple[int, ...]
    fault: str
    reason: str


def _equal(suite: Suite, size: str, listing: Listing) -> list[_Group]:
    """Find groups of steps that share weight files though they should not.

    The last step of a group is right where the main branch has the same files and it is the last of
    the suite; beyond that nobody can tell which one is right, and all are called wrong.
    """
    loaded = {step: _loaded(revision) for step, revision in listing.steps.items()}
    holders: dict[str, list[int]] = defaultdict(list)
    for step, files in sorted(loaded.items()):
        for identity in files:
            holders[identity].append(step)
    groups: dict[tuple[int, ...], list[str]] = defaultdict(list)
    for identity, together in holders.items():
        if len(_distinct(suite, size, together)) > 1:
            groups[tuple(together)].append(identity)
    last = max(listing.known, default=-1)
    confirmed = set(loaded.get(last, ())) & _identities(listing.main)
    found = []
    for steps, identities in groups.items():
        wrong = tuple(step for step in steps if step != last or not confirmed)
        whole = all(len(identities) == len(loaded[step]) for step in steps)
        names = ", ".join(sorted({loaded[steps[0]][identity] for identity in identities}))
        what = "weights" if whole else names
        reason = f"same {what} at steps {_listed(steps)}"
        found.append(_Group(steps, wrong, DUPLICATE if whole else SHARED, reason))
    return found


def _loaded(revision: Revision) -> dict[str, str]:
    """Identity -> name of each weight file that would be loaded."""
    chosen: Checkpoint | None = revision.formats[0] if revision.formats else None
    return {_identity(file): file.name for file in (chosen.weights if chosen else ())}


def _identities(revision: Revision | None) -> set[str]:
    """Identities of all weight files, whatever their format."""
    formats = revision.formats if revision is not None else []
    return {_identity(file) for chosen in formats for file in chosen.weights}


def _identity(file: HubFile) -> str:
    return file.sha256 or f"git {file.blob}"


def _distinct(suite: Suite, size: str, steps: list[int]) -> list[int]:
    """Return the steps without those that equal the one before them by design."""
    kept = steps[:1]
    for before, step in pairwise(steps):
        if not suite.same_weights(size, before, step):
            kept.append(step)
    return kept


def _odd_sizes(revisions: Mapping[int, Revision]) -> list[tuple[int, str]]:
    """Checkpoints whose weights have another size than most others in the same format."""
    sizes: dict[str, dict[int, int]] = defaultdict(dict)
    for step, revision in revisions.items():
        if revision.checkpoint is not None:
            files = revision.checkpoint.weights
            sizes[revision.checkpoint.kind][step] = sum(file.size for file in files)
    odd = []
    for kind, of_kind in sizes.items():
        if len(of_kind) < _ENOUGH:
            continue
        usual = median(of_kind.values())
        odd += [
            (step, f"{size:,} bytes of {kind}, the others have about {usual:,.0f}")
            for step, size in of_kind.items()
            if abs(size - usual) > _ODD_SHARE * usual
        ]
    return odd


def _listed(steps: Sequence[int], most: int = 12) -> str:
    shown = ", ".join(f"{step}" for step in steps[:most])
    return f"{shown} and {len(steps) - most} more" if len(steps) > most else shown
