"""The rebuilt order against a plain loop over documents that uses neither numpy nor the package."""

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from data_order import Layout, MegatronStore, NeoxOrder, OrderError, StoreError
from data_order.errors import RowRangeError
from data_order.neox import index_maps, pieces
from data_order.neox.blend import Blend, blended
from data_order.neox.documents import NeoxRows
from data_order.store.token_stream import TokenStream
from tests.data_order.neox_reference import Twister, split_bounds
from tests.data_order.neox_reference import index_maps as maps_by_loop
from tests.data_order.neox_reference import rows as rows_by_loop

GOLDEN = json.loads((Path(__file__).parent / "golden" / "neox_order.json").read_text())

runs = st.fixed_dictionaries(
    {
        "sizes": st.lists(
            st.one_of(st.just(0), st.integers(0, 6), st.integers(0, 90)), min_size=1, max_size=25
        ).filter(sum),
        "seed": st.integers(0, 2**32 - 1),
        "samples": st.integers(1, 60),
        "length": st.integers(1, 24),
    }
)


def build(run):
    return NeoxOrder.from_sizes(
        run["sizes"],
        Layout(seed=run["seed"], samples=run["samples"], sequence_length=run["length"]),
    )


def tokens_of(order, rows):
    """Rows as lists of (document, offset), from their pieces."""
    found = order.pieces(rows)
    lists = [[] for _ in found.rows]
    for owner, document, offset, length in zip(
        found.owner(), found.document, found.offset, found.length, strict=True
    ):
        lists[owner] += [(document, offset + i) for i in range(length)]
    return lists


def write_documents(prefix, sizes):
    documents = [np.arange(size) * 31 + 1000 * number for number, size in enumerate(sizes)]
    return documents, MegatronStore.write(prefix, documents)


@pytest.mark.parametrize("case", GOLDEN, ids=["few", "empty-first", "last-seed"])
def test_first_values_are_the_stored_ones(case):
    order = build(case)

    assert order.document_index[:20].tolist() == case["document"]
    assert order.sample_index[:20].tolist() == case["sample"]
    assert order.shuffle_index[:20].tolist() == case["shuffle"]
    assert (len(order.document_index), len(order)) == (case["documents"], case["available"])


@settings(max_examples=150, deadline=None)
@given(runs)
def test_all_three_maps_are_those_of_the_loop_in_the_dtypes_of_the_files(run):
    documents, starts, shuffle = maps_by_loop(**run)

    order = build(run)

    assert order.document_index.tolist() == documents
    assert order.sample_index.tolist() == [list(start) for start in starts]
    assert order.shuffle_index.tolist() == shuffle
    assert order.document_index.dtype == order.sample_index.dtype == np.int32
    assert order.shuffle_index.dtype == np.uint32
    assert order.epochs == len(documents) // len(run["sizes"])


@pytest.fixture(params=[1, 2, 7])
def small_blocks(request, monkeypatch):
    """Blocks of a few documents, so that small cases cross many block borders."""
    for module in (index_maps, pieces):
        monkeypatch.setattr(module, "BLOCK", request.param)
    monkeypatch.setattr(index_maps, "_CHUNK", 3 * request.param)


def test_borders_of_blocks_change_nothing(small_blocks):
    @settings(max_examples=60, deadline=None)
    @given(runs)
    def check(run):
        order = build(run)
        assert order.sample_index.tolist() == [list(s) for s in maps_by_loop(**run)[1]]
        assert tokens_of(order, slice(None)) == rows_by_loop(**run)
        documents = np.arange(len(run["sizes"]))
        assert pieces.document_starts(documents, order.sizes).tolist() == [
            sum(run["sizes"][:i]) for i in documents
        ]

    check()


@settings(max_examples=100, deadline=None)
@given(runs, st.data())
def test_pieces_of_some_rows_are_the_tokens_of_the_loop(run, data):
    every = rows_by_loop(**run)
    asked = data.draw(st.lists(st.integers(0, len(every) - 1), max_size=10))

    found = build(run).pieces(asked)

    assert tokens_of(build(run), asked) == [every[row] for row in asked]
    assert (found.length > 0).all()
    assert found.rows.tolist() == asked
    at = [sum(found.length[found.first[o] : i]) for i, o in enumerate(found.owner())]
    assert found.starts().tolist() == at


@settings(max_examples=40, deadline=None)
@given(run=runs)
def test_tokens_are_read_from_the_documents_wherever_they_lie(run, tmp_path_factory):
    folder = tmp_path_factory.mktemp("documents")
    documents, store = write_documents(folder / "pile", run["sizes"])
    expected = [[int(documents[d][i]) for d, i in row] for row in rows_by_loop(**run)]
    order = NeoxOrder.from_idx(
        folder / "pile.idx",
        Layout(seed=run["seed"], samples=run["samples"], sequence_length=run["length"]),
    )

    for where in (store, folder, TokenStream.open(folder / "pile")):
        assert NeoxRows(order, where)[slice(None)].tolist() == expected
    assert NeoxRows(order, store)[0].tolist() == expected[0]
    assert NeoxRows(order, store)[[[0], [0]]].shape == (2, 1, run["length"] + 1)


