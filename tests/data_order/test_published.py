"""Published facts agree with one another, with the arithmetic, and with the sources' totals."""

import re

import pytest

from data_order import ORDERS, StoreError, TrainingOrder, published_order
from data_order.neox.index_maps import epochs_needed, samples_available
from data_order.published import map_prefix, published_hashes


def test_the_shuffled_stores_hold_just_the_rows_that_are_trained():
    for name in ("pythia", "pythia-deduped"):
        rows = published_order(name).row_store
        assert rows.bytes == 600_078_336_000 == 146_432_000 * 2049 * 2
        assert rows.names[0] == "document-00000-of-00020.bin"
        assert rows.names[-1] == "document-00020-of-00020.bin"
        assert len(rows.names) == 21


def test_the_standard_documents_make_one_epoch_and_rows_that_no_step_reads():
    order = published_order("pythia")
    tokens = order.documents.bytes // 2

    assert order.documents.bytes == 664_230_651_068
    assert epochs_needed(tokens, order.samples, order.sequence_length) == 1
    assert samples_available(tokens, 1, order.sequence_length) == 162_165_686
    assert order.rows == 146_432_000


def test_the_asked_samples_are_half_a_percent_more_than_the_steps_read():
    for order in ORDERS.values():
        assert order.samples == -(-order.rows * 1005 // 1000)
        assert order.rows == 146_432_000


def test_every_seed_has_its_order():
    assert {ORDERS[f"pythia-seed{n}"].seed for n in range(1, 10)} == set(range(1, 10))
    assert {ORDERS[f"pythia-160m-weight-seed{n}"].seed for n in (1, 2, 3)} == {1234}
    assert ORDERS["pythia"].seed == 1234
    assert all(order.documents.shards == 133 for name, order in ORDERS.items() if "seed" in name)
    assert map_prefix(3).startswith("seed3/")
    assert map_prefix(3).endswith("_147164160ns_2048sl_3s")


def test_v0_models_read_the_same_rows_in_batches_twice_as_large():
    assert ORDERS["pythia-v0"].training == TrainingOrder(2048, 71_500)
    assert ORDERS["pythia-v0"].row_store == ORDERS["pythia"].row_store
    assert ORDERS["pythia-v0"].saved_steps == list(range(500, 71_501, 500))


def test_checkpoints_are_the_154_of_every_model():
    saved = ORDERS["pythia"].saved_steps

    assert len(saved) == 154
    assert saved[:12] == [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1000]
    assert saved[-1] == ORDERS["pythia"].training.steps


def test_every_shard_of_the_deduplicated_documents_has_a_hash():
    hashes = published_hashes()
    documents = published_order("pythia-deduped").documents

    assert set(hashes) == {
        *documents.names,
        f"{documents.stem}.idx",
        f"{documents.stem}.bin",
    }
    assert len(set(hashes.values())) == len(hashes) == 85
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in hashes.values())
    # two of them as the repository's own LFS pointers give them
    names = documents.names
    assert hashes[names[14]].startswith("52cc53dd16ae6a2f")
    assert hashes[names[40]].startswith("63847abec693de3e")


def test_an_unknown_order_is_answered_with_the_nearest():
    with pytest.raises(StoreError, match="did you mean 'pythia-deduped'"):
        published_order("pythia-dedup")
