"""Units of scoring: resumed to the same bytes, never mixed, quarantined without numbers."""

import hashlib
import json
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from pythia_profile.errors import StudyError
from pythia_profile.scoring import engine, forward
from pythia_profile.scoring.engine import Session
from pythia_profile.scoring.forward import _token_table
from pythia_profile.scoring.outcomes import Batch
from pythia_profile.scoring.records import read_scores
from pythia_profile.scoring.settings import Scoring
from pythia_profile.scoring.units import Unit, Work, rows_sha256, work_folder
from pythia_profile.tables import ROWS, SCORES
from tests.scoring.killed_at import hashes_in

SETTINGS = Scoring(batch_tokens=64)


def score_units(works, rows, scores, settings=SETTINGS, advance=lambda _: None, chunk_rows=8):
    session = Session(
        rows=rows, scores=scores, settings=settings, chunk_rows=chunk_rows, advance=advance
    )
    engine.score_units(works, session)


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
            Unit(suite="t", size="s", seed=0, checkpoint=step, weights=hashes_in(folder)),
            folder,
        )
        for step, folder in enumerate(sorted(checkpoints.iterdir()))
    ]


def tables(scores: Path) -> dict[Path, str]:
    """Hash of every table and the record of every finished unit."""
    hashes = {}
    for path in sorted(scores.glob("t/**/*")):
        if path.suffix == ".parquet":
            hashes[path.relative_to(scores)] = hashlib.sha256(path.read_bytes()).hexdigest()
        elif path.suffix == ".json":
            record = json.loads(path.read_text())
            record.pop("speed")  # how long it took is no result
            hashes[path.relative_to(scores)] = json.dumps(record)
    return hashes


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

    expected = [tables(tmp_path / "0" / name) for name in ("scores", "tokens")]
    assert [len(found) for found in expected] == [6, 12]
    for point in points:
        found = [tables(tmp_path / str(point) / name) for name in ("scores", "tokens")]
        assert found == expected, point
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
