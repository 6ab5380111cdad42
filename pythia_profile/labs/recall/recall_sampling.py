"""Extraction by sampling: how likely n draws give a continuation back, and how many it takes.

A continuation with probability p_z is among n independent draws with probability 1 - (1 - p_z)^n;
p_z is the product of its tokens' probabilities, which one forward pass gives (`exact_P_C_log_p`
among the scores): nothing needs to be drawn. Greedy decoding is another question: it asks for the
likeliest token everywhere, whatever its probability.

Source: Hayes et al. (2024, arXiv 2410.19482), (n, p)-discoverable extraction, temperature 1.
"""

import numpy as np
import numpy.typing as npt
import torch
from transformers.modeling_utils import PreTrainedModel

from pythia_profile.labs.recall.recall_errors import RecallError

__all__ = ["chance_of_extraction", "draws_needed", "sampled_hits"]

Numbers = npt.NDArray[np.float64]

_TOGETHER = 2048
"""Samples that are drawn side by side."""


def chance_of_extraction(log_p: npt.ArrayLike, draws: npt.ArrayLike) -> Numbers:
    """Probability that at least one of `draws` samples is the continuation.

    Parameters
    ----------
    log_p : log-probability of the continuation, nats; broadcast against `draws`.

    Examples
    --------
    >>> chance_of_extraction(np.log(0.5), [1, 2, 3]).round(6).tolist()
    [0.5, 0.75, 0.875]
    """
    single = _single(log_p)
    # no draw gives it: (1 - p)^n, whose logarithm keeps its digits where p is tiny
    with np.errstate(divide="ignore", invalid="ignore"):  # a certain one, and no draw at all
        none = np.asarray(draws, np.float64) * np.log1p(-single)
    found: Numbers = -np.expm1(np.where(np.isnan(none), 0.0, none))
    return found


def draws_needed(log_p: npt.ArrayLike, p: float) -> Numbers:
    """Smallest number of draws of which at least one is the continuation with probability `p`.

    Infinite where the continuation's probability is 0 in float64.

    Examples
    --------
    >>> draws_needed(np.log([0.9, 0.5, 0.01]), 0.5).tolist()
    [1.0, 1.0, 69.0]
    """
    if not 0 < p < 1:
        raise RecallError(f"p: got {p}, expected a probability between 0 and 1")
    with np.errstate(divide="ignore"):
        needed = np.log1p(-p) / np.log1p(-_single(log_p))
    # a whole number that rounding has pushed above itself is that number
    found: Numbers = np.maximum(1.0, np.ceil(needed * (1 - 1e-12)))
    return found


def _single(log_p: npt.ArrayLike) -> Numbers:
    values = np.asarray(log_p, np.float64)
    if not (values <= 1e-6).all():
        raise RecallError("log_p: expected log-probabilities, none above 0")
    found: Numbers = np.exp(np.minimum(values, 0.0))
    return found


@torch.no_grad()
def sampled_hits(
    model: PreTrainedModel,
    rows: npt.NDArray[np.integer],
    prompt: int,
    count: int,
    *,
    draws: int,
    seed: int,
) -> npt.NDArray[np.int64]:
    """Of `draws` continuations sampled for each row, how many are the row's own; (n,).

    Temperature 1, all tokens. What the closed form says is then only checked.
    """
    generator = torch.Generator(model.device).manual_seed(seed)
    step = max(1, _TOGETHER // draws)
    parts = [
        _hits(model, rows[first : first + step], prompt, count, draws, generator)
        for first in range(0, len(rows), step)
    ]
    return np.concatenate(parts) if parts else np.empty(0, np.int64)


def _hits(
    model: PreTrainedModel,
    rows: npt.NDArray[np.integer],
    prompt: int,
    count: int,
    draws: int,
    generator: torch.Generator,
) -> npt.NDArray[np.int64]:
    ids = torch.from_numpy(rows.astype(np.int64)).to(model.device)
    ids = ids.repeat_interleave(draws, dim=0)
    right = torch.ones(len(ids), dtype=torch.bool, device=model.device)
    output = model(input_ids=ids[:, :prompt], use_cache=True, logits_to_keep=1)
    for place in range(prompt, prompt + count):
        chances = output.logits[:, -1].float().softmax(dim=1)
        drawn = torch.multinomial(chances, 1, generator=generator)
        right &= drawn[:, 0] == ids[:, place]
        output = model(input_ids=drawn, past_key_values=output.past_key_values, use_cache=True)
    found: npt.NDArray[np.int64] = right.reshape(-1, draws).sum(dim=1).cpu().numpy()
    return found
