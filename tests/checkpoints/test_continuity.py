"""Weights in their order: swaps, leaks and another run are found, clean runs are left alone.

The runs are real ones: GPT-NeoX of 21,000 parameters under AdamW and Pythia's schedule, a
checkpoint after every one of 144 updates, three seeds.
"""

from functools import cache

import numpy as np
import pytest
import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from pythia_profile.checkpoints.continuity import Sketch, continuity, odd_ones
from pythia_profile.suites.schedule import neox_v1

CHECKPOINTS = 144
SHAPE = {
    "vocab_size": 64,
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 64,
    "max_position_embeddings": 16,
}


@cache
def trained(seed: int, initial: int | None = None) -> np.ndarray:
    """(144, entries) every fifth weight after each update of a run on bigrams."""
    torch.manual_seed(seed if initial is None else initial)
    model = GPTNeoXForCausalLM(GPTNeoXConfig(**SHAPE))
    data = torch.Generator().manual_seed(seed)
    bigrams = torch.softmax(2 * torch.randn(64, 64, generator=torch.Generator().manual_seed(7)), 1)
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.0, betas=(0.9, 0.95))
    updates = np.arange(2, CHECKPOINTS + 2)  # the first has rate 0
    rates = neox_v1(updates, peak=3e-3, minimum=3e-4, warmup=2, total=CHECKPOINTS)
    found = []
    for rate in rates.tolist():
        row = torch.randint(0, 64, (8, 1), generator=data)
        for _ in range(5):
            following = torch.multinomial(bigrams[row[:, -1]], 1, generator=data)
            row = torch.cat([row, following], 1)
        model(input_ids=row, labels=row).loss.backward()
        optimizer.param_groups[0]["lr"] = rate
        optimizer.step()
        optimizer.zero_grad()
        weights = torch.cat([parameter.detach().flatten() for parameter in model.parameters()])
        found.append(weights[::5].numpy())
    return np.stack(found)


@pytest.fixture(scope="module")
def runs():
    torch.set_num_threads(1)
    return [trained(seed) for seed in range(3)]


def odd(weights) -> set[int]:
    return set(continuity((k, Sketch(one, 1.0)) for k, one in enumerate(weights)).odd)


@pytest.mark.slow
def test_clean_runs_have_no_fault(runs):
    assert [odd(weights) for weights in runs] == [set(), set(), set()]
    assert [odd(weights[::8]) for weights in runs] == [set(), set(), set()]


@pytest.mark.parametrize("apart", [1, 2, 3, 4, 16])
def test_swapped_checkpoints_are_both_found_and_no_other(runs, apart):
    for weights in runs:
        for first in range(0, CHECKPOINTS - apart, 12):
            pair = [first, first + apart]
            changed = weights.copy()
            changed[pair] = weights[pair[::-1]]

            assert odd(changed) == set(pair), (pair, sorted(odd(changed)))


@pytest.mark.parametrize("source", [5, 70, 140])
def test_a_checkpoint_with_weights_of_another_step_is_found_alone(runs, source):
    for weights in runs:
        for step in (20, 50, 100, 120):
            changed = weights.copy()
            changed[step] = weights[source] + np.float32(1e-6)

            assert odd(changed) == {step}
        changed = weights.copy()
        changed[1] = weights[source] + np.float32(1e-6)
        assert 1 in odd(changed)  # so near the beginning others may be called odd too


@pytest.mark.parametrize("begin", [10, 70, 100, 130])
@pytest.mark.parametrize("initial", [0, 5])
def test_a_run_that_goes_on_with_weights_of_another_is_found(runs, begin, initial):
    """The other run reads other data and begins from the same weights (initial 0), or others."""
    other = trained(9, initial)
    changed = np.concatenate([runs[0][:begin], other[begin:]])

    shorter = range(begin) if begin < CHECKPOINTS - begin else range(begin, CHECKPOINTS)
    assert odd(changed) == set(shorter)


def test_of_equal_checkpoints_the_one_that_fits_its_neighbors_is_right(runs):
    changed = runs[0].copy()
    changed[30] = changed[90]

    found = continuity((k, Sketch(one, 1.0)) for k, one in enumerate(changed))

    assert found.odd == {30: "the same weights as step 90"}
    assert found.fitting == {90}


def test_steps_between_which_no_update_had_a_rate_must_be_equal(runs):
    weights = np.concatenate([runs[0][:1], runs[0]])

    def found(points):
        sketches = ((k, Sketch(one, 1.0)) for k, one in enumerate(points))
        return continuity(sketches, same=lambda *pair: pair == (0, 1)).odd

    assert found(weights) == {}
    weights[0] = runs[1][0]
    assert found(weights) == {1: "differs from step 0, though every update between has rate 0"}


def drifting(steps, seed=0):
    """Sketches of a run whose weights drift, their embeddings growing."""
    rng = np.random.default_rng(seed)
    start = rng.normal(size=500)
    path = start + np.cumsum(rng.normal(0, 0.05, (len(steps), 500)), axis=0)
    return {
        step: Sketch(entries.astype(np.float32), 20 + 0.01 * place)
        for place, (step, entries) in enumerate(zip(steps, path, strict=True))
    }


def test_weights_that_drift_are_no_fault_and_another_steps_are():
    steps = range(0, 20_000, 1000)
    run_of_weights = drifting(steps)

    assert continuity(run_of_weights.items()).odd == {}

    leaked = {**run_of_weights}
    noise = np.random.default_rng(9).normal(0, 1e-6, 500).astype(np.float32)
    last = run_of_weights[19_000]
    leaked[5000] = Sketch(last.entries + noise, last.embedding_norm)
    found = continuity(leaked.items())
    assert set(found.odd) == {5000}
    assert "in opposite directions" in found.odd[5000]


def test_equal_values_in_other_files_are_found_from_the_weights():
    sketches = drifting((0, 1, 2, 4))
    sketches[1] = sketches[0]
    sketches[4] = sketches[2]

    found = continuity(sketches.items(), same=lambda *pair: pair == (0, 1))

    assert found.odd == {2: "the same weights as step 4", 4: "the same weights as step 2"}


def test_too_few_checkpoints_to_compare_are_no_fault():
    one = drifting((0,))

    assert continuity([]).distance == ()
    assert continuity(one.items()).odd == {}
    assert odd_ones([0, 1], [1.0, 9.0]) == {}
    assert odd_ones(list(range(6)), [float("nan")] * 6) == {}
