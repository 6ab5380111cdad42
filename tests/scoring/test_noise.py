"""The noise floor: what rounding does, in units of the outcome and of standard errors."""

import numpy as np
import polars as pl
import pytest

from pythia_profile.errors import StudyError
from pythia_profile.scoring.noise import noise_floor
from pythia_profile.scoring.settings import Scoring


@pytest.fixture
def checkpoint(model, tmp_path):
    model.save_pretrained(tmp_path / "step1")
    return tmp_path / "step1"


@pytest.fixture
def rows():
    tokens = np.random.default_rng(0).integers(0, 120, (12, 17))
    return pl.DataFrame({"row_id": range(12), "tokens": tokens.tolist()})


def test_batches_move_single_precision_by_rounding_and_half_precision_by_more(checkpoint, rows):
    found = noise_floor(checkpoint, rows).filter(outcome="log_likelihood")
    spread = dict(found.select("way", "spread").iter_rows())

    assert set(spread) == {
        "one row at a time",
        "twice the batch",
        "plain reductions",
        "in bfloat16",
    }
    assert spread["one row at a time"] < 1e-5  # float32 keeps seven digits of logits of about 20
    assert 1e-4 < spread["in bfloat16"] < 0.3  # bfloat16 keeps three


def test_differences_are_stated_in_smallest_standard_errors(checkpoint, rows):
    plain = noise_floor(checkpoint, rows)
    in_errors = noise_floor(checkpoint, rows, smallest_se={"log_likelihood": 0.5})

    assert plain["spread_in_se"].null_count() == len(plain)
    line = in_errors.filter(way="in bfloat16", outcome="log_likelihood").row(0, named=True)
    assert line["spread_in_se"] == pytest.approx(2 * line["spread"])
    assert line["shift_in_se"] == pytest.approx(2 * abs(line["shift"]))
    assert line["largest"] >= line["spread"]


def test_a_study_in_half_precision_is_compared_with_single_precision(checkpoint, rows):
    found = noise_floor(checkpoint, rows, settings=Scoring(dtype="bfloat16"))

    assert "in float32" in found["way"].to_list()
    assert "in bfloat16" not in found["way"].to_list()


def test_one_row_has_no_spread(checkpoint, rows):
    with pytest.raises(StudyError, match="got 1 rows, expected at least 2"):
        noise_floor(checkpoint, rows[:1])
