"""The threshold p > 1/2: a token more probable than all others together is the greedy choice.

In: logits (n, V), targets (n,). Sufficient, not necessary: the sharp quantity is the margin, the
target's logit less the largest other. Under teacher forcing, p > 1/2 at every token gives exact
greedy recall by induction over tokens.

Source: Xu et al. (2026), arXiv 2605.30260, section on the threshold.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pythia_profile.errors import ProfileError

__all__ = ["LN2", "Threshold", "TokenFacts", "first_below", "threshold", "token_facts"]

LN2 = float(np.log(2))
"""Loss of a token of probability 1/2, nats."""

Flags = npt.NDArray[np.bool_]
Numbers = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class TokenFacts:
    """What one forward pass says of its targets.

    Attributes
    ----------
    p : (n,) probability of the target.
    margin : (n,) its logit less the largest other; above 0 where greedy decoding gives it.
    greedy : (n,) whether the target is the first largest logit.
    """

    p: Numbers
    margin: Numbers
    greedy: Flags


@dataclass(frozen=True, slots=True)
class Threshold:
    """Counts over tokens.

    Attributes
    ----------
    tokens : all; above : of them p > 1/2; violations : above 1/2 and not the greedy choice.
    correct_below : share of greedy-correct tokens at or below 1/2: recall beyond the condition.
    """

    tokens: int
    above: int
    violations: int
    correct_below: float


def token_facts(logits: Any, targets: Any) -> TokenFacts:
    """Probability, margin and decision of each target, from one pass in float32.

    Parameters
    ----------
    logits : (n, V); targets : (n,). Arrays, or torch's tensors on any device.

    No rounding can make a violation: after the largest logit is taken off, a target that another
    one reaches has p = exp(-d) / sum with sum >= 1 + exp(-d) >= 2 exp(-d), and rounding keeps
    order.

    Examples
    --------
    >>> found = token_facts(np.log([[0.6, 0.3, 0.1], [0.4, 0.3, 0.3]]), np.array([0, 1]))
    >>> found.greedy.tolist(), [f"{margin:.3f}" for margin in found.margin]
    ([True, False], ['0.693', '-0.288'])
    """
    if logits.ndim != 2 or targets.shape != logits.shape[:1]:
        raise ProfileError(
            f"logits {logits.shape} and targets {targets.shape}; expected (n, V) and (n,)"
        )
    import torch

    values = torch.as_tensor(logits).detach().float()
    place = torch.as_tensor(targets).to(values.device)[:, None]
    own = values.gather(1, place)
    powers = (values - values.amax(dim=1, keepdim=True)).exp()
    # divided, not multiplied by an inverse: the argument above needs the rounding of one division
    p = powers.gather(1, place) / powers.sum(dim=1, keepdim=True)
    greedy = values.argmax(dim=1, keepdim=True) == place
    margin = own - values.scatter(1, place, -torch.inf).amax(dim=1, keepdim=True)
    return TokenFacts(*(part[:, 0].cpu().numpy() for part in (p, margin, greedy)))


def threshold(p: npt.NDArray[Any], greedy: npt.NDArray[Any]) -> Threshold:
    """Count violations of p > 1/2 => greedy choice, and how far the condition is from necessary.

    Examples
    --------
    >>> threshold(np.array([0.9, 0.4, 0.2]), np.array([True, True, False]))
    Threshold(tokens=3, above=1, violations=0, correct_below=0.5)
    """
    above, correct = p > 0.5, greedy.astype(bool)
    below = float((~above & correct).sum() / correct.sum()) if correct.any() else 0.0
    return Threshold(p.size, int(above.sum()), int((above & ~correct).sum()), below)


def first_below(p: npt.NDArray[Any], correct: npt.NDArray[Any]) -> tuple[Any, Any]:
    """First token with p <= 1/2, and first failure, of each answer; T where there is none.

    Parameters
    ----------
    p : (n, T) probabilities under teacher forcing; correct : (n, T) of free-running recall.

    Returns
    -------
    Two (n,) arrays of token indices. The failure never comes first.

    Examples
    --------
    >>> first_below(np.array([[0.9, 0.4, 0.8]]), np.array([[True, True, False]]))
    (array([1]), array([2]))
    """
    return _first(p <= 0.5), _first(~correct.astype(bool))


def _first(flags: Flags) -> npt.NDArray[np.int64]:
    found: npt.NDArray[np.int64] = np.where(flags.any(axis=1), flags.argmax(axis=1), flags.shape[1])
    return found
