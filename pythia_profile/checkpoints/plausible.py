"""Whether scores look like those of the checkpoint that they are said to be of.

In: the `ROWS` and `SCORES` tables of a study. Out: for each size the checkpoints that do not fit.

    loss      far from that of its neighbors, or at step 0 far from that of guessing, ln(vocabulary)
    anomaly   rows that no step had read yet are known better than before, against never-treated
              rows: the weights of a later step, most often the last
"""

import math

import numpy as np
import numpy.typing as npt
import polars as pl

from pythia_profile.checkpoints.continuity import odd_ones

__all__ = ["odd_scores"]

Odd = dict[str, dict[int, list[str]]]

_GUESSING = 1.0
"""Nats per token that the loss at step 0 may be off ln(vocabulary)."""

_STANDARD_ERRORS = 6.0
_LEAST_EFFECT = 0.01


def odd_scores(rows: pl.DataFrame, scores: pl.DataFrame, vocabulary: int) -> Odd:
    """Find checkpoints whose scores do not fit, by size and step.

    Parameters
    ----------
    vocabulary : number of token ids; a model that knows nothing has a loss of its logarithm.

    Returns
    -------
    size -> step -> list of reasons.
    """
    found: Odd = {}
    for (size,), of_size in scores.group_by("size", maintain_order=True):
        wide = of_size.pivot("checkpoint", index="row_id", values="log_likelihood")
        steps = sorted(int(name) for name in wide.columns if name != "row_id")
        joined = wide.join(rows.select("row_id", "treatment_step"), on="row_id", how="inner")
        y = joined.select(map(str, steps)).to_numpy()
        read = joined["treatment_step"].fill_null(np.iinfo(np.int64).max).to_numpy()
        reasons: dict[int, list[str]] = {}
        losses = (-np.nanmean(y, axis=0)).tolist() if len(y) else []
        for step, why in odd_ones(steps, losses).items():
            reasons.setdefault(step, []).append(f"loss {why}")
        if steps[:1] == [0] and losses and abs(losses[0] - math.log(vocabulary)) > _GUESSING:
            reasons.setdefault(0, []).append(
                f"loss {losses[0]:.2f} before training, expected about {math.log(vocabulary):.2f}"
            )
        for step, why in _anomalies(y, read, steps).items():
            reasons.setdefault(step, []).append(why)
        found[str(size)] = reasons
    return found


def _anomalies(
    y: npt.NDArray[np.float64], read: npt.NDArray[np.int64], steps: list[int]
) -> dict[int, str]:
    """Find steps at which rows that are read later are known already.

    Each is compared with the checkpoint before it (the first with the one after it), on rows that
    neither has read, less the same change of never-treated rows.
    """
    never = read == np.iinfo(np.int64).max
    found = {}
    for place, step in enumerate(steps):
        other = place - 1 if place else 1
        if other >= len(steps):
            continue
        unread = ~never & (read > max(step, steps[other]))
        change = y[:, place] - y[:, other]
        treated, control = change[unread], change[never]
        treated, control = treated[np.isfinite(treated)], control[np.isfinite(control)]
        if min(len(treated), len(control)) < 2:
            continue
        effect = float(treated.mean() - control.mean())
        error = math.sqrt(treated.var() / len(treated) + control.var() / len(control))
        if effect > _LEAST_EFFECT and effect > _STANDARD_ERRORS * error:
            found[step] = (
                f"{len(treated)} rows that are read later are known better by {effect:.3f} ± "
                f"{error:.3f} nats per token than at step {steps[other]}"
            )
    return found
