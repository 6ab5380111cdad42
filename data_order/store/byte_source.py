"""One way to open a store's bytes: on this disk or on the hub."""

from collections.abc import Sequence
from pathlib import Path

from data_order.errors import OrderError
from data_order.hub.access import Hub, is_address
from data_order.store.shards import ByteSource, LocalShards, local_files

Where = str | Path | Sequence[str | Path]


def open_source(where: Where, hub: Hub | None = None) -> tuple[ByteSource, Path | None]:
    """Open a store's bytes, and find the `.idx` file beside them where they are on this disk.

    Parameters
    ----------
    where : prefix of an `.idx`/`.bin` pair or of shards, a folder that holds one store, the shard
        files themselves in their order, or a dataset on the hub: "owner/name", or
        "hf://datasets/owner/name@revision/prefix".
    hub : how to read from the hub.

    Raises
    ------
    StoreNotFoundError, RemoteNotFoundError
        There is no such store.
    StoreError
        A shard is missing.
    """
    if not isinstance(where, str | Path | list | tuple):
        raise OrderError(f"store: got {type(where).__name__}, expected a path or a list of shards")
    if not isinstance(where, str | Path):
        files = [Path(path) for path in where]
        return LocalShards(files, f"{files[0]} and {len(files) - 1} more" if files else None), None
    if isinstance(where, str) and is_address(where):
        from data_order.store.remote import HubShards  # loads the network's libraries

        return HubShards.open(where, hub or Hub()), None
    files, index = local_files(where)
    return LocalShards(files, str(where)), index
