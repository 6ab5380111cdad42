"""Agreement across sizes: planted correlations, reliability, and what shared noise does."""

import numpy as np
import polars as pl
import pytest

from pythia_profile.did.settings import Estimation
from pythia_profile.errors import EstimationError
from pythia_profile.profiles.agreement import _Profile, agree, agreement, correlation


def drawn_profiles(seed, *, cells, truth, noise, shared=False, draws=400):
    """Two sizes' profiles: planted truths of a given correlation, independent or shared noise."""
    rng = np.random.default_rng(seed)
    common = rng.normal(size=cells)
    truths = [truth**0.5 * common + (1 - truth) ** 0.5 * rng.normal(size=cells) for _ in range(2)]
    first, errors = rng.normal(size=cells), rng.normal(size=(cells, draws))
    profiles = []
    for signal in truths:
        if not shared and profiles:
            first, errors = rng.normal(size=cells), rng.normal(size=(cells, draws))
        profiles.append(_Profile(signal + noise * first, noise * errors))
    return profiles


def test_reliability_is_the_share_of_signal():
    """Variance 1 of signal and s² of noise: reliability 1 / (1 + s²)."""
    found = [
        agree(*drawn_profiles(seed, cells=400, truth=0.5, noise=0.8))["reliability_a"]
        for seed in range(20)
    ]

    # one estimate spreads by about .02 at 400 cells; the mean of 20 by .005
    assert np.mean(found) == pytest.approx(1 / (1 + 0.8**2), abs=0.02)


def test_the_disattenuated_correlation_is_the_one_of_the_truths():
    found = [agree(*drawn_profiles(seed, cells=400, truth=0.5, noise=0.8)) for seed in range(20)]

    plain = np.mean([line["pearson"] for line in found])
    clean = np.mean([line["disattenuated"] for line in found])
    assert plain == pytest.approx(0.5 / (1 + 0.8**2), abs=0.03)  # 20 draws of spread .04
    assert clean == pytest.approx(0.5, abs=0.05)


def test_noise_shared_by_all_sizes_is_not_taken_for_agreement():
    found = [
        agree(*drawn_profiles(seed, cells=400, truth=0.0, noise=1.0, shared=True))
        for seed in range(20)
    ]

    assert np.mean([line["pearson"] for line in found]) > 0.4
    assert np.mean([line["disattenuated"] for line in found]) == pytest.approx(0, abs=0.06)


@pytest.mark.parametrize("truth", [0.0, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("cells", [16, 136])
@pytest.mark.parametrize("shared", [0.0, 0.7])
def test_the_interval_covers_the_correlation_of_the_true_profiles(cells, truth, shared):
    """At a reliability of .8; 200 simulations know a share of .95 to .015, one of .98 to .01.

    At 1, an end of the scale, a value can be missed from below only: .975 is expected.
    """
    rng, covered = np.random.default_rng(int(10 * truth) + cells), []
    mix = np.linalg.cholesky([[1, shared], [shared, 1]])
    for _ in range(200):
        common = rng.normal(size=cells)
        truths = [truth**0.5 * common + (1 - truth) ** 0.5 * rng.normal(size=cells) for _ in "ab"]
        noise = 0.5 * np.einsum("ij,jkb->ikb", mix, rng.normal(size=(2, cells, 201)))
        a, b = (_Profile(t + e[:, 0], e[:, 1:]) for t, e in zip(truths, noise, strict=True))
        line = agree(a, b)
        if line["lower"] is not None:
            true = correlation(*truths)
            covered.append(line["lower"] <= true + 1e-9 and true - 1e-9 <= line["upper"])

    assert len(covered) > 180  # of 16 cells, reliability is now and then below .5
    assert 0.95 - 3 * 0.015 < np.mean(covered) < 0.98 + 2 * 0.01


def test_an_unreliable_profile_has_no_interval():
    a, b = drawn_profiles(3, cells=50, truth=0.9, noise=2.0)

    line = agree(a, b)

    assert min(line["reliability_a"], line["reliability_b"]) < 0.5
    assert (line["lower"], line["upper"]) == (None, None)


def test_correlation_is_numpys():
    rng = np.random.default_rng(0)
    a, b = rng.normal(size=(2, 30, 5))

    found = correlation(a, b)

    expected = [np.corrcoef(a[:, k], b[:, k])[0, 1] for k in range(5)]
    assert found == pytest.approx(expected)


def test_every_pair_of_sizes_and_every_set_of_cells_is_compared(planted):
    rows, scores = planted(lambda *_: 0.3, sizes=("s", "m", "l"))

    table = agreement(rows, scores, Estimation(draws=50))

    assert table.select("size_a", "size_b").unique(maintain_order=True).rows() == [
        ("s", "m"),
        ("s", "l"),
        ("m", "l"),
    ]
    assert set(table["kind"]) == {"post", "instantaneous", "persistent", "residual"}
    assert table.filter(pl.col("kind") == "post")["cells"].to_list() == [6, 6, 6]


def test_one_size_alone_gives_an_empty_table(planted):
    rows, scores = planted(lambda *_: 0.3)

    assert agreement(rows, scores, Estimation(draws=20)).is_empty()


def test_sizes_are_compared_on_the_checkpoints_that_all_have(planted):
    rows, scores = planted(lambda *_: 0.3, sizes=("s", "m"))
    gappy = scores.filter((pl.col("size") == "s") | (pl.col("checkpoint") != 20))
    common = scores.filter(pl.col("checkpoint") != 20)

    few = Estimation(draws=20)
    assert agreement(rows, gappy, few).equals(agreement(rows, common, few))


def test_profiles_of_other_cells_are_not_compared():
    a, b = (_Profile(np.zeros(n), np.zeros((n, 5))) for n in (6, 3))

    with pytest.raises(EstimationError, match="6 and 3 cells"):
        agree(a, b)
