"""Where the verb `order` reads tokens, how it verifies them, and the bar of bytes that it shows."""

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from data_order.neox.neox_order import NeoxOrder
    from data_order.published import PublishedOrder
    from data_order.sample import RowSource

__all__ = ["bytes_bar", "row_source", "verified"]


def verified(
    source: "RowSource | None",
    rows: Sequence[int],
    published: "PublishedOrder | None",
    rebuilt: "RowSource | None" = None,
) -> str:
    """Compare rows with those rebuilt, or with a second fetch, or their files with known hashes.

    Parameters
    ----------
    source : rows in training order, or those rebuilt from documents.
    rebuilt : the rows from the documents, where these are there.

    Raises
    ------
    StoreError
        They differ; what a cache held of them is dropped.
    """
    from data_order.errors import StoreError
    from data_order.hub.access import Hub
    from data_order.hub.listings import pinned_dataset
    from data_order.neox.documents import NeoxRows
    from data_order.published import published_hashes
    from data_order.store.integrity import damaged_files, differing_rows, shards_of
    from data_order.store.shards import LocalShards
    from data_order.store.token_rows import TokenRows

    if isinstance(source, TokenRows) and rebuilt is not None:
        wrong = (source[rows] != rebuilt[rows]).any(axis=1)
        if wrong.any():
            raise StoreError(
                f"{int(wrong.sum()):,} of {len(rows):,} rows are not those rebuilt from the "
                f"documents, the first is {rows[int(wrong.argmax())]}; order or store are others"
            )
        return f"verified: {len(rows):,} rows are those rebuilt from the documents"
    if isinstance(source, NeoxRows) and isinstance(source.stream.source, LocalShards):
        if damaged := damaged_files(source.stream.source.paths, published_hashes()):
            raise StoreError(f"{damaged[0]}: is not the published file; its sha256 is another")
        return f"verified: {len(source.stream.source.paths)} files of documents as published"
    if not isinstance(source, TokenRows):
        raise typer.BadParameter("--verify needs --store, or --corpus on this disk")
    if not isinstance(source.source, LocalShards):
        differing = differing_rows(source, rows)
        if len(differing):
            raise StoreError(
                f"{len(differing)} of {len(rows)} rows differ in a second fetch, the first is "
                f"{differing[0]}; dropped from the cache, ask again"
            )
        return f"verified: {len(rows):,} rows are the same in a second fetch"
    if published is None or published.row_store is None:
        raise typer.BadParameter("--verify: no hashes of this store are published")
    listed = pinned_dataset(published.row_store.repository, "main", Hub()).files
    shards = shards_of(source, list(rows))
    damaged = damaged_files(shards, {file.name: file.sha256 for file in listed if file.sha256})
    if damaged:
        raise StoreError(f"{damaged[0]}: is not the published file; its sha256 is another")
    return f"verified: {', '.join(path.name for path in shards)} as published"


def row_source(
    store: str | None,
    corpus: str | None,
    published: "PublishedOrder | None",
    maps: "NeoxOrder | None",
    width: int,
    vocabulary: int | None,
    progress: Callable[[int, int], None],
) -> "RowSource | None":
    """Open what tokens are read from: rows in training order, or documents by index maps.

    Raises
    ------
    typer.BadParameter
        What is named is not published.
    """
    from data_order.hub.access import Hub
    from data_order.neox.documents import NeoxRows
    from data_order.store.token_rows import TokenRows
    from data_order.store.token_stream import TokenStream

    if "hub" in (store, corpus) and published is None:
        raise typer.BadParameter("'hub' stands for a published order; give a path")
    if store is not None:
        if store == "hub" and published is not None and published.row_store is None:
            raise typer.BadParameter(
                f"the rows of {published.name} are not published in training order; rebuild them "
                "with --idx and --corpus hub"
            )
        where = store
        if store == "hub" and published is not None and published.row_store is not None:
            where = published.row_store.repository
        return TokenRows.open(where, width, vocabulary=vocabulary, hub=Hub(progress=progress))
    if corpus is not None and maps is not None:
        where = published.documents.repository if corpus == "hub" and published else corpus
        return NeoxRows(maps, TokenStream.open(where, hub=Hub(progress=progress)))
    return None


def bytes_bar(stack: ExitStack) -> Callable[[int, int], None]:
    """Make a bar of bytes that appears with the first of them."""
    from pythia_profile.progress import Task, track

    tasks: list[Task] = []

    def show(done: int, total: int) -> None:
        if not tasks:
            tasks.append(stack.enter_context(track("reading rows", total, "bytes")))
        tasks[0].advance(done - tasks[0].done)

    return show
