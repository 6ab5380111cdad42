"""Memorized bits and capacity: pure functions over arrays; n rows, S tokens a row, V tokens.

In: losses or log-likelihoods in nats. Out: bits. Source: Morris et al. (2025), "How much do
language models memorize?", arXiv 2505.24832, section 2 (definition) and section 3 (capacity).
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from jaxtyping import Float
from scipy.special import stdtrit
from scipy.stats import poisson

from pythia_profile.errors import ProfileError

__all__ = [
    "CODES",
    "Accounting",
    "CapacityError",
    "CapacityFit",
    "account",
    "bits_bound",
    "capacity_fit",
    "fully_memorized",
    "unintended_bits",
]

CODES = ("max", "mixture")
"""How target and reference make one code: the larger of both probabilities, or half of each."""

_ROUNDING = 1e-6


class CapacityError(ProfileError):
    """Bits cannot be counted as asked."""

    exit_code = 2


def unintended_bits(
    log_p_target: npt.ArrayLike, log_p_reference: npt.ArrayLike, *, code: str = "max"
) -> npt.NDArray[np.float64]:
    """Bits that a model holds of each row beyond what the reference knows of it.

    `max` is the definition, max(0, log2 p_t − log2 p_r); it is no normalized code, since the larger
    of two probabilities sums to more than 1. `mixture` is the normalized code that says half of
    each, log2(p_t / 2 + p_r / 2) − log2 p_r: at most one bit less, and never below −1.

    Parameters
    ----------
    log_p_target, log_p_reference : of whole rows, nats; of the same rows in the same order.

    Raises
    ------
    CapacityError
        An unknown code, arrays of unequal shapes, or a log-probability above 0 or not finite.

    Examples
    --------
    >>> log2 = np.log(2)
    >>> unintended_bits([-8 * log2, -30 * log2], [-20 * log2, -20 * log2]).round(3)
    array([12.,  0.])
    >>> unintended_bits([-8 * log2, -30 * log2], [-20 * log2, -20 * log2], code="mixture").round(3)
    array([11.   , -0.999])

    Source: Morris et al. (2025), equation 4 and its approximation by −log2 max(p_r, p_t).
    """
    target = np.asarray(log_p_target, dtype=np.float64)
    reference = np.asarray(log_p_reference, dtype=np.float64)
    if code not in CODES:
        raise CapacityError(f"code: got '{code}', expected one of {', '.join(CODES)}")
    if target.shape != reference.shape:
        raise CapacityError(
            f"target has shape {target.shape}, reference {reference.shape}; expected one "
            "log-probability of each for every row"
        )
    for name, values in (("target", target), ("reference", reference)):
        if not np.isfinite(values).all() or (values > _ROUNDING).any():
            raise CapacityError(f"{name}: expected finite log-probabilities, 0 or less")
    if code == "max":
        nats = np.maximum(target - reference, 0)
    else:
        nats = np.logaddexp(target, reference) - np.log(2) - reference
    found: npt.NDArray[np.float64] = nats / np.log(2)
    return found


def bits_bound(rows: int, tokens: int, vocabulary: int) -> float:
    """Bits that any normalized code can hold of `rows` different rows: N (S log2 V − log2 N).

    Over N different rows Σ log2 p is largest where each has p = 1/N; the reference spends S log2 V.

    Raises
    ------
    CapacityError
        There are fewer than one row or token, or than two tokens in the vocabulary.

    Examples
    --------
    >>> bits_bound(4096, 4, 2048)
    131072.0
    """
    check_shape(rows, tokens, vocabulary)
    return float(rows * (tokens * np.log2(vocabulary) - np.log2(rows)))


def check_shape(rows: int, tokens: int, vocabulary: int) -> None:
    """Refuse a data set that cannot be.

    Raises
    ------
    CapacityError
        As said of `bits_bound`.
    """
    for name, value, least in (
        ("rows", rows, 1),
        ("tokens", tokens, 2),
        ("vocabulary", vocabulary, 2),
    ):
        if value < least:
            raise CapacityError(f"{name}: got {value}, expected {least} or more")


@dataclass(frozen=True, slots=True)
class Accounting:
    """Memorized bits of a data set of uniform tokens, counted in several ways.

    Attributes
    ----------
    strict : the first token is charged log2 V and nothing is credited for it; 0 at least.
    paper : the mean loss of the S − 1 predicted tokens times S, strict · S / (S − 1).
    max, mixture : sums over rows of `unintended_bits` against the uniform reference.
    data : N S log2 V; bound : of normalized codes, N (S log2 V − log2 N).
    """

    strict: float
    paper: float
    max: float
    mixture: float
    data: float
    bound: float


def account(losses: Float[np.ndarray, "n T"], vocabulary: int) -> Accounting:
    """Count the bits that a model holds of different rows of uniform tokens.

    Parameters
    ----------
    losses : (n, S - 1) nats of every token but the first.

    Raises
    ------
    CapacityError
        A loss is below 0 or not finite; or `strict` or `mixture`, which are normalized codes,
        exceed the bound (`max` may by a bit a row): rows are then not different, or losses are no
        surprisals.

    Examples
    --------
    Two rows of two tokens whose second is known without doubt, V = 4:

    >>> found = account(np.zeros((2, 1)), 4)
    >>> found.strict, found.paper, found.max, round(found.mixture, 2), found.data, found.bound
    (4.0, 8.0, 4.0, 2.64, 8.0, 6.0)
    """
    values = np.asarray(losses, dtype=np.float64)
    if values.ndim != 2 or not values.size or not np.isfinite(values).all():
        raise CapacityError("losses: expected (rows, tokens − 1) finite numbers, in nats")
    if values.min() < -_ROUNDING:
        raise CapacityError(f"losses: got {values.min():g}, expected 0 or more (surprisals)")
    rows, tokens = len(values), values.shape[1] + 1
    bound = bits_bound(rows, tokens, vocabulary)
    uniform = np.full(rows, -tokens * np.log(vocabulary))
    target = -values.sum(axis=1) - np.log(vocabulary)
    strict = max(0.0, float((target - uniform).sum() / np.log(2)))
    summed = {code: float(unintended_bits(target, uniform, code=code).sum()) for code in CODES}
    most = {"strict": (strict, bound), "mixture": (summed["mixture"], bound)}
    most["max"] = summed["max"], bound + rows
    for name, (found, limit) in most.items():
        if found > limit + _ROUNDING * (1 + abs(limit)):
            raise CapacityError(
                f"{name}: got {found:,.1f} bits of {rows:,} rows, the bound is {limit:,.1f}; "
                "expected different rows and losses that are surprisals of one model"
            )
    data = rows * tokens * np.log2(vocabulary)
    paper = strict * tokens / (tokens - 1)
    return Accounting(strict, paper, summed["max"], summed["mixture"], float(data), bound)


def fully_memorized(rows: int, tokens: int, vocabulary: int, *, paper: bool = False) -> float:
    """Bits counted of a set that is known by heart, once its first token is given.

    The model is then unsure only which of the rows with that first token it reads; these are
    1 + Poisson((N − 1) / V) of uniform rows. In the paper's accounting,
    N (S log2 V − S / (S − 1) · E log2(1 + Poisson)): above `bits_bound`, for the first token is
    credited and never predicted.

    Parameters
    ----------
    paper : the paper's accounting; `strict` otherwise, (S − 1) / S of it.

    Examples
    --------
    Totals of 4096 rows, V = 2048, of 4 to 32 tokens, beside the bound that they exceed:

    >>> [round(fully_memorized(4096, tokens, 2048, paper=True), -3) for tokens in (4, 8, 16, 32)]
    [173000.0, 354000.0, 715000.0, 1436000.0]
    >>> [bits_bound(4096, tokens, 2048) for tokens in (4, 8, 16, 32)]
    [131072.0, 311296.0, 671744.0, 1392640.0]
    """
    check_shape(rows, tokens, vocabulary)
    mean = (rows - 1) / vocabulary
    others = np.arange(int(mean + 12 * np.sqrt(mean) + 30))  # beyond it, less than 1e-12 is left
    shared = float(poisson.pmf(others, mean) @ np.log2(1 + others))
    strict = rows * ((tokens - 1) * np.log2(vocabulary) - shared)
    return float(strict * tokens / (tokens - 1) if paper else strict)


@dataclass(frozen=True, slots=True)
class CapacityFit:
    """Capacity = slope · parameters.

    Attributes
    ----------
    slope : bits per parameter; se : its standard error; lower, upper : its interval.
    """

    slope: float
    se: float
    lower: float
    upper: float


def capacity_fit(
    parameters: npt.ArrayLike, capacity: npt.ArrayLike, *, level: float = 0.95
) -> CapacityFit:
    """Fit bits per parameter through the origin, each model counting alike.

    Errors grow with the model, so the slope is the mean of capacity ÷ parameters, with Student's
    interval over models. With one model there is no interval: its ends are NaN.

    Parameters
    ----------
    parameters : (m,) of each model, tied embeddings once; capacity : (m,) bits.

    Raises
    ------
    CapacityError
        There is no model, or a number that is not positive.

    Examples
    --------
    >>> fit = capacity_fit([1000, 2000, 4000], [1900, 4000, 8400])
    >>> round(fit.slope, 3), round(fit.lower, 2), round(fit.upper, 2)
    (2.0, 1.75, 2.25)
    """
    size, bits = np.asarray(parameters, float), np.asarray(capacity, float)
    if size.shape != bits.shape or not size.size or not (size > 0).all() or not (bits >= 0).all():
        raise CapacityError("expected as many capacities as parameters, above 0, one at least")
    ratios, models = bits / size, size.size
    slope = float(ratios.mean())
    if models == 1:
        return CapacityFit(slope, np.nan, np.nan, np.nan)
    se = float(ratios.std(ddof=1) / np.sqrt(models))
    half = float(stdtrit(models - 1, (1 + level) / 2)) * se
    return CapacityFit(slope, se, slope - half, slope + half)
