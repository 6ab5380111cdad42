"""Rows over shards: however the bytes are cut, the rows are those of the whole."""

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_order import MegatronStore, OrderError, StoreError, TokenRows
from data_order.errors import RowRangeError, StoreNotFoundError
from data_order.store.integrity import damaged_files, differing_rows, shards_of

ROWS, LENGTH = 40, 7
TOKENS = np.random.default_rng(3).integers(0, 65_536, (ROWS, LENGTH), dtype=np.uint16)
WHOLE = TOKENS.tobytes()


def write_shards(folder: Path, cuts: list[int], stem: str = "document") -> list[Path]:
    """Cut the bytes at `cuts` and write them under the published kind of names."""
    edges = [0, *sorted(cuts), len(WHOLE)]
    paths = []
    for number in range(len(edges) - 1):
        path = folder / f"{stem}-{number:05d}-of-{len(edges) - 2:05d}.bin"
        path.write_bytes(WHOLE[edges[number] : edges[number + 1]])
        paths.append(path)
    return paths


@settings(max_examples=60, deadline=None)
@given(
    cuts=st.lists(st.integers(0, len(WHOLE)), max_size=12),
    asked=st.lists(st.integers(0, ROWS - 1), max_size=30),
)
def test_shards_cut_anywhere_give_the_rows_of_the_whole(cuts, asked, tmp_path_factory):
    folder = tmp_path_factory.mktemp("shards")
    write_shards(folder, cuts)

    rows = TokenRows.open(folder, LENGTH)

    assert len(rows) == ROWS
    assert np.array_equal(rows[asked], TOKENS[asked])
    assert np.array_equal(rows[:], TOKENS)
    assert all(np.array_equal(rows[i], TOKENS[i]) for i in asked)


def test_folder_prefix_single_shard_and_list_of_shards_are_the_same_store(tmp_path):
    paths = write_shards(tmp_path, [31, 200, 201])
    ways = [tmp_path, str(tmp_path), tmp_path / "document", paths[2], paths]

    for where in ways:
        assert np.array_equal(TokenRows.open(where, row_tokens=LENGTH)[:], TOKENS)


def test_a_pair_of_files_is_opened_by_prefix_and_gives_its_dtype(tmp_path):
    MegatronStore.write(tmp_path / "rows_0.87", TOKENS.astype(np.int32), dtype=np.int32)

    for where in ("rows_0.87", "rows_0.87.bin", "rows_0.87.idx", "."):
        rows = TokenRows.open(tmp_path / where, LENGTH)
        assert rows.dtype == np.int32
        assert np.array_equal(rows[:], TOKENS)


def test_answers_are_the_callers_own_in_the_shape_that_was_asked(tmp_path):
    write_shards(tmp_path, [100])
    rows = TokenRows.open(tmp_path, LENGTH)

    one, several = rows[3], rows[[[1, 2], [3, 4]]]
    one += 1
    several += 1

    assert rows[np.uint8(3)].tolist() == TOKENS[3].tolist()
    assert several.shape == (2, 2, LENGTH)
    assert rows[np.zeros((0,), np.int16)].shape == (0, LENGTH)
    assert rows[38:5:-11].tolist() == TOKENS[38:5:-11].tolist()


@pytest.mark.parametrize("cuts", [[], [100], [7, 14, 28, 300]])
@pytest.mark.parametrize("vocabulary", [None, 65_536])
def test_one_row_and_rows_side_by_side_are_those_of_any_other_key(cuts, vocabulary, tmp_path):
    write_shards(tmp_path, cuts)
    rows = TokenRows.open(tmp_path, LENGTH, vocabulary=vocabulary)

    for first in range(ROWS):
        assert np.array_equal(rows[first], rows[np.array(first)])
        for stop in range(first, ROWS + 1, 7):
            assert np.array_equal(rows[first:stop], rows[np.arange(first, stop)])
    mine = rows[3:5]
    mine += 1
    assert np.array_equal(rows[3:5], TOKENS[3:5])


@pytest.mark.parametrize("key", [0, slice(0, 2), [0, 1]])
def test_an_id_beyond_the_vocabulary_is_named_whatever_the_key(key, tmp_path):
    write_shards(tmp_path, [])
    rows = TokenRows.open(tmp_path, LENGTH, vocabulary=int(TOKENS[0].max()))

    with pytest.raises(StoreError, match=r"row 0, position \d+: token id is"):
        rows[key]


