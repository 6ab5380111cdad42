"""Learning rate of each optimizer step, as the training code computed it.

Update g (1-based) is made with the rate after t = g - 1 completed updates, so update 1 of a run
with warm-up has rate 0: its batch leaves no direct trace. OLMo counts the batch that is being read,
t = g: there update 1 has a rate, as it has in GPT-NeoX since May 2026 (`neox_2026`). Rates are in
the optimizer's own unit.
"""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

Rates = npt.NDArray[np.float64]


def neox_v1(
    updates: npt.ArrayLike, *, peak: float, minimum: float, warmup: int, total: int
) -> Rates:
    """Rate of each update under GPT-NeoX v1.0, the code that trained Pythia.

    Linear from 0 to `peak` over `warmup` completed updates, then a cosine whose period is the
    *whole* run, cut off at `minimum`. Because the cosine divides by `total` and not by what is
    left after the warm-up, it reaches the floor before the end (for Pythia near step 115,000) and
    stays there.

    Parameters
    ----------
    updates : (n,) optimizer steps, 1-based.
    peak, minimum : highest rate, floor.
    warmup, total : optimizer steps of warm-up and of the whole run.

    Returns
    -------
    (n,) rates.

    Source: EleutherAI/gpt-neox at d36f623 and v1.0, `megatron/learning_rates.py`.

    Examples
    --------
    >>> neox_v1([1, 1431], peak=1e-3, minimum=1e-4, warmup=1430, total=143_000).tolist()
    [0.0, 0.001]
    """
    done = np.minimum(np.asarray(updates, dtype=np.float64) - 1, total - warmup)
    cosine = peak / 2 * (1 + np.cos(np.pi * (done - warmup) / total))
    rising = peak * done / max(warmup, 1)
    return np.where(done < warmup, rising, np.maximum(minimum, cosine))


def neox_current(
    updates: npt.ArrayLike, *, peak: float, minimum: float, warmup: int, total: int
) -> Rates:
    """Rate of each update under GPT-NeoX of 2023 to May 2026: a cosine that ends at `minimum`.

    Same parameters as `neox_v1`. Later code has a rate at update 1: `neox_2026`.

    Source: EleutherAI/gpt-neox from eda5aae to the parent of 19f294d, `megatron/learning_rates.py`.
    """
    done = np.minimum(np.asarray(updates, dtype=np.float64) - 1, total)
    fall = np.cos(np.pi * (done - warmup) / max(total - warmup, 1))
    rising = peak * done / max(warmup, 1)
    return np.where(done < warmup, rising, minimum + (peak - minimum) / 2 * (1 + fall))


def neox_2026(
    updates: npt.ArrayLike, *, peak: float, minimum: float, warmup: int, total: int
) -> Rates:
    """Rate of each update under GPT-NeoX since May 2026: update 1 is no longer at rate 0.

    Updates 1 and 2 share the first rate of the warm-up; from update 2 on it is `neox_current`. Same
    parameters as `neox_v1`.

    Source: EleutherAI/gpt-neox at 19f294d, `megatron/learning_rates.py`.

    Examples
    --------
    >>> neox_2026([1, 2, 3, 5], peak=1.0, minimum=0.1, warmup=4, total=12).tolist()
    [0.25, 0.25, 0.5, 1.0]
    """
    later = np.maximum(updates, 2) if warmup else updates
    return neox_current(later, peak=peak, minimum=minimum, warmup=warmup, total=total)


def linear(
    updates: npt.ArrayLike, *, peak: float, minimum: float, warmup: int, total: int
) -> Rates:
    """Rate of each update that rises in a line to `peak` and falls in a line to `minimum`.

    Same parameters as `neox_v1`.

    Examples
    --------
    >>> linear([1, 3, 5, 7], peak=1.0, minimum=0.5, warmup=2, total=6).tolist()
    [0.0, 1.0, 0.75, 0.5]
    """
    done = np.minimum(np.asarray(updates, dtype=np.float64) - 1, total)
    fall = (done - warmup) / max(total - warmup, 1)
    rising = peak * done / max(warmup, 1)
    return np.where(done < warmup, rising, peak + (minimum - peak) * fall)


def olmo_cosine(
    updates: npt.ArrayLike, *, peak: float, minimum: float, warmup: int, total: float
) -> Rates:
    """Rate of each update under OLMo's trainer: as `neox_current`, but with t = g.

    Same parameters as `neox_v1`; `total` need not be whole, where it was set in tokens.

    Source: allenai/OLMo at 59a53e3, `olmo/optim.py` (CosWithWarmup) and `olmo/train.py`, which
    adds a batch to its count before it sets the rate.

    Examples
    --------
    >>> olmo_cosine([1, 2, 4, 6], peak=1.0, minimum=0.1, warmup=2, total=6).round(3).tolist()
    [0.5, 1.0, 0.55, 0.1]
    """
    done = np.minimum(np.asarray(updates, dtype=np.float64), total)
    fall = np.cos(np.pi * (done - warmup) / max(total - warmup, 1))
    rising = peak * done / max(warmup, 1)
    return np.where(done < warmup, rising, minimum + (peak - minimum) / 2 * (1 + fall))


