"""The verb `order` for runs that read a permutation over slices of token files."""

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

if TYPE_CHECKING:
    from data_order.shuffled.rows import ShuffledRows
    from data_order.shuffled.runs import ShuffledRun

__all__ = ["Asked", "show_shuffled"]

log = logging.getLogger(__name__)

_TOKENS_SHOWN = 16


@dataclass(frozen=True, slots=True)
class Asked:
    """What of a run is asked for: the rows of a step, one row, or those that hold a token.

    Attributes
    ----------
    store : folder of the token files, "hub" for the net; None for numbers alone.
    file, token : a token file of the run, and one of its tokens.
    most : rows of a step to show; 0 for all.
    """

    step: int | None
    row: int | None
    file: str | None
    token: int
    store: str | None
    decode: Path | None
    most: int
    as_json: bool


def show_shuffled(
    suite: str, run: "ShuffledRun", asked: Asked, progress: Callable[[int, int], None]
) -> None:
    """Show rows of a shuffled run: when they were read and, with its files, what they are."""
    if sum(part is not None for part in (asked.step, asked.row, asked.file)) != 1:
        raise typer.BadParameter("give one of --step, --row and --file")
    lines = _numbers(run, asked) if asked.store is None else _facts(run, asked, progress)
    if asked.as_json:
        typer.echo(json.dumps(lines))
        return
    if asked.step is not None:
        every = run.rows_of(asked.step)
        typer.echo(
            f"{suite}: step {asked.step:,} of {run.steps:,} reads rows {every[0]:,} to "
            f"{every[-1]:,} ({len(every):,} rows)"
        )
    for line in lines:
        typer.echo("\n".join(_text(line, run)))
    if asked.step is not None and len(lines) < len(every):
        typer.echo(f"... {len(every) - len(lines):,} more; --show 0 shows all")
    if asked.store is None:
        files = len(set(run.files.paths))
        typer.echo(
            f"which tokens these are follows from the sizes of {files:,} token files: --store hub "
            f"asks {run.files.address} for each once, --store FOLDER reads them there"
        )


def _numbers(run: "ShuffledRun", asked: Asked) -> list[dict[str, Any]]:
    """Give what follows from batch size and steps alone."""
    if asked.file is not None:
        raise typer.BadParameter("--file needs the token files: give --store hub, or a folder")
    if asked.decode is not None:
        raise typer.BadParameter("--decode needs tokens: give --store")
    return [_place(run, position) for position in _positions(run, asked)]


def _positions(run: "ShuffledRun", asked: Asked) -> list[int]:
    if asked.row is not None:
        run.step_of([asked.row])  # refuses rows below 0
        return [asked.row]
    positions: list[int] = run.rows_of(asked.step or 0).tolist()
    return positions[: asked.most] if asked.most and not asked.as_json else positions


def _place(run: "ShuffledRun", position: int) -> dict[str, Any]:
    read, step = position < run.rows, int(run.step_of([position])[0])
    return {
        "row": position,
        "step": step if read else None,
        "place": position - run.first_row_of(step) if read else None,
    }


def _facts(
    run: "ShuffledRun", asked: Asked, progress: Callable[[int, int], None]
) -> list[dict[str, Any]]:
    """Give what the files tell of rows: place, steps that read them, state, tokens."""
    from data_order.hub.access import Hub
    from data_order.order import NEVER
    from data_order.pack import open_tokenizer

    rows = run.open(str(asked.store), Hub(progress=progress))
    log.info(
        "tracing the order of %s rows; half a minute for a billion",
        f"{rows.order.rows:,}",
    )
    if asked.file is not None:
        ids = rows.slices.row_of(asked.file, asked.token)
        lines: list[dict[str, Any]] = [{} for _ in ids]
    else:
        positions = _positions(run, asked)
        _check_known(run, rows, positions)
        ids = rows.order.rows_at(positions)
        lines = [_place(run, position) for position in positions]
    tokens = rows.tokens(ids)
    states = rows.states_of(ids, tokens)
    reads = rows.reads_of(ids)
    file, token = rows.slices.locate(ids)
    tokenizer = None if asked.decode is None else open_tokenizer(asked.decode)
    for number, line in enumerate(lines):
        line |= {
            "file": rows.slices.names[int(file[number])],
            "token": int(token[number]),
            "file_row": int(ids[number]),
            "steps": sorted(reads[number][reads[number] != NEVER].tolist()),
            "state": states[number],
            "tokens": tokens[number].tolist(),
        }
        if tokenizer is not None:
            line["text"] = tokenizer.decode(line["tokens"], skip_special_tokens=False)
    return lines


def _check_known(run: "ShuffledRun", rows: "ShuffledRows", positions: Sequence[int]) -> None:
    """Refuse positions of which it is not known what was read there."""
    if run.known_steps and max(positions) >= run.rows_before(run.known_steps):
        raise typer.BadParameter(
            f"what {run.name} read after step {run.known_steps:,} is not known: {run.note}"
        )
    if max(positions) >= rows.order.positions:
        raise typer.BadParameter(
            f"no row {max(positions):,}; this run has rows 0 to {rows.order.positions - 1:,}"
        )


def _text(line: dict[str, Any], run: "ShuffledRun") -> list[str]:
    from data_order.view import escaped

    if "row" not in line:
        lines = [f"row {line['file_row']:,} of the files"]
    elif line["step"] is None:
        lines = [f"row {line['row']:,}  read by no step"]
    else:
        lines = [
            f"row {line['row']:,}  step {line['step']:,}, place {line['place']:,} of "
            f"{int(run.batch_sizes(line['step'])):,}"
        ]
    if "file" in line:
        lines.append(
            f"  {run.row_tokens:,} tokens of {line['file']} from its token {line['token']:,} on"
        )
        steps = ", ".join(f"{step:,}" for step in line["steps"]) or "none"
        lines.append(f"  {line['state']}; steps that read it: {steps}")
    if "text" in line:
        lines.append(f"  text  {escaped(line['text'])}")
    elif "tokens" in line:
        shown = " ".join(map(str, line["tokens"][:_TOKENS_SHOWN]))
        lines.append(f"  tokens  {shown} ... ({len(line['tokens']):,})")
    return lines
