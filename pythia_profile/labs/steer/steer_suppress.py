"""What suppressing a direction does: how much of rows is still given back, at what loss.

Each row's first part is given, the rest follows greedily under ε. Beside the memory steer stands a
random one of the same singular values: what any push of that size does.
"""

from collections.abc import Sequence

import numpy as np
import polars as pl
from transformers.modeling_utils import PreTrainedModel

from pythia_profile.labs.steer.steer_map import Steer, steered
from pythia_profile.labs.steer.steer_memory import Halves, MemorySettings, random_steer
from pythia_profile.labs.steer.steer_settings import Generation
from pythia_profile.labs.steer.steer_sweep import continued, mean_interval
from pythia_profile.labs.steer.steer_texts import Tokens, text_losses

__all__ = ["suppression"]


def suppression(
    model: PreTrainedModel, steer: Steer, split: Halves, settings: MemorySettings
) -> pl.DataFrame:
    """Measure extraction of the tested half's rows, and the loss of those outside.

    Returns
    -------
    A line for each steer (`memory`, `random`), strength and quantity: `steer`, `value`, `quantity`,
    `estimate`, `lower`, `upper` (95 % over rows). Quantities: `extracted`, share of rows inside
    that are given back whole; `matched`, share of their tokens, and `matched outside` of the other
    rows'; `perplexity` of the rows outside.
    """
    inside, outside = (split.tested(inside=one)[: settings.given_back] for one in (True, False))
    both = {"memory": steer, "random": random_steer(steer, settings.seed)}
    lines = []
    for name, one in both.items():
        for value in settings.strengths:
            matched = _matched(model, one, inside, value, settings.prompt)
            others = _matched(model, one, outside, value, settings.prompt)
            with steered(model, one, value):
                losses = np.array([row.mean(dtype=float) for row in text_losses(model, outside)])
            found = {
                "extracted": mean_interval((matched == 1).astype(float)),
                "matched": mean_interval(matched),
                "matched outside": mean_interval(others),
                # the interval of the mean loss, on the scale of its exponential
                "perplexity": tuple(np.exp(mean_interval(losses)).tolist()),
            }
            lines += [(name, float(value), what, *numbers) for what, numbers in found.items()]
    columns = ["steer", "value", "quantity", "estimate", "lower", "upper"]
    return pl.DataFrame(lines, columns, orient="row")


def _matched(
    model: PreTrainedModel, steer: Steer, rows: Sequence[Tokens], value: float, share: float
) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    """Share of each row's continuation that follows greedily from its first part."""
    tokens = np.stack(rows)
    prompt = max(1, round(share * tokens.shape[1]))
    how = Generation(tokens=tokens.shape[1] - prompt, greedy=True)
    found = continued(model, tokens[:, :prompt], how, steer.processor(model, value))
    equal: np.ndarray[tuple[int], np.dtype[np.float64]] = (found == tokens[:, prompt:]).mean(axis=1)
    return equal
