"""The verb `planted`: rows, steps and starts against the draw as Hubble's script makes it."""

import json

import numpy as np
import polars as pl
import pytest

from data_order.store.megatron import MegatronStore
from pythia_profile.cli import app
from pythia_profile.cli.app import run
from tests.data_order.neox_reference import rows_with_places
from tests.data_order.test_insertions import as_the_script_does

BATCH, STEPS, WIDTH = 8, 20, 33


@pytest.fixture
def stores(tmp_path):
    rng = np.random.default_rng(0)
    found = {}
    for name, count, longest in (("corpus", 200, 60), ("tests", 12, 30), ("books", 9, 30)):
        sizes = rng.integers(1, longest, count)
        MegatronStore.write(tmp_path / name, [rng.integers(0, 9, size) for size in sizes])
        found[name] = sizes.tolist()
    return found


def test_rows_steps_and_starts_are_those_of_the_script(stores, tmp_path, capsys):
    texts = [f"--texts={name}={tmp_path / name}.idx" for name in ("tests", "books")]
    facts = f"--seed 5 --steps {STEPS} --batch-size {BATCH} --row-tokens {WIDTH} --window 0.25:1"
    words = ["planted", str(tmp_path / "where.parquet"), *texts, *facts.split()]
    corpus = ["--documents", str(tmp_path / "corpus.idx"), "--data-seed", "7"]

    assert run(app, [*words, *corpus]) == 0

    # of each row, the tokens of one entry of the document list after the other, by a plain loop
    asked = int(BATCH * STEPS * 1.005)
    pieces = [
        [sum(place == one for place, _, _ in row) for one in dict.fromkeys(p for p, _, _ in row)]
        for row in rows_with_places(stores["corpus"], 7, asked, WIDTH - 1)
    ]
    lengths = [*stores["books"], *stores["tests"]]
    rows, starts = as_the_script_does(
        lengths, pieces, steps=STEPS, batch=BATCH, seed=5, window=(0.25, 1), width=WIDTH
    )
    table = pl.read_parquet(tmp_path / "where.parquet")
    assert table["row_id"].to_list() == rows.tolist()
    assert table["treatment_step"].to_list() == [row // BATCH + 1 for row in rows]
    assert table["start"].to_list() == starts
    assert len({*starts}) > 3
    assert table["store"].to_list() == ["books"] * 9 + ["tests"] * 12
    assert "21 planted texts, read by steps " in capsys.readouterr().out
    assert run(app, [*words, *corpus, "--json"]) == 0
    assert json.loads(capsys.readouterr().out) == table.to_dicts()
    assert run(app, words) == 0
    assert "start" not in pl.read_parquet(tmp_path / "where.parquet").columns


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--texts tests.idx --seed 5 --steps 20", "--texts: got 'tests.idx', expected NAME=IDX"),
        ("--texts a={tests} --seed 5 --steps 20 --window half", "--window: got 'half', expected"),
        ("--texts a={tests} --seed 5 --steps 1 --batch-size 4", "12 documents to plant in 4 rows"),
        ("--texts a=missing.idx --seed 5 --steps 20", "missing.idx"),
    ],
)
def test_what_is_wrong_is_named_in_one_line(stores, tmp_path, words, message, capsys):
    filled = words.format(tests=tmp_path / "tests.idx").split()

    assert run(app, ["planted", str(tmp_path / "where.parquet"), *filled]) == 2

    assert message in capsys.readouterr().err
    assert not (tmp_path / "where.parquet").exists()


def test_a_study_s_rows_are_not_written_over(stores, tmp_path, capsys):
    rows = tmp_path / "rows.parquet"
    for path in (rows, tmp_path / "study.toml"):
        path.write_text("own")
    facts = f"--texts=tests={tmp_path / 'tests.idx'} --seed 5 --steps {STEPS} --batch-size {BATCH}"

    assert run(app, ["planted", str(rows), *facts.split()]) == 2
    assert "is a file of the study; write under another name" in capsys.readouterr().err
    assert rows.read_text() == "own"