@pytest.mark.parametrize("key", [ROWS, -1, slice(0, ROWS + 1), slice(-3, None), [0, ROWS]])
def test_absent_rows_are_an_error_and_never_a_short_answer(key, tmp_path):
    write_shards(tmp_path, [])
    rows = TokenRows.open(tmp_path, LENGTH)

    with pytest.raises(RowRangeError, match="does not exist; the store has rows 0 to 39"):
        rows[key]


def test_iteration_ends_at_the_last_row(tmp_path):
    write_shards(tmp_path, [50])

    assert np.array_equal(list(TokenRows.open(tmp_path, LENGTH)), TOKENS)


def test_rows_travel_to_another_process_by_their_paths(tmp_path):
    write_shards(tmp_path, [50])
    rows = TokenRows.open(tmp_path, LENGTH, vocabulary=65_536)

    frozen = pickle.dumps(rows)

    assert len(frozen) < 1500
    assert np.array_equal(pickle.loads(frozen)[:], TOKENS)


def test_token_outside_the_vocabulary_is_named_by_row_and_position(tmp_path):
    write_shards(tmp_path, [])
    row, position = (int(i) for i in np.unravel_index(TOKENS.argmax(), TOKENS.shape))
    top = int(TOKENS.max())

    rows = TokenRows.open(tmp_path, LENGTH, vocabulary=top)

    message = f"row {row}, position {position}: token id is {top}, expected 0 to {top - 1}"
    with pytest.raises(StoreError, match=message):
        rows[row - 1 : row + 1]
    assert TokenRows.open(tmp_path, LENGTH, vocabulary=top + 1)[row].max() == top


def test_a_truncated_shard_is_refused(tmp_path):
    paths = write_shards(tmp_path, [100])
    paths[1].write_bytes(paths[1].read_bytes()[:-1])

    with pytest.raises(StoreError, match=r"559 bytes are no whole number of rows of 7 uint16"):
        TokenRows.open(tmp_path, LENGTH)


@pytest.mark.parametrize("lost", [0, 1, 2])
def test_a_missing_shard_is_named(lost, tmp_path):
    write_shards(tmp_path, [14, 28])[lost].unlink()

    with pytest.raises(StoreError, match=f"2 of 3 shards found; missing: {lost}"):
        TokenRows.open(tmp_path, LENGTH)


def test_shards_of_two_stores_are_not_mixed(tmp_path):
    write_shards(tmp_path, [14], "a")
    write_shards(tmp_path, [28], "b")

    with pytest.raises(StoreError, match=r"holds 2 stores \(a, b\); name one"):
        TokenRows.open(tmp_path, LENGTH)
    assert np.array_equal(TokenRows.open(tmp_path / "b", LENGTH)[:], TOKENS)


def test_shards_that_disagree_on_the_last_are_refused(tmp_path):
    (tmp_path / "d-0-of-1.bin").write_bytes(WHOLE)
    (tmp_path / "d-1-of-2.bin").write_bytes(WHOLE)

    with pytest.raises(StoreError, match=r"different last shards: \[1, 2\]"):
        TokenRows.open(tmp_path, LENGTH)


def test_an_index_beside_the_shards_must_agree(tmp_path):
    write_shards(tmp_path, [100])
    index = MegatronStore.write(tmp_path / "other" / "x", TOKENS, documents=[0]).prefix
    index.with_suffix(".idx").rename(tmp_path / "document.idx")

    assert np.array_equal(TokenRows.open(tmp_path, LENGTH)[:], TOKENS)
    with pytest.raises(StoreError, match="sequences have 7 tokens, expected 2049 in each"):
        TokenRows.open(tmp_path)
    with pytest.raises(StoreError, match="tokens are uint16, expected int32"):
        TokenRows.open(tmp_path, LENGTH, dtype=np.int32)
    (tmp_path / "document-00001-of-00001.bin").write_bytes(b"")
    with pytest.raises(StoreError, match=r"280 uint16 tokens = 560 bytes, .* file has 100"):
        TokenRows.open(tmp_path, LENGTH)


def test_a_store_of_documents_is_not_read_as_rows(tmp_path):
    MegatronStore.write(tmp_path / "document", [[1, 2, 3], [4]])

    with pytest.raises(StoreError, match="sequences have 1 to 3 tokens, expected 2 in each"):
        TokenRows.open(tmp_path, 2)


@pytest.mark.parametrize("where", ["none", "none/at/all", "document.bin"])
def test_no_store_is_named(where, tmp_path):
    with pytest.raises(StoreNotFoundError, match="no store there, expected"):
        TokenRows.open(tmp_path / where)


