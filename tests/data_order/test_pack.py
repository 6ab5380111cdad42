"""Packing: what goes in comes out in order, cut and never padded."""

import gzip
import json

import numpy as np
import polars as pl
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, pre_tokenizers

from data_order import OrderError, StoreError
from data_order.errors import StoreNotFoundError
from data_order.pack import pack, pack_text

WORDS = [f"w{i}" for i in range(50)]


@pytest.fixture
def tokenizer(tmp_path):
    vocabulary = {word: number for number, word in enumerate([*WORDS, "<unk>"])}
    words = Tokenizer(models.WordLevel(vocabulary, unk_token="<unk>"))
    words.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    words.save(str(tmp_path / "tokenizer.json"))
    return words


def write_lines(path, documents, opener=open):
    texts = [" ".join(WORDS[i] for i in document) for document in documents]
    lines = [json.dumps({"meta": {"n": len(t)}, "text": t}) for t in texts]
    with opener(path, "wt") as file:
        file.write("\n".join(lines) + "\n")
    return path


@given(
    st.lists(st.lists(st.integers(0, 65_535), max_size=20), max_size=15),
    st.integers(1, 9),
    st.one_of(st.none(), st.integers(1, 5)),
)
def test_rows_are_the_concatenation_cut_into_whole_rows(documents, width, rows):
    stream = [token for document in documents for token in document]
    expected = [stream[i : i + width] for i in range(0, len(stream) - width + 1, width)][:rows]

    packed = pack(documents, width, rows=rows)

    assert packed.tolist() == expected
    assert packed.dtype == np.uint32
    assert packed.shape[1] == width


@pytest.mark.parametrize("name", ["held.jsonl", "held.jsonl.gz", "held.jsonl.zst"])
def test_text_is_read_encoded_and_packed_also_where_it_is_compressed(name, tmp_path, tokenizer):
    documents = np.random.default_rng(0).integers(0, 50, (2500, 3)).tolist()
    plain = write_lines(tmp_path / "plain.jsonl", documents)
    if name.endswith("gz"):
        (tmp_path / name).write_bytes(gzip.compress(plain.read_bytes()))
    elif name.endswith("zst"):
        pl.read_ndjson(plain).write_ndjson(tmp_path / name, compression="zstd")
        assert (tmp_path / name).read_bytes()[:4] == bytes.fromhex("28b52ffd")
    else:
        plain.rename(tmp_path / name)
    stream = np.array(documents).ravel()

    for given_tokenizer in (tokenizer, tmp_path, tmp_path / "tokenizer.json"):
        packed = pack_text(tmp_path / name, given_tokenizer, 7)
        assert packed.ravel().tolist() == stream[: 7 * (7500 // 7)].tolist()
    assert pack_text(tmp_path / name, tokenizer, 7, rows=4).shape == (4, 7)


def test_bad_files_are_named(tmp_path, tokenizer):
    path = tmp_path / "held.jsonl"
    path.write_text('{"text": "w1 w2"}\n{"meta": 3}\n{"text": "w3"}\n')
    with pytest.raises(StoreError, match="1 of 3 documents have no 'text', the first in line 2"):
        pack_text(path, tokenizer, 2)
    path.write_text('{"text": "w1"}\n{"text\n')
    with pytest.raises(StoreError, match="a line is no JSON object, or damaged"):
        pack_text(path, tokenizer, 2)
    path.write_text('{"text": "w1"}\n')
    with pytest.raises(OrderError, match="1 documents do not fill one row of 2"):
        pack_text(path, tokenizer, 2)
    (tmp_path / "cut.jsonl.gz").write_bytes(gzip.compress(b'{"text": "w1"}\n' * 99)[:-20])
    with pytest.raises(StoreError, match=r"cut\.jsonl\.gz: a line is no JSON object, or damaged"):
        pack_text(tmp_path / "cut.jsonl.gz", tokenizer, 2)
    with pytest.raises(StoreNotFoundError, match=r"none\.jsonl: no such file"):
        pack_text(tmp_path / "none.jsonl", tokenizer, 2)
    with pytest.raises(StoreNotFoundError, match=r"none: no such file, expected a tokenizer"):
        pack_text(path, tmp_path / "none", 2)
    with pytest.raises(StoreError, match=r"held\.jsonl: is no tokenizer"):
        pack_text(path, path, 2)


@pytest.mark.parametrize(
    ("documents", "message"),
    [
        ([[1], [2**32]], "document 1: a token does not fit"),
        ([[-1]], "document 0: a token does not fit"),
        ([[0.5]], "document 0: got float64"),
        ([[[1]]], r"document 0: got int64 of shape \(1, 1\)"),
    ],
)
def test_tokens_that_cannot_be_rows_are_refused(documents, message):
    with pytest.raises(OrderError, match=message):
        pack(documents, 1)