@given(st.integers(0, 2**32 - 1), st.integers(1, 400))
def test_the_references_shuffle_is_numpys(seed, length):
    ours, theirs = list(range(length)), np.arange(length, dtype=np.uint32)
    twister, numpy_twister = Twister(seed), np.random.RandomState(seed)
    for _ in range(2):
        twister.shuffle(ours)
        numpy_twister.shuffle(theirs)

    assert ours == theirs.tolist()


def test_the_shuffle_in_64_bits_is_the_same_permutation():
    wide = np.arange(1000, dtype=np.int64)
    np.random.RandomState(7).shuffle(wide)
    narrow = index_maps.shuffled_samples([0, 1000], np.random.RandomState(7))

    assert index_maps.shuffle_dtype(2**32 - 3) == np.uint32
    assert index_maps.shuffle_dtype(2**32 - 2) == np.int64
    assert (wide.dtype, narrow.dtype) == (np.int64, np.uint32)
    assert wide.tolist() == narrow.tolist()


def test_a_whole_number_of_rows_leaves_no_empty_last_one():
    # 24 tokens, L = 8: the third row would need a 25th token as its last target
    order = NeoxOrder.from_sizes([24], Layout(seed=1, samples=2, sequence_length=8))

    assert (order.epochs, len(order)) == (1, 2)
    assert NeoxOrder.from_sizes([24], Layout(seed=1, samples=3, sequence_length=8)).epochs == 2
    assert NeoxOrder.from_sizes([25], Layout(seed=1, samples=3, sequence_length=8)).epochs == 1


def test_published_maps_are_taken_as_they_are():
    built = NeoxOrder.from_sizes([5, 0, 9, 4], Layout(seed=3, samples=9, sequence_length=4))

    taken = NeoxOrder.from_maps(
        built.sizes, built.document_index.astype(np.int64), built.shuffle_index, 4
    )

    assert tokens_of(taken, slice(None)) == tokens_of(built, slice(None))
    assert taken.epochs == built.epochs


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d, s: (d + 1, s), "document index: holds 4, expected 0 to 3"),
        (lambda d, s: (d.astype(float), s), "document index: got float64 of shape"),
        (lambda d, s: (d, s[:-1]), "shuffle index: has 12 samples, but the documents make 13"),
        (lambda d, s: (d, s * 0), "13 rows hold only 1 different samples; sample 1 is missing"),
        (lambda d, s: (d, s + np.uint32(1)), "shuffle index: holds 13, expected 0 to 12"),
    ],
)
def test_damaged_published_maps_are_refused(change, message):
    built = NeoxOrder.from_sizes([5, 0, 9, 4], Layout(seed=3, samples=9, sequence_length=4))

    with pytest.raises(OrderError, match=message):
        NeoxOrder.from_maps(
            built.sizes, *change(built.document_index, built.shuffle_index), sequence_length=4
        )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (([],), r"sizes: got an array of shape \(0,\)"),
        (([[1]],), r"sizes: got an array of shape \(1, 1\)"),
        (([0, 0],), "sizes: all 2 documents are empty"),
        (([3, -1],), "sizes: -1 tokens, expected 0 to 2147483647"),
        (([2**31],), "sizes: 2147483648 tokens"),
        (([1.5],), "sizes: got float64 values"),
        (([[1, 2], [3]],), "sizes: got lists of different lengths"),
    ],
)
def test_impossible_sizes_are_named(arguments, message):
    with pytest.raises(OrderError, match=message):
        NeoxOrder.from_sizes(*arguments)


@pytest.mark.parametrize(
    ("layout", "message"),
    [
        ({"seed": -1}, "seed: got -1, expected 0 to 4294967295"),
        ({"seed": 2**32}, "seed: got 4294967296"),
        ({"samples": 0}, "samples: got 0"),
        ({"sequence_length": 0}, "sequence_length: got 0"),
        ({"sequence_length": 2.0}, "sequence_length: got 2.0, expected a whole number"),
        ({"samples": 2**60}, "epochs of 1 documents are .* more than the format's 32 bits"),
        ({"packing": "unpacked"}, "packing: 'unpacked' is not replayable here, only 'packed' is"),
        ({"packing": "pack_until_overflow"}, "'pack_until_overflow' is not replayable"),
        ({"split": "a,b"}, "split: got 'a,b', expected up to three weights"),
        ({"split": "0,0,0"}, "split: got '0,0,0'"),
        ({"split": "1,1,1,1"}, "split: got '1,1,1,1'"),
        ({"split": "1,0,0", "part": "valid"}, "the valid part of 1 documents is empty"),
        ({"part": "dev"}, "part: got 'dev', expected one of train, valid, test"),
    ],
)
def test_impossible_layouts_are_named(layout, message):
    with pytest.raises(OrderError, match=message):
        NeoxOrder.from_sizes([5], Layout(**layout))


