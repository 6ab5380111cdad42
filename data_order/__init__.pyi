from data_order.errors import (
    OrderError as OrderError,
    ProfileError as ProfileError,
    StoreError as StoreError,
)
from data_order.insertions import (
    insertion_rows as insertion_rows,
    insertion_starts as insertion_starts,
)
from data_order.neox.documents import NeoxRows as NeoxRows
from data_order.neox.exposure import exposures as exposures
from data_order.neox.layout import Layout as Layout
from data_order.neox.neox_order import NeoxOrder as NeoxOrder
from data_order.order import NEVER as NEVER, TrainingOrder as TrainingOrder
from data_order.pack import pack_text as pack_text
from data_order.published import (
    ORDERS as ORDERS,
    PublishedOrder as PublishedOrder,
    published_order as published_order,
)
from data_order.sample import (
    HELD_OUT as HELD_OUT,
    ROWS as ROWS,
    Draw as Draw,
    published_row_id as published_row_id,
    rows_table as rows_table,
    sample_rows as sample_rows,
)
from data_order.shuffled.by_file import FileOrder as FileOrder
from data_order.shuffled.passes import Segment as Segment, ShuffledOrder as ShuffledOrder
from data_order.store.megatron import MegatronStore as MegatronStore
from data_order.store.token_rows import TokenRows as TokenRows
