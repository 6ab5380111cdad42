"""Units of scoring: resumed to the same bytes, never mixed, quarantined without numbers."""

import hashlib
import json
import os
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from pythia_profile.checkpoints.local import weight_hashes
from pythia_profile.errors import StudyError
from pythia_profile.schema import ROWS, SCORES
from pythia_profile.scoring import engine
from pythia_profile.scoring.engine import Work, score_units, work_folder
from pythia_profile.scoring.units import ScoringSettings, Unit

SETTINGS = ScoringSettings(batch_tokens=64, chunk_rows=8)


@pytest.fixture(scope="module")
def checkpoints(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints")
    for step in range(3):
        torch.manual_seed(step)
        config = GPTNeoXConfig(
            vocab_size=50,
            hidden_size=8,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            max_position_embeddings=16,
        )
        GPTNeoXForCausalLM(config).save_pretrained(folder / f"step{step}")
    return folder


@pytest.fixture
def rows() -> pl.DataFrame:
    tokens = np.random.default_rng(1).integers(0, 50, (30, 9))
    return pl.DataFrame(
        {
            "row_id": np.arange(30),
            "treatment_step": np.arange(30) + 1,
            "batch": np.arange(30),
            "tokens": tokens.tolist(),
            "earlier_exposure": 0.0,
        },
        schema_overrides=ROWS.columns,
    )


def works_of(checkpoints: Path) -> list[Work]:
    return [
        Work(
            Unit(suite="t", size="s", seed=0, checkpoint=step, weights=weight_hashes(folder)),
            folder,
        )
        for step, folder in enumerate(sorted(checkpoints.iterdir()))
    ]


def tables(scores: Path) -> dict[str, str]:
    """Hash of every file of finished units."""
    return {
        str(path.relative_to(scores)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(scores.glob("t/**/*"))
        if path.is_file()
    }


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
    whole = ScoringSettings(batch_tokens=64, chunk_rows=1000)
    score_units(works_of(checkpoints), rows, tmp_path / "b", whole)

    a, b = (
        pl.concat([pl.read_parquet(p) for p in sorted(scores.glob("t/**/*.parquet"))])
        for scores in (tmp_path / "a", tmp_path / "b")
    )
    assert a.equals(b)


def test_a_finished_unit_is_not_scored_again(checkpoints, rows, tmp_path, monkeypatch):
    score_units(works_of(checkpoints), rows, tmp_path / "scores", SETTINGS)
    monkeypatch.setattr(engine, "score_checkpoint", lambda *_, **__: pytest.fail("scored again"))

    score_units(works_of(checkpoints), rows, tmp_path / "scores", SETTINGS)


def test_other_rows_settings_or_weights_are_other_units(checkpoints, rows, tmp_path):
    works = works_of(checkpoints)[:1]
    counted = []
    score_units(works, rows, tmp_path / "scores", SETTINGS)

    for change in ("rows", "dtype", "weights"):
        table = rows.with_columns(tokens=pl.Series([[1] * 9] * 30, dtype=pl.List(pl.UInt16)))
        settings = ScoringSettings(batch_tokens=64, chunk_rows=8, dtype="bfloat16")
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


def test_a_damaged_table_is_written_again(checkpoints, rows, tmp_path):
    score_units(works_of(checkpoints), rows, tmp_path / "scores", SETTINGS)
    before = tables(tmp_path / "scores")
    victim = tmp_path / "scores/t/s/seed0/step1/scores.parquet"
    victim.write_bytes(victim.read_bytes()[:-8])

    score_units(works_of(checkpoints), rows, tmp_path / "scores", SETTINGS)

    assert tables(tmp_path / "scores") == before


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

    expected = tables(tmp_path / "0" / "scores")
    assert len(expected) == 6
    for point in points:
        assert tables(tmp_path / str(point) / "scores") == expected, point
        assert list((tmp_path / str(point)).rglob("*.part")) == [], point


def test_weights_that_are_not_numbers_are_quarantined_and_the_others_go_on(
    checkpoints, rows, tmp_path
):
    broken = tmp_path / "broken"
    broken.mkdir()
    for file in (checkpoints / "step1").iterdir():
        (broken / file.name).write_bytes(file.read_bytes())
    tensors = load_file(broken / "model.safetensors")
    tensors["gpt_neox.embed_in.weight"][:] = float("nan")
    save_file(tensors, broken / "model.safetensors")
    works = works_of(checkpoints)
    works[1] = Work(works[1].unit, broken)

    score_units(works, rows, tmp_path / "scores", SETTINGS)

    place = tmp_path / "scores/t/s/seed0"
    reason = json.loads((place / "step1/quarantine.json").read_text())["reason"]
    assert "row 0 has a surprisal that is not a finite number" in reason
    assert not (place / "step1/scores.parquet").exists()
    assert (place / "step2/done.json").exists()


def test_a_full_disk_loses_no_finished_chunk(checkpoints, rows, tmp_path, monkeypatch):
    real, calls = os.fsync, []

    def full(handle):
        calls.append(handle)
        if len(calls) == 7:
            raise OSError(28, "No space left on device")
        real(handle)

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StudyError, match="No space left on device; nothing was changed"):
        score_units(works_of(checkpoints), rows, tmp_path / "scores", SETTINGS)
    monkeypatch.setattr(os, "fsync", real)
    kept = list(work_folder(tmp_path / "scores").glob("*/*.parquet"))
    scored = []
    original = engine.score_checkpoint
    monkeypatch.setattr(
        engine,
        "score_checkpoint",
        lambda model, part, **named: scored.append(len(part)) or original(model, part, **named),
    )

    score_units(works_of(checkpoints), rows, tmp_path / "scores", SETTINGS)

    assert len(kept) >= 1
    assert sum(scored) == 90 - 8 * len(kept)


def test_a_folder_that_cannot_be_written_is_one_clear_error(checkpoints, rows, tmp_path):
    blocked = tmp_path / "scores"
    blocked.write_text("a file where the folder should be")

    with pytest.raises(StudyError, match="cannot write"):
        score_units(works_of(checkpoints), rows, blocked, SETTINGS)
