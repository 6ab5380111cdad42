"""Scores of token rows under one model: one line per row, means over the row's targets.

A row of T tokens has T - 1 targets: token 0 is only read. Sums over a row are float64.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt
import polars as pl
import torch
from transformers.modeling_utils import PreTrainedModel

from pythia_profile.errors import ProfileError
from pythia_profile.scoring.surprisal import TokenStatistics, token_statistics

__all__ = ["ScoringError", "score_checkpoint"]

BATCH_TOKENS = 4096
"""Tokens in one forward pass, in whole rows; fixed, so that results do not depend on luck."""


class ScoringError(ProfileError):
    """Rows and model do not belong together, or the model gives no numbers."""


def score_checkpoint(
    model: PreTrainedModel,
    rows: pl.DataFrame | npt.NDArray[np.integer],
    *,
    batch_tokens: int = BATCH_TOKENS,
    advance: Callable[[int], None] | None = None,
) -> pl.DataFrame:
    """Score rows under a model.

    Parameters
    ----------
    model : a causal language model in eval mode, `CheckpointLoader.load` gives one.
    rows : frame with `row_id` and `tokens`, or (n, T) token ids, then rows 0 to n - 1.
    batch_tokens : tokens in one forward pass, in whole rows, at least one row.
    advance : called with the number of rows of each pass, when they are scored.

    Returns
    -------
    One line per row, in the given order: `row_id`, `log_likelihood` (nats per token), `accuracy`
    (share of greedy hits), `mean_rank` (0 = greedy), `entropy` (nats).

    Raises
    ------
    ScoringError
        Rows of unequal length, longer than the model reads, token ids outside the vocabulary, or
        logits that are not finite.
    """
    row_ids, tokens = _tokens(rows)
    _check_rows(model, row_ids, tokens)
    step = max(1, batch_tokens // max(1, tokens.shape[1] - 1))
    parts = []
    for start in range(0, len(tokens), step):
        batch = torch.from_numpy(tokens[start : start + step].astype(np.int64))
        statistics = batch_statistics(model, batch.to(model.device))
        parts.append(_row_means(statistics, len(batch)))
        _check_finite(parts[-1], row_ids[start : start + step], statistics)
        if advance is not None:
            advance(len(batch))
    means = np.concatenate(parts) if parts else np.empty((0, 4))
    names = ("log_likelihood", "accuracy", "mean_rank", "entropy")
    return pl.DataFrame({"row_id": row_ids} | dict(zip(names, means.T, strict=True)))


@torch.no_grad()
def batch_statistics(model: PreTrainedModel, tokens: torch.Tensor) -> TokenStatistics:
    """Statistics of all targets of `tokens` (rows, T): row by row, (rows * (T - 1),) each."""
    hidden = model.base_model(input_ids=tokens[:, :-1], use_cache=False).last_hidden_state
    head = model.get_output_embeddings().weight
    return token_statistics(hidden.flatten(0, 1), head, tokens[:, 1:].flatten())


def _row_means(statistics: TokenStatistics, rows: int) -> npt.NDArray[np.float64]:
    """(rows, 4): log-likelihood, accuracy, mean rank, entropy."""
    columns = (
        -statistics.surprisal,
        statistics.rank == 0,
        statistics.rank,
        statistics.entropy,
    )
    means = [column.reshape(rows, -1).double().mean(dim=1) for column in columns]
    return torch.stack(means, dim=1).cpu().numpy()


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
    return rows["row_id"].to_numpy(), rows["tokens"].explode().to_numpy().reshape(-1, width)


def _check_rows(
    model: PreTrainedModel, row_ids: npt.NDArray[np.int64], tokens: npt.NDArray[np.integer]
) -> None:
    positions = getattr(model.config, "max_position_embeddings", None)
    if tokens.shape[1] < 2:
        raise ScoringError(f"rows have {tokens.shape[1]} tokens; scoring needs at least 2")
    if positions is not None and tokens.shape[1] - 1 > positions:
        raise ScoringError(
            f"rows have {tokens.shape[1]} tokens, this model reads {positions} and the last target "
            f"({positions + 1} in all); rows and model do not belong together"
        )
    vocabulary = model.get_output_embeddings().weight.shape[0]
    if tokens.size and int(tokens.max()) >= vocabulary:
        row, place = np.argwhere(tokens >= vocabulary)[0]
        raise ScoringError(
            f"row {row_ids[row]} has token id {tokens[row, place]} at position {place}; the "
            f"model's vocabulary has {vocabulary:,} entries; rows and model do not belong together"
        )


def _check_finite(
    means: npt.NDArray[np.float64], row_ids: npt.NDArray[np.int64], statistics: TokenStatistics
) -> None:
    finite = np.isfinite(means).all(axis=1)
    if finite.all():
        return
    row = int(np.flatnonzero(~finite)[0])
    tokens = statistics.surprisal.reshape(len(means), -1)[row]
    place = int((~torch.isfinite(tokens)).nonzero()[0]) + 1
    raise ScoringError(
        f"row {row_ids[row]} has a surprisal that is not a finite number, first at token {place}; "
        "the weights hold NaN or infinity, or float16 overflows (use float32)"
    )
