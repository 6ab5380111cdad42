"""Token rows under one model: one line of scores per row, and on request every token's statistics.

A row of T tokens has T - 1 targets: token 0 is only read. Means over a row are float64.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from transformers.modeling_utils import PreTrainedModel

from pythia_profile.errors import ProfileError, check_kind
from pythia_profile.scoring.outcomes import Batch, Decode, Outcome, outcomes_of
from pythia_profile.scoring.settings import Scoring
from pythia_profile.scoring.surprisal import Compile, token_statistics

__all__ = ["ScoredRows", "ScoringError", "score_checkpoint", "score_rows"]


class ScoringError(ProfileError):
    """Rows and model do not belong together, or the model gives no numbers."""


@dataclass(frozen=True, slots=True)
class ScoredRows:
    """Scores of some rows under one model.

    Attributes
    ----------
    rows : `row_id` and the columns of every outcome.
    tokens : `row_id`, and of each target `surprisal` and `entropy` (float16, nats) and `rank`
        (uint16), as arrays of T - 1; None unless asked for.
    batch_tokens : tokens of a forward pass; less than asked for where memory ran out.
    """

    rows: pl.DataFrame
    tokens: pl.DataFrame | None
    batch_tokens: int


def score_checkpoint(
    model: PreTrainedModel,
    rows: pl.DataFrame | npt.NDArray[np.integer],
    *,
    outcomes: Sequence[str] = (),
    batch_tokens: int = 4096,
    decode: Decode | None = None,
    compile: Compile = "auto",
    advance: Callable[[int], None] | None = None,
) -> pl.DataFrame:
    """Score rows under a model.

    Parameters
    ----------
    model : a causal language model in eval mode, `CheckpointLoader.load` gives one.
    rows : frame with `row_id` and `tokens`, or (n, T) token ids, then rows 0 to n - 1.
    outcomes : further sets of columns, named as in `pythia_profile.scoring.outcomes`.
    batch_tokens : tokens in one forward pass, in whole rows, at least one row.
    decode : from token ids to text, for outcomes that need it.
    compile : of the token statistics, as in `token_statistics`.
    advance : called with the number of rows of each pass, when they are scored.

    Returns
    -------
    One line per row, in the given order: `row_id`, `log_likelihood` (nats per token), `accuracy`
    (share of greedy hits), `mean_rank` (0 = greedy), `entropy` (nats), then further outcomes.

    Raises
    ------
    ScoringError
        Rows of unequal length, shorter than an outcome needs or longer than the model reads, token
        ids outside the vocabulary, or logits that are not finite.
    """
    check_kind(model, PreTrainedModel, "model", "a language model of transformers")
    settings = Scoring(scorers=tuple(outcomes), batch_tokens=batch_tokens)
    return score_rows(model, rows, settings, decode=decode, compile=compile, advance=advance).rows


def score_rows(
    model: PreTrainedModel,
    rows: pl.DataFrame | npt.NDArray[np.integer],
    settings: Scoring,
    *,
    decode: Decode | None = None,
    compile: Compile = "auto",
    advance: Callable[[int], None] | None = None,
) -> ScoredRows:
    """Score rows as `score_checkpoint` does, and keep every token's statistics on request.

    Where memory runs out, the batch is halved, down to single rows, and the batch that did is part
    of the result.
    """
    row_ids, tokens = _tokens(rows)
    wanted = outcomes_of(settings.scorers)
    _check_rows(model, row_ids, tokens, wanted)
    targets = max(1, tokens.shape[1] - 1)
    step = max(1, settings.batch_tokens // targets)
    parts, kept, start = [], [], 0
    while start < len(tokens):
        here = slice(start, start + step)
        try:
            batch = _forward(model, tokens[here], decode, compile)
            columns = [column for one in wanted for column in one.compute(batch)]
        except (torch.OutOfMemoryError, MemoryError, RuntimeError) as error:
            step = _halved(step, error)
            continue
        means = torch.stack(columns, dim=1).cpu().numpy()
        _check_finite(means, row_ids[here], batch)
        parts.append(means)
        if settings.token_table:
            kept.append(_token_table(row_ids[here], batch))
        start += len(means)
        if advance is not None:
            advance(len(means))
    names = [name for one in wanted for name in one.columns]
    values = np.concatenate(parts) if parts else np.empty((0, len(names)))
    frame = pl.DataFrame({"row_id": row_ids} | dict(zip(names, values.T, strict=True)))
    table = pl.concat(kept) if kept else None
    return ScoredRows(frame, table, step * targets)


@torch.no_grad()
def _forward(
    model: PreTrainedModel,
    tokens: npt.NDArray[np.integer],
    decode: Decode | None,
    compile: Compile,
) -> Batch:
    """Statistics of all targets of `tokens` (B, T)."""
    ids = torch.from_numpy(tokens.astype(np.int64)).to(model.device)
    hidden = model.base_model(input_ids=ids[:, :-1], use_cache=False).last_hidden_state
    found = token_statistics(
        hidden.flatten(0, 1),
        model.get_output_embeddings().weight,
        ids[:, 1:].flatten(),
        compile=compile,
    )
    shape = len(ids), -1
    return Batch(
        tokens=ids,
        surprisal=found.surprisal.reshape(shape),
        entropy=found.entropy.reshape(shape),
        rank=found.rank.reshape(shape),
        varentropy=found.varentropy.reshape(shape),
        model=model,
        decode=decode,
    )


def _halved(step: int, error: Exception) -> int:
    """Half the batch after running out of memory; anything else is raised again."""
    ran_out = isinstance(error, torch.OutOfMemoryError | MemoryError) or (
        "not enough memory" in str(error) or "can't allocate memory" in str(error)
    )
    if not ran_out:
        raise error
    if torch.cuda.is_available():
        torch.cuda.empty_cache()
    if step == 1:
        raise ScoringError(
            "out of memory with a single row in the batch; use a narrower dtype, a larger device "
            "or fewer workers"
        ) from error
    return step // 2


def _token_table(row_ids: npt.NDArray[np.int64], batch: Batch) -> pl.DataFrame:
    """Lay out every target in six bytes: surprisal and entropy to three digits, and the rank."""
    width = batch.surprisal.shape[1]
    half = pl.Array(pl.Float16, width)
    ranks = batch.rank.clamp_max(2**16 - 1).to(torch.uint16)
    return pl.DataFrame(
        {
            "row_id": row_ids,
            "surprisal": pl.Series(batch.surprisal.half().cpu().numpy(), dtype=half),
            "entropy": pl.Series(batch.entropy.half().cpu().numpy(), dtype=half),
            "rank": pl.Series(ranks.cpu().numpy(), dtype=pl.Array(pl.UInt16, width)),
        }
    )


def _tokens(
    rows: pl.DataFrame | npt.NDArray[np.integer],
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.integer]]:
    if not isinstance(rows, pl.DataFrame):
        return np.arange(len(rows), dtype=np.int64), np.atleast_2d(rows)
    lengths = rows["tokens"].list.len()
    if lengths.n_unique() > 1:
        common = lengths.mode().item(0)
        odd = rows.filter(lengths != common).row(0, named=True)
        raise ScoringError(
            f"row {odd['row_id']} has {len(odd['tokens'])} tokens, the others have {common}; rows "
            "of one study must be of one length"
        )
    width = lengths.item(0) if len(rows) else 1
    if not width:
        raise ScoringError("rows have no tokens, expected at least 2: one to read, one to predict")
    return rows["row_id"].to_numpy(), rows["tokens"].explode().to_numpy().reshape(-1, width)


def _check_rows(
    model: PreTrainedModel,
    row_ids: npt.NDArray[np.int64],
    tokens: npt.NDArray[np.integer],
    wanted: Sequence[Outcome],
) -> None:
    _check_head(model)
    if tokens.shape[1] < 2 and len(tokens):
        raise ScoringError(
            f"rows have {tokens.shape[1]} tokens, expected at least 2: one to read, one to predict"
        )
    positions = getattr(model.config, "max_position_embeddings", None)
    width = tokens.shape[1]
    for one in wanted:
        if width < one.tokens_needed:
            raise ScoringError(
                f"rows have {width} tokens; outcome '{one.name}' needs at least {one.tokens_needed}"
            )
    if positions is not None and width - 1 > positions:
        raise ScoringError(
            f"rows have {width} tokens, this model reads {positions} and the last target "
            f"({positions + 1} in all); rows and model do not belong together"
        )
    vocabulary = model.get_output_embeddings().weight.shape[0]
    if tokens.size and int(tokens.max()) >= vocabulary:
        row, position = np.argwhere(tokens >= vocabulary)[0]
        raise ScoringError(
            f"row {row_ids[row]} has token id {tokens[row, position]} at position {position}; the "
            f"model's vocabulary has {vocabulary:,} entries; rows and model do not belong together"
        )


def _check_head(model: PreTrainedModel) -> None:
    """Refuse models whose logits are more than the product of state and output matrix."""
    changes = [
        name
        for name in ("final_logit_softcapping", "logit_scale", "logits_scaling")
        if getattr(model.config, name, None) not in (None, 1, 1.0)
    ]
    if getattr(model.get_output_embeddings(), "bias", None) is not None:
        changes.append("a bias of the output matrix")
    if changes:
        raise ScoringError(
            f"{type(model).__name__} changes its logits after the output matrix "
            f"({', '.join(changes)}), which token statistics do not follow; expected logits that "
            "are the product alone, as of GPT-NeoX and OLMo"
        )


def _check_finite(
    means: npt.NDArray[np.float64], row_ids: npt.NDArray[np.int64], batch: Batch
) -> None:
    finite = np.isfinite(means).all(axis=1)
    if finite.all():
        return
    row = int(np.flatnonzero(~finite)[0])
    odd = (~torch.isfinite(batch.surprisal[row])).nonzero()
    position = int(odd[0]) + 1 if len(odd) else 1
    layer = first_broken_layer(batch.model, batch.tokens[row : row + 1, :-1])
    raise ScoringError(
        f"row {row_ids[row]} has a surprisal that is not a finite number, first at token {position}"
        f"{layer}; the weights hold NaN or infinity, or float16 overflows (use float32)"
    )


@torch.no_grad()
def first_broken_layer(model: PreTrainedModel, tokens: torch.Tensor) -> str:
    """Name the first layer whose output is not finite, as a clause; empty where none is."""
    states = model.base_model(
        input_ids=tokens, use_cache=False, output_hidden_states=True
    ).hidden_states
    for number, state in enumerate(states):
        if not torch.isfinite(state).all():
            name = "the embedding" if number == 0 else f"layer {number} of {len(states) - 1}"
            return f", first in the output of {name}"
    return ", in the output matrix alone"
