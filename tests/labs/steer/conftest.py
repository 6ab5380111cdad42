"""Tiny models of three classes, and one of a language of two styles with its steer."""

import numpy as np
import pytest
import torch
from transformers import (
    GPT2Config,
    GPT2LMHeadModel,
    GPTNeoXConfig,
    GPTNeoXForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
)

from pythia_profile.labs.steer.steer_language import TwoStyles, two_styles
from pythia_profile.labs.steer.steer_settings import SteerSettings
from pythia_profile.labs.steer.steer_train import train_steer
from pythia_profile.training.loop import shuffled_batches, start, train

SHAPE = {
    "vocab_size": 40,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "max_position_embeddings": 24,
    "bos_token_id": 0,
    "eos_token_id": 0,
}
LANGUAGE = TwoStyles(rows=4096, planted=16, copies=1, steps=150)


def gpt_neox(**changes):
    return GPTNeoXForCausalLM(GPTNeoXConfig(**{**SHAPE, "intermediate_size": 32} | changes))


def build(kind):
    torch.manual_seed(0)
    if kind == "gpt_neox":
        model = gpt_neox()
    elif kind == "gpt2":
        model = GPT2LMHeadModel(GPT2Config(**SHAPE))
    else:
        model = LlamaForCausalLM(LlamaConfig(**SHAPE, intermediate_size=32))
    return model.train(False)


@pytest.fixture(params=["gpt_neox", "gpt2", "llama"])
def model(request):
    """Random weights; GPT-2's output matrix is its input matrix, too."""
    return build(request.param)


def speaker(width):
    """A model of the language, trained for a moment on rows that the tests do not use."""
    torch.manual_seed(width)
    shape = {"vocab_size": 64, "hidden_size": width, "num_attention_heads": 4}
    made = gpt_neox(**shape, intermediate_size=4 * width)
    rows = np.array(two_styles(LANGUAGE, LANGUAGE.rows, seed=0).texts)
    state = start(made, LANGUAGE.recipe)
    for _ in train(state, shuffled_batches(rows, LANGUAGE.recipe, seed=0), LANGUAGE.recipe):
        pass
    return made.train(False).requires_grad_(False)


@pytest.fixture(scope="session")
def small():
    return speaker(32)


@pytest.fixture(scope="session")
def large():
    return speaker(48)


@pytest.fixture(scope="session")
def trained(small):
    """A steer of the small model, trained on 512 labelled rows."""
    data = two_styles(LANGUAGE, 512, seed=5)
    return train_steer(small, data, SteerSettings(steps=150, scale=0.5)).steer


@pytest.fixture(scope="session")
def fresh():
    """Labelled rows that nothing was trained on."""
    return two_styles(LANGUAGE, 256, seed=6)
