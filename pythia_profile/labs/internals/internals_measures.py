"""What a model does with rows inside, layer by layer: one number a row, for groups to be compared.

In: a model and token rows (n, T) of which the first `prompt` are the prompt, the other K = T -
prompt the continuation. Out: arrays over the rows, in float64. Layer l of L + 1 is the residual
stream before block l, the last one what the final norm is given.

Source: Chen, Han and Miyao (2026), arXiv 2603.21658; the logit lens, nostalgebraist (2020).
"""

from collections.abc import Callable, Iterator, Sequence

import numpy as np
import numpy.typing as npt
import torch
from transformers.modeling_utils import PreTrainedModel

from pythia_profile.labs.internals.internals_translators import Translators
from pythia_profile.training.hooks import ablate_heads, parts_of, perturb, residuals
from pythia_profile.training.languages import Rows
from pythia_profile.training.loop import batches_in_order

__all__ = ["directions", "head_drops", "lens", "recalled", "recovery", "true_log_probability"]

Values = npt.NDArray[np.float64]
_BATCH = 256
"""Rows of a forward pass at most."""

_LOGITS = 2**26
"""Logits of a forward pass at most; some copies of them in float32 are held at a time."""


def _batches(model: PreTrainedModel, rows: Rows) -> Iterator[torch.Tensor]:
    fitting = _LOGITS // (rows.shape[1] * int(model.config.vocab_size))
    for batch in batches_in_order(rows, max(1, min(_BATCH, fitting))):
        yield batch.to(model.device)


@torch.no_grad()
def recalled(model: PreTrainedModel, rows: Rows, prompt: int) -> npt.NDArray[np.bool_]:
    """Whether each position of the greedy continuation of the prompt is the row's own.

    Returns
    -------
    (n, K); the mean over K is M, and a row is memorized where it is 1.
    """
    parts = []
    for ids in _batches(model, rows):
        found = given = ids[:, :prompt]
        past = None
        for _ in range(ids.shape[1] - prompt):
            said = model(input_ids=given, past_key_values=past, use_cache=True, logits_to_keep=1)
            given, past = said.logits[:, -1:].argmax(dim=-1), said.past_key_values
            found = torch.cat([found, given], dim=1)
        parts.append((found == ids)[:, prompt:].cpu().numpy())
    return np.concatenate(parts)


@torch.no_grad()
def true_log_probability(model: PreTrainedModel, rows: Rows, prompt: int) -> Values:
    """Mean log-probability of the continuation's tokens after the row's own ones, nats; (n,)."""
    parts = []
    for ids in _batches(model, rows):
        logits = model(input_ids=ids[:, :-1], use_cache=False).logits[:, prompt - 1 :]
        parts.append(_of_true(logits, ids[:, prompt:]).mean(dim=1).cpu().numpy())
    return np.concatenate(parts).astype(np.float64)


@torch.no_grad()
def lens(
    model: PreTrainedModel, rows: Rows, prompt: int, translators: Translators | None = None
) -> Values:
    """Probability of the true token, read off each layer by the final norm and the output head.

    Parameters
    ----------
    translators : of a tuned lens; the plain lens without them.

    Returns
    -------
    (n, L + 1) mean over the continuation; the last is the model's own probability.
    """
    parts, wanted = [], parts_of(model)
    for ids in _batches(model, rows):
        with residuals(model) as states:
            model(input_ids=ids[:, :-1], use_cache=False)
        layers = [state[:, prompt - 1 :] for state in states]
        if translators is not None:
            layers = [translators(state, layer) for layer, state in enumerate(layers)]
        by_layer = [
            _of_true(wanted.head(wanted.norm(state)), ids[:, prompt:]).exp().mean(dim=1)
            for state in layers
        ]
        parts.append(torch.stack(by_layer, dim=1).cpu().numpy())
    return np.concatenate(parts).astype(np.float64)


def directions(draws: int, tokens: int, width: int, *, seed: int) -> torch.Tensor:
    """Draw random unit directions, one for each position, the same for all rows; (draws, T, width).

    Rows are then compared under the same noise, whichever batch they are in.
    """
    drawn = np.random.default_rng(seed).standard_normal((draws, tokens, width))
    return torch.from_numpy(drawn / np.linalg.norm(drawn, axis=-1, keepdims=True)).float()


@torch.no_grad()
def recovery(
    model: PreTrainedModel, rows: Rows, noise: torch.Tensor, strengths: Sequence[float]
) -> Values:
    """Cosine similarity of the clean and the perturbed residual stream, by strength and layer.

    Parameters
    ----------
    noise : (D, T, width) unit directions, over which the mean is taken.
    strengths : A values of α in x ← x + α ‖x‖ u after the embedding.

    Returns
    -------
    (n, A, L + 1) mean over positions and draws; 1 is a residual stream that was not moved.
    """
    parts, width = [], noise.shape[-1]
    if width != model.config.hidden_size:
        raise ValueError(f"noise of width {width} for a model of width {model.config.hidden_size}")
    for ids in _batches(model, rows):
        with residuals(model) as clean:
            model(input_ids=ids, use_cache=False)
        for strength in strengths:
            for drawn in noise:
                with perturb(model, drawn, strength), residuals(model) as moved:
                    model(input_ids=ids, use_cache=False)
                pairs = zip(clean, moved, strict=True)
                alike = [
                    torch.cosine_similarity(a.float(), b.float(), dim=-1).mean(dim=1)
                    for a, b in pairs
                ]
                parts.append(torch.stack(alike, dim=1).cpu().numpy())
    # batches outermost, then strengths, then draws; the last batch may be smaller
    each = len(strengths) * len(noise)
    joined = [np.stack(parts[first : first + each]) for first in range(0, len(parts), each)]
    found = np.concatenate(joined, axis=1).astype(np.float64)
    shape = (len(strengths), len(noise), *found.shape[1:])
    by_strength: Values = found.reshape(shape).mean(axis=1).transpose(1, 0, 2)
    return by_strength


def head_drops(
    model: PreTrainedModel, rows: Rows, prompt: int, on_head: Callable[[], None] = lambda: None
) -> tuple[Values, Values]:
    """Fall of M, and of the true tokens' log-probability, where a head is the mean of the others.

    Parameters
    ----------
    on_head : called after each head.

    Returns
    -------
    Two arrays (n, L, H): of M, and in nats per token; above 0 where the head helps the row.
    """
    parts = parts_of(model)
    clean = recalled(model, rows, prompt).mean(axis=1), true_log_probability(model, rows, prompt)
    shape = (len(rows), len(parts.blocks), parts.heads)
    of_match, of_nats = np.empty(shape), np.empty(shape)
    for layer in range(shape[1]):
        for head in range(shape[2]):
            with ablate_heads(model, layer, [head]):
                match = recalled(model, rows, prompt).mean(axis=1)
                nats = true_log_probability(model, rows, prompt)
            of_match[:, layer, head] = clean[0] - match
            of_nats[:, layer, head] = clean[1] - nats
            on_head()
    return of_match, of_nats


def _of_true(logits: torch.Tensor, tokens: torch.Tensor) -> torch.Tensor:
    """Log-probability (B, K) of `tokens` (B, K), in float32 whatever the model's dtype."""
    return logits.float().log_softmax(dim=-1).gather(-1, tokens[..., None]).squeeze(-1)
