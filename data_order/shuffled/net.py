"""Token files on the net: their sizes, asked for once, and exact ranges of their bytes."""

import hashlib
import json
from collections.abc import Sequence

from data_order.hub.access import Hub
from data_order.hub.client import UrlFile
from data_order.hub.listings import file_sizes
from data_order.store.remote import RemoteBytes

__all__ = ["open_files"]


def open_files(name: str, addresses: Sequence[str], hub: Hub) -> tuple[list[int], RemoteBytes]:
    """Bytes of each file, and all of them as one run of bytes.

    Parameters
    ----------
    name : what messages call the files, and the folder of what has been read of them.

    Raises
    ------
    RemoteError
        A server has no such file, or does not say how long it is.
    """
    sizes = file_sizes(addresses, hub)
    once = {
        address: UrlFile(hub, address, size) for address, size in zip(addresses, sizes, strict=True)
    }
    key = hashlib.sha256(json.dumps([addresses, sizes]).encode()).hexdigest()[:32]
    kept = hub.kept("rows", name, f"{key}.sqlite")
    title = f"{len(addresses):,} token files of {name}"
    return sizes, RemoteBytes([once[address] for address in addresses], title, hub, kept)
