import numpy as np
import pytest

from pythia_profile.findings.seeds import averaged, between_seeds, components, outliers
from tests.findings.nominal_rate import holds
from tests.findings.planted_sizes import Design, planted

SEEDS, OWN, SHARED, BETWEEN = 6, 0.5, 0.7, 1.0
NOISE = (OWN**2 * np.eye(SEEDS) + SHARED**2)[None]


def drawn(rng):
    seeds = BETWEEN * rng.normal(size=SEEDS) + OWN * rng.normal(size=SEEDS)
    return (3.0 + seeds + SHARED * rng.normal())[:, None]


def test_variance_between_seeds_and_the_mean_are_within_their_intervals_at_the_nominal_rate():
    rng = np.random.default_rng(0)
    variance, mean, estimates = [], [], []
    for _ in range(400):
        x = drawn(rng)
        found = components(x, NOISE)
        variance.append(found.lower <= BETWEEN**2 <= found.upper)
        estimates.append(found.between)
        center, se = averaged(x, NOISE)
        mean.append(abs(center[0] - 3.0) <= 1.96 * se[0])

    assert holds(variance)
    # a variance of 6 numbers: cut off at 0 and drawn 400 times, its mean is known to 4 %
    assert np.mean(estimates) == pytest.approx(BETWEEN**2, abs=0.12)
    assert np.mean(mean) > 0.88  # normal ends for a standard error from 6 seeds


def test_seeds_that_differ_by_sampling_alone_have_nothing_between_them():
    rng = np.random.default_rng(1)
    x = [3 + OWN * rng.normal(size=(SEEDS, 1)) for _ in range(200)]
    lower = [components(one, NOISE).lower for one in x]

    assert holds(np.array(lower) == 0, 0.975)


def test_one_seed_apart_is_an_outlier_and_others_are_not():
    x = np.array([0.0, 0.1, -0.1, 0.05, -0.05, 3.0])
    p = outliers(x)[2]

    assert p[-1] < 0.01
    assert (p[:-1] > 0.05).all()


def test_seeds_of_a_study_are_compared_on_rows_that_they_share():
    rng = np.random.default_rng(2)
    level = {seed: np.full((8, 9), 0.2 + 0.05 * rng.normal()) for seed in range(5)}
    design = Design(cohorts=8, shared=1.0)
    runs = planted(rng, level, design, seeds=True).runs
    found = {
        (line["quantity"], line["subset"]): line
        for line in between_seeds(runs, 0.95)
        if line["kind"] == "persistent"
    }
    truth = np.std([tau[0, 0] for tau in level.values()], ddof=1)

    # all noise is shared: seeds differ by what was planted alone
    assert found["between_sd", "mean"]["estimate"] == pytest.approx(truth, rel=1e-6)
    assert found["within_sd", "mean"]["estimate"] == pytest.approx(0.0, abs=1e-6)
    assert found["mean", "mean"]["n"] == 5
    assert found["mean", "mean"]["se"] >= truth / np.sqrt(5)


def test_a_single_seed_says_nothing_of_seeds():
    runs = planted(np.random.default_rng(3), {0: np.zeros((4, 5))}, Design(cohorts=4), seeds=True)

    assert not list(between_seeds(runs.runs, 0.95))
