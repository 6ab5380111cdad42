"""The clean reference model of the mini suite: it read what the sample leaves, and nothing else."""

import numpy as np
import polars as pl
import pytest

from pythia_profile.errors import StudyError
from pythia_profile.mini.build import config_of
from pythia_profile.mini.reference import held_out_scores, steps_of, unread

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def found(tiny_suite, tiny_rows, tmp_path_factory):
    folder = tmp_path_factory.mktemp("reference")
    return folder, held_out_scores(tiny_suite, "xs", tiny_rows, folder=folder)


def test_every_sampled_row_is_scored_and_none_was_read(tiny_suite, tiny_rows, found):
    config = config_of(tiny_suite)
    left = unread(config, tiny_rows)

    assert set(found[1]["row_id"]) == set(tiny_rows["row_id"])
    assert not set(left) & set(tiny_rows["row_id"])
    treated = tiny_rows["treatment_step"].drop_nulls()
    assert len(left) == config.training_rows - len(treated)
    assert 0 < steps_of(config, len(left)) * config.batch_size <= len(left) + config.spare


def test_it_has_learned_something_but_not_who_was_read(tiny_suite, tiny_rows, tiny_scores, found):
    scores = found[1].join(tiny_rows.select("row_id", "treatment_step"), on="row_id")
    treated = scores["treatment_step"].is_not_null().to_numpy()
    value = scores["log_likelihood"].to_numpy()
    start = tiny_scores.filter((pl.col("checkpoint") == 0) & (pl.col("size") == "xs"))

    assert value.mean() > start["log_likelihood"].mean() + 0.3
    gap = value[treated].mean() - value[~treated].mean()
    error = np.sqrt(value[treated].var() / treated.sum() + value[~treated].var() / (~treated).sum())
    assert abs(gap) < 3 * error


def test_scores_are_found_again(tiny_suite, tiny_rows, found, monkeypatch):
    def never(*_, **__):
        raise AssertionError("trained again")

    monkeypatch.setattr("pythia_profile.mini.reference.map_units", never)

    again = held_out_scores(tiny_suite, "xs", tiny_rows, folder=found[0])

    assert again.equals(found[1])


def test_too_large_a_sample_leaves_no_reference(tiny_suite):
    with pytest.raises(StudyError, match="leaves 0 of 512 rows, too few to train a reference"):
        steps_of(config_of(tiny_suite).__class__(**{"steps": 64, "interval": 64, "batch_size": 8,
                                                    "spare": 8}), 0)  # fmt: skip
