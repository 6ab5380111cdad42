"""`lab capacity score`: bits of each row from two score tables."""

import json

import numpy as np
import polars as pl
import pytest

from pythia_profile.cli import app
from pythia_profile.cli.app import run

LENGTHS = [4, 8, 16, 2]


def scores(path, likelihoods, *, size="a", rows=(5, 6, 7, 9), checkpoint=10):
    count = len(rows)
    pl.DataFrame(
        {
            "suite": ["own"] * count,
            "size": [size] * count,
            "seed": [0] * count,
            "checkpoint": [checkpoint] * count,
            "row_id": list(rows),
            "log_likelihood": likelihoods,
            **dict.fromkeys(("accuracy", "mean_rank", "entropy"), [0.5] * count),
        }
    ).write_parquet(path)
    return path


@pytest.fixture
def tables(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    scores(tmp_path / "target.parquet", [-1.0, -2.0, -0.5, -3.0])
    scores(tmp_path / "oracle.parquet", [-1.5, -1.0, -2.5, -3.0], size="b", rows=(5, 6, 7, 9))
    pl.DataFrame(
        {"row_id": [5, 6, 7, 9, 11], "tokens": [[1] * (n + 1) for n in [*LENGTHS, 3]]}
    ).write_parquet(tmp_path / "rows.parquet")
    return tmp_path


def score(*words):
    return run(app, ["lab", "capacity", "score", "--target", "target.parquet", *words])


def test_bits_of_each_row_by_its_own_length(tables, capsys):
    assert score("--reference", "oracle.parquet", "--rows", "rows.parquet", "--json") == 0

    said = json.loads(capsys.readouterr().out)
    found = pl.read_parquet("row_bits.parquet")
    by_hand = np.array([0.5 * 4, 0, 2.0 * 16, 0]) / np.log(2)
    np.testing.assert_allclose(found["bits"], by_hand)
    assert said["bits"] == pytest.approx(by_hand.sum())
    assert (said["target"], said["reference"]) == ("own/a/seed0/step10", "own/b/seed0/step10")


def test_rows_are_matched_by_their_number(tables, capsys):
    pl.read_parquet("oracle.parquet").reverse().write_parquet("reversed.parquet")
    for reference in ("oracle.parquet", "reversed.parquet"):
        assert score("--reference", reference, "--tokens", "4", "--out", f"of_{reference}") == 0
    a, b = (pl.read_parquet(f"of_{name}.parquet") for name in ("oracle", "reversed"))

    assert a["bits"].to_list() == b["bits"].to_list()
    assert "holds 14 bits of 4 rows beyond own/b" in capsys.readouterr().out


def test_a_uniform_reference_costs_the_logarithm_of_its_vocabulary(tables):
    assert score("--reference", "uniform", "--vocabulary", "16", "--tokens", "8") == 0

    expected = np.maximum(0, 8 * 4 - 8 * np.array([1.0, 2.0, 0.5, 3.0]) / np.log(2))
    np.testing.assert_allclose(pl.read_parquet("row_bits.parquet")["bits"], expected)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--reference", "nobody.parquet", "--tokens", "4"), "no table of scores 'nobody.parquet'"),
        (("--reference", "others.parquet", "--tokens", "4"), "of which 2 are the same; expected"),
        (("--reference", "several.parquet", "--tokens", "4"), "holds 2 runs, expected one: own/a"),
        (("--reference", "rows.parquet", "--tokens", "4"), "'rows.parquet' is no table of scores"),
        (("--reference", "oracle.parquet"), "give either --tokens N or --rows ROWS"),
        (("--reference", "oracle.parquet", "--rows", "few.parquet"), "lacks 2 of the 4 scored"),
        (("--reference", "oracle.parquet", "--rows", "none.parquet"), "no table of rows 'none"),
        (("--reference", "oracle.parquet", "--rows", "oracle.parquet"), "expected columns row_id"),
        (("--reference", "uniform", "--tokens", "4"), "--vocabulary: got None"),
        (("--reference", "uniform", "--vocabulary", "1", "--tokens", "4"), "vocabulary: got 1"),
        (("--reference", "oracle.parquet", "--tokens", "4", "--code", "min"), "code: got 'min'"),
        (("--reference", "oracle.parquet", "--tokens", "4", "--checkpoint", "11"), "known: 10"),
    ],
)
def test_wrong_input_is_one_line(tables, words, message, capsys):
    scores(tables / "others.parquet", [-1.0, -1.0, -1.0], rows=(5, 9, 10))
    both = [pl.read_parquet(name) for name in ("target.parquet", "oracle.parquet")]
    pl.concat(both).write_parquet("several.parquet")
    pl.read_parquet("rows.parquet")[1:3].write_parquet("few.parquet")

    assert score(*words) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not (tables / "row_bits.parquet").exists()


@pytest.mark.parametrize(
    ("out", "message"),
    [
        ("rows.parquet", "'rows.parquet', which is read here; write under another name"),
        ("target.parquet", "which is read here"),
        ("oracle.parquet", "which is read here"),
        ("study/rows.parquet", "is a file of the study; write under another name"),
        ("study/study.toml", "is a file of the study"),
    ],
)
def test_neither_inputs_nor_a_study_are_written_over(tables, out, message, capsys):
    (tables / "study").mkdir()
    for name in ("rows.parquet", "study.toml"):
        (tables / "study" / name).write_text("")
    before = (tables / out).read_bytes()

    words = ("--reference", "oracle.parquet", "--rows", "rows.parquet", "--out", out)
    assert score(*words) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert (tables / out).read_bytes() == before
