"""Units of scoring whose weights, tables, disk or memory fail: named, and no number of them."""

import json
import os
import shutil

import polars as pl
import pytest
import torch
from safetensors.torch import load_file, save_file

from pythia_profile.errors import StudyError
from pythia_profile.scoring import engine, forward
from pythia_profile.scoring.records import read_scores
from pythia_profile.scoring.units import Work, rows_sha256, work_folder
from tests.scoring.tiny_units import SETTINGS, score_units, tables, works_of


def test_a_damaged_table_is_written_again(checkpoints, rows, tmp_path):
    score_units(works_of(checkpoints), rows, tmp_path / "scores", SETTINGS)
    before = tables(tmp_path / "scores")
    victim = tmp_path / "scores/t/s/seed0/step1/scores.parquet"
    victim.write_bytes(victim.read_bytes()[:-8])

    score_units(works_of(checkpoints), rows, tmp_path / "scores", SETTINGS)

    assert tables(tmp_path / "scores") == before


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
    assert "NaN or infinity: gpt_neox.embed_in.weight" in reason  # found when it was loaded
    assert not (place / "step1/scores.parquet").exists()
    assert (place / "step2/done.json").exists()


def test_weights_that_overflow_are_quarantined_with_the_first_broken_layer(
    checkpoints, rows, tmp_path
):
    broken = tmp_path / "broken"
    shutil.copytree(checkpoints / "step1", broken)
    tensors = load_file(broken / "model.safetensors")
    tensors["gpt_neox.layers.0.mlp.dense_4h_to_h.weight"][:] = 3e38
    save_file(tensors, broken / "model.safetensors")

    score_units([Work(works_of(checkpoints)[1].unit, broken)], rows, tmp_path / "scores", SETTINGS)

    reason = (tmp_path / "scores/t/s/seed0/step1/quarantine.json").read_text()
    assert "row 0 has a surprisal that is not a finite number" in reason
    assert "first in the output of layer 1 of 1" in reason


def test_a_checkpoint_of_another_architecture_is_quarantined_and_the_others_go_on(
    checkpoints, rows, tmp_path
):
    works = [Work(work.unit, work.checkpoint, (1, 8, 2)) for work in works_of(checkpoints)]
    works[1] = Work(works[1].unit, works[1].checkpoint, (2, 8, 2))

    score_units(works, rows, tmp_path / "scores", SETTINGS)

    record = json.loads((tmp_path / "scores/t/s/seed0/step1/quarantine.json").read_text())
    assert record["reason"] == (
        "checkpoint 1 of s is of another architecture: got layers 1, width 8, heads 2, the suite "
        "states layers 2, width 8, heads 2"
    )
    assert (tmp_path / "scores/t/s/seed0/step2/done.json").exists()


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
    original = engine.score_rows
    monkeypatch.setattr(
        engine,
        "score_rows",
        lambda model, part, *rest, **named: (
            scored.append(len(part)) or original(model, part, *rest, **named)
        ),
    )

    score_units(works_of(checkpoints), rows, tmp_path / "scores", SETTINGS)

    assert len(kept) >= 1
    assert sum(scored) == 90 - 8 * len(kept)


def test_a_folder_that_cannot_be_written_is_one_clear_error(checkpoints, rows, tmp_path):
    blocked = tmp_path / "scores"
    blocked.write_text("a file where the folder should be")

    with pytest.raises(StudyError, match="cannot write"):
        score_units(works_of(checkpoints), rows, blocked, SETTINGS)


