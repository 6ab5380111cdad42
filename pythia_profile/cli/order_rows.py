"""The verb `order`: which rows a step read, and what is known of a row."""

import json
import logging
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pythia_profile.cli.app import FACTS, verb
from pythia_profile.cli.row_sources import bytes_bar, row_source, verified
from pythia_profile.cli.shuffled_rows import Asked, show_shuffled

if TYPE_CHECKING:
    from data_order.neox.layout import Layout
    from data_order.neox.neox_order import NeoxOrder
    from data_order.order import TrainingOrder
    from data_order.published import PublishedOrder
    from data_order.sample import RowSource
    from data_order.shuffled.filed_runs import FiledRun
    from data_order.shuffled.runs import ShuffledRun
    from data_order.view import RowView

log = logging.getLogger(__name__)

_TOKENS_SHOWN = 16
_MOST, _MOST_SHOWN = 2**62, 2**20


@verb(
    FACTS,
    "order --step 1000",
    "order --suite mini --step 3",
    "order --row 1023 --store hub --decode tokenizer.json",
    "order --row 146432000 --suite pythia --idx documents.idx --corpus hub --documents --exposures",
)
def order(
    suite: Annotated[
        str, typer.Option(help="A suite or published order, or a folder with suite.toml.")
    ] = "pythia-deduped",
    step: Annotated[
        int | None, typer.Option(help="Show the rows this step reads.", max=_MOST)
    ] = None,
    row: Annotated[int | None, typer.Option(help="Show this row.", max=_MOST)] = None,
    store: Annotated[
        str | None,
        typer.Option(
            help="Rows in training order, for their tokens: a prefix or folder, owner/name on the "
            "hub, or 'hub' for the published ones."
        ),
    ] = None,
    decode: Annotated[
        Path | None, typer.Option(help="tokenizer.json, or its folder: show text.")
    ] = None,
    idx: Annotated[
        Path | None, typer.Option(help=".idx of the documents: rebuild the order from it.")
    ] = None,
    seed: Annotated[
        int | None, typer.Option(help="Data seed.", show_default="the order's own")
    ] = None,
    training_seed: Annotated[
        int | None, typer.Option(help="Which training run of the suite.", show_default="its first")
    ] = None,
    corpus: Annotated[
        str | None,
        typer.Option(
            help="Documents, for the tokens of any row: prefix, folder, owner/name, or 'hub'."
        ),
    ] = None,
    documents: Annotated[bool, typer.Option(help="Show what each row was packed from.")] = False,
    exposures: Annotated[bool, typer.Option(help="Show what had been read before.")] = False,
    batch_size: Annotated[
        int | None,
        typer.Option(help="Rows of a step.", show_default="the order's", min=1, max=2**31),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(help="Steps of the run.", show_default="the order's", min=1, max=2**31),
    ] = None,
    row_tokens: Annotated[
        int | None,
        typer.Option(help="Tokens of a row.", show_default="the order's", min=2, max=2**31),
    ] = None,
    file: Annotated[
        str | None, typer.Option(help="When was this token file of the run read? (OLMo)")
    ] = None,
    offset: Annotated[int, typer.Option(help="At this token of --file.", min=0)] = 0,
    split: Annotated[
        str,
        typer.Option(
            help="Document split of the run, 969,30,1 for instance.", show_default="all documents"
        ),
    ] = "",
    verify: Annotated[
        bool,
        typer.Option(
            "--verify",
            help="Fetch the rows a second time and compare, or hash the local files that hold them "
            "and compare with the published hashes; with --store, --corpus and --idx, rebuild the "
            "rows from the documents and compare.",
        ),
    ] = False,
    show: Annotated[int, typer.Option(help="Rows of a step to show; 0 for all.", min=0)] = 4,
    as_json: Annotated[bool, typer.Option("--json", help="All of it, as JSON.")] = False,
) -> None:
    """Show which rows a training step read.

    Or when a row was read; with its tokens or text and the documents it was packed from, where
    these are available.
    """
    shuffled, files = _shuffled(suite, training_seed)
    if shuffled is not None:
        needs_maps = idx is not None or documents or exposures or corpus is not None
        if needs_maps or batch_size or steps or row_tokens or seed is not None:
            raise typer.BadParameter(
                f"{suite} read slices of token files: of --store, --decode, --show, --file and "
                "--offset only"
            )
        asked = Asked(step, row, file, offset, store or files, decode, show, as_json)
        with ExitStack() as stack:
            show_shuffled(suite, shuffled, asked, bytes_bar(stack))
        return
    if file is not None:
        raise typer.BadParameter(f"--file is for runs over token files, {suite} is none")
    run = _run_of(suite, training_seed)
    if corpus is None and run.published is None:
        store, decode = store or run.store, decode or run.tokenizer
    _check_choice(step, row, idx, documents or exposures, corpus, decode, None if verify else store)
    from data_order.hub.access import Hub
    from data_order.order import TrainingOrder
    from data_order.pack import open_tokenizer
    from data_order.view import view_rows

    training = run.training.until(steps or run.training.steps)
    training = training if batch_size is None else TrainingOrder(batch_size, training.steps)
    own = training == run.training.until(run.training.steps)
    label = run.label_steps
    width = row_tokens or run.row_tokens
    first = row if row is not None else training.first_row_of(step or 0)
    count = 1 if row is not None else int(training.rows_before(step or 0)) - first
    shown = min(show, count) if show and not as_json else count
    if shown > _MOST_SHOWN:
        raise typer.BadParameter(f"{shown:,} rows are too many to show; --show N shows the first")
    rows = range(first, first + shown)
    tokenizer = None if decode is None else open_tokenizer(decode)
    with ExitStack() as stack:
        progress = bytes_bar(stack)
        layout = _layout(idx, seed, split, run, training, width)
        maps = None if idx is None or layout is None else _maps(idx, layout, training)
        vocabulary = run.vocabulary if own and width == run.row_tokens else None
        if run.filed is not None and store is not None:
            source: RowSource | None = run.filed.open(store, Hub(progress=progress))
        else:
            source = row_source(store, corpus, run.published, maps, width, vocabulary, progress)
        views = view_rows(
            training,
            rows,
            checkpoints=run.saved_steps if own else [],
            source=source,
            tokenizer=tokenizer,
            maps=maps if documents or exposures else None,
            with_exposures=exposures,
        )
        rebuilt = row_source(None, corpus, run.published, maps, width, vocabulary, progress)
        checked = verified(source, rows, run.published, rebuilt) if verify else ""
    if as_json:
        typer.echo(json.dumps([_as_json(view, label, documents) for view in views]))
        return
    if step is not None:
        typer.echo(
            f"{suite}: step {step:,} of {training.steps:,} reads rows {first:,} to "
            f"{first + count - 1:,} ({count:,} rows)"
        )
    if layout is not None:
        typer.echo(f"order rebuilt from {idx} with data seed {layout.seed}")
    if run.filed is not None:
        typer.echo(run.filed.note)
    for view in views:
        typer.echo("\n".join(_lines(view, training, label, width, documents)))
    if checked:
        typer.echo(checked)
    if step is not None and len(views) < count:
        typer.echo(f"... {count - len(views):,} more; --show 0 shows all")


