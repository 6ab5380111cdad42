"""Layers, noise and heads: each measure against what is computed by another way."""

import numpy as np
import pytest
import torch
from transformers import (
    AutoModelForCausalLM,
    GPT2Config,
    GPTBigCodeConfig,
    GPTNeoXConfig,
    LlamaConfig,
    Olmo2Config,
)

from pythia_profile.labs.internals.internals_measures import (
    directions,
    head_drops,
    lens,
    recalled,
    recovery,
    true_log_probability,
)
from pythia_profile.labs.internals.internals_translators import train_translators
from pythia_profile.training.hooks import parts_of

NEW = {
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
OLD = {"vocab_size": 30, "n_embd": 16, "n_layer": 2, "n_head": 4, "n_positions": 16}
OLD |= {"bos_token_id": 0, "eos_token_id": 0}
CONFIGS = {
    "neox": GPTNeoXConfig(**NEW),
    "llama": LlamaConfig(**NEW, num_key_value_heads=2),
    "olmo2": Olmo2Config(**NEW),
    "gpt2": GPT2Config(**OLD),
    "bigcode": GPTBigCodeConfig(**OLD),
}
ROWS = np.random.default_rng(0).integers(1, 30, (300, 12))
PROMPT = 7


def made(name="neox"):
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(CONFIGS[name])
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model.train(False)


@pytest.fixture(params=CONFIGS)
def model(request):
    return made(request.param)


def test_greedy_continuations_are_those_of_generate(model):
    rows = torch.from_numpy(ROWS[:20])
    model.generation_config.eos_token_id = None  # which generate would end at, or suppress
    said = model.generate(rows[:, :PROMPT], max_new_tokens=5, do_sample=False, pad_token_id=0)
    own = ROWS[:20].copy()
    own[::2] = said.numpy()[::2]  # of half of the rows the greedy continuation is the row's own

    found = recalled(model, own, PROMPT)
    assert np.array_equal(found, (said.numpy() == own)[:, PROMPT:])
    assert found[::2].all()


def test_the_lens_of_the_last_layer_is_the_models_probability(model):
    found = lens(model, ROWS, PROMPT)

    ids = torch.from_numpy(ROWS)
    with torch.no_grad():
        given = model(input_ids=ids[:, :-1]).logits[:, PROMPT - 1 :].double().softmax(-1)
    expected = given.gather(-1, ids[:, PROMPT:, None])[..., 0]
    assert found.shape == (300, 3)  # more rows than a batch
    # float32 softmax against float64
    np.testing.assert_allclose(found[:, -1], expected.mean(1), rtol=1e-4)
    nats = true_log_probability(model, ROWS, PROMPT)
    np.testing.assert_allclose(nats, expected.log().mean(1), rtol=1e-4)


def test_recovery_of_the_embedding_is_the_closed_form_and_no_noise_is_no_change():
    model, noise = made(), directions(2, 12, 16, seed=1)
    strengths = (0.0, 0.3, 1.0)

    found = recovery(model, ROWS, noise, strengths)

    x = model.gpt_neox.embed_in(torch.from_numpy(ROWS)).detach().double().numpy()
    along = np.einsum("ntw,dtw->dnt", x, noise.double()) / np.linalg.norm(x, axis=-1)
    assert found.shape == (300, 3, 3)
    np.testing.assert_allclose(found[:, 0], 1, atol=1e-6)
    for index, a in enumerate(strengths):
        # cos of x and x + a|x|u, where u has the cosine `along` with x
        by_hand = ((1 + a * along) / np.sqrt(1 + 2 * a * along + a**2)).mean(axis=(0, 2))
        np.testing.assert_allclose(found[:, index, 0], by_hand, atol=1e-6)
    assert (found[:, 2] < found[:, 1]).mean() > 0.95


def test_noise_does_not_depend_on_the_batch():
    model, noise = made(), directions(1, 12, 16, seed=1)

    whole = recovery(model, ROWS, noise, (0.3,))
    # matrix products of other sizes differ in the last bits
    np.testing.assert_allclose(recovery(model, ROWS[5:6], noise, (0.3,))[0], whole[5], atol=1e-5)


def test_a_head_that_the_projection_does_not_read_matters_nothing_and_an_only_one_matters():
    """Planted: layer 1 reads head 2 alone, layer 0 nothing; the others' mean is then no help."""
    model = made()
    with torch.no_grad():
        first, second = parts_of(model).projections
        first.weight.zero_()
        second.weight[:, :8] = 0
        second.weight[:, 12:] = 0
        second.weight *= 3
    own = ROWS[:40].copy()
    ids = torch.from_numpy(own[:, :PROMPT])
    for _ in range(5):
        ids = torch.cat([ids, model(input_ids=ids).logits[:, -1:].argmax(-1)], dim=1)

    match, nats = head_drops(model, ids.numpy(), PROMPT)

    assert match.shape == nats.shape == (40, 2, 4)
    read = np.zeros((2, 4), bool)
    read[1, 2] = True
    assert (match[:, ~read] == 0).all()
    assert (nats[:, ~read] == 0).all()
    assert match[:, read].mean() > 0.2


def test_a_tuned_lens_finds_a_planted_shift_and_leaves_the_model_as_it_was():
    """Blocks that add one constant: h_L = h_0 + c, which an affine map says exactly."""
    model = made()
    with torch.no_grad():
        for block in parts_of(model).blocks:
            for name, value in block.named_parameters():
                if "layernorm" not in name:
                    value.zero_()
            block.attention.dense.bias += 1.5 * torch.randn(16)
    before = {name: value.clone() for name, value in model.state_dict().items()}

    made_lens = train_translators(model, ROWS[:200], steps=300, seed=0)

    plain, tuned = (lens(model, ROWS[200:], PROMPT, one) for one in (None, made_lens))
    true = plain[:, -1:]
    assert np.array_equal(plain[:, -1], tuned[:, -1])
    # what is left of the error after 300 updates of Adam
    assert (np.abs(tuned - true).mean(0)[:2] < 0.2 * np.abs(plain - true).mean(0)[:2]).all()
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    assert all(parameter.requires_grad for parameter in model.parameters())
