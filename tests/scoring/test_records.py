"""Records of scored units: known from small files alone, keys as in earlier versions."""

import json

import numpy as np
import polars as pl
import pytest

from pythia_profile.errors import StudyError
from pythia_profile.pipeline import score as pipeline_score
from pythia_profile.pipeline.score import rows_hash
from pythia_profile.scoring import records
from pythia_profile.scoring.records import read_scores, scored_units
from pythia_profile.scoring.settings import Scoring
from pythia_profile.scoring.units import Unit, rows_sha256, unit_key
from pythia_profile.store import file_sha256, write_json, write_table
from pythia_profile.tables import ROWS

OLD_KEY = "17537c805dab6bfa77bdf69e0ae4d62e35f94e4f7407b5754474fe643a716930"

RECORD = {
    "key": "k",
    "rows": 2,
    "rows_sha256": "r",
    "finite": {"log_likelihood": 2},
    "settings": Scoring().numerics,
    "architecture": {"hidden_size": 8},
    "speed": {"rows": 2, "seconds": 1.0},
}


@pytest.fixture
def scores(tmp_path):
    """Three units of two sizes, written as the engine writes them."""
    for size, step in (("s", 8), ("s", 16), ("xs", 8)):
        folder = tmp_path / "scores" / "t" / size / "seed0" / f"step{step}"
        folder.mkdir(parents=True)
        table = pl.DataFrame(
            {
                "suite": "t",
                "size": size,
                "seed": 0,
                "checkpoint": step,
                "row_id": [0, 1],
                "log_likelihood": [-1.0, -2.0],
                "accuracy": 0.5,
                "mean_rank": 1.0,
                "entropy": 2.0,
            }
        )
        table.write_parquet(folder / "scores.parquet")
        sha256 = file_sha256(folder / "scores.parquet")
        write_json({**RECORD, "sha256": sha256}, folder / "done.json")
    return tmp_path / "scores"


def test_what_is_scored_is_known_without_reading_a_table(scores, monkeypatch):
    monkeypatch.setattr(records.pl, "read_parquet", pytest.fail)
    monkeypatch.setattr(records, "file_sha256", pytest.fail)

    found = scored_units(scores)

    assert [(unit.size, unit.checkpoint) for unit in found] == [("s", 8), ("s", 16), ("xs", 8)]
    assert found[0].finite == {"log_likelihood": 2}


def test_scores_are_found_by_the_hash_of_the_rows(scores):
    found = read_scores(scores, "r", suite="t", sizes=["s"], seed=0)

    assert found["checkpoint"].to_list() == [8, 8, 16, 16]
    with pytest.raises(StudyError, match="no scores of s for these rows"):
        read_scores(scores, "other rows", suite="t", sizes=["s"], seed=0)


@pytest.mark.parametrize(
    "damage", [{"key": 7}, {"rows": None}, {"finite": []}, {"settings": "float32"}]
)
def test_a_damaged_record_is_one_line_that_names_the_file(scores, damage):
    path = scores / "t/s/seed0/step8/done.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | damage))

    with pytest.raises(StudyError, match=rf"step8/done.json' is no record .*{next(iter(damage))}"):
        scored_units(scores)


def test_the_hash_of_rows_is_computed_once(tmp_path, monkeypatch):
    rows = pl.DataFrame(
        {
            "row_id": np.arange(3),
            "treatment_step": [1, 2, None],
            "batch": [0, 1, None],
            "tokens": [[1, 2, 3]] * 3,
            "earlier_exposure": 0.0,
        },
        schema_overrides=ROWS.columns,
    )
    write_table(rows, tmp_path / "rows.parquet", ROWS)

    first = rows_hash(tmp_path)
    monkeypatch.setattr(pipeline_score, "rows_sha256", pytest.fail)

    assert rows_hash(tmp_path) == first == rows_sha256(rows)
    monkeypatch.undo()
    write_table(rows[:2], tmp_path / "rows.parquet", ROWS)
    assert rows_hash(tmp_path) == rows_sha256(rows[:2])


def test_keys_of_units_are_those_of_earlier_versions(monkeypatch):
    """A key computed by version 0.1 with fixed library versions: old scores stay valid."""
    monkeypatch.setattr("pythia_profile.scoring.units.version", lambda name: f"{name} 1")
    unit = Unit(suite="t", size="s", seed=0, checkpoint=8, weights={"model.safetensors": "ab"})

    assert unit_key(unit, "r", Scoring()) == OLD_KEY
