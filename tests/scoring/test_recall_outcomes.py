"""Recall as outcomes: against decoding token by token without a cache, in every class of model."""

import numpy as np
import pytest
import torch

from pythia_profile.errors import NotFoundError
from pythia_profile.scoring import score_checkpoint
from pythia_profile.scoring.forward import ScoringError
from pythia_profile.scoring.outcomes import greedy_continuation, outcome
from pythia_profile.study import Study, create_study, open_study
from tests.tiny_classes import CONFIGS, tiny_of_class

PROMPT, COUNT, ROWS = 5, 8, 48


def decoded(model, prompts, count):
    """The likeliest token, again and again, each from a forward pass over all tokens so far."""
    ids = prompts
    for _ in range(count):
        with torch.no_grad():
            following = model(ids, use_cache=False).logits[:, -1].argmax(dim=1, keepdim=True)
        ids = torch.cat([ids, following], dim=1)
    return ids


@pytest.fixture(scope="module", params=CONFIGS)
def recalled(request):
    """A model, and rows of which it gives back a third whole, a third but for one token."""
    model, rng = tiny_of_class(request.param), np.random.default_rng(2)
    prompts = torch.from_numpy(rng.integers(0, 50, (ROWS, PROMPT)))
    rows = decoded(model, prompts, COUNT + 1).numpy()
    for row in range(ROWS // 3, 2 * ROWS // 3):
        place = rng.integers(PROMPT, PROMPT + COUNT)
        rows[row, place] = (rows[row, place] + 1 + rng.integers(49)) % 50
    rows[2 * ROWS // 3 :, PROMPT:] = rng.integers(0, 50, (ROWS // 3, COUNT + 1))
    return model, rows


def test_one_forward_pass_says_what_decoding_gives_back_cached_or_not(recalled):
    model, rows = recalled
    ids = torch.from_numpy(rows)
    continuation = ids[:, PROMPT : PROMPT + COUNT]

    found = score_checkpoint(model, rows, outcomes=[f"exact_{PROMPT}_{COUNT}"])

    exact = found[f"exact_{PROMPT}_{COUNT}_full"].to_numpy()
    free = decoded(model, ids[:, :PROMPT], COUNT)[:, PROMPT:]
    cached = greedy_continuation(model, ids[:, :PROMPT], COUNT)
    assert exact.tolist() == (free == continuation).all(dim=1).double().tolist()
    assert exact.tolist() == (cached == continuation).all(dim=1).double().tolist()
    assert exact[: ROWS // 3].all()
    assert not exact[ROWS // 3 :].any()


def test_matching_tokens_whole_matches_and_leading_ones_are_counted(recalled):
    model, rows = recalled
    ids = torch.from_numpy(rows)
    hits = decoded(model, ids[:, :PROMPT], COUNT)[:, PROMPT:] == ids[:, PROMPT : PROMPT + COUNT]

    found = score_checkpoint(model, rows, outcomes=[f"recall_{PROMPT}_{COUNT}"])

    leading = [next((i for i, hit in enumerate(row) if not hit), COUNT) for row in hits.tolist()]
    name = f"recall_{PROMPT}_{COUNT}"
    assert found[f"{name}_share"].to_list() == hits.double().mean(dim=1).tolist()
    assert found[f"{name}_full"].to_list() == [float(all(row)) for row in hits.tolist()]
    assert found[f"{name}_leading"].to_list() == leading


def test_log_probability_of_a_continuation_is_the_sum_of_its_tokens(recalled):
    model, rows = recalled
    with torch.no_grad():
        log_p = model(torch.from_numpy(rows)).logits.double().log_softmax(dim=2)
    expected = [
        sum(float(log_p[row, t - 1, rows[row, t]]) for t in range(PROMPT, PROMPT + COUNT))
        for row in range(ROWS)
    ]

    found = score_checkpoint(model, rows, outcomes=[f"exact_{PROMPT}_{COUNT}"])

    # eight float32 surprisals of up to some 50 nats, an error of 5e-6 each
    assert found[f"exact_{PROMPT}_{COUNT}_log_p"].to_list() == pytest.approx(expected, abs=2e-4)


def test_an_outcome_of_equal_lengths_is_extraction(recalled):
    model, rows = recalled

    found = score_checkpoint(model, rows, outcomes=["extraction_6", "recall_6_6"])

    assert found["recall_6_6_share"].equals(found["extraction_6_share"], check_names=False)
    assert found["recall_6_6_full"].equals(found["extraction_6_full"], check_names=False)


def test_a_study_that_names_the_scorers_is_read_as_it_was_written(tmp_path):
    """A column that is called as a scorer is would become that scorer's columns when read."""
    asked = Study(
        suite="mini", sizes=("xs",), outcomes=("log_likelihood", "recall_8_4", "exact_8_4")
    )
    create_study(tmp_path, asked)

    assert open_study(tmp_path) == asked
    assert asked.score.scorers == ("recall_8_4", "exact_8_4")
    assert asked.outcomes[1:] == (
        *("recall_8_4_share", "recall_8_4_full", "recall_8_4_leading"),
        *("exact_8_4_full", "exact_8_4_log_p"),
    )


@pytest.mark.parametrize("name", ["recall_0_4", "recall_4_0", "exact_0_8"])
def test_nothing_to_read_or_to_give_is_refused(name):
    with pytest.raises(NotFoundError, match=f"outcome '{name}': expected at least one token"):
        outcome(name)


def test_rows_that_are_too_short_are_refused():
    rows = np.zeros((1, 12), np.int64)
    with pytest.raises(ScoringError, match="12 tokens; outcome 'recall_5_8' needs at least 13"):
        score_checkpoint(tiny_of_class("llama"), rows, outcomes=["recall_5_8"])
