"""Reading a steer: tokens of its directions, keywords of a text, and how steered a text is."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from html import escape

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from transformers.modeling_utils import PreTrainedModel

from pythia_profile.labs.steer.steer_map import Steer, fitting_head, steered
from pythia_profile.labs.steer.steer_texts import Tokens, text_losses

__all__ = [
    "Directions",
    "best_spans",
    "directions",
    "end_tokens",
    "inferred_values",
    "marked_html",
    "read_direction_tokens",
    "read_texts_by",
    "token_evidence",
]

Numbers = npt.NDArray[np.float32]
_GOLDEN = (5**0.5 - 1) / 2


@dataclass(frozen=True, slots=True)
class Directions:
    """Singular directions of W, the strongest first, turned to where ε > 0 raises the logits.

    Attributes
    ----------
    strength : (k,) singular values.
    right : (k, width) of the embeddings: token v is raised by its product with `right`.
    left : (k, width) of the states: how much depends on the state's product with `left`.
    """

    strength: Numbers
    right: Numbers
    left: Numbers

    def tokens(
        self,
        embeddings: npt.NDArray[np.floating],
        dimension: int = 0,
        most: int = 20,
        *,
        side: str = "right",
    ) -> tuple[Tokens, Tokens]:
        """Tokens that a direction raises and lowers most, each from the most on.

        Parameters
        ----------
        embeddings : (V, width) output matrix.
        side : `right`, the embeddings' own; `left` is the states' and says nothing of tokens.
        """
        order = np.argsort(-(embeddings @ getattr(self, side)[dimension]), kind="stable")
        most = min(most, len(order) // 2)
        return order[:most], order[::-1][:most]


def directions(steer: Steer) -> Directions:
    """Singular value decomposition of W = U S Vᵀ, through the factors' small product.

    A state c moves the logit of token v by Σ sᵢ (c·uᵢ)(vᵢ·e_v), so the right vectors vᵢ stand on
    the side of the embeddings (`torch.linalg.svd` gives them as rows, Vᵀ). Both signs of a pair are
    free; they are chosen so that the mean state has c·uᵢ ≥ 0.
    """
    # QR of the factors: W = Q1 (R1 R2ᵀ) Q2ᵀ, of which only the rank × rank middle is decomposed
    q1, r1 = torch.linalg.qr(steer.down.double())
    q2, r2 = torch.linalg.qr(steer.up.double().T)
    u, s, vt = torch.linalg.svd(r1 @ r2.T)
    left, right = (q1 @ u).T, vt @ q2.T
    sign = torch.where(left @ steer.state.double() < 0, -1.0, 1.0)[:, None]
    return Directions(*(one.float().numpy() for one in (s, sign * right, sign * left)))


def token_evidence(
    model: PreTrainedModel,
    steer: Steer,
    texts: Sequence[Tokens],
    *,
    value: float = 1.0,
    batch_size: int = 64,
) -> list[Numbers]:
    """Log p₊ − log p₋ of every target of each text, nats: at ε = `value` and at −`value`."""
    with steered(model, steer, value):
        plus = text_losses(model, texts, batch_size=batch_size)
    with steered(model, steer, -value):
        minus = text_losses(model, texts, batch_size=batch_size)
    return [low - high for high, low in zip(plus, minus, strict=True)]


def best_spans(
    evidence: npt.ArrayLike, *, spans: int = 4, longest: int = 10
) -> list[tuple[int, int]]:
    """Spans of a text that hold most evidence together: not overlapping, of the largest sum.

    Parameters
    ----------
    evidence : (T,) of every token.
    spans, longest : how many at most, of how many tokens each.

    Returns
    -------
    Ascending (first, behind the last). Exact: dynamic programming over tokens and spans left.

    Examples
    --------
    >>> best_spans([1.5, -3.0, 2.0, 2.0, -1.0, 3.0], spans=2)
    [(0, 1), (2, 6)]
    """
    values = np.asarray(evidence, dtype=np.float64)
    total = np.concatenate([[0.0], values.cumsum()])
    # best[k, t] : most evidence of k spans or fewer among the first t tokens
    best = np.zeros((spans + 1, len(values) + 1))
    taken = np.zeros((spans + 1, len(values) + 1), dtype=np.int64)
    for k in range(1, spans + 1):
        for t in range(1, len(values) + 1):
            lengths = np.arange(1, min(longest, t) + 1)
            sums = best[k - 1, t - lengths] + total[t] - total[t - lengths]
            at = int(sums.argmax())
            # a span is only worth taking if it adds to both: none here, and one span fewer
            if sums[at] > max(best[k, t - 1], best[k - 1, t]) + 1e-12:
                best[k, t], taken[k, t] = sums[at], lengths[at]
            else:
                best[k, t] = max(best[k, t - 1], best[k - 1, t])
                taken[k, t] = 0 if best[k, t - 1] >= best[k - 1, t] else -1
    found, k, t = [], spans, len(values)
    while k > 0 and t > 0:
        if taken[k, t] > 0:
            found.append((t - int(taken[k, t]), t))
            k, t = k - 1, t - int(taken[k, t])
        elif taken[k, t] < 0:
            k -= 1
        else:
            t -= 1
    return found[::-1]


def inferred_values(
    model: PreTrainedModel,
    steer: Steer,
    texts: Sequence[Tokens],
    *,
    reach: float = 3.0,
    within: float = 0.01,
    batch_size: int = 64,
) -> npt.NDArray[np.float64]:
    """Strength ε at which each text is most likely, between −`reach` and `reach`; (n,).

    The loss is convex in ε (a log of a sum of exponentials of lines, less a line), so narrowing an
    interval by the golden section finds its least value; a text without one inside the interval
    gets the nearer end.
    """
    fitting_head(model, steer)
    found = []
    for first in range(0, len(texts), batch_size):
        part = texts[first : first + batch_size]
        low, high = np.full(len(part), -reach), np.full(len(part), reach)
        one, two = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
        at_one, at_two = (_losses(model, steer, part, value) for value in (one, two))
        while (high - low).max() > within:
            left = at_one < at_two
            low, high = np.where(left, low, one), np.where(left, two, high)
            new = np.where(left, high - _GOLDEN * (high - low), low + _GOLDEN * (high - low))
            at_new = _losses(model, steer, part, new)
            one, two = np.where(left, new, two), np.where(left, one, new)
            at_one, at_two = np.where(left, at_new, at_two), np.where(left, at_one, at_new)
        found.append((low + high) / 2)
    return np.concatenate(found)


def _losses(
    model: PreTrainedModel, steer: Steer, texts: Sequence[Tokens], values: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """Nats of each text, each at its own strength."""
    with steered(model, steer, torch.tensor(values, dtype=torch.float32)):
        losses = text_losses(model, texts, batch_size=len(texts))
    return np.array([one.sum(dtype=np.float64) for one in losses])


def marked_html(
    text: Tokens,
    evidence: npt.ArrayLike,
    decode: Callable[[Sequence[int]], str],
    *,
    spans: int = 4,
    longest: int = 10,
) -> str:
    """Mark the spans of a text that hold most evidence, as `<mark class="plus">` and `"minus"`.

    Parameters
    ----------
    text : (T,) token ids; evidence : (T − 1,) of every target.
    decode : from token ids to text, which is escaped.
    """
    # the first token is only read, so no evidence speaks of it
    values = np.concatenate([[0.0], np.asarray(evidence, dtype=np.float64)])
    plus = best_spans(values, spans=spans, longest=longest)
    against = -values
    for first, end in plus:
        against[first:end] = -1 - np.abs(values).sum()  # more than any span could win back
    minus = best_spans(against, spans=spans, longest=longest)
    chosen = [(*span, "plus") for span in plus] + [(*span, "minus") for span in minus]
    parts, place = [], 0
    for first, end, kind in sorted(chosen):
        parts.append(_escaped(text[place:first], decode))
        nats = values[first:end].sum()
        inside = _escaped(text[first:end], decode)
        parts.append(f'<mark class="{kind}" title="{nats:+.2f} nats">{inside}</mark>')
        place = end
    return "".join([*parts, _escaped(text[place:], decode)])


def _escaped(tokens: Tokens, decode: Callable[[Sequence[int]], str]) -> str:
    return escape(decode(tokens.tolist()))


def end_tokens(model: PreTrainedModel, steer: Steer, most: int = 20) -> dict[str, list[int]]:
    """Tokens at the two ends of a steer's first direction: `raised` and `lowered`."""
    head = fitting_head(model, steer).weight.detach().float().cpu().numpy()
    raised, lowered = directions(steer).tokens(head, 0, most)
    return {"raised": raised.tolist(), "lowered": lowered.tolist()}


