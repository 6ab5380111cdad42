"""Tiny GPT-NeoX checkpoints with random weights, saved as published ones are."""

from pathlib import Path

import pytest
import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM


def tiny_model(seed: int = 0, **changes) -> GPTNeoXForCausalLM:
    torch.manual_seed(seed)
    shape = {
        "vocab_size": 50,
        "hidden_size": 16,
        "num_hidden_layers": 2,
        "num_attention_heads": 2,
        "intermediate_size": 32,
        "max_position_embeddings": 8,
    }
    return GPTNeoXForCausalLM(GPTNeoXConfig(**{**shape, **changes})).eval()


@pytest.fixture
def saved(tmp_path):
    """Save a tiny model: a factory of folders."""

    def save(name: str = "checkpoint", seed: int = 0, shard: str = "5GB", **changes) -> Path:
        folder = tmp_path / name
        tiny_model(seed, **changes).save_pretrained(folder, max_shard_size=shard)
        return folder

    return save
