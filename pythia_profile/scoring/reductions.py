"""From the logits of a few tokens to their statistics: one compiled pass, or a few plain ones.

Axes: n tokens of a chunk, V vocabulary. Logits may come as two parts whose sum they are (a rounded
product and what the rounding lost); the sum is taken in float32. With u = logits less the largest
and s = Σ exp(u):

    surprisal = log s - u[target]            entropy = log s - Σ exp(u) u / s
    varentropy = Σ exp(u) u² / s - (Σ exp(u) u / s)²
"""

import logging
from collections.abc import Callable
from functools import cache

import torch
from torch import Tensor

__all__ = ["Parts", "Statistics", "compiled_reduction", "plain_reduction"]

log = logging.getLogger(__name__)

Parts = tuple[Tensor, ...]
"""One or two (n, V) tensors whose sum is the logits."""

Statistics = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]
"""(n,) each: surprisal, entropy, margin, varentropy in float32, and rank in int64."""

Reduction = Callable[[Parts, Tensor], Statistics]

_LEAST = torch.finfo(torch.float32).min


def plain_reduction(parts: Parts, targets: Tensor) -> Statistics:
    """Reduce by torch's own operations, in place where the logits are float32 and one part.

    Parameters
    ----------
    parts : (n, V) logits; overwritten.
    targets : (n,) token ids.
    """
    logits = parts[0].float()
    for part in parts[1:]:
        logits = logits.add_(part)
    at = targets[:, None]
    target = logits.gather(1, at)
    rank = (logits > target).sum(1)
    # The margin needs the largest logit but the target's: the target is overwritten in place for
    # one reduction and put back, which costs less than a masked copy of the whole (n, V).
    other = logits.scatter_(1, at, _LEAST).amax(1, keepdim=True)
    largest = torch.maximum(other, target)
    u = logits.scatter_(1, at, target).sub_(largest)
    weights = u.exp()
    total = weights.sum(1)
    first = weights.mul_(u).sum(1) / total
    second = weights.mul_(u).sum(1) / total
    return _finish((target - largest)[:, 0], (target - other)[:, 0], total, first, second, rank)


@cache
def compiled_reduction() -> Reduction | None:
    """Return the reduction fused into one pass by torch.compile; None without a compiler."""
    probe = torch.zeros(2, 8), torch.zeros(2, dtype=torch.int64)
    try:
        fused = torch.compile(_reduce, fullgraph=True, dynamic=False)
        fused((probe[0],), probe[1])
    except Exception as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        log.info("no compiled reduction here (%s); the plain one gives the same numbers", reason)
        return None
    return fused


def _reduce(parts: Parts, targets: Tensor) -> Statistics:
    logits = parts[0].float()
    for part in parts[1:]:
        logits = logits + part.float()
    at = targets[:, None]
    target = logits.gather(1, at)
    rank = (logits > target).sum(1)
    # Out of place throughout, so that the compiler fuses everything into one pass over the logits.
    is_target = torch.arange(logits.shape[1], device=logits.device)[None, :] == at
    other = torch.where(is_target, _LEAST, logits).amax(1, keepdim=True)
    largest = torch.maximum(other, target)
    u = logits - largest
    weights = u.exp()
    total = weights.sum(1)
    first = (weights * u).sum(1) / total
    second = (weights * u * u).sum(1) / total
    return _finish((target - largest)[:, 0], (target - other)[:, 0], total, first, second, rank)


def _finish(
    target: Tensor, margin: Tensor, total: Tensor, first: Tensor, second: Tensor, rank: Tensor
) -> Statistics:
    """Put the sums together; a NaN among the logits makes every statistic of its token NaN."""
    entropy = total.log() - first
    return total.log() - target, entropy, margin, (second - first * first).clamp_min(0.0), rank
