"""Interventions act inside their block, as stated, and are undone after it, by errors too."""

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPTBigCodeConfig,
    GPTNeoXConfig,
    LlamaConfig,
    MambaConfig,
    Olmo2Config,
    Olmo3Config,
    OlmoConfig,
)

from pythia_profile.training.hooks import (
    InterventionError,
    LowRank,
    ablate_heads,
    changed_input,
    parts_of,
    perturb,
    residuals,
)

SHAPE = {
    "vocab_size": 30,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "intermediate_size": 32,
    "max_position_embeddings": 16,
    "pad_token_id": 0,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
OLD = {
    "vocab_size": 30,
    "n_embd": 16,
    "n_layer": 2,
    "n_head": 4,
    "n_positions": 16,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
CONFIGS = {
    "neox": GPTNeoXConfig(**SHAPE),
    "llama": LlamaConfig(**SHAPE, num_key_value_heads=2),
    "olmo": OlmoConfig(**SHAPE),
    "olmo2": Olmo2Config(**SHAPE),
    "olmo3": Olmo3Config(**SHAPE, sliding_window=4),
    "gpt2": GPT2Config(**OLD),  # learned positions, tied weights
    "bigcode": GPTBigCodeConfig(**OLD),  # one key for all heads
}
IDS = torch.arange(10)[None] % 30
# float32 sums of at most 32 products of order 1, in another order
CLOSE = 1e-5


def made(name, attention="sdpa"):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CONFIGS[name], attn_implementation=attention)
    with torch.no_grad():  # weights of .02 would make every head alike
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model.train(False)


@pytest.fixture(params=CONFIGS)
def model(request):
    return made(request.param)


@torch.no_grad()
def logits(model):
    return model(input_ids=IDS, use_cache=False).logits


def directions(width=16):
    drawn = torch.randn(10, width, generator=torch.Generator().manual_seed(1))
    return drawn / drawn.norm(dim=-1, keepdim=True)


def test_residuals_are_what_the_blocks_and_the_final_norm_are_given(model):
    with residuals(model) as found:
        clean = logits(model)

    with torch.no_grad():
        expected = model(input_ids=IDS, output_hidden_states=True).hidden_states
        parts = parts_of(model)
        last = parts.head(parts.norm(found[-1]))
    assert len(found) == 3
    assert all(torch.equal(found[i], expected[i]) for i in range(2))
    assert torch.equal(last, clean)
    assert torch.equal(logits(model), clean)
    assert len(found) == 3


def test_what_is_switched_off_is_the_identity_bit_for_bit(model):
    clean = logits(model)

    with perturb(model, directions(), 0.0), ablate_heads(model, 1, []), residuals(model):
        off = logits(model)

    assert torch.equal(off, clean)


@pytest.mark.parametrize("kind", ["perturb", "ablate", "record", "change"])
def test_an_error_inside_the_block_undoes_it(model, kind):
    clean = logits(model)
    block = {
        "perturb": lambda: perturb(model, directions(), 0.5),
        "ablate": lambda: ablate_heads(model, 0, [1, 2]),
        "record": lambda: residuals(model),
        "change": lambda: changed_input(parts_of(model).head, lambda x: 2 * x),
    }[kind]

    def fail():
        with block() as found:
            assert kind == "record" or not torch.allclose(logits(model), clean, atol=1e-3)
            raise RuntimeError(len(found or ()))

    with pytest.raises(RuntimeError, match="0"):
        fail()

    assert torch.equal(logits(model), clean)
    assert not any(module._forward_pre_hooks for module in model.modules())


def test_a_perturbation_has_the_stated_length_and_direction(model):
    with residuals(model) as clean:
        logits(model)
    with perturb(model, directions(), 0.3), residuals(model) as moved:
        logits(model)

    by_hand = clean[0] + 0.3 * (clean[0] ** 2).sum(-1, keepdim=True).sqrt() * directions()
    assert torch.allclose(moved[0], by_hand, atol=CLOSE)
    assert not torch.allclose(moved[-1], clean[-1], atol=1e-3)


def test_with_a_cache_each_position_has_its_own_direction(model):
    with torch.no_grad(), perturb(model, directions(), 0.3):
        whole = model(input_ids=IDS, use_cache=False).logits
        begun = model(input_ids=IDS[:, :7], use_cache=True)
        rest = model(input_ids=IDS[:, 7:], past_key_values=begun.past_key_values).logits

    # attention over kept keys sums in another order
    assert torch.allclose(rest, whole[:, 7:], atol=1e-4)


def test_ablated_heads_are_the_mean_of_the_layers_others(model):
    """By hand: the projection of heads of which one is replaced, all else as it was."""
    projection = parts_of(model).projections[0]
    given, ablated = [], []
    with changed_input(projection, lambda x: given.append(x) or x):
        logits(model)

    with ablate_heads(model, 0, [1]), changed_input(projection, lambda x: ablated.append(x) or x):
        logits(model)

    heads = given[0].reshape(1, 10, 4, 4).clone()
    heads[:, :, 1] = heads[:, :, [0, 2, 3]].mean(dim=2)
    assert torch.allclose(ablated[0], heads.reshape(1, 10, 16), atol=CLOSE)


def test_all_heads_of_a_layer_ablated_are_the_closed_form(model):
    """(S - h_i)/(H - 1) of every head is a matrix on the heads: it may as well stand in W_O."""
    with ablate_heads(model, 1, range(4)):
        ablated = logits(model)

    mixing = (torch.ones(4, 4) - torch.eye(4)) / 3
    across = torch.kron(mixing, torch.eye(4))
    projection = parts_of(model).projections[1]
    rows = isinstance(projection, torch.nn.Linear)
    with torch.no_grad():
        weight = projection.weight
        weight.copy_(weight @ across if rows else across @ weight)
    # the sums of the heads are formed in another order, and pass a norm
    assert torch.allclose(ablated, logits(model), atol=1e-4)


@pytest.mark.parametrize("name", ["neox", "llama", "gpt2", "bigcode"])
def test_attention_that_returns_no_heads_is_ablated_like_eager(name):
    found = {}
    for attention in ("eager", "sdpa"):
        model = made(name, attention)
        with ablate_heads(model, 0, [2]):
            found[attention] = logits(model)

    # the two implementations differ in their last bits
    assert torch.allclose(found["eager"], found["sdpa"], atol=1e-4)


def by_hand(model, moved=0.0, replaced=None):
    """GPT-2 of two layers in float64; the stream moved, one head of layer 0 replaced."""
    at = {name: value.double().numpy() for name, value in model.state_dict().items()}

    def norm(x, name):
        centered = x - x.mean(-1, keepdims=True)
        scaled = centered / np.sqrt(centered.var(-1, keepdims=True) + 1e-5)
        return scaled * at[f"{name}.weight"] + at[f"{name}.bias"]

    def affine(x, name):
        return x @ at[f"{name}.weight"] + at[f"{name}.bias"]

    x = at["transformer.wte.weight"][IDS[0].numpy()] + at["transformer.wpe.weight"][:10]
    x = x + moved * np.linalg.norm(x, axis=-1, keepdims=True) * directions().double().numpy()
    for layer in range(2):
        name = f"transformer.h.{layer}"
        query, key, value = (
            part.reshape(10, 4, 4).transpose(1, 0, 2)
            for part in np.split(affine(norm(x, f"{name}.ln_1"), f"{name}.attn.c_attn"), 3, -1)
        )
        weight = np.where(np.tri(10) > 0, query @ key.transpose(0, 2, 1) / 2, -np.inf)
        weight = np.exp(weight - weight.max(-1, keepdims=True))
        heads = weight / weight.sum(-1, keepdims=True) @ value
        if layer == 0 and replaced is not None:
            heads[replaced] = np.delete(heads, replaced, axis=0).mean(axis=0)
        x = x + affine(heads.transpose(1, 0, 2).reshape(10, 16), f"{name}.attn.c_proj")
        inner = affine(norm(x, f"{name}.ln_2"), f"{name}.mlp.c_fc")
        gelu = inner / 2 * (1 + np.tanh(np.sqrt(2 / np.pi) * (inner + 0.044715 * inner**3)))
        x = x + affine(gelu, f"{name}.mlp.c_proj")
    return norm(x, "transformer.ln_f") @ at["transformer.wte.weight"].T


def test_a_model_of_two_layers_is_as_computed_by_hand():
    model = made("gpt2")
    with perturb(model, directions(), 0.3), ablate_heads(model, 0, [2]):
        found = logits(model)[0].numpy()

    # float32 against float64, two layers of sums of at most 64 products
    np.testing.assert_allclose(found, by_hand(model, 0.3, 2), atol=1e-4)
    assert np.abs(found - by_hand(model)).max() > 0.1


def test_steering_adds_the_low_rank_map_of_the_state_to_the_embeddings(model):
    parts, steer = parts_of(model), LowRank(16, 4, seed=1, sd=0.5)
    states = []
    with changed_input(parts.head, lambda c: states.append(c) or c):
        clean = logits(model)

    with changed_input(parts.head, lambda c: c + 0.5 * steer(c)):
        steered = logits(model)
    with changed_input(parts.head, lambda c: c + 0.0 * steer(c)):
        nothing = logits(model)

    matrix, weight = steer.down @ steer.up, parts.head.weight
    expected = states[0] @ weight.T + 0.5 * states[0] @ matrix @ weight.T
    assert torch.allclose(steered, expected, atol=1e-4)
    assert torch.equal(nothing, clean)


def test_what_cannot_be_done_is_one_line():
    model = made("neox")
    with pytest.raises(InterventionError, match=r"heads \[4\] of layer 0, expected layers 0 to 1"):
        ablate_heads(model, 0, [4]).__enter__()
    alone = AutoModelForCausalLM.from_config(GPTNeoXConfig(**{**SHAPE, "num_attention_heads": 1}))
    with pytest.raises(InterventionError, match="one head has no others"):
        ablate_heads(alone, 0, [0]).__enter__()
    short = pytest.raises(InterventionError, match=r"got \(5, 16\), expected 10 positions or more")
    with short, perturb(model, directions()[:5], 0.1):
        logits(model)
    mamba = AutoModelForCausalLM.from_config(
        MambaConfig(vocab_size=30, hidden_size=16, num_hidden_layers=1)
    )
    with pytest.raises(InterventionError, match=r"no part named attention\.dense or .* MambaBlock"):
        parts_of(mamba)
