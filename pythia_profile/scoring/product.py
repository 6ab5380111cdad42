"""Logits of a few tokens: the product with the output matrix, summed and kept in float32.

Half-precision weights are multiplied by the processor's half-precision units where it has them.
These sum in float32, but on a CPU they round the result to half precision, which moves a surprisal
by up to .03 nats. A second product that starts from the negative of the rounded result gives what
the rounding lost, itself rounded: the two parts together are right to 2⁻¹⁶ of a logit.
"""

from functools import cache
from typing import Any

import torch
from torch import Tensor

from pythia_profile.scoring.reductions import Parts

__all__ = ["Product"]


class Product:
    """Logits of slices of tokens, in float32 or as two half-precision parts that sum to it."""

    def __init__(self, hidden: Tensor, head: Tensor, size: int) -> None:
        """Choose how to multiply.

        Parameters
        ----------
        hidden : (T, D) last hidden states.
        head : (V, D) output matrix, of the same dtype.
        size : tokens of a slice.
        """
        low = hidden.dtype != torch.float32 or head.dtype != torch.float32
        self._widened = low and hidden.is_cuda
        self._in_parts = (
            hidden.dtype == head.dtype == torch.bfloat16
            and hidden.device.type == "cpu"
            and _multiplies_bfloat16_in_parts()
        )
        if low and not (self._widened or self._in_parts):
            hidden, head = hidden.float(), head.float()
        self._hidden, self._matrix = hidden, head.T
        self._logits = hidden.new_empty((size, len(head))) if not self._widened else None

    def __call__(self, tokens: slice) -> Parts:
        """Logits of `tokens`, (n, V); valid until the next call."""
        hidden = self._hidden[tokens]
        if self._widened:
            return (torch.mm(hidden, self._matrix, out_dtype=torch.float32),)
        rounded = torch.mm(hidden, self._matrix, out=self._logits)
        if not self._in_parts:
            return (rounded,)
        # x - round(x), computed with a float32 accumulator that starts at -round(x): the
        # cancellation is exact, and only the small remainder is rounded again.
        return rounded, torch.addmm(rounded, hidden, self._matrix, beta=-1)


@cache
def _multiplies_bfloat16_in_parts() -> bool:
    """Whether this CPU multiplies bfloat16 natively, and adds before it rounds."""
    native: dict[str, Any] = getattr(torch.cpu, "get_capabilities", dict)()
    if not (native.get("avx512_bf16") or native.get("amx_bf16") or native.get("bf16")):
        return False
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(n, 256, generator=generator).bfloat16() for n in (8, 512))
    rounded = torch.mm(a, b.T)
    lost = torch.addmm(rounded, a, b.T, beta=-1)
    error = rounded.double() + lost.double() - a.double() @ b.double().T
    return bool(error.abs().max() < 1e-3)
