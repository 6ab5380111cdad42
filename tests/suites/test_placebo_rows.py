"""Placebo rows of a study: which are drawn, what their state is, and that settings are checked."""

import numpy as np
import polars as pl
import pytest

from data_order.order import PLACEBO_STATES
from data_order.shuffled.repetition import is_masked
from pythia_profile.errors import StudyError
from pythia_profile.suites.model import Size, Suite
from pythia_profile.suites.sampling import Sampling, sample_rows
from pythia_profile.training.languages import uniform_rows
from tests.suites.test_shuffled_suites import make as make

GRID = [0, 16, 32, 48, 64]


@pytest.fixture
def plain_suite(tmp_path) -> Suite:
    """A run of 64 steps of 8 rows and a hundred rows behind them; no model is needed."""
    np.save(tmp_path / "rows.npy", uniform_rows(612, 9, 50, seed=0).astype(np.uint16))
    size = Size(
        name="s",
        layers=2,
        width=8,
        heads=2,
        parameters=1000,
        peak_lr=1e-3,
        min_lr=1e-4,
        precision="float32",
        weights="s",
        checkpoints=tuple(GRID),
    )
    return Suite(
        name="plain",
        title="rows alone",
        batch_size=8,
        steps=64,
        row_tokens=9,
        vocabulary=50,
        schedule="neox_v1",
        warmup_steps=2,
        seed=0,
        sizes={"s": size},
        root=tmp_path,
        store="rows.npy",
        single_pass=True,
    )


def test_rows_of_skipped_steps_and_of_rate_0_are_placebo_rows(plain_suite):
    """The suite's update 1 is at rate 0; its log, say, tells of two skipped steps."""
    settings = Sampling(
        rows_per_cohort=16,
        batches_per_cohort=0,
        never_treated=40,
        placebo=12,
        skipped_steps=(20, 21),
    )

    rows = sample_rows(plain_suite, settings, checkpoints=GRID)

    placebo = rows.filter("placebo")
    states = placebo["state"].value_counts().sort("state").rows()
    # all 8 rows of step 1, 12 of the 16 of steps 20 and 21, and those of the draw itself
    assert dict(states)["read at rate 0"] == 8
    assert 12 <= dict(states)["in a skipped step"] <= 16
    steps = rows["treatment_step"].fill_null(-1)
    assert (steps.is_in([1, 20, 21]) == rows["placebo"]).all()
    assert rows["row_id"].is_sorted()
    assert rows["row_id"].is_unique().all()
    usual = sample_rows(plain_suite, settings.model_copy(update={"placebo": 0}), checkpoints=GRID)
    assert usual["row_id"].is_in(rows["row_id"].implode()).all()
    assert "placebo" not in usual.columns
    with pytest.raises(StudyError, match=r"skipped_steps: got 65, the run .* has steps 1 to 64"):
        sample_rows(plain_suite, settings.model_copy(update={"skipped_steps": (65,)}))


def test_masked_rows_and_skipped_steps_of_a_run_over_token_files(make):
    content = uniform_rows(1200, 49, 50_000, seed=0)
    repeated = np.random.default_rng(2).random(1200) < 0.1
    content[repeated, 5:40] = content[repeated, 4:5]
    suite, store = make(content, batch_size=16, steps=64)
    usual = Sampling(rows_per_cohort=40, batches_per_cohort=0, never_treated=60)
    with_placebo = usual.model_copy(update={"placebo": 100, "skipped_steps": (7,)})

    rows = sample_rows(suite, with_placebo, checkpoints=GRID)

    placebo = rows.filter("placebo")
    masked = is_masked(np.array(placebo["tokens"].to_list()))
    assert set(placebo["state"]) == {"masked", "in a skipped step"}
    assert ((placebo["state"] == "masked").to_numpy() == masked).all()
    assert masked.sum() > 20
    assert (placebo.filter(state="in a skipped step")["treatment_step"] == 7).all()
    assert placebo.filter(treatment_step=7)["row_id"].len() == 16
    others = rows.filter(~pl.col("placebo"))
    assert set(others["state"]) == {"read once", "never read"}
    assert not set(others["state"]) & PLACEBO_STATES
    assert len(others.filter(state="never read")) == 60
    without = sample_rows(suite, usual, checkpoints=GRID).filter(pl.col("treatment_step") != 7)
    treated = others.filter(pl.col("treatment_step").is_not_null())
    assert treated.drop("placebo").equals(without)
    assert len(store) == 1200
