"""Are checkpoints what they claim to be? From a listing alone, without reading a weight.

In: for each size which files each checkpoint has, with sizes and hashes. Out: one verdict for each
checkpoint that was asked for, with the reason.

    unsafe            a file name that would lead out of the folder
    missing           no branch, or a branch without (all of) its files
    unsupported       a config.json of a model that cannot be loaded (see `configs`)
    other config      a config.json of another model than the suite's
    duplicate         the same weights as another step
    shared file       one weight file of several is another step's, or stands for two of its own
    foreign weights   the same weights as a checkpoint of another repository
    not main          the last step, where the main branch has other weights of the same size
    odd weights       values that do not fit those of the neighbors (see `continuity`)
    odd scores        scores that do not fit (see `plausible`)
    odd size          more or fewer bytes than every other checkpoint in this format

Equal by design, and no fault: the main branch and the last step; two steps between which every
update had rate 0 (Pythia's steps 0 and 1).
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import median
from typing import NamedTuple

from data_order.hub.access import HubFile
from pythia_profile.checkpoints.listing import CONFIG, Checkpoint, Listing, Revision
from pythia_profile.suites.model import Suite

__all__ = ["FAULTY", "OK", "Fault", "Verdict", "audit_listing", "faulty", "grid_of", "identities"]

OK = "ok"
UNSAFE, MISSING, UNSUPPORTED, ODD_CONFIG = "unsafe", "missing", "unsupported", "other config"
DUPLICATE, SHARED, FOREIGN, NOT_MAIN = "duplicate", "shared file", "foreign weights", "not main"
ODD_WEIGHTS, ODD_SCORES, ODD_SIZE = "odd weights", "odd scores", "odd size"
FAULTY = (
    UNSAFE,
    MISSING,
    UNSUPPORTED,
    ODD_CONFIG,
    DUPLICATE,
    SHARED,
    FOREIGN,
    NOT_MAIN,
    ODD_WEIGHTS,
    ODD_SCORES,
    ODD_SIZE,
)
"""Verdicts that are faults, the gravest first."""

_FAR = 0.1
_NEAR, _NEAR_BYTES = 0.001, 4096
_ENOUGH = 3


class Fault(NamedTuple):
    """One fault of one checkpoint: a verdict of `FAULTY`, and what was seen."""

    verdict: str
    reason: str


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
    suite: Suite,
    size: str,
    listing: Listing,
    steps: Sequence[int] | None = None,
    others: Mapping[int, Sequence[Fault]] | None = None,
) -> list[Verdict]:
    """Judge the checkpoints of one size by their listing.

    Everything that is listed is compared, also what was not asked for: a checkpoint is wrong where
    it equals the last one, whether or not the last one is of interest.

    Parameters
    ----------
    steps : checkpoints to judge; all of the suite by default.
    others : faults that were found elsewhere, by step.

    Returns
    -------
    One verdict for each step, ascending.
    """
    found: dict[int, list[Fault]] = defaultdict(list)
    same: dict[int, set[int]] = defaultdict(set)
    wanted = grid_of(suite, size, listing, steps)
    for step in wanted:
        found[step] += _missing(suite, listing, step)
        found[step] += (others or {}).get(step, ())
        found[step] += _repeated(listing.steps.get(step))
    for group in _equal(suite, size, listing):
        for step in group.wrong:
            found[step].append(Fault(group.fault, group.reason))
            same[step] |= set(group.steps) - {step}
    for step, reason in [*_odd_sizes(listing.steps)]:
        found[step].append(Fault(ODD_SIZE, reason))
    last = max(listing.known, default=-1)
    found[last] += _not_main(listing.steps.get(last), listing.main)
    return [_verdict(suite, size, step, found[step], same[step]) for step in wanted]


def faulty(verdicts: Iterable[Verdict]) -> list[Verdict]:
    """Those that are not ok."""
    return [verdict for verdict in verdicts if verdict.verdict != OK]


def tally(faulty: int, missing: int, of: int | None) -> str:
    """Count faulty and missing checkpoints in the words that every verb uses.

    Examples
    --------
    >>> tally(3, 1, 154), tally(0, 0, 154)
    ('3 of 154 checkpoints are faulty, 1 missing', '0 of 154 checkpoints are faulty')
    """
    whole = "" if of is None else f" of {of:,}"
    return f"{faulty:,}{whole} checkpoints are faulty" + (f", {missing:,} missing" * bool(missing))


def _verdict(suite: Suite, size: str, step: int, found: list[Fault], same: set[int]) -> Verdict:
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


def _missing(suite: Suite, listing: Listing, step: int) -> list[Fault]:
    revision = listing.steps.get(step)
    if revision is None:
        return [Fault(MISSING, f"no branch {suite.revision_of(step)} in {listing.repository}")]
    if revision.unsafe:
        names = ", ".join(repr(name) for name in revision.unsafe[:3])
        return [Fault(UNSAFE, f"names files outside its folder: {names}")]
    if revision.checkpoint is not None:
        if not any(file.name == CONFIG for file in revision.checkpoint.others):
            return [Fault(MISSING, f"no {CONFIG}")]
        return []
    formats = revision.formats
    if not formats:
        return [Fault(MISSING, revision.foreign or "no weight files")]
    lacking = formats[0].lacking
    more = f" and {len(lacking) - 3} more" if len(lacking) > 3 else ""
    return [Fault(MISSING, f"weight files are missing: {', '.join(lacking[:3])}{more}")]


def _repeated(revision: Revision | None) -> list[Fault]:
    """Find shards of one checkpoint that are the same file: another shard is missing."""
    names: dict[str, list[str]] = defaultdict(list)
    for file in revision.checkpoint.weights if revision and revision.checkpoint else ():
        names[_identity(file)].append(file.name)
    return [
        Fault(SHARED, f"{' and '.join(equal)} are the same file")
        for equal in names.values()
        if len(equal) > 1
    ]


def _not_main(last: Revision | None, main: Revision | None) -> list[Fault]:
    """Find other weights at the main branch than at the last step.

    Files of another size may hold the same weights, saved by another version; not so those of the
    same size.
    """
    if last is None or main is None:
        return []
    for one in last.formats:
        for other in main.formats:
            alike = [file.size for file in one.weights] == [file.size for file in other.weights]
            if (one.kind, alike) == (other.kind, True) and _of(one) != _of(other):
                return [Fault(NOT_MAIN, f"the main branch has other {one.kind} weights")]
    return []


def _of(checkpoint: Checkpoint) -> list[str]:
    return [_identity(file) for file in checkpoint.weights]


@dataclass(frozen=True, slots=True)
class _Group:
    """Steps that share weight files, and those of them that are wrong."""

    steps: tuple[int, ...]
    wrong: tuple[int, ...]
    fault: str
    reason: str


def _equal(suite: Suite, size: str, listing: Listing) -> list[_Group]:
    """Find groups of steps that share weight files though they should not.

    Which of a group is right, if any can be told, `_right` says; all others are called wrong.
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
    confirmed = bool(set(loaded.get(last, ())) & identities(listing.main))
    found = []
    for steps, shared in groups.items():
        right = _right(suite, size, steps, last if confirmed else None, last)
        wrong = tuple(step for step in steps if step not in right)
        whole = all(len(shared) == len(loaded[step]) for step in steps)
        names = ", ".join(sorted({loaded[steps[0]][identity] for identity in shared}))
        what = "weights" if whole else names
        reason = f"same {what} at steps {_listed(steps)}"
        if right and not (confirmed and last in right):
            reason += f"; likely right: {_listed(right)}"
        elif not right:
            reason += "; which is right, the weights can tell (--weights)"
        found.append(_Group(steps, wrong, DUPLICATE if whole else SHARED, reason))
    return found


