"""Further outcomes of a row against their definitions, computed one row at a time."""

import zlib

import numpy as np
import pytest
import torch

from pythia_profile.errors import NotFoundError, ProfileError
from pythia_profile.scoring import score_checkpoint
from pythia_profile.scoring.forward import ScoringError
from pythia_profile.scoring.outcomes import greedy_continuation, outcome, outcomes_of

# float32 forward passes of another batch shape differ in the last bits of numbers near 5
CLOSE = {"abs": 5e-5}


@pytest.fixture(scope="module")
def rows():
    return np.random.default_rng(5).integers(0, 120, (6, 17)).astype(np.uint16)


@pytest.fixture(scope="module")
def log_p(model, rows):
    """(6, 16, 120) log-probabilities in float64."""
    with torch.no_grad():
        logits = model(torch.tensor(rows[:, :-1].astype(np.int64))).logits
    return torch.log_softmax(logits.double(), dim=2)


@pytest.fixture(scope="module")
def of_target(rows, log_p):
    targets = torch.tensor(rows[:, 1:].astype(np.int64))
    return log_p.gather(2, targets[:, :, None])[:, :, 0]


def test_first_targets_alone(model, rows, of_target):
    found = score_checkpoint(model, rows, outcomes=["first_4"])

    expected = of_target[:, :4].mean(dim=1).tolist()
    assert found["log_likelihood_first_4"].to_list() == pytest.approx(expected, **CLOSE)


def test_least_likely_targets(model, rows, of_target):
    found = score_checkpoint(model, rows, outcomes=["min_20"])

    expected = [np.sort(row)[:3].mean() for row in of_target.numpy()]  # 20 % of 16 targets
    assert found["min_20"].to_list() == pytest.approx(expected, **CLOSE)


def test_least_likely_standardized_targets(model, rows, log_p, of_target):
    found = score_checkpoint(model, rows, outcomes=["min_25++"])

    p = log_p.exp()
    mean = (p * log_p).sum(2)
    spread = ((p * log_p**2).sum(2) - mean**2).sqrt()
    z = ((of_target - mean) / spread).numpy()
    expected = [np.sort(row)[:4].mean() for row in z]
    assert found["min_25_standardized"].to_list() == pytest.approx(expected, abs=1e-3)


def test_log_likelihood_per_bit_of_zlib(model, rows, of_target):
    def decode(ids):
        return "".join(chr(97 + i % 26) for i in ids)

    found = score_checkpoint(model, rows, outcomes=["zlib"], decode=decode)

    bits = [8 * len(zlib.compress(decode(row.tolist()).encode())) for row in rows]
    expected = of_target.sum(dim=1).numpy() / np.array(bits)
    assert found["log_likelihood_per_zlib_bit"].to_list() == pytest.approx(expected, **CLOSE)


def test_greedy_continuation_is_the_loop_without_a_cache(model):
    prompt = torch.tensor([[1, 2, 3], [9, 8, 7]])

    found = greedy_continuation(model, prompt, 5)

    ids = prompt
    for _ in range(5):
        ids = torch.cat([ids, model(ids).logits[:, -1].argmax(1, keepdim=True)], dim=1)
    assert torch.equal(found, ids[:, 3:])


def test_extraction_counts_matching_tokens_and_whole_matches(model):
    prompt = torch.tensor([[1, 2, 3, 4], [9, 8, 7, 6]])
    continued = torch.cat([prompt, greedy_continuation(model, prompt, 4)], dim=1)
    rows = torch.cat([continued, torch.zeros(2, 1, dtype=torch.long)], dim=1).numpy()
    rows[1, 7] = (rows[1, 7] + 1) % 120

    found = score_checkpoint(model, rows, outcomes=["extraction_4"])

    assert found["extraction_4_share"].to_list() == [1.0, 0.75]
    assert found["extraction_4_full"].to_list() == [1.0, 0.0]


def test_a_memorized_row_that_is_greedy_throughout_is_extracted(model):
    prompt = torch.tensor([[5, 6, 7, 8]])
    row = torch.cat([prompt, greedy_continuation(model, prompt, 12)], dim=1).numpy()

    found = score_checkpoint(model, row, outcomes=["extraction_8", "first_8"])

    assert found["extraction_8_full"].item() == 1.0
    assert found["accuracy"].item() >= 12 / 15


def test_base_columns_come_first_and_once():
    names = [one.name for one in outcomes_of(["min_20", "base", "min_20"])]

    assert names == ["base", "min_20"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("min20", "no outcome 'min20'; did you mean 'min_20'"),
        ("zlb", "did you mean 'zlib'"),
        ("min_0", "expected a percentage from 1 to 100"),
        ("first_0", "expected at least one target"),
    ],
)
def test_a_typo_is_answered(name, message):
    with pytest.raises(NotFoundError, match=message):
        outcome(name)


def test_rows_too_short_for_an_outcome_and_text_without_a_tokenizer_are_refused(model, rows):
    with pytest.raises(ScoringError, match="rows have 17 tokens; outcome 'extraction_32' needs"):
        score_checkpoint(model, rows, outcomes=["extraction_32"])
    with pytest.raises(ProfileError, match="outcome 'zlib' needs the suite's tokenizer"):
        score_checkpoint(model, rows, outcomes=["zlib"])
