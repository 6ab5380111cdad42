"""A tiny GPT-NeoX with random weights and large logits; three tiny checkpoints and their rows."""

from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from pythia_profile.tables import ROWS


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


@pytest.fixture(scope="session")
def checkpoints(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoints")
    for step in range(3):
        torch.manual_seed(step)
        config = GPTNeoXConfig(
            vocab_size=50,
            hidden_size=8,
            num_hidden_layers=1,
            num_attention_heads=2,
            intermediate_size=16,
            max_position_embeddings=16,
        )
        GPTNeoXForCausalLM(config).save_pretrained(folder / f"step{step}")
    return folder


@pytest.fixture
def rows() -> pl.DataFrame:
    tokens = np.random.default_rng(1).integers(0, 50, (30, 9))
    return pl.DataFrame(
        {
            "row_id": np.arange(30),
            "treatment_step": np.arange(30) + 1,
            "batch": np.arange(30),
            "tokens": tokens.tolist(),
            "earlier_exposure": 0.0,
        },
        schema_overrides=ROWS.columns,
    )
