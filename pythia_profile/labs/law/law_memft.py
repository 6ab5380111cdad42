"""MemFT: weights of tokens in a fine-tuning loss, so that effort goes where recall is not exact.

The loss is sum(w L) / (sum(w) + eps) over answer tokens. Methods:

    sft   plain: every answer token 1
    ot    only-threshold: 1 where L > ln 2, that is p < 1/2
    sw    sliding window, for long text: sigmoid(10 (L - ln 2)) times 1 before the anchor, which is
          the first argmax error, exp(-(t - anchor) / 20) inside the window, .01 beyond it
    sw_phone_book   ot on the first 20, 40, ... 100 % of the samples as training goes on

Source: Xu et al. (2026), arXiv 2605.30260, and the authors' code for the constants.
"""

from dataclasses import dataclass, field

import torch
from torch import Tensor

from pythia_profile.errors import ProfileError, not_found
from pythia_profile.labs.law.law_threshold import LN2

__all__ = ["METHODS", "MemftState", "memft_loss", "memft_weights"]

METHODS = ("sft", "ot", "sw", "sw_phone_book")
SHARPNESS, DECAY, FLOOR = 10.0, 20.0, 0.01
WINDOW, GROWTH, WIDEST, PATIENCE = 50.0, 1.5, 4.0, 3
STAGES = 5


@dataclass(slots=True)
class MemftState:
    """What a method must know beside the losses; `window` and `stuck` are kept from call to call.

    Attributes
    ----------
    answer : (B, T) whether a token is scored; all unless given.
    wrong : (B, T) whether the argmax is another token; for `sw`.
    rows : (B,) which sample each row is, below `samples`; for `sw_phone_book`, and for `sw` where
        batches change.
    samples : of the data set.
    progress : share of the training that is done, 0 to 1; for `sw_phone_book`.
    anchors, stuck, windows : by sample, of `sw`: its anchor, how many steps that has not moved on,
        and the tokens of its window, from 50 to 200.
    """

    answer: Tensor | None = None
    wrong: Tensor | None = None
    rows: Tensor | None = None
    samples: int = 0
    progress: float = 0.0
    anchors: dict[int, int] = field(default_factory=dict)
    stuck: dict[int, int] = field(default_factory=dict)
    windows: dict[int, float] = field(default_factory=dict)


def memft_weights(loss: Tensor, method: str, state: MemftState) -> Tensor:
    """Weights of tokens, without gradient, from the losses (B, T) of one step, nats.

    Returns
    -------
    (B, T) at least 0, of the losses' dtype; 0 outside the answer.

    Examples
    --------
    >>> memft_weights(torch.tensor([[0.5, 0.7, 3.0]]), "ot", MemftState())
    tensor([[0., 1., 1.]])

    Raises
    ------
    NotFoundError
        There is no such method.
    ProfileError
        The state lacks what the method needs.
    """
    loss = loss.detach()
    if method not in METHODS:
        raise not_found("method", method, [*METHODS])
    answer = torch.ones_like(loss) if state.answer is None else state.answer.to(loss)
    if method == "sft":
        return answer
    if method == "sw":
        weights = torch.sigmoid(SHARPNESS * (loss - LN2)) * _windows(loss, answer, state)
        return weights * answer
    over = (loss > LN2).to(loss)
    if method == "sw_phone_book":
        over = over * _curriculum(loss, state)[:, None]
    return over * answer


def memft_loss(loss: Tensor, weights: Tensor, *, when_empty: str = "stop") -> Tensor:
    """Weighted mean of the losses, a scalar: sum(w L) / (sum(w) + eps).

    Where no token has a weight, `stop` gives 0 and hence a zero gradient (end the training), and
    `mean` the plain mean over all tokens, as the authors' code does.
    """
    if when_empty not in ("stop", "mean"):
        raise not_found("when_empty", when_empty, ["stop", "mean"])
    if when_empty == "mean" and not weights.any():
        return loss.mean()
    return (weights * loss).sum() / (weights.sum() + 1e-8)


def _windows(loss: Tensor, answer: Tensor, state: MemftState) -> Tensor:
    """(B, T) factor of the window, which grows by half after 3 steps at the same anchor."""
    if state.wrong is None:
        raise ProfileError(
            "method 'sw' needs state.wrong: (B, T), where the argmax is not the token"
        )
    length = loss.shape[1]
    wrong = state.wrong.bool() & answer.bool()
    anchors = torch.where(wrong.any(1), wrong.int().argmax(1), length)
    names = range(len(loss)) if state.rows is None else state.rows.tolist()
    for name, anchor in zip(names, anchors.tolist(), strict=True):
        _follow(state, name, anchor)
    widths = torch.tensor([state.windows[name] for name in names], device=loss.device)
    since = torch.arange(length, device=loss.device) - anchors[:, None]
    inside = torch.exp(-since / DECAY).clamp(min=FLOOR)
    factor = torch.where(since < widths[:, None], inside, torch.full_like(inside, FLOOR))
    return torch.where(since < 0, torch.ones_like(factor), factor).to(loss)


def _follow(state: MemftState, name: int, anchor: int) -> None:
    """Widen the window of a sample whose anchor is stuck; begin anew where it moved on."""
    if state.anchors.get(name, -1) >= anchor:
        state.stuck[name] += 1
        if state.stuck[name] == PATIENCE:
            state.stuck[name] = 0
            state.windows[name] = min(state.windows[name] * GROWTH, WINDOW * WIDEST)
        return
    state.anchors[name], state.stuck[name], state.windows[name] = anchor, 0, WINDOW


def _curriculum(loss: Tensor, state: MemftState) -> Tensor:
    """(B,) 1 for samples that are open by now: the first fifth, then one more each fifth."""
    if state.rows is None or state.samples < 1:
        raise ProfileError("method 'sw_phone_book' needs state.rows, (B,), and state.samples")
    open_share = min(1 + int(STAGES * state.progress), STAGES) / STAGES
    return (state.rows.to(loss.device) < open_share * state.samples).to(loss)
