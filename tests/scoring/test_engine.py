"""Units of scoring: resumed to the same bytes, never mixed."""

import json
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch

from pythia_profile.scoring import engine
from pythia_profile.scoring.forward import _token_table
from pythia_profile.scoring.outcomes import Batch
from pythia_profile.scoring.settings import Scoring
from pythia_profile.scoring.units import Work
from pythia_profile.tables import SCORES
from tests.scoring.tiny_units import SETTINGS, score_units, tables, works_of


def test_every_unit_leaves_a_table_and_a_record(checkpoints, rows, tmp_path):
    counted = []

    score_units(works_of(checkpoints), rows, tmp_path / "scores", SETTINGS, counted.append)

    assert sum(counted) == 90
    for step in range(3):
        folder = tmp_path / f"scores/t/s/seed0/step{step}"
        table = pl.read_parquet(folder / "scores.parquet")
        assert table.schema == SCORES.columns
        assert table["row_id"].to_list() == rows["row_id"].to_list()
        assert table["checkpoint"].unique().to_list() == [step]
        assert json.loads((folder / "done.json").read_text())["finite"]["log_likelihood"] == 30


def test_chunks_change_no_bytes(checkpoints, rows, tmp_path):
    score_units(works_of(checkpoints), rows, tmp_path / "a", SETTINGS)
    score_units(works_of(checkpoints), rows, tmp_path / "b", chunk_rows=1000)

    a, b = (
        pl.concat([pl.read_parquet(p) for p in sorted(scores.glob("t/**/*.parquet"))])
        for scores in (tmp_path / "a", tmp_path / "b")
    )
    assert a.equals(b)


def test_a_finished_unit_is_not_scored_again(checkpoints, rows, tmp_path, monkeypatch):
    score_units(works_of(checkpoints), rows, tmp_path / "scores", SETTINGS)
    monkeypatch.setattr(engine, "score_rows", lambda *_, **__: pytest.fail("scored again"))

    score_units(works_of(checkpoints), rows, tmp_path / "scores", SETTINGS)


def test_other_rows_settings_or_weights_are_other_units(checkpoints, rows, tmp_path):
    works = works_of(checkpoints)[:1]
    counted = []
    score_units(works, rows, tmp_path / "scores", SETTINGS)

    for change in ("rows", "dtype", "weights"):
        table = rows.with_columns(tokens=pl.Series([[1] * 9] * 30, dtype=pl.List(pl.UInt16)))
        settings = Scoring(batch_tokens=64, dtype="bfloat16")
        swapped = [Work(works[0].unit, works[0].checkpoint)]
        if change == "weights":
            swapped = [Work(works_of(checkpoints)[1].unit, works[0].checkpoint)]
        counted.clear()
        score_units(
            swapped,
            table if change == "rows" else rows,
            tmp_path / "scores",
            settings if change == "dtype" else SETTINGS,
            counted.append,
        )
        assert sum(counted) == 30, change


@pytest.mark.slow
def test_killed_anywhere_a_later_run_ends_with_the_same_bytes(checkpoints, rows, tmp_path):
    table = tmp_path / "rows.parquet"
    rows.write_parquet(table)

    def run(*points: int) -> list[str]:
        script = Path(__file__).with_name("killed_at.py")
        arguments = [tmp_path, table, checkpoints, *points]
        done = subprocess.run(
            [sys.executable, script, *map(str, arguments)],
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout.splitlines()

    operations = int(run(0)[0])
    points = random.Random(0).sample(range(2, 2 * operations + 2), 20)

    assert run(*points) == [f"{point} killed, exit 0" for point in points]

    expected = [tables(tmp_path / "0" / name) for name in ("scores", "tokens")]
    assert [len(found) for found in expected] == [6, 12]
    for point in points:
        found = [tables(tmp_path / str(point) / name) for name in ("scores", "tokens")]
        assert found == expected, point
        assert list((tmp_path / str(point)).rglob("*.part")) == [], point


def test_every_tokens_statistics_are_kept_on_request(checkpoints, rows, tmp_path):
    settings = Scoring(batch_tokens=64, token_table=True)

    score_units(works_of(checkpoints)[:1], rows, tmp_path / "scores", settings)

    kept = pl.concat(
        pl.read_parquet(path)
        for path in sorted((tmp_path / "tokens/t/s/seed0/step0").glob("*/*.parquet"))
    )
    scores = pl.read_parquet(tmp_path / "scores/t/s/seed0/step0/scores.parquet")
    assert kept["row_id"].to_list() == rows["row_id"].to_list()
    surprisal = kept["surprisal"].to_numpy().astype(np.float64)
    assert surprisal.shape == (30, 8)
    # float16 keeps 11 bits of a surprisal near 4
    assert -surprisal.mean(axis=1) == pytest.approx(scores["log_likelihood"].to_list(), abs=4e-3)
    assert kept["rank"].to_numpy().mean(axis=1) == pytest.approx(scores["mean_rank"].to_list())


def test_a_token_takes_six_bytes_at_most(tmp_path):
    rng = np.random.default_rng(0)
    shape = 64, 2048
    batch = Batch(
        tokens=torch.zeros(64, 2049),
        surprisal=torch.tensor(rng.gamma(0.6, 4.0, shape)),
        entropy=torch.tensor(rng.gamma(3.0, 1.0, shape)),
        rank=torch.tensor(np.minimum(rng.zipf(1.3, shape) - 1, 50_000)),
        varentropy=torch.zeros(shape),
        model=None,
    )

    engine._write(_token_table(np.arange(64), batch), tmp_path / "tokens.parquet")

    assert (tmp_path / "tokens.parquet").stat().st_size <= 6 * 64 * 2048


@pytest.mark.slow
@pytest.mark.parametrize("leased", [True, False])
def test_two_processes_share_the_units_and_give_one_result(checkpoints, rows, tmp_path, leased):
    """With the lease each takes what the other is not at; without it both do all, same bytes."""
    table = tmp_path / "rows.parquet"
    rows.write_parquet(table)
    code = (
        "import sys, filelock\n"
        f"if not {leased}:\n"
        "    def none(*_, **__): raise OSError(37, 'No locks available')\n"
        "    filelock.FileLock.acquire = none\n"
        f"sys.path.insert(0, {str(Path(__file__).parent)!r})\n"
        "import killed_at; from pathlib import Path\n"
        f"killed_at.score(Path({str(tmp_path / 'two' / 'scores')!r}), Path({str(table)!r}), "
        f"Path({str(checkpoints)!r}))"
    )
    both = [subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.PIPE) for _ in "ab"]
    ends = [(process.communicate()[1], process.returncode) for process in both]
    settings = Scoring(batch_tokens=64, token_table=True)
    score_units(works_of(checkpoints), rows, tmp_path / "one" / "scores", settings)

    assert [code for _, code in ends] == [0, 0], ends
    for name in ("scores", "tokens"):
        assert tables(tmp_path / "two" / name) == tables(tmp_path / "one" / name)
