"""Extraction by sampling: the closed form against counting by hand and against drawing."""

import numpy as np
import pytest
import torch
from scipy import stats

from pythia_profile.labs.recall.recall_errors import RecallError
from pythia_profile.labs.recall.recall_sampling import (
    chance_of_extraction,
    draws_needed,
    sampled_hits,
)
from pythia_profile.scoring import score_checkpoint
from pythia_profile.scoring.outcomes import greedy_continuation
from tests.tiny_classes import CONFIGS, tiny_of_class


def test_the_number_of_draws_is_the_first_that_is_enough():
    rng = np.random.default_rng(0)
    for single, p in rng.uniform(0.001, 0.999, (200, 2)):
        needed = int(draws_needed(np.log(single), p))
        assert chance_of_extraction(np.log(single), needed) >= p - 1e-12
        assert needed == 1 or chance_of_extraction(np.log(single), needed - 1) < p


def test_tiny_and_certain_probabilities_keep_their_digits():
    # 1 - (1 - p)^n is n p where both are small; (1 - p) itself would round to 1
    assert chance_of_extraction(-50.0, 1000) == pytest.approx(1000 * np.exp(-50.0), rel=1e-12)
    assert draws_needed(-50.0, 0.5) == pytest.approx(np.log(2) * np.exp(50.0), rel=1e-9)
    assert chance_of_extraction([0.0, -2000.0], 5).tolist() == [1.0, 0.0]
    assert draws_needed([0.0, -2000.0], 0.9).tolist() == [1.0, np.inf]


@pytest.mark.parametrize("name", CONFIGS)
def test_drawing_finds_a_continuation_as_often_as_its_probability_says(name):
    model, draws = tiny_of_class(name), 4000
    prompts = torch.from_numpy(np.random.default_rng(3).integers(0, 50, (5, 4)))
    rows = torch.cat([prompts, greedy_continuation(model, prompts, 2)], dim=1).numpy()
    found = score_checkpoint(model, np.pad(rows, ((0, 0), (0, 1))), outcomes=["exact_4_2"])
    single = np.exp(found["exact_4_2_log_p"].to_numpy())

    hits = sampled_hits(model, rows, 4, 2, draws=draws, seed=1)

    # a two-sided test of each: one failure in a thousand by chance for 30 tests
    for k, p in zip(hits.tolist(), single, strict=True):
        assert stats.binomtest(k, draws, float(min(p, 1.0))).pvalue > 3e-5
    assert hits.sum() > 20


def test_impossible_probabilities_are_refused():
    with pytest.raises(RecallError, match="p: got 1, expected a probability"):
        draws_needed(-1.0, 1)
    with pytest.raises(RecallError, match="none above 0"):
        chance_of_extraction(0.5, 3)
