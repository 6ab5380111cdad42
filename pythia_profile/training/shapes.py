"""Shapes of small GPT-NeoX models, and such models with seeded weights.

The shape knows no torch, so that settings can name it; `tiny_model` imports it when it is called.
"""

from typing import TYPE_CHECKING, Self

from pydantic import Field, model_validator

from pythia_profile.settings import Settings

if TYPE_CHECKING:
    from transformers import GPTNeoXForCausalLM

__all__ = ["ModelShape", "tiny_model"]


class ModelShape(Settings):
    """Shape of one GPT-NeoX model; the inner width is four times the width.

    Examples
    --------
    >>> shape = ModelShape(width=32, layers=2)
    >>> shape.name, shape.parameters(vocabulary=64)
    ('32x2', 29568)
    """

    width: int = Field(ge=2, description="of the residual stream")
    layers: int = Field(1, ge=1, description="transformer blocks")
    heads: int = Field(2, ge=1, description="attention heads of a layer")

    @model_validator(mode="after")
    def _even_heads(self) -> Self:
        if self.width % (2 * self.heads):
            raise ValueError(
                f"width: got {self.width} with {self.heads} heads, expected a multiple of twice "
                "the heads"
            )
        return self

    @property
    def name(self) -> str:
        """What tables and figures call it."""
        return f"{self.width}x{self.layers}"

    def parameters(self, vocabulary: int) -> int:
        """Trained numbers, embeddings and output head included."""
        width, inner = self.width, 4 * self.width
        layer = 4 * width * width + 4 * width + 2 * width * inner + inner + width + 4 * width
        return 2 * vocabulary * width + self.layers * layer + 2 * width


def tiny_model(
    shape: ModelShape,
    vocabulary: int,
    tokens: int,
    *,
    seed: int,
    dtype: str = "float32",
    device: str = "cpu",
) -> "GPTNeoXForCausalLM":
    """Draw a model's weights from the seed and the shape; no update made.

    Parameters
    ----------
    vocabulary : entries of embedding and output head, which are not tied.
    tokens : positions that it reads at most.
    """
    import numpy as np
    import torch
    from torch import nn
    from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

    state = np.random.SeedSequence([seed, shape.width, shape.layers, shape.heads])
    torch.manual_seed(int(state.generate_state(1)[0]))
    model = GPTNeoXForCausalLM(
        GPTNeoXConfig(
            vocab_size=vocabulary,
            hidden_size=shape.width,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            intermediate_size=4 * shape.width,
            max_position_embeddings=tokens,
            bos_token_id=0,
            eos_token_id=0,
            use_cache=False,
            dtype="float32",
        )
    )
    nn.Module.to(model, device, getattr(torch, dtype))  # in place; typed, unlike its own
    return model
