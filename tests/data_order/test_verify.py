"""A rebuilt order is compared with published maps and rows; a planted difference is found."""

import numpy as np
import pytest

from data_order import (
    Layout,
    MegatronStore,
    NeoxOrder,
    OrderError,
    StoreError,
    TrainingOrder,
)
from data_order.neox.verify import compare_maps, save_maps

SIZES = [50, 0, 91, 4, 33]
RUN = TrainingOrder(batch_size=4, steps=12)


@pytest.fixture
def order():
    return NeoxOrder.from_sizes(SIZES, Layout(seed=7, samples=48, sequence_length=8), RUN)


@pytest.fixture
def documents(tmp_path):
    rng = np.random.default_rng(0)
    texts = [rng.integers(0, 500, size) for size in SIZES]
    return MegatronStore.write(tmp_path / "pile", texts)


def test_saved_maps_are_npy_files_of_the_trainers_types_and_verify(order, tmp_path):
    paths = save_maps(order, tmp_path / "train_0_indexmap_48ns_8sl_7s")

    document, sample, shuffle = (np.load(path) for path in paths)
    assert [p.name for p in paths] == [
        f"train_0_indexmap_48ns_8sl_7s_{kind}_idx.npy" for kind in ("doc", "sample", "shuffle")
    ]
    assert (document.dtype, sample.dtype, shuffle.dtype) == (np.int32, np.int32, np.uint32)
    assert np.array_equal(sample, order.sample_index)
    for where in (tmp_path, tmp_path / "train_0_indexmap_48ns_8sl_7s"):
        assert all(found.same for found in compare_maps(order, where))
        again = NeoxOrder.from_npy(where, SIZES, sequence_length=8, training=RUN)
        assert again.pieces(slice(None)).frame().equals(order.pieces(slice(None)).frame())


def test_a_changed_entry_is_counted_and_located(order, tmp_path):
    _, sample, shuffle = save_maps(order, tmp_path / "x")
    starts, rows = np.load(sample), np.load(shuffle)
    starts[[3, 9], 1] += 1
    rows[5:] = 0
    np.save(sample, starts)
    np.save(shuffle, rows)

    found = {one.what: one for one in compare_maps(order, tmp_path)}

    assert found["doc_idx"].same
    assert (found["sample_idx"].differing, found["sample_idx"].first) == (2, 3)
    assert found["shuffle_idx"].entries == len(order)
    assert found["shuffle_idx"].differing == np.count_nonzero(order.shuffle_index[5:])
    with pytest.raises(OrderError, match="different samples"):
        NeoxOrder.from_npy(tmp_path, SIZES, sequence_length=8)


def test_another_length_or_type_is_noted(order, tmp_path):
    document, sample, shuffle = save_maps(order, tmp_path / "x")
    np.save(document, np.load(document)[:-1])
    np.save(sample, np.load(sample).ravel())
    np.save(shuffle, np.load(shuffle).astype(np.int64))

    notes = [found.note for found in compare_maps(order, tmp_path)]

    expected = len(order.document_index)
    assert notes[0] == f"has shape ({expected - 1},), expected ({expected},)"
    assert "has shape" in notes[1]
    assert notes[2] == "is int64, expected uint32"
    assert not any(found.same for found in compare_maps(order, tmp_path))


def test_another_seed_does_not_verify(order, tmp_path):
    save_maps(
        NeoxOrder.from_sizes(SIZES, Layout(seed=8, samples=48, sequence_length=8)), tmp_path / "x"
    )

    assert not any(found.same for found in compare_maps(order, tmp_path)[::2])


def test_what_cannot_be_compared_is_named(order, tmp_path):
    save_maps(order, tmp_path / "x")
    with pytest.raises(StoreError, match=r"holds no doc_idx\.npy"):
        compare_maps(order, tmp_path / "none")
    (tmp_path / "x_doc_idx.npy").write_bytes(b"no numpy")
    with pytest.raises(StoreError, match=r"x_doc_idx\.npy: is no \.npy file of numbers"):
        compare_maps(order, tmp_path / "x")
    (tmp_path / "y_doc_idx.npy").write_bytes(b"no numpy")
    with pytest.raises(StoreError, match=r"holds 2 files \*doc_idx\.npy"):
        compare_maps(order, tmp_path)