def test_absent_rows_and_foreign_stores_are_named(tmp_path):
    order = NeoxOrder.from_sizes([5, 0, 9, 4], Layout(seed=3, samples=4, sequence_length=4))
    _, store = write_documents(tmp_path / "other", [5, 0, 9])

    with pytest.raises(RowRangeError, match="row 4 does not exist; the store has rows 0 to 3"):
        order.pieces([0, 4])
    with pytest.raises(StoreError, match="has 14 tokens, but the document sizes add up to 18"):
        NeoxRows(order, store)[[0]]
    with pytest.raises(StoreError, match=r"none\.idx: no such file"):
        NeoxOrder.from_idx(tmp_path / "none")
    (tmp_path / "odd.bin").write_bytes(b"abc")
    with pytest.raises(StoreError, match="3 bytes are no whole number of uint16 tokens"):
        TokenStream.open(tmp_path / "odd.bin")


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(0, 12), min_size=4, max_size=40),
    split=st.sampled_from(["969,30,1", "1,1,1", "90,10,0", "5,3,2"]),
    seed=st.integers(0, 2**32 - 1),
    samples=st.integers(1, 60),
)
def test_a_split_run_reads_the_documents_of_its_part_only(sizes, split, seed, samples):
    stop = split_bounds(split, len(sizes))[1]
    assume(sum(sizes[:stop]) > 1)

    layout = Layout(seed=seed, samples=samples, sequence_length=3, split=split)
    built = NeoxOrder.from_sizes(sizes, layout)

    documents, starts, shuffle = maps_by_loop(sizes, seed, samples, 3, 0, stop)
    assert built.document_index.tolist() == documents
    assert built.shuffle_index.tolist() == shuffle
    assert [tuple(pair) for pair in built.sample_index.tolist()] == starts
    assert built.epochs == len(documents) / stop


def test_the_tokens_of_a_split_run_come_from_the_whole_store(tmp_path):
    sizes = [7, 3, 9, 4, 6, 8, 5, 2]
    documents, store = write_documents(tmp_path / "pile", sizes)
    layout = Layout(seed=5, samples=9, sequence_length=4, split="50,25,25", part="valid")

    order = NeoxOrder.from_sizes(sizes, layout)

    assert layout.documents_of(8) == (4, 6)
    listed, _, shuffle = maps_by_loop(sizes, 5, 9, 4, 4, 6)
    tokens = [int(documents[d][i]) for d in listed for i in range(sizes[d])]
    assert NeoxRows(order, store)[:].tolist() == [tokens[k * 4 : k * 4 + 5] for k in shuffle]


@settings(max_examples=60, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 12), min_size=3, max_size=20),
    seed=st.integers(0, 2**32 - 1),
    samples=st.integers(1, 120),
)
def test_megatron_shuffles_a_last_epoch_of_which_little_is_needed_by_itself(sizes, seed, samples):
    layout = Layout(seed=seed, samples=samples, sequence_length=3, last_epoch_apart=True)

    built = NeoxOrder.from_sizes(sizes, layout)

    documents, starts, shuffle = maps_by_loop(sizes, seed, samples, 3, megatron=True)
    assert built.document_index.tolist() == documents
    assert built.shuffle_index.tolist() == shuffle
    assert [tuple(pair) for pair in built.sample_index.tolist()] == starts


def test_published_maps_say_how_many_epochs_they_hold():
    layout = Layout(seed=3, samples=40, sequence_length=4, split="50,25,25")
    built = NeoxOrder.from_sizes([5, 3, 9, 4], layout)

    taken = NeoxOrder.from_maps(built.sizes, built.document_index, built.shuffle_index, 4)

    assert built.epochs == taken.epochs == 21


@settings(deadline=None)
@given(weights=st.lists(st.floats(0.05, 9), min_size=1, max_size=5), rows=st.integers(0, 80))
def test_a_blend_takes_from_the_data_set_that_lags_furthest(weights, rows):
    set_of, row_of = blended(weights, rows)

    shares = np.asarray(weights) / np.sum(weights)
    taken = np.zeros(len(weights), int)
    for row in range(rows):
        chosen = int(np.argmax(shares * max(row, 1) - taken))
        assert (set_of[row], row_of[row]) == (chosen, taken[chosen])
        taken[chosen] += 1


def test_rows_of_a_blend_are_those_of_its_data_sets():
    first, second = np.arange(40).reshape(20, 2), -np.arange(1, 25).reshape(12, 2)
    blend = Blend.of([first, second], [0.7, 0.3], 18)

    every = blend[:]

    for row, (number, at) in enumerate(zip(blend.set_of, blend.row_of, strict=True)):
        assert every[row].tolist() == (first, second)[number][at].tolist()
    assert blend[[7, 3, 7]].tolist() == [every[i].tolist() for i in (7, 3, 7)]
    assert blend[5].tolist() == every[5].tolist()
    with pytest.raises(OrderError, match="blend: data set 1 has 12 rows, 15 are needed"):
        Blend.of([first, second], [0.1, 0.9], 17)
    with pytest.raises(OrderError, match=r"blend: got weights \[1, 0\], expected"):
        Blend.of([first, second], [1, 0], 3)