def test_empty_folder_list_and_length_are_named(tmp_path):
    with pytest.raises(StoreNotFoundError, match=r"holds no \.bin file"):
        TokenRows.open(tmp_path)
    with pytest.raises(StoreNotFoundError, match="no shard files were given"):
        TokenRows.open([])
    (tmp_path / "a.bin").write_bytes(b"")
    with pytest.raises(OrderError, match="row_tokens: got 0"):
        TokenRows.open(tmp_path, 0)
    assert len(TokenRows.open(tmp_path)) == 0


def test_an_explicit_shard_that_is_missing_is_named(tmp_path):
    with pytest.raises(StoreNotFoundError, match=r"b\.bin: no such file"):
        TokenRows.open([tmp_path / "b.bin"])


@pytest.mark.parametrize(
    ("where", "options", "message"),
    [
        (None, {}, "store: got NoneType, expected a path or a list of shards"),
        (b"rows", {}, "store: got bytes"),
        ("rows", {"row_tokens": 3.0}, "row_tokens: got 3.0"),
        ("rows", {"row_tokens": "3"}, "row_tokens: got '3'"),
        ("rows", {"row_tokens": True}, "row_tokens: got True"),
        ("rows", {"dtype": "foo"}, "dtype: got 'foo'"),
        ("rows", {"dtype": ">u2"}, "big-endian"),
        ("rows", {"dtype": "f2"}, "dtype float16 has no code"),
        ("rows", {"vocabulary": 0}, "vocabulary: got 0"),
    ],
)
def test_impossible_options_are_named(where, options, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    MegatronStore.write("rows", TOKENS)

    with pytest.raises(OrderError, match=message):
        TokenRows.open(where, **{"row_tokens": LENGTH, **options})


def test_a_npy_file_of_rows_is_a_store(tmp_path):
    np.save(tmp_path / "rows.npy", TOKENS.astype(np.uint32))
    rows = TokenRows.open(tmp_path / "rows.npy", LENGTH)

    assert (len(rows), rows.dtype) == (ROWS, np.uint32)
    assert np.array_equal(rows[:], TOKENS)
    assert np.array_equal(rows[[5, 2]], TOKENS[[5, 2]])
    assert np.array_equal(pickle.loads(pickle.dumps(rows))[7], TOKENS[7])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (TOKENS.ravel(), r"shape \(\d+,\), expected rows of little-endian whole numbers"),
        (np.asfortranarray(TOKENS), "in C order"),
        (TOKENS.astype(np.float32), "holds <f4 of shape"),
        (TOKENS.astype(">u2"), "holds >u2 of shape"),
        (TOKENS[:, 1:], f"rows have {LENGTH - 1} tokens, expected {LENGTH}"),
        (b"\x93NUMPY", "is no .npy file of numbers"),
        (np.array([[None]]), "is no .npy file of numbers"),
    ],
)
def test_a_npy_file_of_something_else_is_named(content, message, tmp_path):
    path = tmp_path / "rows.npy"
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        np.save(path, content, allow_pickle=True)

    with pytest.raises(StoreError, match=message):
        TokenRows.open(path, LENGTH)


def test_a_truncated_npy_file_is_named(tmp_path):
    np.save(tmp_path / "rows.npy", TOKENS)
    whole = (tmp_path / "rows.npy").read_bytes()
    (tmp_path / "rows.npy").write_bytes(whole[:-3])

    with pytest.raises(StoreError, match="or truncated"):
        TokenRows.open(tmp_path / "rows.npy", LENGTH)
    with pytest.raises(StoreNotFoundError, match="no such file, expected rows of tokens"):
        TokenRows.open(tmp_path / "none.npy", LENGTH)


def test_shards_on_disk_are_compared_with_their_hashes(tmp_path):
    paths = write_shards(tmp_path, [100, 300])
    rows = TokenRows.open(tmp_path, LENGTH)
    hashes = {path.name: hashlib.sha256(path.read_bytes()).hexdigest() for path in paths}

    assert shards_of(rows, [0]) == [paths[0]]
    assert shards_of(rows, [0, ROWS - 1]) == [paths[0], paths[2]]
    assert damaged_files(paths, hashes) == []
    data = bytearray(paths[1].read_bytes())
    data[7] ^= 1
    paths[1].write_bytes(data)
    assert damaged_files(paths, hashes) == [paths[1]]
    with pytest.raises(StoreError, match="no published file has this name"):
        damaged_files(paths, {})
    with pytest.raises(StoreError, match="lies on this disk; compare its hashes"):
        differing_rows(rows, [0])
