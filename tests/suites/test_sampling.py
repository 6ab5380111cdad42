"""Which rows a study draws: short cohorts give what they have, and a note says so."""

import logging

import polars as pl
import pytest

from pythia_profile.suites.sampling import Sampling, sample_rows


@pytest.mark.parametrize("batches", [3, 0])
def test_log_spaced_checkpoints_draw_what_there_is(tiny_suite, caplog, batches):
    caplog.set_level(logging.WARNING, "pythia_profile")
    settings = Sampling(rows_per_cohort=24, batches_per_cohort=batches, never_treated=96)

    rows = sample_rows(tiny_suite, settings, checkpoints=[0, 1, 2, 4, 8, 32, 64])

    steps = rows["treatment_step"].drop_nulls()
    counts = [len(steps.filter(steps.is_between(a + 1, b))) for a, b in [(0, 1), (1, 2), (2, 4)]]
    assert counts == [8, 8, 16]  # a batch is 8 rows
    assert len(steps) == 32 + 3 * 24
    assert "3 cohorts have fewer than 24 rows: 1 (8), 2 (8), 4 (16)" in caplog.text


def test_cohorts_that_are_long_enough_are_drawn_as_before(tiny_suite, caplog):
    settings = Sampling(rows_per_cohort=24, batches_per_cohort=3, never_treated=96)

    whole = sample_rows(tiny_suite, settings, checkpoints=[0, 32, 64])
    mixed = sample_rows(tiny_suite, settings, checkpoints=[0, 1, 32, 64])

    late = pl.col("treatment_step") > 32
    assert mixed.filter(late).equals(whole.filter(late))
    assert len(caplog.records) == 1
