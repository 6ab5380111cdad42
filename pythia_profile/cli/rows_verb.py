"""The verb `rows`: rows in training order, from documents and index maps or from blended sets."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from pythia_profile.cli.app import FACTS, verb
from pythia_profile.cli.options import AsJson, print_json

if TYPE_CHECKING:
    from data_order.neox.blend import Blend
    from data_order.neox.layout import Layout
    from data_order.neox.neox_order import NeoxOrder
    from data_order.order import TrainingOrder
    from data_order.sample import RowSource

_AT_ONCE = 1024
_MOST = 2**31


@verb(
    FACTS,
    "rows my-suite/rows --documents corpus/train --seed 1234 --batch-size 1024 --steps 143000",
    "rows my-suite/rows --documents corpus/train --maps corpus/maps --batch-size 64 --steps 1000",
    "rows my-suite/rows --blend web/rows=0.7 --blend books/rows=0.3 --batch-size 64 --steps 1000",
)
def rows(
    out: Annotated[Path, typer.Argument(help="Prefix of the .bin and .idx to write.")],
    batch_size: Annotated[int, typer.Option(help="Rows per step.", min=1, max=_MOST)],
    steps: Annotated[int, typer.Option(help="Steps of the run.", min=1, max=_MOST)],
    documents: Annotated[
        Path | None,
        typer.Option(help="Prefix of the .bin and .idx of the unshuffled documents."),
    ] = None,
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
        typer.Option(
            help="Where the run's own index maps (.npy) are: taken as they are, or with --seed "
            "compared with those that are rebuilt."
        ),
    ] = None,
    blend: Annotated[
        list[str] | None,
        typer.Option(
            metavar="ROWS=WEIGHT",
            help="Instead of --documents: rows of one of the data sets that the run read by "
            "weight, as `rows` writes them; repeatable.",
        ),
    ] = None,
    save_maps: Annotated[
        bool, typer.Option("--save-maps", help="Write the index maps, too, as the trainer does.")
    ] = False,
    never: Annotated[
        int, typer.Option(help="Rows past the last step, as controls.", min=0, max=_MOST)
    ] = 2000,
    as_json: AsJson = False,
) -> None:
    """Write the rows of a run in training order.

    The store of a suite of your own: `pythia-profile suites --template` prints the file beside it.
    """
    import numpy as np

    from data_order.neox.documents import NeoxRows
    from data_order.neox.layout import Layout, samples_asked
    from data_order.neox.verify import save_maps as write_maps
    from data_order.order import TrainingOrder
    from data_order.store.megatron import MegatronStore

    training = TrainingOrder(batch_size, steps)
    if (documents is None) == (not blend):
        raise typer.BadParameter("give one of --documents and --blend")
    source: RowSource
    if documents is None:
        if seed is not None or maps is not None or save_maps:
            raise typer.BadParameter("--seed, --maps and --save-maps go with --documents")
        source = _blended(blend or [], row_tokens, training.rows + never)
    else:
        layout = Layout(
            seed=seed or 0,
            samples=samples or samples_asked(training, split),
            sequence_length=row_tokens - 1,
            split=split,
        )
        store = MegatronStore(documents)
        order = _order(store.sizes, layout, training, maps, rebuild=seed is not None)
        if len(order) < training.rows:
            raise typer.BadParameter(
                f"--steps: {training.rows:,} rows are read, but the documents make {len(order):,}"
            )
        source = NeoxRows(order, store)
        if save_maps:
            write_maps(order, out)
    count = min(len(source), training.rows + never)
    MegatronStore.write(out, _in_order(source, count), dtype=np.asarray(source[0]).dtype)
    if as_json:
        never_read = count - training.rows
        print_json({"file": f"{out}.bin", "rows": training.rows, "never_treated": never_read})
        return
    typer.echo(
        f"{out}.bin: {training.rows:,} rows in training order, {count - training.rows:,} "
        "never-treated rows behind them"
    )


def _order(
    sizes: Any, layout: "Layout", training: "TrainingOrder", maps: Path | None, *, rebuild: bool
) -> "NeoxOrder":
    """Rebuild the order, or take the run's own maps; with both, they must be the same.

    Raises
    ------
    StoreError
        A map is another than the rebuilt one.
    """
    from data_order.errors import StoreError
    from data_order.neox.neox_order import NeoxOrder
    from data_order.neox.verify import compare_maps

    if not rebuild and maps is None:
        raise typer.BadParameter("give --seed, --maps or both")
    if not rebuild and maps is not None:
        return NeoxOrder.from_npy(maps, sizes, layout.sequence_length, training)
    order = NeoxOrder.from_sizes(sizes, layout, training)
    for found in compare_maps(order, maps) if maps is not None else ():
        if not found.same:
            what = found.note or f"{found.differing:,} of {found.entries:,} entries differ"
            at = "" if found.first is None else f", the first is {found.first:,}"
            raise StoreError(
                f"{maps}: {found.what} is not the one that seed {layout.seed} makes: {what}{at}; "
                "seed, samples or split are others"
            )
    return order


def _blended(parts: list[str], row_tokens: int, rows: int) -> "Blend":
    from data_order.neox.blend import Blend
    from data_order.store.token_rows import TokenRows

    named = [part.rpartition("=") for part in parts]
    try:
        weights = [float(weight) for _, _, weight in named]
    except ValueError:
        raise typer.BadParameter(f"--blend: got '{parts[0]}', expected ROWS=WEIGHT") from None
    if not all(where for where, _, _ in named):
        raise typer.BadParameter(f"--blend: got '{parts[0]}', expected ROWS=WEIGHT")
    return Blend.of([TokenRows.open(where, row_tokens) for where, _, _ in named], weights, rows)


def _in_order(source: "RowSource", count: int) -> Iterator[Any]:
    from pythia_profile.progress import track

    with track("writing rows", count, "rows") as task:
        for start in range(0, count, _AT_ONCE):
            block = source[start : min(start + _AT_ONCE, count)]
            yield from block
            task.advance(len(block))
