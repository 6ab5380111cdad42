"""The text part: bits beyond references, rarity of tokens, and next tokens given back."""

import json
import tomllib
from collections import Counter

import numpy as np
import polars as pl
import pytest
import torch
from scipy.stats import rankdata

from pythia_profile.cli import app
from pythia_profile.cli.app import run
from pythia_profile.execute.worker import Worker
from pythia_profile.labs.capacity.capacity_settings import TextSettings
from pythia_profile.labs.capacity.capacity_text import (
    TextUnit,
    text_rows_of,
    tf_idf,
    train_text,
)

pytestmark = pytest.mark.slow

CONFIG = """
size = {width = 16}
larger = {width = 24}
rows = [8, 96]
superset = 128
test_rows = 40
vocabulary = 300
tokens = 33
steps = 300
batch_size = 16
peak_lr = 0.01
prefixes = [4, 8]
following = 6
"""


class Killed(BaseException):
    """The process is gone."""


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    folder = tmp_path_factory.mktemp("text")
    (folder / "tiny.toml").write_text(CONFIG)
    words = ["lab", "capacity", "text", str(folder / "tiny.toml"), "--out", str(folder / "out")]
    assert run(app, [*words, "--workers", "2", "--quiet"]) == 0
    return folder / "out"


def settings_of(out):
    return TextSettings(**tomllib.loads((out / "text.toml").read_text()))


def nats(out, size, rows):
    (path,) = (out / "runs").glob(f"{size}-{rows}-rows-*/nats.npy")
    return np.load(path)


def test_bits_are_counted_beyond_each_reference(out):
    text = pl.read_parquet(out / "text.parquet")
    rows = pl.read_parquet(out / "text_rows.parquet")

    for line in text.iter_rows(named=True):
        size = "16x1" if line["reference"] == "same size" else "24x1"
        own, theirs = nats(out, "16x1", line["rows"]), nats(out, size, 128)
        by_hand = np.maximum(0, (theirs - own)[: line["rows"]] / np.log(2))
        assert line["bits"] == pytest.approx(by_hand.sum())
        assert line["share_above_0"] == pytest.approx((by_hand > 0).mean())
        part = rows.filter(
            (pl.col("reference") == line["reference"]) & (pl.col("rows") == line["rows"])
        )
        np.testing.assert_allclose(part["bits"], by_hand, atol=1e-9)
        above = by_hand > 0
        ranks = [rankdata(values[above]) for values in (by_hand, part["tf_idf"].to_numpy())]
        assert line["tf_idf"] == pytest.approx(np.corrcoef(*ranks)[0, 1])


def test_few_rows_are_held_and_given_back_and_rows_not_read_are_not(out):
    text = pl.read_parquet(out / "text.parquet").sort("rows")
    few, many = pl.read_parquet(out / "text_models.parquet").filter(role="target").to_dicts()

    # what is held of a row falls with their number, beyond either reference
    for _, part in text.group_by("reference"):
        assert part["bits_per_row"][0] > part["bits_per_row"][1]
    assert few["train_bits"] < 0.3  # 37 readings of each row: by heart
    for prefix in (4, 8):
        assert few[f"extracted_train_{prefix}"] >= 0.75
        assert few[f"extracted_test_{prefix}"] <= 0.1
        gaps = [
            one[f"extracted_train_{prefix}"] - one[f"extracted_test_{prefix}"]
            for one in (few, many)
        ]
        assert gaps[1] < gaps[0]
    assert few["test_bits"] > many["test_bits"]


def test_no_row_is_there_twice_and_those_to_test_are_not_read(out):
    settings = settings_of(out)
    rows, _ = text_rows_of(settings)

    assert rows.shape == (168, 33)
    assert len(np.unique(rows, axis=0)) == 168
    assert rows.max() < 300


def test_rarity_is_that_of_its_definition():
    rows = np.random.default_rng(0).zipf(1.5, size=(40, 12)).clip(max=29)
    often = Counter(rows.ravel().tolist())
    by_hand = [np.mean([np.log(40 / often[token]) for token in row]) for row in rows.tolist()]

    np.testing.assert_allclose(tf_idf(rows, 30), by_hand)


def test_a_killed_model_goes_on_and_gives_the_same_numbers(out, tmp_path):
    torch.set_num_threads(1)
    settings = settings_of(out)
    (corpus,) = (out / "runs").glob("corpus-*.npy")
    unit = TextUnit(tmp_path, settings, settings.size, 96, corpus)
    unit.folder.mkdir()
    steps = []

    def killing(amount):
        steps.append(amount)
        if len(steps) == 175:
            raise Killed

    with pytest.raises(Killed):
        train_text(unit, Worker("cpu", 1, killing))
    train_text(unit, Worker("cpu", 1, lambda _: None))

    np.testing.assert_array_equal(np.load(unit.folder / "nats.npy"), nats(out, "16x1", 96))


def test_the_page_has_a_sentence_for_each_figure(out, capsys):
    page = (out / "report.html").read_text()
    words = ["lab", "capacity", "text", str(out / "text.toml"), "--out", str(out), "--json"]

    assert page.count("<figure>") == 4
    assert "Rows whose next 6 tokens follow greedily" in page
    assert run(app, words) == 0  # nothing is left to be trained
    assert len(json.loads(capsys.readouterr().out)["text"]) == 4


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("rows = [4096]", "rows: got (4096,), expected numbers from 2 on, below the superset's"),
        ("prefixes = [60]", "prefixes: got (60,) with 8 following tokens, expected at most the 65"),
        ("vocabulary = 10", "vocabulary: got 10, expected: greater than or equal to 300"),
        ("size = {width = 7}", "width: got 7 with 2 heads"),
        ("superset = 1000000", "superset: got 1,000,000 rows and 512 to test, more than this"),
        ("oracle = 1", "unknown setting 'oracle'"),
    ],
)
def test_wrong_settings_are_one_line(tmp_path, line, message, capsys):
    (tmp_path / "wrong.toml").write_text(line)
    words = ["lab", "capacity", "text", str(tmp_path / "wrong.toml"), "--out", str(tmp_path / "o")]

    assert run(app, words) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
