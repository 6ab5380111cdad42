"""Multipliers: published test vectors of the generator, moments, independence, what they ignore."""

import numpy as np
import pytest
from scipy.stats import chisquare, kstest

from pythia_profile.did.errors import OptionError
from pythia_profile.did.inference.multipliers import multipliers, philox, random_words

KINDS = ("normal", "rademacher", "mammen", "webb")
UNITS, DRAWS = 3000, 1000
FIVE_SIGMA = 5 / np.sqrt(UNITS * DRAWS)  # a mean of that many numbers of variance 1


@pytest.mark.parametrize(
    ("counter", "seed", "words"),
    [
        ((0, 0, 0, 0), 0, (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
        ((2**32 - 1,) * 4, 2**64 - 1, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
        (
            (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
            0x299F31D0A4093822,
            (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
        ),
    ],
)
def test_philox_gives_the_known_answers_of_its_authors(counter, seed, words):
    """Source: file kat_vectors of the Random123 library, lines `philox4x32 10`."""
    got = philox(tuple(np.array([word], np.uint64) for word in counter), seed)

    assert tuple(int(word[0]) for word in got) == words


@pytest.mark.parametrize("kind", KINDS)
def test_multipliers_have_mean_0_variance_1_and_their_third_moment(kind):
    values = multipliers(np.arange(UNITS), DRAWS, 11, kind).values()
    third = {"normal": 0.0, "rademacher": 0.0, "mammen": 1.0, "webb": 0.0}[kind]

    assert abs(values.mean()) < FIVE_SIGMA
    assert abs((values**2).mean() - 1) < 2 * FIVE_SIGMA
    assert abs((values**3).mean() - third) < 4 * FIVE_SIGMA


def test_webb_has_six_values_equally_often():
    values = multipliers(np.arange(UNITS), DRAWS, 5, "webb").values()
    levels, counts = np.unique(values, return_counts=True)

    expected = [-(1.5**0.5), -1, -(0.5**0.5), 0.5**0.5, 1, 1.5**0.5]
    np.testing.assert_allclose(levels, expected)
    assert chisquare(counts).pvalue > 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_units_and_draws_are_uncorrelated(kind):
    values = multipliers(np.arange(400), 500, 2, kind).values()

    between_units = np.corrcoef(values)[np.triu_indices(400, 1)]
    between_draws = np.corrcoef(values.T)[np.triu_indices(500, 1)]
    # Of 80,000 and 125,000 correlations of independent numbers the largest stay below 5 sigma.
    assert abs(between_units).max() < 5.5 / np.sqrt(500)
    assert abs(between_draws).max() < 5.5 / np.sqrt(400)
    assert kstest(between_units * np.sqrt(500), "norm").pvalue > 1e-4


@pytest.mark.parametrize("kind", KINDS)
def test_a_draw_depends_on_seed_unit_and_draw_only(kind):
    units = np.array([5, -3, 2**62, 0])

    values = multipliers(units, 300, 9, kind).values()
    backwards = multipliers(units[::-1], 300, 9, kind).values()
    fewer = multipliers(units, 77, 9, kind).values()
    alone = multipliers(units[2:3], 300, 9, kind).values()

    np.testing.assert_array_equal(backwards[::-1], values)
    np.testing.assert_array_equal(fewer, values[:, :77])
    np.testing.assert_array_equal(alone, values[2:3])


def test_seeds_and_streams_give_other_draws():
    units = np.arange(50)

    first = random_words(units, 8, 0)
    for other in (
        random_words(units, 8, 1),
        random_words(units, 8, 2**40),
        random_words(units, 8, 0, 1),
    ):
        assert (other != first).mean() > 0.99


def test_bits_are_balanced_at_every_place():
    words = random_words(np.arange(4000), 4, 3)
    ones = np.unpackbits(words.astype("<u4").view(np.uint8), axis=1).mean(axis=0)

    assert abs(ones - 0.5).max() < 5 * 0.5 / np.sqrt(4000)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"kind": "gauss"}, "expected one of normal, rademacher, mammen, webb"),
        ({"seed": -1}, "seed: got -1"),
        ({"seed": 0.5}, r"seed: got 0\.5"),
    ],
)
def test_unknown_kinds_and_seeds_are_refused(arguments, message):
    with pytest.raises(OptionError, match=message):
        multipliers(**{"units": np.arange(3), "draws": 2, "seed": 0, **arguments})