def _right(
    suite: Suite, size: str, steps: tuple[int, ...], confirmed: int | None, last: int
) -> tuple[int, ...]:
    """Choose the steps of a group that are likely what they claim to be; none where unknown.

    The last step is, where the main branch confirms it. Two steps that are equal by design confirm
    each other. Else the last step is taken to be right: what was published wrongly is most often a
    copy of the final weights.
    """
    if confirmed in steps:
        return (confirmed,) if confirmed is not None else ()
    for first, second in pairwise(steps):
        if suite.same_weights(size, first, second):
            return (first, second)
    return (last,) if last in steps else ()


def _loaded(revision: Revision) -> dict[str, str]:
    """Identity -> name of each weight file that would be loaded."""
    chosen: Checkpoint | None = revision.formats[0] if revision.formats else None
    return {_identity(file): file.name for file in (chosen.weights if chosen else ())}


def identities(revision: Revision | None) -> set[str]:
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
    """Find checkpoints whose weights have another size than all others in the same format.

    The bytes of weights follow from the model's shape; headers differ by a few. Several sizes may
    be usual (some versions saved buffers too), but none that stands alone.
    """
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
        near = max(_NEAR * usual, _NEAR_BYTES)
        for step, size in of_kind.items():
            alone = sum(abs(size - other) <= near for other in of_kind.values()) == 1
            if alone or abs(size - usual) > _FAR * usual:
                odd.append((step, f"{size:,} bytes of {kind}, the others have about {usual:,.0f}"))
    return odd


def _listed(steps: Sequence[int], most: int = 12) -> str:
    shown = ", ".join(f"{step}" for step in steps[:most])
    return f"{shown} and {len(steps) - most} more" if len(steps) > most else shown
