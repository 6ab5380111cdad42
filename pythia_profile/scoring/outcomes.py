"""Outcomes of a row: each named set is a group of columns, most from one forward pass.

    base            log_likelihood, accuracy, mean_rank, entropy
    first_K         log-likelihood of the first K targets
    min_K           mean log-likelihood of the K % least likely targets (Shi et al., 2024)
    min_K++         the same of standardized log-likelihoods (Zhang et al., 2024)
    zlib            log-likelihood per bit that zlib needs for the text (Carlini et al., 2021)
    recall_P_C      greedy continuation of the row's first P tokens by C more: share of tokens that
                    match, whether all do (Carlini et al., 2023), and how many do from the first on
    extraction_K    recall_K_K, the share and whether all match
    exact_P_C       whether all match, and the log-probability of the C tokens after the first P,
                    both from the forward pass that is made anyway

In: the statistics of a batch of rows. Out: one number a row and column, float64. Higher means
better remembered, but for `mean_rank` and `entropy`.
"""

import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from transformers.modeling_utils import PreTrainedModel

from pythia_profile.errors import NotFoundError, ProfileError, not_found
from pythia_profile.scoring.columns import BASE, KNOWN, plugin, scorer_columns

__all__ = ["BASE", "KNOWN", "Batch", "Outcome", "outcome", "outcomes_of"]

Decode = Callable[[Sequence[int]], str]


@dataclass(frozen=True, slots=True)
class Batch:
    """A batch of scored rows: B rows, T tokens, T - 1 targets.

    Attributes
    ----------
    tokens : (B, T) token ids.
    surprisal, entropy, rank, varentropy : (B, T - 1) of each target.
    model : that gave them.
    decode : from token ids to text; None where there is no tokenizer.
    """

    tokens: Tensor
    surprisal: Tensor
    entropy: Tensor
    rank: Tensor
    varentropy: Tensor
    model: PreTrainedModel
    decode: Decode | None = None


@dataclass(frozen=True, slots=True)
class Outcome:
    """A named set of columns.

    Attributes
    ----------
    name : as a study names it.
    columns : what it adds to the scores.
    compute : from a batch to (B,) float64 for each column.
    tokens_needed : shortest row it is defined for.
    needs_text : whether it needs a tokenizer.
    """

    name: str
    columns: tuple[str, ...]
    compute: Callable[[Batch], tuple[Tensor, ...]]
    tokens_needed: int = 2
    needs_text: bool = False


def outcomes_of(names: Sequence[str]) -> list[Outcome]:
    """Return the outcomes called `names`, the base ones always and first."""
    return [outcome(name) for name in dict.fromkeys((BASE, *names))]


def outcome(name: str) -> Outcome:
    """Return the outcome called `name`.

    Raises
    ------
    NotFoundError
        There is none; a typo is answered with near matches.

    Examples
    --------
    >>> outcome("first_32").columns
    ('log_likelihood_first_32',)
    >>> outcome("min_20").columns
    ('min_20',)
    """
    if name == BASE:
        return Outcome(BASE, scorer_columns(BASE), _base)
    if name == "zlib":
        return Outcome("zlib", scorer_columns("zlib"), _zlib, needs_text=True)
    for pattern, make in _PATTERNS.items():
        if found := re.fullmatch(pattern, name):
            return make(*map(int, found.groups()))
    if (entry := plugin(name)) is not None:
        return _of_package(name, entry.load())
    raise not_found("outcome", name, list(KNOWN))


def _of_package(name: str, found: object) -> Outcome:
    if not isinstance(found, Outcome) or found.name != name:
        raise ProfileError(
            f"outcome '{name}': its entry point gives {found!r:.60}, expected an Outcome of that "
            "name"
        )
    return found


def _base(batch: Batch) -> tuple[Tensor, ...]:
    hits = (batch.rank == 0).double()
    columns = (-batch.surprisal.double(), hits, batch.rank.double(), batch.entropy.double())
    return tuple(column.mean(dim=1) for column in columns)


def _first(count: int) -> Outcome:
    if count < 1:
        raise NotFoundError(f"outcome 'first_{count}': expected at least one target")
    return Outcome(
        f"first_{count}",
        scorer_columns(f"first_{count}"),
        lambda batch: (-batch.surprisal[:, :count].double().mean(dim=1),),
        tokens_needed=count + 1,
    )


def _least(percent: int) -> Outcome:
    _check_percent(percent)
    name = f"min_{percent}"
    return Outcome(
        name, scorer_columns(name), lambda batch: (_mean_of_least(-batch.surprisal, percent),)
    )


