"""A suite whose batch size changed: from its file to the rows of a study, and its shuffled run."""

import numpy as np
import pytest

from data_order.shuffled.passes import ShuffledOrder
from data_order.store.megatron import MegatronStore
from pythia_profile.cli import app
from pythia_profile.cli.app import run
from pythia_profile.errors import StudyError
from pythia_profile.suites.draw_settings import Sampling
from pythia_profile.suites.folder import read_suite, suite_facts, suite_from_facts, write_suite
from pythia_profile.suites.model import Size, Suite
from pythia_profile.suites.sampling import sample_rows
from pythia_profile.suites.token_files import TokenFiles

CHANGES = ((10, 4), (20, 8))
"""20, 40 and 80 rows of 30 steps."""


def ramped(**facts):
    size = Size(
        name="a",
        layers=1,
        width=8,
        heads=1,
        parameters=1,
        peak_lr=1e-3,
        min_lr=0.0,
        precision="float32",
        weights="a",
        checkpoints=(0, 10, 20, 30),
    )
    usual = {
        "name": "mine",
        "title": "a ramp",
        "batch_size": 2,
        "batch_changes": CHANGES,
        "steps": 30,
        "row_tokens": 5,
        "vocabulary": 50,
        "schedule": "neox_v1",
        "warmup_steps": 1,
        "seed": 0,
        "sizes": {"a": size},
        "store": "rows",
    }
    return Suite(**{**usual, **facts})


@pytest.fixture
def folder(tmp_path):
    rows = np.random.default_rng(0).integers(0, 50, (180, 5))
    MegatronStore.write(tmp_path / "rows", [*rows])
    write_suite(ramped(), tmp_path)
    return tmp_path


def test_a_ramp_is_kept_in_the_file_and_in_the_lock(folder):
    suite = read_suite(folder)

    assert suite.batch_changes == CHANGES
    assert suite.order.rows == 140
    assert suite_from_facts(suite_facts(suite)).batch_changes == CHANGES


def test_rows_of_a_study_have_the_steps_of_the_ramp(folder, capsys):
    chosen = Sampling(rows_per_cohort=20, batches_per_cohort=0, never_treated=30)

    rows = sample_rows(read_suite(folder), chosen)

    by_loop = [step for step in range(1, 31) for _ in range({0: 2, 1: 4}.get((step - 1) // 10, 8))]
    for row, step in rows.select("row_id", "treatment_step").rows():
        assert step == (by_loop[row] if row < 140 else None)
    assert run(app, ["order", "--suite", str(folder), "--step", "12", "--show", "1"]) == 0
    said = capsys.readouterr().out
    assert "step 12 of 30 reads rows 24 to 27 (4 rows)" in said
    assert "row 24  step 12  batch 11, row 0 of 4" in said


def test_a_run_over_token_files_reads_on_in_its_permutation_at_the_other_batch_size():
    files = TokenFiles(paths=("a.npy",), seed=5, first_pass=1)
    suite = ramped(token_files=files, store="files")

    order = suite.order.order(200)

    assert (
        order.segments == ShuffledOrder.run(200, 5, 2, 30, first_pass=1, changes=CHANGES).segments
    )
    everything = np.concatenate([order.rows_of(step) for step in range(1, 31)])
    whole = np.arange(200, dtype=np.uint32)
    np.random.Generator(np.random.PCG64(6)).shuffle(whole)
    assert np.array_equal(everything, whole[:140])
    assert suite.order.step_of([19, 20, 59, 60, 139]).tolist() == [10, 11, 20, 21, 30]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (((20, 4), (10, 8)), r"batch_changes: .*after steps \[20, 10\]; expected ascending"),
        (((30, 4),), "between 0 and 30"),
    ],
)
def test_a_ramp_that_cannot_be_is_named(changes, message):
    with pytest.raises(StudyError, match=message):
        ramped(batch_changes=changes)


def test_rows_of_token_files_are_sampled_over_the_change(tmp_path):
    rows = np.arange(200 * 5, dtype=np.uint32).reshape(200, 5)
    (tmp_path / "files").mkdir()
    rows.tofile(tmp_path / "files" / "a.npy")
    files = TokenFiles(paths=("a.npy",), seed=5, first_pass=1)
    suite = ramped(token_files=files, store="files", root=tmp_path, vocabulary=1000)
    chosen = Sampling(rows_per_cohort=15, batches_per_cohort=0, never_treated=30)

    table = sample_rows(suite, chosen, checkpoints=[0, 10, 20, 30])

    whole = np.arange(200, dtype=np.uint32)
    np.random.Generator(np.random.PCG64(6)).shuffle(whole)
    place = {row: at for at, row in enumerate(whole.tolist())}
    by_loop = [step for step in range(1, 31) for _ in range({0: 2, 1: 4}.get((step - 1) // 10, 8))]
    for tokens, step in table.select("tokens", "treatment_step").rows():
        at = place[tokens[0] // 5]
        assert step == (by_loop[at] if at < 140 else None)
    cohort = (table["treatment_step"].drop_nulls() - 1) // 10
    assert cohort.value_counts().sort("treatment_step")["count"].to_list() == [15, 15, 15]
