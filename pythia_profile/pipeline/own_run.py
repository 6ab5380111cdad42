"""A run of one's own, checked before a study begins: rows, steps, checkpoints, one decoded row.

In: a folder with a `suite.toml`. Out: what it describes in plain lines, and every fault at once.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from pathlib import Path

import numpy as np

from data_order.errors import ProfileError
from data_order.sample import RowSource
from data_order.shuffled.rows import ShuffledRows
from data_order.view import escaped
from pythia_profile.checkpoints.grid import locate
from pythia_profile.checkpoints.verdicts import Verdict, faulty
from pythia_profile.errors import NotFoundError, as_path
from pythia_profile.suites.folder import read_suite
from pythia_profile.suites.model import Size, Suite
from pythia_profile.suites.sampling import open_rows
from pythia_profile.text import steps_text

__all__ = ["Findings", "check_suite"]

_LOOKED_AT = 64
_SHOWN = 160
_RAW = ("mp_rank_*", "layer_*-model_*", "*_optim_states.pt", "__*_*.distcp", ".metadata")
_FEW = 100
"""Controls below which an effect is hardly estimated."""


@dataclass(frozen=True, slots=True)
class Findings:
    """What a folder's suite is, and what is wrong with it.

    Attributes
    ----------
    facts : a line each.
    faults : a line each; none where a study can begin.
    controls : rows that no checkpoint has read.
    """

    facts: tuple[str, ...]
    faults: tuple[str, ...]
    controls: int = 0


def check_suite(folder: str | Path) -> Findings:
    """Check everything that a study of a suite in a folder would meet; no model is loaded.

    Raises
    ------
    NotFoundError
        The folder has no `suite.toml`.
    """
    folder = as_path(folder, "suite")
    try:
        suite = read_suite(folder)
    except NotFoundError:
        raise
    except ProfileError as error:
        return Findings((), (str(error),))
    facts = [
        f"suite '{suite.name}': {suite.steps:,} steps of {suite.batch_size:,} rows of "
        f"{suite.row_tokens:,} tokens, {suite.vocabulary:,} token ids"
    ]
    faults: list[str] = []
    parts = [_of_checkpoints(suite), _of_rates(suite)]
    controls = 0
    try:
        rows = open_rows(suite)
        read = suite.order.rows
        if isinstance(rows, ShuffledRows):
            read = min(read, rows.order.read_rows)
        controls = _controls(suite, rows, read)
        parts.insert(0, _of_rows(suite, rows, read))
    except ProfileError as error:
        faults.append(f"rows: {error}")
    for is_fault, line in chain.from_iterable(parts):
        (faults if is_fault else facts).append(line)
    return Findings(tuple(facts), tuple(faults), controls)


def _of_rows(suite: Suite, rows: RowSource, read: int) -> Iterator[tuple[bool, str]]:
    past, controls = len(rows) - read, _controls(suite, rows, read)
    yield (
        False,
        f"rows: 0 to {read - 1:,} are read, {max(past, 0):,} past the last step are never-treated",
    )
    if past < 0:
        yield (
            True,
            (
                f"rows: the store has {len(rows):,}, {suite.steps:,} steps of {suite.batch_size:,} "
                f"read {read:,}; batch_size, batch_changes, steps or row_tokens is another"
            ),
        )
        return
    if controls < _FEW:
        yield (
            True,
            (
                f"rows: {controls:,} that no checkpoint has read; write some past the last step, "
                "name held-out text in the study's sample.held_out, or leave out late checkpoints"
            ),
        )
    yield from _of_tokens(suite, rows, read)


def _controls(suite: Suite, rows: RowSource, read: int) -> int:
    """How many rows the last checkpoint of any size has not read."""
    last = max((max(size.checkpoints, default=0) for size in suite.sizes.values()), default=0)
    return max(0, len(rows) - read + suite.order.rows - int(suite.order.rows_before(last)))


def _of_tokens(suite: Suite, rows: RowSource, read: int) -> Iterator[tuple[bool, str]]:
    some = np.unique(np.linspace(0, len(rows) - 1, min(_LOOKED_AT, len(rows))).astype(np.int64))
    try:
        tokens = np.asarray(rows[some])
    except ProfileError as error:
        yield True, f"tokens: {error}"
        return
    if (largest := int(tokens.max())) >= suite.vocabulary:
        yield (
            True,
            (
                f"tokens: id {largest:,}, expected less than vocabulary {suite.vocabulary:,}; the "
                "type of a token or row_tokens is another"
            ),
        )
        return
    again = len(tokens) - len(np.unique(tokens, axis=0))
    if again and read > 1:
        yield False, f"note: {again} of {len(tokens)} rows looked at are equal to another one"
    row = tokens[0].tolist()
    shown = " ".join(map(str, row[:16]))
    if suite.tokenizer is not None and suite.root is not None:
        from data_order.pack import open_tokenizer

        try:
            text = open_tokenizer(suite.root / suite.tokenizer).decode(row)
            shown = escaped(text[:_SHOWN])
        except ProfileError as error:
            yield True, f"tokenizer: {error}"
    yield False, f"row 0, read by step 1: {shown}"


def _of_checkpoints(suite: Suite) -> Iterator[tuple[bool, str]]:
    for name, size in suite.sizes.items():
        counts = {"layers": size.layers, "width": size.width, "heads": size.heads}
        if empty := [what for what, count in counts.items() if count < 1]:
            yield True, f"{name}: {', '.join(empty)} 0, expected at least 1 each"
        if past := [step for step in size.checkpoints if step > suite.steps]:
            yield True, f"{name}: checkpoint {past[0]:,} is past the last step {suite.steps:,}"
        if not size.checkpoints and suite.repository(name) is None:
            yield True, f"{name}: checkpoints are none, expected two or more steps"
        elif suite.repository(name) is None:
            yield from _of_folders(suite, size)
        else:
            yield False, f"{name}: on the hub, in {suite.repository(name)}; `audit` lists it"


def _of_folders(suite: Suite, size: Size) -> Iterator[tuple[bool, str]]:
    """Judge checkpoints in folders as `audit` does: missing, of another shape, not loadable."""
    try:
        found = locate(suite, [size.name])
    except ProfileError as error:
        yield True, f"{size.name}: {error}"
        return
    if raw := _raw_checkpoint(suite, size):
        yield (
            True,
            (
                f"{size.name}: '{raw}' is a checkpoint of the trainer, not a Hugging Face folder; "
                "convert it (GPT-NeoX: tools/ckpts/convert_neox_to_hf.py; OLMo-core: "
                "src/examples/huggingface)"
            ),
        )
    alike: dict[str, list[Verdict]] = {}
    for verdict in faulty(found.verdicts):
        alike.setdefault(verdict.verdict, []).append(verdict)
    for word, verdicts in alike.items():
        steps = [verdict.step for verdict in verdicts]
        reason = "; ".join(verdicts[0].reasons).replace("no branch", "no folder")
        yield True, f"{size.name}, checkpoints {steps_text(steps)}: {word}: {reason}"
    yield (
        False,
        (
            f"{size.name}: {len(found.located)} of {len(size.checkpoints)} checkpoints, "
            f"{size.layers} layers of width {size.width:,}"
        ),
    )


def _raw_checkpoint(suite: Suite, size: Size) -> Path | None:
    """Find a folder with pieces as DeepSpeed, Megatron-LM or torch's distributed code save them."""
    home = (suite.root or Path()) / size.weights
    for pattern in _RAW:
        if found := next(iter(sorted(home.glob(f"*/{pattern}"))), None):
            return found.parent
    return None


def _of_rates(suite: Suite) -> Iterator[tuple[bool, str]]:
    for name, size in suite.sizes.items():
        if not size.peak_lr:
            yield False, f"{name}: rates are not known (peak_lr is 0)"
            continue
        rates = suite.learning_rate(name, [1, suite.warmup_steps + 1, suite.steps])
        shown = ", ".join(f"{rate:.3g}" for rate in rates.tolist())
        yield False, f"{name}: rates of the first update, after the warm-up and at the end {shown}"
