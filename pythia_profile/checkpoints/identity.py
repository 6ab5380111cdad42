"""The identity audit: whether the checkpoints of a suite are what they claim to be.

Three kinds of evidence, each on its own: the listing (no weight is read), the weights themselves,
and scores. Out: one verdict for each checkpoint that was asked for.
"""

from collections import defaultdict
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from types import NoneType

import polars as pl

from data_order.hub.access import Hub
from pythia_profile.checkpoints.grid import Grid, locate
from pythia_profile.checkpoints.pins import Pins
from pythia_profile.checkpoints.verdicts import (
    DUPLICATE,
    FAULTY,
    FOREIGN,
    ODD_SCORES,
    ODD_WEIGHTS,
    OK,
    Verdict,
    identities,
)
from pythia_profile.errors import CheckpointError, StudyError, check_kind
from pythia_profile.store import read_json, write_json
from pythia_profile.suites.model import Suite
from pythia_profile.suites.registry import suite_there

__all__ = ["Evidence", "audit"]

Seen = dict[str, dict[str, list[int]]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """What checkpoints are judged by beside their listing.

    Attributes
    ----------
    weights : whether to read the weights, one checkpoint at a time: how far neighbors are apart,
        and in which direction they move.
    rows, scores : tables of a study, whose losses and pre-treatment anomalies are judged.
    """

    weights: bool = False
    rows: pl.DataFrame | None = None
    scores: pl.DataFrame | None = None


def audit(
    suite: Suite | str,
    sizes: Sequence[str] | None = None,
    steps: Sequence[int] | None = None,
    *,
    evidence: Evidence | None = None,
    pins: Pins | None = None,
    hub: Hub | None = None,
    on_message: Callable[[str], None] = lambda _: None,
) -> list[Verdict]:
    """Judge the checkpoints of a suite.

    From the listing alone unless more is asked for: missing revisions and files, equal weights at
    different steps, single files shared between steps, sizes that do not fit. That takes one
    request for each checkpoint and reads no weight.

    Parameters
    ----------
    suite : or its name, or its folder.
    sizes, steps : checkpoints to judge; all of the suite by default.
    evidence : what is judged beside the listing; nothing by default.
    pins : what is known of the hub already.
    on_message : called with a line of progress.

    Returns
    -------
    One verdict for each size and step, ascending.

    Raises
    ------
    NotFoundError
        A size or step that the suite does not have.
    RemoteError
        The hub does not answer.

    Examples
    --------
    >>> import pythia_profile as pp
    >>> verdicts = pp.audit("pythia", ["2.8b"])  # doctest: +SKIP
    """
    suite = suite if isinstance(suite, Suite) else suite_there(suite)
    sizes = (sizes,) if isinstance(sizes, str) else sizes
    check_kind(steps, (Sequence, NoneType), "steps", "a list of steps")
    evidence, verdicts = evidence or Evidence(), []
    seen: Seen = {}
    for size in sizes or list(suite.sizes):
        asked = steps or suite.size(size).checkpoints or None
        on_message(f"{suite.name} {size}: reading the listing")
        grid = locate(suite, [size], asked, pins=pins, hub=hub, keep=0)
        pins = grid.pins or pins
        found = list(grid.verdicts)
        for step, reasons in _foreign(suite, size, grid, hub or Hub(), seen).items():
            found = _with(found, FOREIGN, {step: reasons})
        if evidence.weights:
            odd, fitting = _odd_weights(suite, size, grid, on_message)
            found = [_cleared(verdict, fitting) for verdict in _with(found, ODD_WEIGHTS, odd)]
        verdicts += found
    if evidence.rows is not None and evidence.scores is not None:
        from pythia_profile.checkpoints.plausible import odd_scores

        by_size = odd_scores(evidence.rows, evidence.scores, suite.vocabulary)
        for size, odd in by_size.items():
            verdicts = _with(verdicts, ODD_SCORES, odd, size)
    return verdicts


def _with(
    verdicts: Sequence[Verdict], kind: str, odd: Mapping[int, list[str]], size: str = ""
) -> list[Verdict]:
    """Add reasons of one kind to the verdicts that they concern; the graver verdict stays."""
    found = []
    for verdict in verdicts:
        reasons = odd.get(verdict.step, []) if size in ("", verdict.size) else []
        if reasons:
            kinds = {kind, verdict.verdict} - {OK}
            gravest = next(one for one in FAULTY if one in kinds)
            all_reasons = (*verdict.reasons, *reasons)
            verdict = replace(verdict, verdict=gravest, reasons=all_reasons)
        found.append(verdict)
    return found


def _foreign(suite: Suite, size: str, grid: Grid, hub: Hub, seen: Seen) -> dict[int, list[str]]:
    """Find weights that are those of another repository, of all that were ever audited here.

    Initial weights may be shared by design (runs that differ in their data only), and a repository
    whose checkpoints are all those of another is a copy of it.

    Parameters
    ----------
    seen : repository -> hash of a weight file -> steps; what is new is added, and kept.
    """
    repository = suite.repository(size)
    if repository is None or grid.pins is None:
        return {}
    kept = hub.kept("audited")
    for path in sorted(kept.glob("*.json")) if kept and kept.is_dir() and not seen else ():
        with suppress(StudyError, ValueError, TypeError, AttributeError):
            content = read_json(path)
            seen[str(content["repository"])] = {
                str(identity): [int(step) for step in steps]
                for identity, steps in content["files"].items()
            }
    listing = grid.pins.listing(suite, size)
    own: dict[str, list[int]] = defaultdict(list)
    for step, revision in listing.steps.items():
        for identity in identities(revision):
            own[identity].append(step)
    found: dict[int, list[str]] = defaultdict(list)
    for other, files in seen.items():
        shared = own.keys() & files.keys()
        if other == repository or (
            all(own[one] == files[one] for one in own if one in files) and (len(shared) == len(own))
        ):
            continue
        for identity in shared:
            for step in own[identity]:
                initial = step in files[identity] and suite.same_weights(size, 0, step)
                if not (initial or (step == 0 and 0 in files[identity])):
                    where = ", ".join(map(str, files[identity]))
                    found[step].append(f"the same weights as {other} step {where}")
    seen[repository] = dict(own)
    if kept is not None:
        with suppress(StudyError):
            content = {"repository": repository, "files": own}
            write_json(content, kept / f"{repository.replace('/', '--')}.json")
    return {step: sorted(set(reasons)) for step, reasons in found.items()}


def _odd_weights(
    suite: Suite, size: str, grid: Grid, on_message: Callable[[str], None]
) -> tuple[dict[int, list[str]], frozenset[int]]:
    """Read each checkpoint once, ascending; find which do not fit, or fit though others equal them.

    One that cannot be read does not fit.
    """
    from pythia_profile.checkpoints.continuity import continuity, sketch

    odd: dict[int, list[str]] = {}
    sketches = []
    for one in sorted(grid.located, key=lambda one: one.step):
        on_message(f"{suite.name} {size}: reading the weights of step {one.step}")
        try:
            if isinstance(one.source, Path):
                sketches.append((one.step, sketch(one.source)))
                continue
            with one.source.held() as folder:
                sketches.append((one.step, sketch(folder)))
        except CheckpointError as error:
            odd[one.step] = [str(error)]

    def same(first: int, last: int) -> bool:
        return suite.same_weights(size, first, last)

    found = continuity(sketches, same)
    for step, why in found.odd.items():
        odd.setdefault(step, []).append(why)
    return odd, found.fitting


def _cleared(verdict: Verdict, fitting: Collection[int]) -> Verdict:
    """Take back that a checkpoint is a duplicate where its weights fit those of its neighbors."""
    if verdict.verdict != DUPLICATE or verdict.step not in fitting:
        return verdict
    note = "others have the same weights, which fit here: by their neighbors, this is the original"
    return replace(verdict, verdict=OK, reasons=(), notes=(*verdict.notes, note))
