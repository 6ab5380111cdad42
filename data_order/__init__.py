"""Which token row the trainer read at which step.

`data_order` answers that for Megatron and GPT-NeoX training runs, first of all Pythia, without
downloading the whole corpus. It knows no model and imports no torch: arrays in, arrays out.

    TrainingOrder    step <-> rows <-> cohorts
    TokenRows        rows in training order, from shards on disk or on the hub
    MegatronStore    one `.idx`/`.bin` pair: read, checked, written
    NeoxOrder        the order rebuilt from document sizes and a seed; `NeoxRows`: with its tokens
    exposures        which tokens of a row had been read before, by which rows, when
    sample_rows      the rows of a study as a table; a `Draw` asks for how many
    ORDERS           the published orders

    rows = TokenRows.open("EleutherAI/pile-deduped-pythia-preshuffled")
    batch = rows[TrainingOrder(1024, 143_000).rows_of(step=1000)]   # 1024 rows, 4.2 MB, not 600 GB

Names are loaded when they are first used.
"""

from data_order.lazy import attach

__getattr__, __dir__, __all__ = attach(__name__, __file__)