def _check_choice(
    step: int | None,
    row: int | None,
    idx: Path | None,
    needs_maps: bool,
    corpus: str | None,
    decode: Path | None,
    store: str | None,
) -> None:
    if (step is None) == (row is None):
        raise typer.BadParameter("give one of --step and --row")
    if needs_maps and idx is None:
        raise typer.BadParameter(
            "--documents and --exposures need --idx, the .idx of the documents"
        )
    if corpus is not None and idx is None:
        raise typer.BadParameter("--corpus needs --idx, which says where each document lies")
    if store is not None and corpus is not None:
        raise typer.BadParameter("give one of --store and --corpus")
    if decode is not None and store is None and corpus is None:
        raise typer.BadParameter("--decode needs tokens: give --store or --corpus")


@dataclass(frozen=True, slots=True)
class _Run:
    """A published order, or that of a suite on this machine with its rows and tokenizer."""

    training: "TrainingOrder"
    row_tokens: int
    saved_steps: list[int]
    label_steps: int
    vocabulary: int
    data_seed: int | None
    published: "PublishedOrder | None" = None
    filed: "FiledRun | None" = None
    store: str | None = None
    tokenizer: Path | None = None


def _shuffled(name: str, training_seed: int | None) -> "tuple[ShuffledRun | None, str | None]":
    """Find the run over token files, and the folder of these where they lie here."""
    from data_order.shuffled.runs import ShuffledRun
    from pythia_profile.suites.registry import suite_there

    suite = suite_there(name, training_seed)
    order = suite.order
    if not isinstance(order, ShuffledRun):
        return None, None
    return order, None if suite.root is None else str(suite.root / (suite.store or "."))