def read_direction_tokens(
    model: PreTrainedModel,
    steer: Steer,
    decode: Callable[[Sequence[int]], str],
    dimensions: int = 3,
    most: int = 20,
) -> pl.DataFrame:
    """Tokens that the first directions raise and lower most, as text.

    Returns
    -------
    A line for each direction: `dimension` (from 1 on), `strength`, `raised`, `lowered` (lists).
    """
    head = fitting_head(model, steer).weight.detach().float().cpu().numpy()
    found, lines = directions(steer), []
    for at in range(min(dimensions, len(found.strength))):
        raised, lowered = (
            [decode([int(one)]) for one in ids] for ids in found.tokens(head, at, most)
        )
        lines.append((at + 1, float(found.strength[at]), raised, lowered))
    columns = ["dimension", "strength", "raised", "lowered"]
    return pl.DataFrame(lines, columns, orient="row")


def read_texts_by(
    model: PreTrainedModel,
    steer: Steer,
    texts: Sequence[Tokens],
    decode: Callable[[Sequence[int]], str],
) -> list[tuple[float, str]]:
    """Of each text the strength at which it is most likely, and its marked text as HTML."""
    values = inferred_values(model, steer, texts)
    evidence = token_evidence(model, steer, texts)
    return [
        (float(value), marked_html(text, one, decode))
        for value, text, one in zip(values, texts, evidence, strict=True)
    ]
