"""Orders over files of rows: equal to the public loaders, both ways, and their rows from files."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_order import NEVER, OrderError, TrainingOrder
from data_order.errors import RowRangeError, StoreError, StoreNotFoundError
from data_order.hub.access import Hub
from data_order.shuffled.by_file import FileOrder
from data_order.shuffled.filed_runs import FILED_RUNS
from data_order.shuffled.passes import ShuffledOrder
from tests.stand_in.hub import Hub as StandIn

GOLDEN = json.loads((Path(__file__).parent / "golden" / "filed_order.json").read_text())


def order_of(case):
    batch = case["micro"] * case["world"]
    return FileOrder(case["files"], case["file_rows"], batch, starts=tuple(case["starts"]))


@pytest.mark.parametrize("case", GOLDEN["orders"], ids=lambda case: f"{case['starts']}")
def test_steps_read_what_the_loader_of_amber_gave_its_ranks(case):
    order = order_of(case)

    assert order.steps == len(case["steps"])
    assert [sorted(order.rows_of(g + 1).tolist()) for g in range(order.steps)] == case["steps"]
    steps = order.step_of(np.arange(order.rows))
    for row, step in enumerate(steps.tolist()):
        read = [g + 1 for g, rows in enumerate(case["steps"]) if row in rows]
        assert read == ([] if step == NEVER else [step])


@pytest.mark.parametrize("case", GOLDEN["pico"], ids=lambda case: f"{case['rows']} rows")
def test_steps_read_what_the_loader_of_pico_gave_its_ranks(case):
    steps = case["rows"] // case["batch_size"]
    plain = TrainingOrder(case["batch_size"], steps)
    identity = ShuffledOrder.run(case["rows"], None, case["batch_size"], steps)

    for g, rows in enumerate(case["steps"]):
        assert plain.rows_of(g + 1).tolist() == identity.rows_of(g + 1).tolist() == rows


@settings(max_examples=40, deadline=None)
@given(
    files=st.integers(1, 5),
    file_rows=st.integers(1, 40),
    batch_size=st.integers(1, 40),
    late=st.integers(0, 4),
)
def test_every_row_has_one_place_and_comes_back_from_it(files, file_rows, batch_size, late):
    if batch_size > file_rows:
        with pytest.raises(OrderError, match=f"a batch of {batch_size} rows"):
            FileOrder(files, file_rows, batch_size)
        return
    starts = (0, late) if 0 < late < files else (0,)
    order = FileOrder(files, file_rows, batch_size, starts=starts)

    rows = order.rows_at(np.arange(order.rows))

    assert sorted(rows.tolist()) == list(range(order.rows))
    steps = np.minimum(np.arange(order.rows) // batch_size + 1, order.steps + 1)
    expected = np.where(steps <= order.steps, steps, NEVER)
    assert np.array_equal(order.step_of(rows), expected)
    read = expected != NEVER
    assert np.array_equal(rows[read] // file_rows, (steps[read] - 1) // order.file_steps)
    for file in range(files):
        candidates = order.candidates(file, np.arange(file_rows))
        assert candidates.shape == (file + 1, file_rows)
        own = order.step_of(np.arange(file_rows) + file * file_rows)
        begun = max(start for start in starts if start <= file)
        assert np.array_equal(candidates[begun], own)


@pytest.fixture
def amber(tmp_path):
    """Three files of 20 rows in lines of JSON, batches of 6."""
    run = replace(FILED_RUNS["amber"], files=3, file_rows=20, batch_size=6, steps=9, row_tokens=5)
    content = np.random.default_rng(0).integers(0, 70_000, (60, 5))
    for file in range(3):
        lines = [
            json.dumps({"token_ids": row.tolist(), "source": "c4"})
            for row in content[20 * file : 20 * file + 20]
        ]
        (tmp_path / f"train_{file:03d}.jsonl").write_text("\n".join(lines) + "\n")
    return run, tmp_path, content


def test_rows_of_amber_come_in_the_order_of_a_run_whose_starts_are_known(amber):
    run, folder, content = amber
    order = run.by_file((0, 1))

    rows = run.open(folder, starts=(0, 1))

    assert len(rows) == 60
    assert rows[7].dtype == np.uint32
    for step in range(1, 10):
        batch = rows[6 * (step - 1) : 6 * step]
        assert np.array_equal(batch, content[order.rows_of(step)])
    assert np.array_equal(rows[[58, 3, 58]], content[order.rows_at([58, 3, 58])])


def test_without_known_starts_a_position_says_which_file(amber):
    run, folder, content = amber

    rows = run.open(folder)

    assert len(rows) == 54  # two rows of each file are left out: no position stands for them
    assert np.array_equal(rows[17], content[17])
    assert np.array_equal(rows[18], content[20])
    (folder / "train_001.jsonl").unlink()
    assert np.array_equal(rows[53], content[57])
    with pytest.raises(StoreNotFoundError, match=r"train_001\.jsonl: no such file; rows 20 to 39"):
        rows[[0, 18]]


def test_damaged_lines_are_named(amber):
    run, folder, _ = amber
    path = folder / "train_000.jsonl"
    lines = path.read_text().splitlines()
    for damage, message in (
        (["{", *lines[1:]], "line 1 is no JSON with 'token_ids'"),
        (['{"token_ids": [1, 2]}', *lines[1:]], "row 0 holds 2 tokens in 'token_ids', expected 5"),
        (['{"token_ids": [1, 2, 3, 4, -5]}', *lines[1:]], "are no token ids"),
        ([], r"has no row 0; it is cut short"),
    ):
        path.write_text("\n".join(damage))
        with pytest.raises((StoreError, RowRangeError), match=message):
            _ = run.open(folder)[0]
    path.write_text("\n".join(lines))
    with pytest.raises(StoreError, match=r"row 0, position 0: token id is \d+, expected 0 to 9"):
        run.open(folder, vocabulary=10)[0]
    with pytest.raises(StoreError, match="lines of JSON in files of gigabytes"):
        run.open("hub")


def test_rows_of_pico_from_a_folder_and_from_the_hub(tmp_path, monkeypatch):
    run = replace(FILED_RUNS["pico"], files=3, file_rows=8, batch_size=4, steps=6, row_tokens=5)
    content = np.random.default_rng(0).integers(0, 70_000, (24, 5)).astype(np.int32)
    files = {}
    for file in range(3):
        ids = np.arange(8 * file, 8 * file + 8)
        table = pl.DataFrame({"input_ids": content[ids].tolist(), "idx": ids})
        path = tmp_path / f"train-{file:05d}-of-10000.parquet"
        table.write_parquet(path)
        files[f"data/{path.name}"] = path.read_bytes()

    rows = run.open(tmp_path)

    assert len(rows) == 24
    assert np.array_equal(rows[[5, 23, 5, 8]], content[[5, 23, 5, 8]])
    with StandIn() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        hub.add("dataset", "pico-lm/pretokenized-dolma", files)
        remote = run.open("hub", Hub(endpoint=hub.endpoint, cache=tmp_path / "cache"))
        assert np.array_equal(remote[[5, 6, 23]], content[[5, 6, 23]])
        # two shards are fetched, the one between them is not, and none is kept
        assert {r.path.split("/")[-1] for r in hub.requests("cdn", "GET")} == {
            "train-00000-of-10000.parquet",
            "train-00002-of-10000.parquet",
        }
    assert not list((tmp_path / "cache").rglob("*.parquet"))
    pl.DataFrame({"input_ids": content[:8].tolist(), "idx": range(1, 9)}).write_parquet(
        tmp_path / "train-00000-of-10000.parquet"
    )
    with pytest.raises(StoreError, match="its 'idx' does not count rows from 0"):
        rows[3]


def test_impossible_starts_are_named():
    with pytest.raises(OrderError, match=r"starts: got \[1\], expected ascending files from 0"):
        FileOrder(3, 10, 2, starts=(1,))
    with pytest.raises(RowRangeError, match="file 0 was read by no process that began at 1"):
        FileOrder(3, 10, 2).permutation(0, 1)
    with pytest.raises(RowRangeError, match="no step 16; this run has steps 1 to 15"):
        FileOrder(3, 10, 2).rows_of(16)