def test_memory_that_runs_out_halves_the_batch_and_says_so(
    checkpoints, rows, tmp_path, monkeypatch
):
    original = forward._forward

    def small_memory(model, tokens, *rest):
        if len(tokens) > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return original(model, tokens, *rest)

    score_units(works_of(checkpoints)[:1], rows, tmp_path / "enough", SETTINGS)
    monkeypatch.setattr(forward, "_forward", small_memory)
    score_units(works_of(checkpoints)[:1], rows, tmp_path / "scarce", SETTINGS)

    place = "t/s/seed0/step0"
    record = json.loads((tmp_path / "scarce" / place / "done.json").read_text())
    assert record["speed"]["batch_tokens"] == 16
    a, b = (
        pl.read_parquet(tmp_path / run / place / "scores.parquet") for run in ("enough", "scarce")
    )
    # float32 sums over another batch shape: the last bits of numbers near 4
    assert (a["log_likelihood"] - b["log_likelihood"]).abs().max() < 1e-5


def test_memory_for_not_even_one_row_quarantines_with_advice(
    checkpoints, rows, tmp_path, monkeypatch
):
    def none_left(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    monkeypatch.setattr(forward, "_forward", none_left)
    score_units(works_of(checkpoints)[:1], rows, tmp_path, SETTINGS)

    reason = (tmp_path / "t/s/seed0/step0/quarantine.json").read_text()
    assert "out of memory with a single row in the batch; use a narrower dtype" in reason


def test_a_checkpoint_with_another_configuration_than_its_siblings_is_named(
    checkpoints, rows, tmp_path
):
    copy = tmp_path / "checkpoints"
    shutil.copytree(checkpoints, copy)
    config = copy / "step1" / "config.json"
    config.write_text(
        config.read_text().replace('"layer_norm_eps": 1e-05', '"layer_norm_eps": 0.5')
    )
    score_units(works_of(copy), rows, tmp_path / "scores", SETTINGS)
    ways = {"suite": "t", "sizes": ["s"], "seed": 0, "settings": SETTINGS}

    with pytest.raises(StudyError, match=r"step1 of s .*layer_norm_eps is 0.5, elsewhere 1e-05"):
        read_scores(tmp_path / "scores", rows_sha256(rows), **ways)


def test_a_configuration_that_differs_in_what_no_number_depends_on_is_the_same(
    checkpoints, rows, tmp_path
):
    copy = tmp_path / "checkpoints"
    shutil.copytree(checkpoints, copy)
    config = copy / "step1" / "config.json"
    content = json.loads(config.read_text())
    del content["layer_norm_eps"]  # the default is what the others state
    config.write_text(json.dumps({**content, "use_cache": False, "bos_token_id": 7}))
    score_units(works_of(copy), rows, tmp_path / "scores", SETTINGS)

    found = read_scores(
        tmp_path / "scores", rows_sha256(rows), suite="t", sizes=["s"], seed=0, settings=SETTINGS
    )

    assert found["checkpoint"].n_unique() == 3


def test_a_table_that_was_changed_afterwards_is_named(checkpoints, rows, tmp_path):
    score_units(works_of(checkpoints), rows, tmp_path / "scores", SETTINGS)
    table = tmp_path / "scores/t/s/seed0/step1/scores.parquet"
    pl.read_parquet(table).with_columns(log_likelihood=pl.lit(0.0)).write_parquet(table)
    ways = {"suite": "t", "sizes": ["s"], "seed": 0, "settings": SETTINGS}

    with pytest.raises(StudyError, match=r"step1/scores\.parquet' is not the table"):
        read_scores(tmp_path / "scores", rows_sha256(rows), **ways)


def test_weights_that_broke_take_the_earlier_table_with_them(checkpoints, rows, tmp_path):
    copy = tmp_path / "checkpoints"
    shutil.copytree(checkpoints, copy)
    score_units(works_of(copy), rows, tmp_path / "scores", SETTINGS)
    weights = load_file(copy / "step1" / "model.safetensors")
    weights["gpt_neox.final_layer_norm.bias"][0] = float("nan")
    save_file(weights, copy / "step1" / "model.safetensors", metadata={"format": "pt"})

    score_units(works_of(copy), rows, tmp_path / "scores", SETTINGS)

    place = tmp_path / "scores/t/s/seed0/step1"
    assert [path.name for path in place.iterdir()] == ["quarantine.json"]