def _least_standardized(percent: int) -> Outcome:
    _check_percent(percent)

    def compute(batch: Batch) -> tuple[Tensor, ...]:
        spread = batch.varentropy.double().sqrt().clamp_min(1e-6)
        z = (batch.entropy.double() - batch.surprisal.double()) / spread
        return (_mean_of_least(z, percent),)

    return Outcome(f"min_{percent}++", scorer_columns(f"min_{percent}++"), compute)


def _mean_of_least(values: Tensor, percent: int) -> Tensor:
    count = max(1, values.shape[1] * percent // 100)
    return values.double().topk(count, dim=1, largest=False).values.mean(dim=1)


def _check_percent(percent: int) -> None:
    if not 1 <= percent <= 100:
        raise NotFoundError(f"outcome 'min_{percent}': expected a percentage from 1 to 100")


def _zlib(batch: Batch) -> tuple[Tensor, ...]:
    if batch.decode is None:
        raise ProfileError("outcome 'zlib' needs the suite's tokenizer, and there is none")
    texts = [batch.decode(row) for row in batch.tokens.tolist()]
    bits = torch.tensor([8.0 * len(zlib.compress(text.encode())) for text in texts])
    total = batch.surprisal.double().sum(dim=1)
    return (-total / bits.to(total),)


def _recall(prompt: int, count: int) -> Outcome:
    _check_recall(f"recall_{prompt}_{count}", prompt, count)

    def compute(batch: Batch) -> tuple[Tensor, ...]:
        hits = _hits(batch, prompt, count)
        leading = hits.cumprod(dim=1).sum(dim=1)
        return hits.mean(dim=1), hits.min(dim=1).values, leading

    name = f"recall_{prompt}_{count}"
    return Outcome(name, scorer_columns(name), compute, tokens_needed=prompt + count)


def _extraction(count: int) -> Outcome:
    name = f"extraction_{count}"
    _check_recall(name, count, count)

    def compute(batch: Batch) -> tuple[Tensor, ...]:
        hits = _hits(batch, count, count)
        return hits.mean(dim=1), hits.min(dim=1).values

    return Outcome(name, scorer_columns(name), compute, tokens_needed=2 * count)


def _exact(prompt: int, count: int) -> Outcome:
    name = f"exact_{prompt}_{count}"
    _check_recall(name, prompt, count)

    def compute(batch: Batch) -> tuple[Tensor, ...]:
        # Greedy decoding gives back the continuation iff, after each true prefix, the next true
        # token is the likeliest one: as long as all were right, both have read the same tokens.
        targets = slice(prompt - 1, prompt - 1 + count)
        exact = (batch.rank[:, targets] == 0).all(dim=1).double()
        return exact, -batch.surprisal[:, targets].double().sum(dim=1)

    return Outcome(name, scorer_columns(name), compute, tokens_needed=prompt + count)


def _hits(batch: Batch, prompt: int, count: int) -> Tensor:
    """(B, count) 1.0 where the greedy continuation has the row's token."""
    continued = greedy_continuation(batch.model, batch.tokens[:, :prompt], count)
    return (continued == batch.tokens[:, prompt : prompt + count]).double()


def _check_recall(name: str, prompt: int, count: int) -> None:
    if min(prompt, count) < 1:
        raise NotFoundError(f"outcome '{name}': expected at least one token to read and to give")


@torch.no_grad()
def greedy_continuation(model: PreTrainedModel, prompt: Tensor, count: int) -> Tensor:
    """Continue each prompt (B, K) by `count` tokens, always the likeliest one: (B, count)."""
    output = model(input_ids=prompt, use_cache=True, logits_to_keep=1)
    tokens = []
    for _ in range(count - 1):
        tokens.append(output.logits[:, -1].argmax(dim=1, keepdim=True))
        output = model(input_ids=tokens[-1], past_key_values=output.past_key_values, use_cache=True)
    tokens.append(output.logits[:, -1].argmax(dim=1, keepdim=True))
    return torch.cat(tokens, dim=1)


_PATTERNS: dict[str, Callable[..., Outcome]] = {
    r"first_(\d+)": _first,
    r"min_(\d+)": _least,
    r"min_(\d+)\+\+": _least_standardized,
    r"extraction_(\d+)": _extraction,
    r"recall_(\d+)_(\d+)": _recall,
    r"exact_(\d+)_(\d+)": _exact,
}
