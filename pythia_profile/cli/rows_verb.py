"""The verb `rows`: a store of rows in training order, from documents and GPT-NeoX's index maps."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pythia_profile.cli.app import FACTS, verb

if TYPE_CHECKING:
    from data_order.neox.documents import NeoxRows

_AT_ONCE = 1024
_MOST = 2**31


@verb(
    FACTS,
    "rows my-suite/rows --documents corpus/train --seed 1234 --batch-size 1024 --steps 143000",
    "rows my-suite/rows --documents corpus/train --maps corpus/maps --batch-size 64 --steps 1000",
)
def rows(
    out: Annotated[Path, typer.Argument(help="Prefix of the .bin and .idx to write.")],
    documents: Annotated[
        Path, typer.Option(help="Prefix of the .bin and .idx of the unshuffled documents.")
    ],
    batch_size: Annotated[int, typer.Option(help="Rows per step.", min=1, max=_MOST)],
    steps: Annotated[int, typer.Option(help="Steps of the run.", min=1, max=_MOST)],
    row_tokens: Annotated[
        int, typer.Option(help="Tokens of a row, the last target included.", min=2, max=_MOST)
    ] = 2049,
    seed: Annotated[
        int | None, typer.Option(help="Data seed, from which maps are rebuilt.", min=0, max=2**32)
    ] = None,
    samples: Annotated[
        int | None,
        typer.Option(help="Samples asked for.", show_default="1.005 of the rows", min=1, max=2**62),
    ] = None,
    split: Annotated[
        str,
        typer.Option(
            help="Document split of the run, 969,30,1 for instance.", show_default="all documents"
        ),
    ] = "",
    maps: Annotated[
        Path | None,
        typer.Option(help="Or: where the run's own doc_idx and shuffle_idx .npy files are."),
    ] = None,
    never: Annotated[
        int, typer.Option(help="Rows past the last step, as controls.", min=0, max=_MOST)
    ] = 2000,
) -> None:
    """Write the rows of a run in training order.

    The store of a suite of your own: `pythia-profile suites --template` prints the file beside it.
    """
    from data_order.neox.documents import NeoxRows
    from data_order.neox.layout import Layout, samples_asked
    from data_order.neox.neox_order import NeoxOrder
    from data_order.order import TrainingOrder
    from data_order.store.megatron import MegatronStore

    if (seed is None) == (maps is None):
        raise typer.BadParameter("give one of --seed and --maps")
    training, store = TrainingOrder(batch_size, steps), MegatronStore(documents)
    layout = Layout(
        seed=seed or 0,
        samples=samples or samples_asked(training, split),
        sequence_length=row_tokens - 1,
        split=split,
    )
    order = (
        NeoxOrder.from_npy(maps, store.sizes, row_tokens - 1, training)
        if maps is not None
        else NeoxOrder.from_sizes(store.sizes, layout, training)
    )
    if len(order) < training.rows:
        raise typer.BadParameter(
            f"--steps: {training.rows:,} rows are read, but the documents make {len(order):,}"
        )
    count = min(len(order), training.rows + never)
    MegatronStore.write(out, _in_order(NeoxRows(order, store), count), dtype=store.dtype)
    typer.echo(
        f"{out}.bin: {training.rows:,} rows in training order, {count - training.rows:,} "
        "never-treated rows behind them"
    )


def _in_order(source: "NeoxRows", count: int) -> Iterator[Any]:
    from pythia_profile.progress import track

    with track("writing rows", count, "rows") as task:
        for start in range(0, count, _AT_ONCE):
            block = source[start : min(start + _AT_ONCE, count)]
            yield from block
            task.advance(len(block))
