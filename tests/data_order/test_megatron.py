"""The Megatron store: bytes of the format, round trips of every type, and owned answers."""

import gc
import pickle
import struct
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from data_order import MegatronStore, OrderError, StoreError
from data_order.errors import RowRangeError, StoreNotFoundError

CODES = {1: "u1", 2: "i1", 3: "i2", 4: "i4", 5: "i8", 6: "f4", 7: "f8", 8: "u2"}


def index_bytes(code, token_bytes, sizes, documents):
    """The format as its description spells it, one `struct.pack` a field."""
    pointers, at = [], 0
    for size in sizes:
        pointers.append(at)
        at += size * token_bytes
    return b"".join(
        [
            b"MMIDIDX\x00\x00",
            struct.pack("<Q", 1),
            struct.pack("<B", code),
            struct.pack("<Q", len(sizes)),
            struct.pack("<Q", len(documents)),
            *(struct.pack("<i", size) for size in sizes),
            *(struct.pack("<q", pointer) for pointer in pointers),
            *(struct.pack("<q", document) for document in documents),
        ]
    )


def sequences_of(dtype):
    element = hnp.from_dtype(np.dtype(dtype), allow_nan=False)
    return st.lists(hnp.arrays(dtype, st.integers(0, 9), elements=element), max_size=8)


@pytest.mark.parametrize(("code", "dtype"), CODES.items())
def test_every_dtype_comes_back_and_the_index_has_the_described_bytes(
    code, dtype, tmp_path_factory
):
    @given(sequences_of("<" + dtype))
    def round_trip(sequences):
        prefix = tmp_path_factory.mktemp("store") / "document"
        store = MegatronStore.write(prefix, sequences, dtype=dtype)

        sizes = [len(sequence) for sequence in sequences]
        documents = range(len(sequences) + 1)
        written = prefix.with_suffix(".idx").read_bytes()
        assert written == index_bytes(code, np.dtype(dtype).itemsize, sizes, documents)
        assert len(written) == 34 + 12 * len(sizes) + 8 * len(documents)
        assert prefix.with_suffix(".bin").read_bytes() == b"".join(s.tobytes() for s in sequences)
        assert [s.tobytes() for s in store] == [s.tobytes() for s in sequences]
        assert store.dtype == np.dtype(dtype)
        assert len(store) == len(sequences)
        assert store.tokens == sum(sizes)

    round_trip()


def test_one_document_entry_as_in_the_published_rows(tmp_path):
    store = MegatronStore.write(tmp_path / "document", np.zeros((3, 5), int), documents=[0])

    assert store.documents.tolist() == [0]
    assert (tmp_path / "document.idx").read_bytes() == index_bytes(8, 2, [5, 5, 5], [0])


def test_code_six_with_eight_bytes_a_token_is_the_training_commits_float64(tmp_path):
    values = [np.array([1.5, -2.0]), np.array([3.25])]
    (tmp_path / "old.idx").write_bytes(index_bytes(6, 8, [2, 1], [0, 1, 2]))
    (tmp_path / "old.bin").write_bytes(b"".join(v.astype("<f8").tobytes() for v in values))
    (tmp_path / "one.idx").write_bytes(index_bytes(6, 8, [3], [0]))
    (tmp_path / "one.bin").write_bytes(bytes(24))

    store = MegatronStore(tmp_path / "old")

    assert store.dtype == np.float64
    assert [v.tolist() for v in store] == [v.tolist() for v in values]
    assert MegatronStore(tmp_path / "one").dtype == np.float64


@pytest.fixture
def ragged(tmp_path):
    return MegatronStore.write(tmp_path / "ragged", [[1, 2, 3], [], [4, 5], [6]])


@pytest.fixture
def rows(tmp_path):
    return MegatronStore.write(tmp_path / "rows", np.arange(60).reshape(12, 5))


@pytest.mark.parametrize("kind", [np.int8, np.uint8, np.int32, np.uint64, int])
def test_every_integer_type_selects(kind, ragged, rows):
    assert ragged[kind(2)].tolist() == [4, 5]
    assert rows[np.array([11, 0, 11], kind)].tolist() == [
        [55, 56, 57, 58, 59],
        [0, 1, 2, 3, 4],
        [55, 56, 57, 58, 59],
    ]


def test_slices_and_arrays_select_several(ragged, rows):
    assert [s.tolist() for s in ragged[1:4]] == [[], [4, 5], [6]]
    assert [s.tolist() for s in ragged[[3, 0]]] == [[6], [1, 2, 3]]
    assert ragged[2:2] == []
    assert rows[::4].shape == (3, 5)
    assert rows[[]].shape == (0, 5)
    assert rows[3:0:-1][:, 0].tolist() == [15, 10, 5]


@pytest.mark.parametrize("key", [4, -1, 2**40, 2**63, slice(0, 5), slice(-2, None), [0, 4], [-1]])
def test_what_is_not_there_is_an_error_and_never_a_short_answer(key, ragged):
    with pytest.raises(OrderError, match=r"does not exist|does not fit"):
        ragged[key]


