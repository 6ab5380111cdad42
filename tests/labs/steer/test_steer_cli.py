"""The verbs, from files to files, and one line where something is wrong."""

import json

import numpy as np
import polars as pl
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import GPTNeoXConfig, GPTNeoXModel

from pythia_profile.cli import app
from pythia_profile.cli.app import run
from pythia_profile.labs.steer.steer_map import read_steer
from tests.labs.steer.conftest import SHAPE, build, gpt_neox


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Two models of one vocabulary, with a tokenizer of words, and labelled texts."""
    folder = tmp_path_factory.mktemp("steer")
    words = {"[UNK]": 0} | {f"w{number}": number for number in range(1, 40)}
    tokenizer = Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    torch.manual_seed(0)
    wide = gpt_neox(hidden_size=32, num_attention_heads=4)
    for name, model in (("a", build("gpt_neox")), ("b", wide), ("gpt2", build("gpt2"))):
        model.save_pretrained(folder / name)
        tokenizer.save(str(folder / name / "tokenizer.json"))
    bare = GPTNeoXModel(GPTNeoXConfig(**{**SHAPE, "intermediate_size": 32}))
    bare.save_pretrained(folder / "bare")
    lines = [
        {"text": f"w1 w{2 + k} " + ("w5 w6 " if k % 2 else "w7 w8 ") * 3, "label": 1 - 2 * (k % 2)}
        for k in range(16)
    ]
    lines[0]["text"] += "w9 " * 40
    text = "\n".join(map(json.dumps, lines))
    (folder / "texts.jsonl").write_text(text)
    return folder


def lab(*words):
    return run(app, ["lab", "steer", *map(str, words)])


@pytest.fixture(scope="module")
def steer(files):
    words = ("train", files / "a", files / "texts.jsonl", "--out", files / "s.safetensors")
    assert lab(*words, "--set", "steps=60", "--set", "scale=1.0") == 0
    return files / "s.safetensors"


def test_training_writes_both_steers_and_notes_what_was_cut(files, steer, capsys):
    words = ("train", files / "gpt2", files / "texts.jsonl", "--out", files / "t.safetensors")
    assert lab(*words, "--set", "steps=2") == 0

    said = capsys.readouterr().out
    assert "note: 1 of 16 texts cut to 25 tokens" in said
    assert read_steer(files / "t.safetensors").facts["tied"] is True
    assert read_steer(files / "t.domain.safetensors").facts["part"] == "domain"
    assert str(files) not in json.dumps(read_steer(steer).facts)


def test_a_sweep_counts_named_words_and_keeps_the_texts(files, steer, capsys):
    (files / "words.json").write_text('{"odd": ["w5", "w6"], "even": [7, 8]}')
    words = ("sweep", files / "a", f"{steer}=2", "--texts", files / "texts.jsonl")
    more = ("--words", files / "words.json", "--values", "-2,0,2", "--set", "prompt=4")
    assert lab(*words, *more, "--out", files / "sweep.parquet", "--set", "tokens=12") == 0

    found = pl.read_parquet(files / "sweep.parquet").sort("value")
    even = found.filter(pl.col("quantity") == "rate even")["estimate"].to_numpy()
    odd = found.filter(pl.col("quantity") == "rate odd")["estimate"].to_numpy()
    assert even[2] > even[0]
    assert odd[0] > odd[2]
    lines = (files / "sweep.jsonl").read_text().splitlines()
    assert len(lines) == 3 * 16
    assert json.loads(lines[0])["value"] == -2
    assert "rate odd" in capsys.readouterr().out


def test_reading_lists_tokens_and_marks_texts(files, steer, capsys):
    words = ("read", files / "a", steer, "--tokens", "4", "--texts", files / "texts.jsonl")
    assert lab(*words, "--out", files / "marked.html") == 0

    said = capsys.readouterr().out.splitlines()
    # embeddings of 16 random numbers: a word's lexicon mate may stand on the second direction
    assert {"'w7'", "'w8'"} & set(said[1].split())
    assert {"'w5'", "'w6'"} & set(said[2].split())
    page = (files / "marked.html").read_text()
    assert page.count("<mark") > 16
    assert "1 of 16 texts cut" in page


def test_a_steer_moves_to_another_size(files, steer):
    words = ("transfer", steer, files / "a", files / "b", "--out", files / "moved.safetensors")
    assert lab(*words) == 0

    assert read_steer(files / "moved.safetensors").width == 32
    assert lab("read", files / "b", files / "moved.safetensors") == 0


def test_rows_of_a_study_are_labelled_by_a_column(files):
    rng = np.random.default_rng(0)
    rows = pl.DataFrame(
        {"tokens": rng.integers(40, size=(20, 9)).tolist(), "treatment_step": range(20)}
    )
    rows.write_parquet(files / "rows.parquet")
    words = ("train", files / "a", files / "rows.parquet", "--out", files / "r.safetensors")
    assert lab(*words, "--column", "treatment_step", "--above", "9.5", "--set", "steps=2") == 0
    assert read_steer(files / "r.safetensors").facts["texts"] == 20


@pytest.mark.parametrize(
    ("words", "fault"),
    [
        (("train", "bare", "texts.jsonl"), "'bare' has no output matrix (lm_head.weight)"),
        (("train", "none", "texts.jsonl"), "'none': no config.json"),
        (("train", "a", "none.jsonl"), "none.jsonl: cannot be read"),
        (("train", "a", "texts.jsonl", "--set", "rank=0"), "rank: got 0"),
        (("train", "a", "texts.jsonl", "--above", "1"), "labelled by a column"),
        (("read", "a", "texts.jsonl"), "texts.jsonl: no safetensors file"),
        (("read", "b", "s.safetensors"), "the steer has width 16, GPTNeoXForCausalLM 32"),
        (("transfer", "s.safetensors", "a", "b", "--states", "odd"), "no map of states 'odd'"),
    ],
)
def test_what_is_wrong_is_one_line(files, steer, monkeypatch, capsys, words, fault):
    monkeypatch.chdir(files)
    assert lab(*words) == 2

    (line,) = capsys.readouterr().err.strip().splitlines()
    assert fault in line


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ('{"text": "\\ud800 abc", "label": 1}', "half of a pair of surrogates"),
        ("[" * 100_000, "no JSON"),
    ],
)
def test_a_line_that_no_tokenizer_takes_is_named(files, tmp_path, capsys, line, said):
    (tmp_path / "odd.jsonl").write_text(line)

    words = ("train", files / "a", tmp_path / "odd.jsonl", "--out", tmp_path / "o.safetensors")
    assert lab(*words) == 2

    error = capsys.readouterr().err
    assert said in error
    assert "odd.jsonl, line 1" in error
    assert not (tmp_path / "o.safetensors").exists()


def test_no_input_is_written_over(files, steer, tmp_path, capsys):
    texts = tmp_path / "in.jsonl"
    texts.write_bytes(before := (files / "texts.jsonl").read_bytes())

    assert lab("train", files / "a", texts, "--out", texts) == 2
    assert (
        lab("sweep", files / "a", steer, "--texts", texts, "--out", texts.with_suffix(".pq")) == 2
    )

    assert "is read here" in capsys.readouterr().err
    assert texts.read_bytes() == before
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_no_steer_is_written_over(files, steer, capsys):
    before, texts = steer.read_bytes(), files / "texts.jsonl"
    to = ("--out", steer)

    assert lab("sweep", files / "a", f"{steer}=2", "--texts", texts, *to) == 2
    assert lab("read", files / "a", steer, "--texts", texts, *to) == 2
    assert lab("transfer", steer, files / "a", files / "b", *to) == 2

    assert capsys.readouterr().err.count("is read here") == 3
    assert steer.read_bytes() == before


@pytest.mark.parametrize("odd", [40, -1])
def test_counted_tokens_are_the_models(files, steer, tmp_path, capsys, odd):
    words, out = tmp_path / "words.json", tmp_path / "out.parquet"
    words.write_text(json.dumps({"good": [5, odd]}))

    asked = ("--texts", files / "texts.jsonl", "--words", words, "--out", out)
    assert lab("sweep", files / "a", steer, *asked) == 2

    (line,) = capsys.readouterr().err.strip().splitlines()
    assert f"'good' has token {odd}, the model's are 0 to 39" in line
    assert not out.exists()


@pytest.mark.parametrize("odd", ["inf", "nan"])
def test_strengths_are_finite(files, steer, capsys, odd):
    texts = ("--texts", files / "texts.jsonl")
    assert lab("sweep", files / "a", steer, *texts, "--values", f"0,{odd}") == 2
    assert lab("sweep", files / "a", f"{steer}={odd}", *texts) == 2
    assert capsys.readouterr().err.count("expected finite numbers") == 2


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (("rank=33",), "expected at most the width"),
        (("learning_rate=1e30",), "lower learning_rate"),
        (("learning_rate=1e30", "steps=1"), "diverged at step 1"),
        (("learning_rate=1e300",), "learning_rate: got 1e+300"),
    ],
)
def test_a_steer_that_cannot_be_trained_is_not_written(files, tmp_path, capsys, changes, said):
    words = ("train", files / "b", files / "texts.jsonl", "--out", tmp_path / "x.safetensors")
    given = [word for change in ("steps=20", *changes) for word in ("--set", change)]
    assert lab(*words, *given) == 2

    assert said in capsys.readouterr().err
    assert not list(tmp_path.iterdir())
