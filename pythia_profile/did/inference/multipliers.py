"""Random multipliers that depend on (seed, unit, draw) and on nothing else.

In: ids of units and a number of draws. Out: multipliers of mean 0 and variance 1, one for each unit
and draw. They come from Philox-4x32-10, a counter-based generator: the counter is (unit, block of
draws, stream), the key is the seed. So neither the number of workers, nor the size of a chunk, nor
the order of rows can change a draw, and the first 500 of 1,000 draws are the 500 draws.

A multiplier is an integer pattern, scaled: `offset + sum_j scale_j * pattern_j`. Sums of patterns
times outcomes on a fixed grid are exact in float64, in whatever order they are taken.

The default, `normal`, is a standardized sum of sixteen coin tosses. The errors' draws are then as
good as normal however few the rows or clusters are, and Student's t (see `simultaneous`) accounts
for the rest; ±1 multipliers cut off the tails, with ten clusters at √10 standard deviations.

Sources: Salmon, Moraes, Dror and Shaw (2011), "Parallel random numbers: as easy as 1, 2, 3";
Mammen (1993); Webb (2023), "Reworking wild bootstrap-based inference for clustered errors".
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Float, Int, UInt

from pythia_profile.did.arguments import check_option
from pythia_profile.did.errors import OptionError

Multiplier = Literal["normal", "rademacher", "mammen", "webb"]

_WORD = np.uint64(0xFFFFFFFF)
_HALF = np.uint64(32)
_ROUND = (np.uint64(0xD2511F53), np.uint64(0xCD9E8D57))
_WEYL = (0x9E3779B9, 0xBB67AE85)
_ROUNDS = 10

_GOLDEN = (1 - 5**0.5) / 2, (1 + 5**0.5) / 2
_MAMMEN_HIGH = (5**0.5 - 1) / (2 * 5**0.5)
"""Probability of the larger of Mammen's two values, (1 + √5)/2."""


@dataclass(frozen=True, slots=True, eq=False)
class Patterns:
    """Multipliers of some units as scaled integers: `offset + sum_j scales[j] * patterns[j]`.

    Attributes
    ----------
    offset : constant part of each multiplier.
    scales : one factor for each pattern.
    patterns : integer-valued (n, B) arrays, n units and B draws.
    bound : largest size of a pattern's entries.
    """

    offset: float
    scales: tuple[float, ...]
    patterns: tuple[Float[np.ndarray, "n B"], ...]
    bound: int = 1

    def values(self) -> Float[np.ndarray, "n B"]:
        """Return the multipliers themselves."""
        total = np.full(self.patterns[0].shape, self.offset)
        for scale, pattern in zip(self.scales, self.patterns, strict=True):
            total += scale * pattern
        return total


def multipliers(
    units: Int[np.ndarray, " n"],
    draws: int,
    seed: int,
    kind: Multiplier = "normal",
    stream: Int[np.ndarray, " n"] | int = 0,
) -> Patterns:
    """Multipliers of `units` for draws 0 … `draws` − 1.

    Parameters
    ----------
    units : (n,) 64-bit ids; equal ids get equal multipliers.
    draws : number of draws B.
    seed : key of the generator, any whole number from 0 to 2⁶⁴ − 1.
    kind : `normal` is a sum of sixteen coin tosses (kurtosis 2.875); `rademacher` is ±1; `mammen`
        has third moment 1, for skewed outcomes; `webb` has six values.
    stream : keeps ids of different things apart, such as rows and batches; 0 to 2³² − 1.

    Raises
    ------
    OptionError
        An unknown kind, or a seed that is not a whole number from 0 on.

    Examples
    --------
    >>> eight = multipliers(np.array([7, 8]), draws=8, seed=0).values()
    >>> four = multipliers(np.array([8]), draws=4, seed=0).values()
    >>> bool((eight[1, :4] == four[0]).all())
    True
    """
    check_option(kind, Multiplier, "multiplier")
    if not isinstance(seed, int | np.integer) or not 0 <= seed < 2**64:
        raise OptionError(f"seed: got {seed!r}, expected a whole number from 0 to 2**64 - 1")
    if kind == "rademacher":
        return Patterns(-1.0, (2.0,), (_bits(units, draws, seed, stream),))
    if kind == "normal":
        words = random_words(units, -(-draws // 2), seed, stream)
        tosses = np.ascontiguousarray(words.astype("<u4")).view("<u2")[:, :draws]
        return Patterns(0.0, (0.5,), (np.bitwise_count(tosses) - 8.0,), bound=8)
    words = random_words(units, draws, seed, stream)
    if kind == "mammen":
        high = words < np.uint32(round(_MAMMEN_HIGH * 2**32))
        low_value, high_value = _GOLDEN
        return Patterns(low_value, (high_value - low_value,), (high.astype(np.float64),))
    face = (words.astype(np.uint64) * np.uint64(6)) >> _HALF
    sign = 1.0 - 2.0 * (face & np.uint64(1))
    size = face >> np.uint64(1)
    return Patterns(0.0, (0.5**0.5, 1.0, 1.5**0.5), tuple(sign * (size == k) for k in range(3)))


def _bits(
    units: Int[np.ndarray, " n"], draws: int, seed: int, stream: Int[np.ndarray, " n"] | int
) -> Float[np.ndarray, "n B"]:
    words = random_words(units, -(-draws // 32), seed, stream)
    octets = np.ascontiguousarray(words.astype("<u4")).view(np.uint8)
    bits = np.unpackbits(octets, axis=1, count=draws, bitorder="little")
    return bits.astype(np.float64)


def random_words(
    units: Int[np.ndarray, " n"],
    count: int,
    seed: int,
    stream: Int[np.ndarray, " n"] | int = 0,
) -> UInt[np.ndarray, "n W"]:
    """Return `count` 32-bit random words for each unit, (n, count) uint32."""
    blocks = -(-count // 4)
    ids = np.asarray(units).astype(np.int64).view(np.uint64)
    unit = np.repeat(ids, blocks)
    block = np.tile(np.arange(blocks, dtype=np.uint64), len(ids))
    kind = np.repeat(np.broadcast_to(stream, ids.shape).astype(np.uint64), blocks)
    words = philox((unit & _WORD, unit >> _HALF, block, kind), int(seed))
    spread = np.stack(words, axis=1).astype(np.uint32)
    return spread.reshape(len(ids), blocks * 4)[:, :count]


def philox(
    counter: tuple[UInt[np.ndarray, " n"], ...], seed: int
) -> tuple[UInt[np.ndarray, " n"], ...]:
    """Philox-4x32-10: four 32-bit words (as uint64) for each counter of four 32-bit words.

    The key is `seed`, low word first. Salmon et al. (2011), section 3.3.
    """
    c0, c1, c2, c3 = counter
    low, high = seed & 0xFFFFFFFF, seed >> 32
    for _ in range(_ROUNDS):
        first, second = c0 * _ROUND[0], c2 * _ROUND[1]
        c0, c1, c2, c3 = (
            (second >> _HALF) ^ c1 ^ np.uint64(low),
            second & _WORD,
            (first >> _HALF) ^ c3 ^ np.uint64(high),
            first & _WORD,
        )
        low, high = (low + _WEYL[0]) & 0xFFFFFFFF, (high + _WEYL[1]) & 0xFFFFFFFF
    return c0, c1, c2, c3