def olmo_linear(
    updates: npt.ArrayLike, *, peak: float, minimum: float, warmup: int, total: float
) -> Rates:
    """Rate of each update of OLMo-2's stage 2: a line from `peak` to `minimum`, with t = g.

    From update `total` on it is `minimum`; with 0 these updates move no weight, because weight
    decay is multiplied by the rate.

    Source: allenai/OLMo at 59a53e3, `olmo/optim.py` (LinearWithWarmup).

    Examples
    --------
    >>> olmo_linear([1, 5, 10, 11], peak=1.0, minimum=0.0, warmup=0, total=10).tolist()
    [0.9, 0.5, 0.0, 0.0]
    """
    done = np.minimum(np.asarray(updates, dtype=np.float64), total)
    fall = (done - warmup) / max(total - warmup, 1)
    rising = peak * done / max(warmup, 1)
    return np.where(done < warmup, rising, peak + (minimum - peak) * fall)


def olmo1_cosine(
    updates: npt.ArrayLike, *, peak: float, minimum: float, warmup: int, total: float
) -> Rates:
    """Rate of each update of OLMo 1: as `olmo_cosine`, with a warm-up from a tenth of the peak.

    Source: allenai/OLMo at 59a53e3, `olmo/optim.py` (`_linear_warmup` without `warmup_min_lr`).

    Examples
    --------
    >>> olmo1_cosine([1, 2, 4, 6], peak=1.0, minimum=0.1, warmup=2, total=6).round(3).tolist()
    [0.55, 1.0, 0.55, 0.1]
    """
    later = olmo_cosine(updates, peak=peak, minimum=minimum, warmup=warmup, total=total)
    return _from_a_tenth(updates, later, peak, warmup)


def olmo1_linear(
    updates: npt.ArrayLike, *, peak: float, minimum: float, warmup: int, total: float
) -> Rates:
    """Rate of each update of OLMo-7B: as `olmo_linear`, with a warm-up from a tenth of the peak.

    Source: as `olmo1_cosine` (LinearWithWarmup).
    """
    later = olmo_linear(updates, peak=peak, minimum=minimum, warmup=warmup, total=total)
    return _from_a_tenth(updates, later, peak, warmup)


def _from_a_tenth(updates: npt.ArrayLike, later: Rates, peak: float, warmup: int) -> Rates:
    done = np.asarray(updates, dtype=np.float64)
    return np.where(done < warmup, peak * (0.1 + 0.9 * done / max(warmup, 1)), later)


def olmo3_extended(
    updates: npt.ArrayLike, *, peak: float, minimum: float, warmup: int, total: float
) -> Rates:
    """Rate of each update of OLMo-3 7B, whose cosine was stretched half way down.

    Until update 597,046 it is `olmo_cosine` over 1,192,093 updates; from there, at half height, the
    second half of a cosine that ends at `total`.

    Source: `OLMo-3-1025-7B-pretrain-1.py` and `-2.py` of allenai/OLMo-core at fa6c501.

    Examples
    --------
    >>> ends = {"peak": 3e-4, "minimum": 3e-5, "warmup": 2000, "total": 1_668_931}
    >>> olmo3_extended([2000, 597_046, 1_668_931], **ends).round(9).tolist()
    [0.0003, 0.000165, 3e-05]
    """
    stretched, planned = 597_046, 1_192_093
    before = olmo_cosine(updates, peak=peak, minimum=minimum, warmup=warmup, total=planned)
    half = total - stretched
    past = np.clip(np.asarray(updates, dtype=np.float64) - stretched, 0, half)
    after = minimum + (peak - minimum) / 2 * (1 + np.cos(np.pi * (past + half) / (2 * half)))
    return np.where(np.asarray(updates) < stretched, before, after)


SCHEDULES: dict[str, Callable[..., Rates]] = {
    "neox_v1": neox_v1,
    "neox_current": neox_current,
    "neox_2026": neox_2026,
    "linear": linear,
    "olmo_cosine": olmo_cosine,
    "olmo_linear": olmo_linear,
    "olmo1_cosine": olmo1_cosine,
    "olmo1_linear": olmo1_linear,
    "olmo3_extended": olmo3_extended,
}
"""Schedules that a suite may name."""
