"""A finished study whose weights are gone, and copies of it to be damaged."""

import shutil
from pathlib import Path

import numpy as np
import pytest

from data_order.store.megatron import MegatronStore
from pythia_profile.pipeline.running import run_stage
from pythia_profile.scoring.settings import Scoring
from pythia_profile.scoring.units import rows_sha256
from pythia_profile.store import file_sha256, write_json
from pythia_profile.study import Estimation, Study, create_study
from pythia_profile.suites.folder import write_suite
from pythia_profile.suites.model import Size, Suite

STEPS = (0, 10, 20, 30)


def _suite(folder: Path) -> Suite:
    small = Size(
        name="s",
        layers=2,
        width=8,
        heads=2,
        parameters=1000,
        peak_lr=1e-3,
        min_lr=1e-4,
        precision="float32",
        weights="weights",
        checkpoints=STEPS,
    )
    return Suite(
        name="planted",
        title="a suite without weights",
        batch_size=4,
        steps=30,
        row_tokens=3,
        vocabulary=50,
        schedule="neox_v1",
        warmup_steps=2,
        seed=0,
        sizes={"s": small},
        root=folder,
        store="rows",
    )


@pytest.fixture(scope="module")
def finished(planted, tmp_path_factory) -> Path:
    """A finished study with the records of four scored units, of a suite whose weights are gone."""
    home = tmp_path_factory.mktemp("fuzz")
    suite = _suite(home / "study" / "suite")
    write_suite(suite, suite.root)
    MegatronStore.write(suite.root / "rows", np.ones((200, 3), np.int64))
    (suite.root / "weights").mkdir()
    folder = home / "study"
    rows, scores = planted(lambda *_: 0.3, per_cohort=12, never=24)
    create_study(folder, Study(suite="suite", sizes=("s",), estimate=Estimation(draws=50)))
    rows.write_parquet(folder / "rows.parquet")
    for step in STEPS:
        unit = folder / "scores" / "planted" / "s" / "seed0" / f"step{step}"
        unit.mkdir(parents=True)
        table = scores.filter(checkpoint=step)
        table.write_parquet(unit / "scores.parquet")
        record = {
            "key": f"{step:064x}",
            "sha256": file_sha256(unit / "scores.parquet"),
            "rows": len(table),
            "rows_sha256": rows_sha256(rows),
            "finite": {"log_likelihood": len(table)},
            "settings": Scoring().numerics,
            "architecture": {"hidden_size": 8},
            "speed": {"rows": len(table), "seconds": 1.0},
            "weights": {"model.safetensors": f"{step:064x}"},
        }
        write_json(record, unit / "done.json")
    for stage in (
        "covariates",
        "att",
        "precision",
        "profile",
        "estimands",
        "check",
        "plot",
        "report",
    ):
        run_stage(folder, stage)
    return folder


@pytest.fixture
def copy(finished, tmp_path):
    """Make a copy of the finished study: a factory, for each example anew."""

    def make():
        folder = tmp_path / "study"
        shutil.rmtree(folder, ignore_errors=True)
        return shutil.copytree(finished, folder)

    return make
