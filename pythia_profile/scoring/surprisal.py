"""Token statistics from the last hidden state and the output matrix, a few tokens at a time.

Axes: T tokens, D hidden width, V vocabulary. The (T, V) logits never exist: a chunk of tokens is
multiplied with the output matrix, reduced while it is still in the processor's cache, and thrown
away. All statistics are float32 whatever the model's dtype.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor

from pythia_profile.errors import ProfileError

__all__ = ["TokenStatistics", "token_statistics"]

_CHUNK_BYTES = 4 * 2**20
"""Size of a chunk's logits: small enough to stay in a core's share of the cache."""


@dataclass(frozen=True, slots=True)
class TokenStatistics:
    """What a model says of each target token.

    Attributes
    ----------
    surprisal : (T,) -log p(target), nats.
    entropy : (T,) of the predicted distribution, nats.
    rank : (T,) vocabulary entries with a larger logit than the target; 0 = greedy.
    margin : (T,) logit of the target minus the largest other logit; above 0 = greedy.
    """

    surprisal: Float[Tensor, " T"]
    entropy: Float[Tensor, " T"]
    rank: Int[Tensor, " T"]
    margin: Float[Tensor, " T"]


@torch.no_grad()
def token_statistics(
    hidden: Float[Tensor, "T D"],
    head: Float[Tensor, "V D"],
    targets: Int[Tensor, " T"],
    *,
    chunk: int | None = None,
) -> TokenStatistics:
    """Surprisal, entropy, rank and margin of each target.

    Parameters
    ----------
    hidden : (T, D) last hidden state at the position before each target.
    head : (V, D) output matrix; its product with `hidden` gives the logits.
    targets : (T,) token ids.
    chunk : tokens whose logits exist at one time; chosen from the vocabulary by default.

    Returns
    -------
    TokenStatistics of float32, on the device of `hidden`.

    Raises
    ------
    ProfileError
        A target is not an id of the vocabulary.
    """
    _check_targets(targets, len(head))
    size = chunk or max(1, _CHUNK_BYTES // (4 * len(head)))
    count = len(targets)
    surprisal, entropy, margin = hidden.new_empty((3, count), dtype=torch.float32)
    rank = targets.new_empty(count)
    for start in range(0, count, size):
        here = slice(start, start + size)
        logits = (hidden[here] @ head.T).float()
        _reduce(logits, targets[here], surprisal[here], entropy[here], rank[here], margin[here])
    return TokenStatistics(surprisal, entropy, rank, margin)


def _reduce(
    logits: Tensor,
    targets: Tensor,
    surprisal: Tensor,
    entropy: Tensor,
    rank: Tensor,
    margin: Tensor,
) -> None:
    """Fill the four statistics of one chunk from its logits, which are overwritten."""
    at = targets[:, None]
    target = logits.gather(1, at)
    rank[:] = (logits > target).sum(1)
    logits.scatter_(1, at, torch.finfo(torch.float32).min)
    other = logits.amax(1, keepdim=True)
    largest = torch.maximum(other, target)
    logits.scatter_(1, at, target)
    logits -= largest
    weights = logits.exp()
    total = weights.sum(1)
    surprisal[:] = (largest - target)[:, 0] + total.log()
    entropy[:] = total.log() - (weights.mul_(logits)).sum(1) / total
    margin[:] = (target - other)[:, 0]


def _check_targets(targets: Tensor, vocabulary: int) -> None:
    if len(targets) == 0:
        return
    outside = (targets < 0) | (targets >= vocabulary)
    if outside.any():
        place = int(outside.nonzero()[0])
        raise ProfileError(
            f"token id {int(targets[place])} at position {place} is not in the vocabulary of "
            f"{vocabulary:,}; rows and model do not belong together"
        )
