"""A steer adds exactly cᵀ W e to the logits of any class; at strength 0 nothing at all."""

import gc

import numpy as np
import pytest
import torch
from transformers import GPTNeoXConfig, GPTNeoXModel, LogitsProcessorList

from pythia_profile.labs.steer.steer_map import Steer, output_head, read_steer, steered
from pythia_profile.labs.steer.steer_settings import Generation, SteerError
from pythia_profile.labs.steer.steer_sweep import continued
from pythia_profile.training.hooks import LowRank

IDS = torch.arange(1, 11)[None].repeat(3, 1) + torch.arange(3)[:, None]


def random_steer(width=16, rank=3, seed=1):
    drawn = LowRank(width, rank, seed=seed, sd=0.5)
    return Steer(drawn.down.detach(), drawn.up.detach(), torch.ones(width), {"part": "test"})


@torch.no_grad()
def logits(model, ids=IDS):
    return model(input_ids=ids).logits


@torch.no_grad()
def by_hand(model, steer, value, ids=IDS):
    """Logits by the definition, with the whole matrix and in double precision."""
    states = model.base_model(input_ids=ids).last_hidden_state.double()
    embeddings = model.get_output_embeddings().weight.double()
    return states @ (torch.eye(16) + value * steer.matrix.double()) @ embeddings.T


def test_logits_are_those_of_the_definition(model):
    steer = random_steer()
    for value in (-2.0, 0.7):
        with steered(model, steer, value):
            found = logits(model)
        # float32 sums of 16 products of numbers up to some units
        torch.testing.assert_close(found.double(), by_hand(model, steer, value), atol=1e-4, rtol=0)


def test_strength_0_gives_the_models_own_logits_bit_for_bit(model):
    clean, steer = logits(model), random_steer()

    with steered(model, steer, 0.0):
        assert torch.equal(logits(model), clean)
    with steered(model, steer, 1.0):
        assert not torch.equal(logits(model), clean)
    assert torch.equal(logits(model), clean)
    scores = clean[:, -1].clone()
    assert torch.equal(steer.processor(model, 0.0)(IDS, scores), clean[:, -1])


def test_each_row_of_a_batch_can_have_its_own_strength(model):
    steer, values = random_steer(), torch.tensor([-1.0, 0.0, 2.0])
    with steered(model, steer, values):
        together = logits(model)

    for row, value in enumerate(values.tolist()):
        with steered(model, steer, value):
            alone = logits(model, IDS[row : row + 1])
        torch.testing.assert_close(together[row : row + 1], alone, atol=1e-5, rtol=0)


def test_steers_add_up_and_take_factors():
    one, two = random_steer(seed=1), random_steer(rank=2, seed=2)
    both = 2.0 * one - two

    torch.testing.assert_close(both.matrix, 2 * one.matrix - two.matrix)
    with pytest.raises(SteerError, match="steers of widths 16 and 8 cannot be added"):
        one + random_steer(width=8)


def test_generation_through_the_processor_is_generation_with_the_steered_model(model):
    """The states that it hears are those of the scores, with a cache, and in transformers' loop."""
    steer, settings = random_steer(), {"max_new_tokens": 8, "do_sample": False, "pad_token_id": 39}
    processor = LogitsProcessorList([steer.processor(model, 3.0)])
    found = model.generate(IDS, logits_processor=processor, eos_token_id=None, **settings)
    del processor
    gc.collect()
    own = model.generate(IDS, eos_token_id=None, **settings)

    with steered(model, steer, 3.0):
        expected = model.generate(IDS, eos_token_id=None, **settings)
    assert torch.equal(found, expected)
    assert not torch.equal(found, own)
    assert not model.get_output_embeddings()._forward_pre_hooks
    greedy = Generation(tokens=8, greedy=True)
    ours = continued(model, IDS.numpy(), greedy, steer.processor(model, 3.0), batch_size=2)
    np.testing.assert_array_equal(ours, expected[:, IDS.shape[1] :])


def test_a_processor_refuses_scores_that_are_not_of_its_model(model):
    processor = random_steer().processor(model, 1.0)
    with pytest.raises(SteerError, match="scores of 2 rows, but 0 went through"):
        processor(IDS[:2], torch.zeros(2, 40))


def test_a_file_gives_the_same_steer_and_its_facts(tmp_path):
    steer = random_steer()
    found = read_steer(steer.save(tmp_path / "a.safetensors"))

    assert torch.equal(found.down, steer.down)
    assert torch.equal(found.up, steer.up)
    assert torch.equal(found.state, steer.state)
    assert found.facts == {"part": "test"}


def test_a_file_that_holds_no_steer_is_named(tmp_path):
    (tmp_path / "text").write_text("no tensors")
    with pytest.raises(SteerError, match="text: no safetensors file"):
        read_steer(tmp_path / "text")
    with pytest.raises(SteerError, match="no such file, expected a steer"):
        read_steer(tmp_path / "none")


def test_models_without_an_output_matrix_and_of_another_width_are_refused(model):
    bare = GPTNeoXModel(GPTNeoXConfig(hidden_size=16, num_attention_heads=2, num_hidden_layers=1))
    with pytest.raises(SteerError, match="GPTNeoXModel has no output matrix"):
        output_head(bare)
    with (
        pytest.raises(SteerError, match=r"the steer has width 8, .* 16; `lab steer transfer`"),
        steered(model, random_steer(width=8)),
    ):
        pass