def _run_of(name: str, training_seed: int | None) -> _Run:
    from data_order.published import PublishedOrder
    from data_order.shuffled.filed_runs import FiledRun
    from pythia_profile.suites.registry import suite_there
    from pythia_profile.suites.unreplayable import why_unknown

    suite = suite_there(name, training_seed)
    order = suite.order
    if isinstance(order, PublishedOrder):
        return _Run(
            order.training,
            order.row_tokens,
            order.saved_steps,
            order.label_steps,
            suite.vocabulary,
            order.seed,
            published=order,
        )
    filed = order if isinstance(order, FiledRun) else None
    if suite.root is None and suite.data_seed is None and filed is None:
        why = why_unknown(suite.name) or "its suite says nothing of how they were shuffled"
        raise typer.BadParameter(f"the rows of '{name}' are not replayable here: {why}")
    root = suite.root or Path()
    sizes = list(suite.sizes)
    return _Run(
        order,
        suite.row_tokens,
        list(suite.usual_checkpoints(sizes[0])) if sizes else [],
        1,
        suite.vocabulary,
        suite.data_seed,
        filed=filed,
        store=str(root / suite.store) if suite.store else None,
        tokenizer=root / suite.tokenizer if suite.tokenizer else None,
    )


def _layout(
    idx: Path | None, seed: int | None, split: str, run: _Run, training: Any, width: int
) -> "Layout | None":
    """Say how the run laid its documents out; None where no order is to be rebuilt."""
    from data_order.neox.layout import Layout, samples_asked

    if idx is None:
        return None
    own_seed = seed if seed is not None else run.data_seed
    if own_seed is None:
        raise typer.BadParameter(
            "--idx needs the data seed of the run, which this suite does not name; give --seed, or "
            "data_seed in its suite.toml"
        )
    published = run.published
    samples = samples_asked(training, split)
    if published is not None and training == published.training and not split:
        samples = published.samples
    return Layout(seed=own_seed, samples=samples, sequence_length=width - 1, split=split)


def _maps(idx: Path, layout: "Layout", training: Any) -> "NeoxOrder":
    from data_order.neox.neox_order import NeoxOrder

    log.info("rebuilding the order from %s; half a minute for Pythia", idx)
    return NeoxOrder.from_idx(idx, layout, training)


def _as_json(view: "RowView", label: int, documents: bool) -> dict[str, Any]:
    line: dict[str, Any] = {
        "row": view.row,
        "step": view.step,
        "batch": view.batch,
        "position": view.position,
    }
    line["checkpoint"] = None if view.checkpoint is None else f"step{view.checkpoint * label}"
    found = asdict(view)
    for name in ("tokens", "text", "documents", "seen", "repeated", "reads"):
        if found[name] is not None and (documents or name != "documents"):
            line[name] = found[name]
    return line


def _lines(
    view: "RowView", training: "TrainingOrder", label: int, width: int, documents: bool
) -> list[str]:
    from data_order.view import escaped

    if view.step is None:
        lines = [f"row {view.row:,}  read by no step"]
    else:
        lines = [
            f"row {view.row:,}  step {view.step:,}  batch {view.batch:,}, row {view.position:,} of "
            f"{int(training.batch_sizes(view.step)):,}"
            + (f"  first in step{view.checkpoint * label}" if view.checkpoint is not None else "")
        ]
    if view.text is not None:
        lines.append(f"  text  {escaped(view.text)}")
    elif view.tokens is not None:
        more = f" ... ({len(view.tokens):,})" if len(view.tokens) > _TOKENS_SHOWN else ""
        lines.append(f"  tokens  {' '.join(map(str, view.tokens[:_TOKENS_SHOWN]))}{more}")
    if documents and view.documents is not None:
        lines += [
            f"  from {piece.start:>6,}  {piece.length:>6,} tokens of document {piece.document:,} "
            f"from its token {piece.offset:,} on"
            for piece in view.documents
        ]
    if view.reads is not None:
        lines.append(
            f"  read before: {view.seen:,} of {width:,} tokens, {view.repeated:,} of them in "
            "another copy of their document"
        )
        lines += [
            f"  from {read.start:>6,}  {read.tokens:>6,} tokens by row {read.by_row:,} at step "
            f"{read.by_step:,}{'' if read.repeated else ' (neighbor in the stream)'}"
            for read in view.reads
        ]
    return lines
