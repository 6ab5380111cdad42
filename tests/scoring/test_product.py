"""Logits in half precision: summed in float32, and what rounding takes away is given back."""

import pytest
import torch

from pythia_profile.scoring.product import Product, _multiplies_bfloat16_in_parts
from pythia_profile.scoring.surprisal import token_statistics


def problem(dtype, tokens=40, width=512, vocabulary=3000):
    generator = torch.Generator().manual_seed(4)
    hidden = torch.randn(tokens, width, generator=generator).to(dtype)
    head = (3 * torch.randn(vocabulary, width, generator=generator) / width**0.5).to(dtype)
    return hidden, head, hidden.double() @ head.double().T


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_parts_sum_to_the_product(dtype):
    hidden, head, exact = problem(dtype)

    parts = Product(hidden, head, 40)(slice(0, 40))

    # two bfloat16 parts keep 16 bits of logits up to 15; float32 keeps 24
    error = (sum(part.double() for part in parts) - exact).abs().max()
    assert error < (2e-4 if len(parts) == 2 else 2e-5)


def test_a_rounded_product_alone_would_be_a_hundred_times_worse():
    hidden, head, exact = problem(torch.bfloat16)

    rounded = (hidden @ head.T).double()

    assert (rounded - exact).abs().max() > 1e-2


@pytest.mark.parametrize("in_parts", [True, False])
def test_statistics_of_bfloat16_weights_are_those_of_float64(monkeypatch, in_parts):
    """With native products where the processor has them, and without."""
    native = _multiplies_bfloat16_in_parts()
    monkeypatch.setattr(
        "pythia_profile.scoring.product._multiplies_bfloat16_in_parts",
        lambda: in_parts and native,
    )
    hidden, head, exact = problem(torch.bfloat16)
    targets = torch.arange(40) * 7

    found = token_statistics(hidden, head, targets, chunk=16)

    p = torch.log_softmax(exact, dim=1)
    surprisal = -p.gather(1, targets[:, None])[:, 0]
    assert (found.surprisal.double() - surprisal).abs().max() < 2e-4  # 16 bits of a logit near 15
    assert (found.surprisal.double() - surprisal).mean().abs() < 2e-5
    assert (found.entropy.double() + (p.exp() * p).sum(1)).abs().max() < 2e-4
