"""What a steer does at each strength: rates of tokens in generated text, the loss of given text.

All strengths draw from the same random numbers, so that they differ by the strength alone.
"""

from collections.abc import Mapping, Sequence
from typing import Protocol

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from scipy.stats import t as student
from transformers.modeling_utils import PreTrainedModel

from pythia_profile.labs.steer.steer_map import Steer, steered
from pythia_profile.labs.steer.steer_settings import Generation, SteerError
from pythia_profile.labs.steer.steer_texts import Tokens, text_losses

__all__ = ["continued", "mean_interval", "sweep"]


class Processor(Protocol):
    """What changes scores (B, V) before a token is chosen, as transformers' processors do."""

    def __call__(self, input_ids: torch.LongTensor, scores: torch.FloatTensor) -> torch.FloatTensor:
        """Return the changed scores."""
        ...


@torch.no_grad()
def continued(
    model: PreTrainedModel,
    prompts: npt.NDArray[np.integer],
    generation: Generation,
    processor: Processor | None = None,
    *,
    batch_size: int = 128,
) -> npt.NDArray[np.int64]:
    """Continue each prompt; token by token, by one uniform number each, whatever the batches.

    Parameters
    ----------
    prompts : (n, k) token ids; n × k at least 1.

    Returns
    -------
    (n, tokens) token ids that follow.

    Raises
    ------
    SteerError
        The model does not read so many tokens.
    """
    context = getattr(model.config, "max_position_embeddings", None)
    if context is not None and prompts.shape[1] + generation.tokens > context + 1:
        raise SteerError(
            f"{prompts.shape[1]} tokens given and {generation.tokens} to follow: the model reads "
            f"{context}; take fewer"
        )
    draws = np.random.default_rng(generation.seed).random((len(prompts), generation.tokens))
    parts = []
    for first in range(0, len(prompts), batch_size):
        here = slice(first, first + batch_size)
        ids = torch.from_numpy(prompts[here].astype(np.int64)).to(model.device)
        uniform = torch.from_numpy(draws[here]).to(model.device)
        past, read, found = None, ids, ids
        for place in range(generation.tokens):
            output = model(input_ids=read, past_key_values=past, use_cache=True)
            past, scores = output.past_key_values, output.logits[:, -1].float()
            if processor is not None:
                scores = processor(found, scores)  # type: ignore[arg-type]
            read = _chosen(scores, uniform[:, place], generation)[:, None]
            found = torch.cat([found, read], dim=1)
        parts.append(found[:, ids.shape[1] :].cpu().numpy())
    return np.concatenate(parts)


def _chosen(scores: torch.Tensor, uniform: torch.Tensor, how: Generation) -> torch.Tensor:
    """One token of each row: the best, or that at which the cumulated probability passes a draw."""
    if how.greedy:
        return scores.argmax(dim=-1)
    ordered, order = scores.double().softmax(dim=-1).sort(dim=-1, descending=True, stable=True)
    # tokens from the likeliest on, up to and with the one that reaches top_p
    kept = torch.where(ordered.cumsum(-1) - ordered < how.top_p, ordered, 0.0)
    total = kept.cumsum(dim=-1)
    place = (total <= uniform[:, None] * total[:, -1:]).sum(dim=-1)
    last = (kept > 0).sum(dim=-1) - 1
    return order.gather(1, place.minimum(last)[:, None])[:, 0]


def sweep(
    model: PreTrainedModel,
    steer: Steer,
    texts: Sequence[Tokens],
    values: Sequence[float],
    words: Mapping[str, Sequence[int]],
    generation: Generation | None = None,
) -> tuple[pl.DataFrame, dict[float, npt.NDArray[np.int64]]]:
    """Continue the beginnings of texts at each strength, and score the texts themselves.

    Parameters
    ----------
    values : strengths ε; 0 is the model's own.
    words : named sets of token ids.

    Returns
    -------
    First a line for each strength and quantity: `value`, `quantity`, `estimate`, `lower`, `upper`,
    `texts`. Quantities are `rate NAME`, the share of generated tokens in a set, and `loss`, nats
    per token of the given texts; intervals are 95 % over texts. Then the tokens that followed,
    (n, tokens) for each strength.
    """
    generation = generation or Generation()
    texts = [text for text in texts if len(text) >= max(2, generation.prompt)]
    if len(texts) < 2:
        raise SteerError(
            f"{len(texts)} texts of {generation.prompt} tokens or more, expected two or more"
        )
    prompts = np.stack([text[: generation.prompt] for text in texts])
    lines, generated = [], {}
    for value in map(float, values):
        found = continued(model, prompts, generation, steer.processor(model, value))
        generated[value] = found
        with steered(model, steer, value):
            losses = np.array([one.mean(dtype=np.float64) for one in text_losses(model, texts)])
        per_text = {f"rate {name}": np.isin(found, ids).mean(axis=1) for name, ids in words.items()}
        for quantity, numbers in (per_text | {"loss": losses}).items():
            estimate, lower, upper = mean_interval(numbers)
            lines.append((value, quantity, estimate, lower, upper, len(numbers)))
    columns = ["value", "quantity", "estimate", "lower", "upper", "texts"]
    return pl.DataFrame(lines, columns, orient="row"), generated


def mean_interval(values: npt.ArrayLike, level: float = 0.95) -> tuple[float, float, float]:
    """Mean of independent values, and its interval by Student's t.

    Examples
    --------
    >>> [round(number, 3) for number in mean_interval([1.0, 2.0, 3.0])]
    [2.0, -0.484, 4.484]
    """
    numbers = np.asarray(values, dtype=np.float64)
    mean, half = float(numbers.mean()), np.inf
    if len(numbers) > 1:
        half = student.ppf((1 + level) / 2, len(numbers) - 1) * numbers.std(ddof=1)
        half /= np.sqrt(len(numbers))
    return mean, float(mean - half), float(mean + half)
