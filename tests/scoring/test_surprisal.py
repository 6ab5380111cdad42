"""Token statistics against float64, one token at a time, by the definitions."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pythia_profile.errors import ProfileError
from pythia_profile.scoring import TokenStatistics, token_statistics
from pythia_profile.scoring.reductions import compiled_reduction, plain_reduction

# float32 logits of size about 10 carry errors near 1e-6; sums over the vocabulary add a few of them
SURPRISAL = 1e-5
ENTROPY = 1e-4


def by_definition(hidden, head, targets):
    """Surprisal, entropy, rank and margin of each token in float64, straight from the text."""
    logits = hidden.double() @ head.double().T
    p = torch.softmax(logits, dim=1)
    lines = []
    for row, q, target in zip(logits, p, targets, strict=True):
        others = torch.cat([row[:target], row[target + 1 :]])
        lines.append(
            (
                torch.nn.functional.cross_entropy(row[None], target[None]).item(),
                -(q * q.clamp_min(1e-300).log()).sum().item(),
                int((row > row[target]).sum()),
                (row[target] - others.max()).item(),
            )
        )
    return [torch.tensor(column, dtype=torch.float64) for column in zip(*lines, strict=True)]


def assert_matches(found: TokenStatistics, expected):
    surprisal, entropy, rank, margin = expected
    assert (found.surprisal.double() - surprisal).abs().max() < SURPRISAL * (1 + surprisal.max())
    assert (found.entropy.double() - entropy).abs().max() < ENTROPY
    clear = margin.abs() > 1e-4
    assert torch.equal((found.rank == 0)[clear], (rank == 0)[clear])
    assert (found.margin.double() - margin).abs().max() < SURPRISAL * (1 + margin.abs().max())


def problem(seed, tokens, width, vocabulary, scale):
    torch.manual_seed(seed)
    hidden = torch.randn(tokens, width)
    head = scale * torch.randn(vocabulary, width) / width**0.5
    return hidden, head, torch.randint(0, vocabulary, (tokens,))


@settings(deadline=None, max_examples=60)
@given(
    seed=st.integers(0, 10_000),
    tokens=st.integers(1, 40),
    vocabulary=st.integers(2, 300),
    scale=st.sampled_from([0.1, 3.0, 30.0]),
    chunk=st.sampled_from([None, 1, 7, 1000]),
)
def test_statistics_equal_their_definitions_in_float64(seed, tokens, vocabulary, scale, chunk):
    hidden, head, targets = problem(seed, tokens, 16, vocabulary, scale)

    found = token_statistics(hidden, head, targets, chunk=chunk)

    expected = by_definition(hidden, head, targets)
    assert_matches(found, expected)
    assert (found.rank - expected[2]).abs().max() == 0


def test_chunks_change_nothing_beyond_rounding():
    hidden, head, targets = problem(0, 64, 32, 500, 3.0)

    whole = token_statistics(hidden, head, targets, chunk=64)
    parts = token_statistics(hidden, head, targets, chunk=5)

    assert (whole.surprisal - parts.surprisal).abs().max() < SURPRISAL
    assert (whole.entropy - parts.entropy).abs().max() < ENTROPY
    assert torch.equal(whole.rank, parts.rank)


def test_bfloat16_states_give_float32_statistics():
    hidden, head, targets = problem(1, 20, 64, 200, 3.0)
    low = hidden.bfloat16(), head.bfloat16()

    found = token_statistics(*low, targets)

    assert {found.surprisal.dtype, found.entropy.dtype, found.margin.dtype} == {torch.float32}
    exact = by_definition(low[0].float(), low[1].float(), targets)
    assert (found.surprisal.double() - exact[0]).abs().max() < SURPRISAL * (1 + exact[0].max())


def test_ties_rank_the_target_above_its_equals():
    hidden = torch.ones(1, 1)
    head = torch.tensor([[1.0], [2.0], [2.0], [3.0]])

    found = token_statistics(hidden, head, torch.tensor([2]))

    assert found.rank.tolist() == [1]
    assert found.margin.tolist() == [-1.0]


def test_a_certain_prediction_has_no_surprisal_and_no_entropy():
    head = torch.tensor([[200.0], [0.0], [-200.0]])

    found = token_statistics(torch.ones(2, 1), head, torch.tensor([0, 2]))

    assert found.surprisal.tolist() == [0.0, 400.0]
    assert found.entropy.tolist() == pytest.approx([0.0, 0.0], abs=1e-6)
    assert found.rank.tolist() == [0, 2]


@pytest.mark.parametrize("poison", [float("nan"), float("inf")])
def test_nothing_is_averaged_over_nan_or_infinity(poison):
    hidden, head, targets = problem(2, 4, 8, 30, 1.0)
    hidden[2, 3] = poison

    found = token_statistics(hidden, head, targets)

    assert torch.isfinite(found.surprisal).tolist() == [True, True, False, True]


def test_no_tokens_give_no_statistics():
    found = token_statistics(torch.ones(0, 4), torch.ones(9, 4), torch.zeros(0, dtype=torch.long))

    assert found.surprisal.shape == found.rank.shape == (0,)


@pytest.mark.parametrize("target", [-1, 30])
def test_a_target_outside_the_vocabulary_is_named(target):
    hidden, head, targets = problem(2, 4, 8, 30, 1.0)
    targets[1] = target

    with pytest.raises(ProfileError, match=f"token id {target} at position 1 .*vocabulary of 30"):
        token_statistics(hidden, head, targets)


def test_compiled_and_plain_reductions_agree():
    """One compiled pass, or torch's own operations: the same up to rounding, also in two parts."""
    fused = compiled_reduction()
    if fused is None:  # no compiler on this machine: then `always` must fall back to the plain way
        hidden, head, targets = problem(0, 30, 16, 400, 3.0)
        assert torch.equal(
            token_statistics(hidden, head, targets, compile="always").rank,
            token_statistics(hidden, head, targets, compile="never").rank,
        )
        return
    torch.manual_seed(0)
    logits, targets = 5 * torch.randn(16, 300), torch.randint(0, 300, (16,))
    rounded = logits.bfloat16()
    lost = (logits - rounded.float()).bfloat16()
    for parts in ((logits,), (rounded, lost)):
        plain = plain_reduction(tuple(part.clone() for part in parts), targets)
        for ours, theirs in zip(fused(parts, targets), plain, strict=True):
            assert (ours.double() - theirs.double()).abs().max() < SURPRISAL * 20


