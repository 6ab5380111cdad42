import numpy as np
import pytest

from pythia_profile.findings.decay import Curve, decay, fit, fits
from tests.findings.nominal_rate import holds
from tests.findings.planted_sizes import Design, grid, planted

POINTS = 12
TIMES = 100.0 * np.arange(POINTS)
WANDERING = 0.004 * np.tril(np.ones((POINTS, POINTS)))
NOISE = WANDERING @ WANDERING.T / 4 + 0.005**2 + 0.002**2 * np.eye(POINTS)
ROOT = np.linalg.cholesky(NOISE)

LAWS = {
    "exponential_plateau": (
        lambda t: 0.06 + 0.2 * np.exp(-t / 250),
        {"half_life": 250 * np.log(2), "levels_off": 250 * np.log(10), "level": 0.06},
    ),
    "exponential": (lambda t: 0.25 * np.exp(-t / 400), {"half_life": 400 * np.log(2)}),
    "power": (lambda t: 0.25 * (1 + t / 100) ** -0.8, {"half_life": 100 * (2**1.25 - 1)}),
    "power_plateau": (
        lambda t: 0.05 + 0.2 * (1 + t / 100) ** -1.2,
        {"half_life": 100 * (2 ** (1 / 1.2) - 1), "level": 0.05},
    ),
}


@pytest.mark.parametrize("law", LAWS)
def test_a_law_is_recovered_from_a_curve_without_noise(law):
    curve, truth = LAWS[law]
    found = fit(Curve(TIMES, curve(TIMES), 1e-10 * np.eye(POINTS)), law)

    np.testing.assert_allclose(found.curve, curve(TIMES), atol=1e-5)
    for name, value in truth.items():
        assert found.values[name] == pytest.approx(value, rel=1e-4)


@pytest.mark.slow
@pytest.mark.parametrize("law", LAWS)
def test_planted_laws_are_chosen_and_within_their_intervals_at_the_nominal_rate(law):
    rng = np.random.default_rng(0)
    curve, truth = LAWS[law]
    names, hits = [], {name: [] for name in truth}
    for i in range(80):
        effect = curve(TIMES) + ROOT @ rng.normal(size=POINTS)
        laws = fits(Curve(TIMES, effect, NOISE), seed=i)
        names.append(min(laws, key=lambda one: one.aicc).law)
        own = next(one for one in laws if one.law == law)
        for name, value in truth.items():
            hits[name].append(own.lower[name] <= value <= own.upper[name])

    assert names.count(law) > 0.8 * len(names)
    for name in truth:
        assert holds(hits[name]), name


def lines_of(tau, seed, cohorts=16):
    one = planted(np.random.default_rng(seed), {"a": tau}, Design(cohorts=cohorts)).runs[0]
    return list(decay(one, 0.95, 0))


def test_early_and_late_cohorts_that_decay_apart_are_told_apart():
    cohorts, checkpoints = grid(16)
    since = (checkpoints - cohorts[:, None]).clip(0)
    pace = np.where(cohorts <= 400, 150.0, 600.0)[:, None]
    lines = lines_of(0.3 * np.exp(-since / pace), 1)
    half = {
        line["subset"]: (line["half_life_lower"], line["half_life_upper"])
        for line in lines
        if line["law"] == "exponential"
    }

    assert half["early"][0] <= 150 * np.log(2) <= half["early"][1]
    assert half["late"][0] <= 600 * np.log(2) <= half["late"][1]
    assert half["early"][1] < half["late"][0]
    assert {line["cohorts"] for line in lines if line["subset"] == "constant"} == {8}


def test_what_does_not_fall_is_called_constant_and_what_is_nothing_noise():
    flat = lines_of(np.full((16, 17), 0.2), 1)
    nothing = lines_of(np.zeros((16, 17)), 2)

    assert {line["verdict"] for line in flat if line["subset"] == "constant"} == {"constant"}
    assert next(line["law"] for line in flat if line["chosen"]) == "constant"
    assert {line["verdict"] for line in nothing} == {"noise"}
    assert not any(line["chosen"] for line in nothing)


def test_curves_of_three_points_have_no_law():
    assert lines_of(np.full((4, 5), 0.2), 3, cohorts=4) == []
