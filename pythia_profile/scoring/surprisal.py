"""Token statistics from the last hidden state and the output matrix, a few tokens at a time.

Axes: T tokens, D hidden width, V vocabulary. The (T, V) logits never exist: a chunk of tokens is
multiplied with the output matrix, reduced while it is still in the processor's cache, and thrown
away. All statistics are float32 whatever the model's dtype, and so are the sums of the product.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pythia_profile.errors import ProfileError
from pythia_profile.scoring.product import Product
from pythia_profile.scoring.reductions import compiled_reduction, plain_reduction

__all__ = ["Compile", "TokenStatistics", "token_statistics"]

Compile = Literal["auto", "always", "never"]

CPU_CACHE_BYTES = 2 * 2**20
"""What stays in a core's cache: logits of a chunk, where the output matrix is small too."""

CPU_TOKENS = 384
"""Tokens of a chunk where the output matrix comes from memory: it is read once for all of them.

At Pythia's vocabulary 77 MB of logits. With 64 tokens product and reduction take 1.3 times as long
(tests/bench/bench_scoring.py). Half precision, which multiplies twice, is best with half of them.
"""

CPU_CHUNK_BYTES = 128 * 2**20
"""Logits of a chunk on a CPU at most."""

GPU_CHUNK_BYTES = 512 * 2**20
"""Logits of a chunk on a GPU: enough to fill it, little beside its memory."""

WORTH_COMPILING = 2**27
"""Logits from which on the reduction is compiled; for fewer, compiling takes too long."""


@dataclass(frozen=True, slots=True)
class TokenStatistics:
    """Statistics of each target token under a model.

    Attributes
    ----------
    surprisal : (T,) -log p(target), nats.
    entropy : (T,) of the predicted distribution, nats.
    rank : (T,) vocabulary entries with a larger logit than the target; 0 = greedy.
    margin : (T,) logit of the target minus the largest other logit; above 0 = greedy.
    varentropy : (T,) variance of log p over the predicted distribution, nats squared.
    """

    surprisal: Float[Tensor, " T"]
    entropy: Float[Tensor, " T"]
    rank: Int[Tensor, " T"]
    margin: Float[Tensor, " T"]
    varentropy: Float[Tensor, " T"]


@torch.no_grad()
def token_statistics(
    hidden: Float[Tensor, "T D"],
    head: Float[Tensor, "V D"],
    targets: Int[Tensor, " T"],
    *,
    chunk: int | None = None,
    compile: Compile = "auto",
) -> TokenStatistics:
    """Surprisal, entropy, rank and margin of each target.

    Parameters
    ----------
    hidden : (T, D) last hidden state at the position before each target.
    head : (V, D) output matrix; its product with `hidden` gives the logits.
    targets : (T,) token ids.
    chunk : tokens whose logits exist at one time; chosen from the vocabulary by default.
    compile : whether the reduction of a chunk is compiled into one pass; `auto` does so for much
        work where there is a compiler. Both reductions give the same numbers up to rounding.

    Returns
    -------
    TokenStatistics of float32, on the device of `hidden`.

    Raises
    ------
    ProfileError
        Shapes do not belong together, targets are no integers, or one is not in the vocabulary.

    Examples
    --------
    >>> hidden, head = torch.eye(2), torch.tensor([[2.0, 0.0], [0.0, 2.0], [0.0, 0.0]])
    >>> found = token_statistics(hidden, head, torch.tensor([0, 2]))
    >>> found.rank.tolist(), found.margin.tolist()
    ([0, 1], [2.0, -2.0])
    """
    _check_shapes(hidden, head, targets)
    count, vocabulary = len(targets), len(head)
    targets = targets.long()
    _check_targets(targets, vocabulary)
    wanted = compile == "always" or (compile == "auto" and count * vocabulary >= WORTH_COMPILING)
    reduce = (compiled_reduction() if wanted else None) or plain_reduction
    size = max(1, min(chunk or _usual_chunk(hidden.device, head), count))
    product = Product(hidden, head, size)
    out = [hidden.new_empty(count, dtype=torch.float32) for _ in range(4)]
    out.append(targets.new_empty(count, dtype=torch.int64))
    # Equal shapes for all chunks: a compiled reduction would be compiled again for a shorter last
    # one, so the last chunk overlaps the one before and writes the same values twice.
    for start in range(0, count, size):
        first = min(start, count - size)
        here = slice(first, first + size)
        for whole, part in zip(out, reduce(product(here), targets[here]), strict=True):
            whole[here] = part
    surprisal, entropy, margin, varentropy, rank = out
    return TokenStatistics(surprisal, entropy, rank, margin, varentropy)


def _usual_chunk(device: torch.device, head: Tensor) -> int:
    of_token = 4 * len(head)
    if device.type != "cpu":
        return max(1, GPU_CHUNK_BYTES // of_token)
    # A small output matrix stays in the cache beside the logits; a large one is read from memory
    # once for every chunk, so a chunk must be long enough to be worth that.
    in_cache = CPU_CACHE_BYTES // of_token
    if head.nbytes <= CPU_CACHE_BYTES:
        return max(1, in_cache)
    tokens = CPU_TOKENS if head.dtype == torch.float32 else CPU_TOKENS // 2
    return max(1, in_cache, min(tokens, CPU_CHUNK_BYTES // of_token))


def _check_shapes(hidden: Tensor, head: Tensor, targets: Tensor) -> None:
    named = {"hidden": (hidden, 2), "head": (head, 2), "targets": (targets, 1)}
    for name, (value, axes) in named.items():
        if not isinstance(value, Tensor) or value.ndim != axes:
            got = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
            raise ProfileError(f"{name}: got {got}, expected a tensor of {axes} axes")
    if len(hidden) != len(targets) or hidden.shape[1] != head.shape[1]:
        raise ProfileError(
            f"got hidden {tuple(hidden.shape)}, head {tuple(head.shape)} and targets "
            f"{tuple(targets.shape)}; expected (T, D), (V, D) and (T,)"
        )
    if targets.is_floating_point() or targets.is_complex() or targets.dtype == torch.bool:
        raise ProfileError(f"targets: got {targets.dtype}, expected integers")


def _check_targets(targets: Tensor, vocabulary: int) -> None:
    if len(targets) == 0:
        return
    outside = (targets < 0) | (targets >= vocabulary)
    if outside.any():
        position = int(outside.nonzero()[0])
        raise ProfileError(
            f"token id {int(targets[position])} at position {position} is not in the vocabulary of "
            f"{vocabulary:,}; rows and model do not belong together"
        )
