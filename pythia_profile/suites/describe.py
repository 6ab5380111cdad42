"""Facts of suites as plain values, for printing: of all, of one, and of one of its sizes."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from data_order.shuffled.filed_runs import FiledRun
from data_order.shuffled.runs import ShuffledRun
from pythia_profile.suites.model import KnownFault, Size, Suite
from pythia_profile.suites.registry import facts_of, known_suites, suite_facts_of

__all__ = ["describe_size", "describe_suite", "describe_suites", "rate_points"]


def describe_suites() -> list[dict[str, Any]]:
    """Return one line for each known suite: name, title, sizes, training seeds."""
    lines = []
    for name in known_suites():
        suite = suite_facts_of(name)
        lines.append(
            {
                "name": name,
                "title": suite.title,
                "sizes": list(suite.sizes),
                "seeds": list(suite.seeds or (suite.seed,)),
            }
        )
    return lines


def describe_suite(suite: Suite | str | Path) -> dict[str, Any]:
    """Return what is known of a suite: run, order, sizes, faults, notes.

    Examples
    --------
    >>> facts = describe_suite("pythia")
    >>> facts["batch_size"], facts["steps"], facts["sizes"][2]["peak_lr"]
    (1024, 143000, 0.001)
    """
    suite = facts_of(suite)
    return {
        "name": suite.name,
        "title": suite.title,
        "seed": suite.seed,
        "seeds": list(suite.seeds or (suite.seed,)),
        "batch_size": suite.batch_size,
        "batch_changes": [list(change) for change in suite.batch_changes],
        "steps": suite.steps,
        "row_tokens": suite.row_tokens,
        "vocabulary": suite.vocabulary,
        "schedule": suite.schedule,
        "warmup_steps": suite.warmup_steps,
        "order": _order(suite),
        "single_pass": suite.single_pass,
        "sizes": [_line(suite, size) for size in suite.sizes.values()],
        "faults": [_fault(fault) for fault in suite.faults],
        "notes": list(suite.notes),
    }


def _order(suite: Suite) -> str:
    """Say in one line how the order of its rows is known."""
    order = suite.order
    if isinstance(order, ShuffledRun):
        listed, different = order.files.paths, len(set(order.files.paths))
        return (
            f"a permutation of the rows of {different:,} token files ({len(listed):,} listed), "
            f"seed {order.seed}"
        )
    if isinstance(order, FiledRun):
        known = "by step" if order.batch_known else "by file"
        return f"{order.files:,} files of {order.file_rows:,} rows, known {known}"
    if suite.data_seed is not None and suite.store is None:
        return f"from its documents, data seed {suite.data_seed}"
    return suite.store or ("published" if suite.published else "not replayable here")


def describe_size(suite: Suite | str | Path, name: str) -> dict[str, Any]:
    """Return what is known of one size: shape, rates at telling updates, checkpoints, faults.

    Raises
    ------
    NotFoundError
        The suite has no such size; near matches are named.
    """
    suite = facts_of(suite)
    size = suite.size(name)
    updates = rate_points(suite)
    rates = suite.learning_rate(name, updates).tolist()
    return {
        "suite": suite.name,
        "seed": suite.seed,
        **_line(suite, size),
        "revision": suite.revision,
        "schedule": suite.schedule,
        "warmup_steps": suite.warmup_steps,
        "learning_rate": dict(zip(map(str, updates), rates, strict=True)),
        "checkpoint_steps": list(size.checkpoints),
        "faults": [_fault(fault) for fault in suite.faults if fault.size in ("", name)],
    }


def rate_points(suite: Suite) -> list[int]:
    """Return updates at which a schedule shows its form: first two, top, every fifth."""
    fifths = [suite.steps * part // 5 for part in range(1, 6)]
    points = [1, 2, suite.warmup_steps + 1, *fifths]
    return sorted({point for point in points if 1 <= point <= suite.steps})


def _line(suite: Suite, size: Size) -> dict[str, Any]:
    known = asdict(size)
    known.pop("checkpoints")
    known["repository"] = suite.repository(size.name)
    known["checkpoints"] = len(size.checkpoints)
    return known


def _fault(fault: KnownFault) -> dict[str, Any]:
    return {
        "size": fault.size,
        "steps": list(fault.steps),
        "what": fault.what,
        "threads": list(fault.threads),
    }