def test_without_a_compiler_the_plain_way_is_taken(monkeypatch):
    monkeypatch.setattr("pythia_profile.scoring.surprisal.compiled_reduction", lambda: None)
    hidden, head, targets = problem(0, 12, 16, 50, 3.0)

    found = token_statistics(hidden, head, targets, compile="always")

    assert_matches(found, by_definition(hidden, head, targets))


def test_varentropy_is_the_variance_of_the_log_probability():
    hidden, head, targets = problem(6, 25, 16, 80, 3.0)
    log_p = torch.log_softmax(hidden.double() @ head.double().T, dim=1)
    p = log_p.exp()
    expected = (p * log_p**2).sum(1) - (p * log_p).sum(1) ** 2

    found = token_statistics(hidden, head, targets)

    assert (found.varentropy.double() - expected).abs().max() < 1e-3


@pytest.mark.parametrize(
    ("hidden", "head", "targets", "message"),
    [
        ((5, 4), (7, 4), torch.zeros(3, dtype=torch.int64), r"hidden \(5, 4\).*targets \(3,\)"),
        ((5, 4), (7, 3), torch.zeros(5, dtype=torch.int64), r"head \(7, 3\)"),
        ((5, 4), (7, 4), torch.zeros(5), "expected integers"),
        ((5, 4), (7, 4), torch.zeros((5, 1), dtype=torch.int64), "expected a tensor of 1 axes"),
        ((5, 4), (7, 4), np.zeros(5, int), "got ndarray"),
    ],
)
def test_shapes_that_do_not_belong_together_are_named(hidden, head, targets, message):
    with pytest.raises(ProfileError, match=message):
        token_statistics(torch.zeros(hidden), torch.zeros(head), targets)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32])
def test_targets_of_any_integer_type_are_the_same(dtype):
    generator = torch.Generator().manual_seed(1)
    hidden, head = torch.randn(5, 4, generator=generator), torch.randn(7, 4, generator=generator)
    targets = torch.tensor([0, 6, 3, 3, 1])

    found = token_statistics(hidden, head, targets.to(dtype))

    assert torch.equal(found.surprisal, token_statistics(hidden, head, targets).surprisal)
