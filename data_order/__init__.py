"""Which token row the trainer read at which step.

`data_order` answers that for Megatron and GPT-NeoX training runs, first of all Pythia, without
downloading the whole corpus. It knows no model and imports no torch: arrays in, arrays out.

    TrainingOrder    step <-> rows <-> cohorts
    TokenRows        rows in training order, from shards on disk or on the hub
    MegatronStore    one `.idx`/`.bin` pair: read, checked, written
    NeoxOrder        the order rebuilt from document sizes and a seed: pieces, tokens, exposures
    exposures        which tokens of a row had been read before, by which rows, when
    sample_rows      the rows of a study, treated and never-treated, as a table
    ORDERS           the published orders

    rows = TokenRows.open("EleutherAI/pile-deduped-pythia-preshuffled")
    batch = rows[TrainingOrder(1024, 143_000).rows_of(step=1000)]   # 1024 rows, 4.2 MB, not 600 GB

Names are loaded when they are first used.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from data_order.errors import OrderError, ProfileError, StoreError
    from data_order.neox.exposure import exposures
    from data_order.neox.neox_order import NeoxOrder
    from data_order.order import NEVER, TrainingOrder
    from data_order.pack import pack_text
    from data_order.published import ORDERS, PublishedOrder, published_order
    from data_order.sample import HELD_OUT, ROWS, published_row_id, rows_table, sample_rows
    from data_order.store.megatron import MegatronStore
    from data_order.store.rows import TokenRows

_HOME = {
    "HELD_OUT": "data_order.sample",
    "MegatronStore": "data_order.store.megatron",
    "NeoxOrder": "data_order.neox.neox_order",
    "NEVER": "data_order.order",
    "OrderError": "data_order.errors",
    "ORDERS": "data_order.published",
    "ProfileError": "data_order.errors",
    "PublishedOrder": "data_order.published",
    "ROWS": "data_order.sample",
    "StoreError": "data_order.errors",
    "TokenRows": "data_order.store.rows",
    "TrainingOrder": "data_order.order",
    "exposures": "data_order.neox.exposure",
    "pack_text": "data_order.pack",
    "published_order": "data_order.published",
    "published_row_id": "data_order.sample",
    "rows_table": "data_order.sample",
    "sample_rows": "data_order.sample",
}

__all__ = [
    "HELD_OUT",
    "NEVER",
    "ORDERS",
    "ROWS",
    "MegatronStore",
    "NeoxOrder",
    "OrderError",
    "ProfileError",
    "PublishedOrder",
    "StoreError",
    "TokenRows",
    "TrainingOrder",
    "exposures",
    "pack_text",
    "published_order",
    "published_row_id",
    "rows_table",
    "sample_rows",
]


def __getattr__(name: str) -> Any:
    if name in _HOME:
        return getattr(import_module(_HOME[name]), name)
    raise AttributeError(f"module 'data_order' has no attribute '{name}'")


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
