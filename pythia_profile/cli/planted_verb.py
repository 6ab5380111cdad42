"""The verb `planted`: which rows held the texts that a run inserted at random (Hubble)."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pythia_profile.cli.app import FACTS, verb
from pythia_profile.cli.options import AsJson, check_out, print_json

if TYPE_CHECKING:
    from data_order.insertions import Insertions

_MOST = 2**31


@verb(
    FACTS,
    "planted where.parquet --texts copyright=tokenized/copyright.idx --seed 123 --steps 48000",
    "planted where.parquet --texts tests=tests.idx --seed 123 --steps 48000 --documents corpus.idx "
    "--data-seed 1234 --split 969,30,1",
)
def planted(
    out: Annotated[Path, typer.Argument(help="Parquet table to write.")],
    texts: Annotated[
        list[str],
        typer.Option(
            metavar="NAME=IDX", help=".idx of a store of inserted texts, each copy; repeatable."
        ),
    ],
    seed: Annotated[int, typer.Option(help="Of the insertions (100B: 123).", min=0)],
    steps: Annotated[int, typer.Option(help="Steps of the run.", min=1, max=_MOST)],
    batch_size: Annotated[int, typer.Option(help="Rows per step.", min=1, max=_MOST)] = 1024,
    window: Annotated[
        str, typer.Option(metavar="START:END", help="Part of the run, such as 0:0.25.")
    ] = "0:1",
    documents: Annotated[
        Path | None,
        typer.Option(help=".idx of the run's documents: where in its row each text begins, too."),
    ] = None,
    data_seed: Annotated[
        int, typer.Option(help="Of the run's order, with --documents.", min=0, max=2**32)
    ] = 1234,
    split: Annotated[
        str, typer.Option(help="Document split of the run.", show_default="all documents")
    ] = "",
    row_tokens: Annotated[
        int, typer.Option(help="Tokens of a row, the last target included.", min=2, max=_MOST)
    ] = 2049,
    as_json: AsJson = False,
) -> None:
    """Recompute where texts were planted.

    The row and step of each inserted text follow from how many there are and a seed; where in the
    row it begins, from the documents that the row was packed from.
    """
    from data_order.errors import OrderError
    from data_order.insertions import insertion_rows
    from data_order.store.idx import read_index
    from pythia_profile.store import atomic_write, of_file

    named = [part.partition("=") for part in texts]
    if not all(name and path for name, _, path in named):
        raise typer.BadParameter(f"--texts: got '{texts[0]}', expected NAME=IDX")
    check_out(out, *(Path(path) for _, _, path in named), *([documents] if documents else []))
    sizes = {name: read_index(path).sizes for name, _, path in named}
    part = _window(window)
    try:
        found = insertion_rows(sizes, steps=steps, seed=seed, window=part, batch_size=batch_size)
    except OrderError as error:
        raise typer.BadParameter(
            f"{error}; name another --window, or the run's own --steps"
        ) from None
    starts = None
    if documents is not None:
        starts = _starts(found, documents, (batch_size, steps), data_seed, split, row_tokens)
    table = found.frame(starts)
    with of_file(out), atomic_write(out) as file:
        table.write_parquet(file)
    if as_json:
        print_json(table.to_dicts())
        return
    first, last = int(found.step.min()), int(found.step.max())
    typer.echo(f"{out}: {len(found):,} planted texts, read by steps {first:,} to {last:,}")


def _window(text: str) -> tuple[float, float]:
    start, _, end = text.partition(":")
    try:
        return float(start), float(end)
    except ValueError:
        raise typer.BadParameter(f"--window: got '{text}', expected START:END") from None


def _starts(
    found: "Insertions",
    documents: Path,
    run: tuple[int, int],
    data_seed: int,
    split: str,
    row_tokens: int,
) -> Any:
    """First token of each text in its row, from the pieces that the row was packed from."""
    import numpy as np

    from data_order.insertions import insertion_starts
    from data_order.neox.layout import Layout, samples_asked
    from data_order.neox.neox_order import NeoxOrder
    from data_order.order import TrainingOrder

    training = TrainingOrder(*run)
    layout = Layout(
        seed=data_seed,
        samples=samples_asked(training, split),
        sequence_length=row_tokens - 1,
        split=split,
    )
    pieces = NeoxOrder.from_idx(documents, layout, training).pieces(found.row)
    own = np.split(pieces.length, pieces.first[1:-1])
    return insertion_starts(found, own, row_tokens=row_tokens)
