"""The noise floor of scoring: how far numbers move when only the execution settings change.

One checkpoint scores the same rows again in other batches, with plain instead of compiled
reductions, and in other precisions. What moves is rounding; an effect not well above it is none.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import polars as pl

from pythia_profile.checkpoints.load import CheckpointLoader
from pythia_profile.errors import StudyError, as_path, check_kind
from pythia_profile.execute.resources import chosen_device
from pythia_profile.scoring.forward import score_checkpoint
from pythia_profile.scoring.outcomes import Decode
from pythia_profile.scoring.settings import Scoring
from pythia_profile.scoring.surprisal import Compile
from pythia_profile.tables import NOISE, conform

__all__ = ["noise_floor"]


@dataclass(frozen=True, slots=True)
class _Variant:
    name: str
    dtype: str
    batch_tokens: int
    compile: Compile = "auto"


def noise_floor(
    checkpoint: Path,
    rows: pl.DataFrame,
    *,
    settings: Scoring | None = None,
    dtypes: Sequence[str] = ("float32", "bfloat16"),
    smallest_se: Mapping[str, float] | None = None,
    decode: Decode | None = None,
) -> pl.DataFrame:
    """Score rows under one checkpoint with several execution settings; compare with the study's.

    Parameters
    ----------
    checkpoint : folder with weights and configuration.
    rows : frame with `row_id` and `tokens`.
    settings : the study's own.
    dtypes : precisions to compare with it.
    smallest_se : of each outcome, the smallest standard error of an effect; without it the columns
        in its units are null.
    decode : from token ids to text, for outcomes that need it.

    Returns
    -------
    The `NOISE` table, one line for each variant and outcome. `shift` is the mean difference of the
    rows to the study's own settings, `spread` its standard deviation over rows, `largest` the
    largest absolute one, all in units of the outcome (nats per token for `log_likelihood`);
    `shift_in_se` and `spread_in_se` in smallest standard errors.

    Raises
    ------
    StudyError
        Fewer than two rows.
    CheckpointError, ScoringError
        As loading and scoring raise them.
    """
    check_kind(rows, pl.DataFrame, "rows", "a polars frame with row_id and tokens")
    checkpoint = as_path(checkpoint, "checkpoint")
    if len(rows) < 2:
        raise StudyError(f"noise floor: got {len(rows)} rows, expected at least 2 to spread")
    settings = settings or Scoring()
    tables: dict[_Variant, pl.DataFrame] = {}
    loader: CheckpointLoader | None = None
    for variant in _variants(settings, dtypes):
        if loader is None or loader.dtype != variant.dtype:
            device = chosen_device(settings.device)
            loader = CheckpointLoader(variant.dtype, device, settings.attention)
            model = loader.load(checkpoint)
        tables[variant] = score_checkpoint(
            model,
            rows,
            outcomes=settings.scorers,
            batch_tokens=variant.batch_tokens,
            decode=decode,
            compile=variant.compile,
        )
    own, *others = tables
    lines = []
    for variant in others:
        for outcome in tables[own].columns[1:]:
            moved = (tables[variant][outcome] - tables[own][outcome]).to_numpy()
            se = (smallest_se or {}).get(outcome)
            shift, spread = float(moved.mean()), float(moved.std(ddof=1))
            lines.append(
                {
                    "way": variant.name,
                    "dtype": variant.dtype,
                    "outcome": outcome,
                    "rows": len(rows),
                    "shift": shift,
                    "spread": spread,
                    "largest": float(np.abs(moved).max()),
                    "shift_in_se": abs(shift) / se if se else None,
                    "spread_in_se": spread / se if se else None,
                }
            )
    return conform(pl.DataFrame(lines, schema_overrides=NOISE.columns), NOISE)


def _variants(settings: Scoring, dtypes: Sequence[str]) -> list[_Variant]:
    """List execution settings; the study's own come first."""
    own, batch = settings.dtype, settings.batch_tokens
    return [
        _Variant("as the study", own, batch),
        _Variant("one row at a time", own, 1),
        _Variant("twice the batch", own, 2 * batch),
        _Variant("plain reductions", own, batch, "never"),
        *(_Variant(f"in {dtype}", dtype, batch) for dtype in dtypes if dtype != own),
    ]
