"""A tiny GPT-NeoX with random weights, large enough logits to be interesting."""

import pytest
import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM


@pytest.fixture(scope="session")
def model() -> GPTNeoXForCausalLM:
    torch.manual_seed(3)
    config = GPTNeoXConfig(
        vocab_size=120,
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        max_position_embeddings=16,
    )
    built = GPTNeoXForCausalLM(config).eval()
    with torch.no_grad():
        built.lm_head.weight.mul_(20)
    return built
