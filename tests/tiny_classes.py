"""A tiny model with random weights of every class that published suites have."""

import torch
from transformers import (
    AutoModelForCausalLM,
    GPTBigCodeConfig,
    GPTNeoXConfig,
    LlamaConfig,
    Olmo2Config,
    Olmo3Config,
    OlmoConfig,
)

SHAPE = {
    "vocab_size": 50,
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
    "max_position_embeddings": 16,
    "pad_token_id": 0,
    "eos_token_id": 1,
}
CONFIGS = {
    "gpt_neox": GPTNeoXConfig(**SHAPE),  # Pythia
    # StarCoder: learned positions, one key for all heads, embeddings tied to the head
    "gpt_bigcode": GPTBigCodeConfig(
        vocab_size=50, n_embd=16, n_inner=32, n_layer=4, n_head=2, n_positions=16
    ),
    "llama": LlamaConfig(**SHAPE, num_key_value_heads=1),  # OpenLLaMA, Hubble, Amber
    "olmo": OlmoConfig(**SHAPE),
    "olmo2": Olmo2Config(**SHAPE),
    # three layers of four see four tokens back only
    "olmo3": Olmo3Config(**SHAPE, sliding_window=4),
}


def tiny_of_class(name, seed=0):
    """A model whose norms and biases are not 1 and 0, so that it shows whether they are loaded."""
    torch.manual_seed(seed)
    model = AutoModelForCausalLM.from_config(CONFIGS[name]).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.3 * torch.randn_like(parameter))
    return model