@pytest.mark.parametrize("key", [0.0, True, "a", None, (0, 1), [[0], [1, 2]], slice("a", None)])
def test_what_is_no_selection_is_named(key, ragged):
    with pytest.raises(OrderError, match=r"expected|different lengths"):
        ragged[key]


def test_absent_row_is_an_index_error_too(ragged):
    with pytest.raises(IndexError, match="sequence 4 does not exist; the store has sequences 0 to"):
        ragged[4]
    with pytest.raises(RowRangeError):
        ragged[4]


def test_answers_outlive_the_store_and_its_files(tmp_path):
    prefix = tmp_path / "document"
    store = MegatronStore.write(prefix, [[7] * 9000, [8]])
    one, several, sizes = store[0], store[0:2], store.sizes

    del store
    gc.collect()
    prefix.with_suffix(".bin").write_bytes(b"")
    prefix.with_suffix(".idx").write_bytes(b"")

    for answer in (one, *several, sizes):
        assert answer.flags.owndata or answer.base.flags.owndata
        answer += 1
    assert one.tolist() == [8] * 9000
    assert several[0].tolist() == [8] * 9000
    assert sizes.tolist() == [9001, 2]


def test_a_store_travels_to_another_process_by_its_path(rows):
    frozen = pickle.dumps(MegatronStore(rows.prefix, vocabulary=60))

    assert len(frozen) < 1000
    assert pickle.loads(frozen)[3].tolist() == [15, 16, 17, 18, 19]
    assert pickle.loads(frozen).vocabulary == 60


def test_token_outside_the_vocabulary_is_named_by_row_and_position(rows, ragged):
    with pytest.raises(OrderError, match="row 11, position 2: token id is 57, expected 0 to 56"):
        MegatronStore(rows.prefix, vocabulary=57)[[0, 11, 3]]
    with pytest.raises(OrderError, match="row 2, position 1: token id is 5, expected 0 to 4"):
        list(MegatronStore(ragged.prefix, vocabulary=5))


@pytest.mark.parametrize(
    ("sequences", "dtype", "message"),
    [
        ([[70_000]], "u2", "sequence 0: token 70000 does not fit uint16"),
        ([[1], [-1]], "u2", "sequence 1: token -1 does not fit uint16"),
        ([[0.5]], "u2", "sequence 0: got float64 tokens, expected uint16"),
        ([3], "u2", r"sequence 0: got an array of shape \(\)"),
        ([[1]], "f2", "dtype float16 has no code"),
        ([["a"]], "u2", "expected uint16"),
        ([[1]], "nonsense", "dtype: got 'nonsense', expected one of uint8"),
        ([[1]], ">u2", "dtype >u2 is big-endian"),
        ([[1e300]], "f4", r"sequence 0: 1e\+300 does not fit float32"),
        ([np.array([2**63], np.uint64)], "i8", "9223372036854775808 does not fit int64"),
    ],
)
def test_what_cannot_be_stored_is_refused_and_leaves_no_file(sequences, dtype, message, tmp_path):
    with pytest.raises(OrderError, match=message):
        MegatronStore.write(tmp_path / "document", sequences, dtype=dtype)
    assert list(tmp_path.iterdir()) == []


def test_document_entries_that_are_no_sequences_are_refused(tmp_path):
    with pytest.raises(OrderError, match=r"documents: got \[0, 3\], expected .* 0 to 2"):
        MegatronStore.write(tmp_path / "document", [[1], [2]], documents=[0, 3])


def test_a_place_that_cannot_be_written_is_named(tmp_path, rows):
    with pytest.raises(StoreError, match=r"x\.idx: cannot be written"):
        MegatronStore.write(rows.prefix.with_suffix(".bin") / "x", [[1]])


@pytest.mark.parametrize("vocabulary", [0, -1, "x", 1.5, True])
def test_an_impossible_vocabulary_is_named(vocabulary, rows):
    with pytest.raises(OrderError, match=r"vocabulary: got .*, expected a whole number above 0"):
        MegatronStore(rows.prefix, vocabulary=vocabulary)


def test_missing_files_are_named(tmp_path, ragged):
    with pytest.raises(StoreNotFoundError, match=r"none\.bin: no such file"):
        MegatronStore(tmp_path / "none")
    ragged.prefix.with_suffix(".idx").unlink()
    with pytest.raises(StoreNotFoundError, match=r"ragged\.idx: no such file"):
        MegatronStore(ragged.prefix)


def test_a_writer_that_is_killed_leaves_nothing_under_the_final_names(tmp_path):
    code = (
        "import os, sys; from data_order import MegatronStore\n"
        "def endless():\n"
        "    for i in range(1000):\n"
        "        yield [i] * 1000\n"
        "    os.kill(os.getpid(), 9)\n"
        f"MegatronStore.write({str(tmp_path / 'document')!r}, endless())"
    )
    done = subprocess.run([sys.executable, "-c", code], check=False)

    assert done.returncode == -9
    assert not {"document.idx", "document.bin"} & {path.name for path in tmp_path.iterdir()}
