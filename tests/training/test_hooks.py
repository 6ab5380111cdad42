"""Interventions act inside their block, as stated, and are undone after it, by errors too."""

import pytest
import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM, LlamaConfig, LlamaForCausalLM

from pythia_profile.training.hooks import (
    LowRank,
    blocks,
    changed_input,
    changed_output,
    recorded_outputs,
    without_head,
)

SHAPE = {
    "vocab_size": 30,
    "hidden_size": 16,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "intermediate_size": 32,
    "max_position_embeddings": 16,
}
IDS = torch.arange(10)[None] % 30


@pytest.fixture(params=["neox", "llama"])
def model(request):
    torch.manual_seed(0)
    if request.param == "neox":
        return GPTNeoXForCausalLM(GPTNeoXConfig(**SHAPE)).train(False)
    return LlamaForCausalLM(LlamaConfig(**SHAPE)).train(False)


@torch.no_grad()
def logits(model):
    return model(input_ids=IDS).logits


def test_recorded_outputs_are_the_residual_stream(model):
    with recorded_outputs(blocks(model)) as found:
        clean = logits(model)

    expected = model(input_ids=IDS, output_hidden_states=True).hidden_states
    assert len(found) == 3
    assert all(torch.equal(found[i], expected[i + 1]) for i in range(2))
    assert torch.equal(logits(model), clean)
    assert len(found) == 3


def test_a_perturbed_residual_reaches_the_logits_and_is_undone(model):
    clean = logits(model)

    with changed_output(blocks(model)[0], lambda x: x + 1.0 * torch.ones_like(x).cumsum(-1)):
        moved = logits(model)

    assert not torch.allclose(moved, clean, atol=1e-3)
    assert torch.equal(logits(model), clean)


def test_an_error_inside_the_block_leaves_no_hook(model):
    clean = logits(model)

    with pytest.raises(RuntimeError), changed_input(model.get_output_embeddings(), lambda x: 2 * x):
        raise RuntimeError

    assert torch.equal(logits(model), clean)


def test_steering_adds_the_low_rank_map_of_the_state_to_the_embeddings(model):
    head, steer = model.get_output_embeddings(), LowRank(16, 4, seed=1, sd=0.5)
    with recorded_outputs([model.base_model.get_submodule(norm_name(model))]) as states:
        clean = logits(model)

    with changed_input(head, lambda c: c + 0.5 * steer(c)):
        steered = logits(model)
    with changed_input(head, lambda c: c + 0.0 * steer(c)):
        nothing = logits(model)

    matrix = steer.down @ steer.up
    expected = states[0] @ head.weight.T + 0.5 * states[0] @ matrix @ head.weight.T
    # float32 sums of 16 products
    assert torch.allclose(steered, expected, atol=1e-5)
    assert torch.equal(nothing, clean)


def test_a_head_is_replaced_by_the_mean_of_the_others():
    torch.manual_seed(0)
    projection = torch.nn.Linear(8, 8)
    states = torch.randn(2, 3, 8)

    with without_head(projection, head=1, heads=4):
        found = projection(states)

    heads = states.reshape(2, 3, 4, 2).clone()
    heads[:, :, 1] = heads[:, :, [0, 2, 3]].mean(dim=2)
    assert torch.allclose(found, projection(heads.reshape(2, 3, 8)), atol=1e-6)


def norm_name(model):
    return "final_layer_norm" if hasattr(model.base_model, "final_layer_norm") else "norm"
