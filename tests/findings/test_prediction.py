import numpy as np
import polars as pl
import pytest

from pythia_profile.findings.halves import split
from pythia_profile.findings.large_from_small import large_from_small
from pythia_profile.findings.prediction import leave_one_cohort_out, skill
from tests.findings.nominal_rate import holds
from tests.findings.planted_sizes import SETTINGS, Design, grid, planted, suite_of

PARAMETERS = {"a": 10**5, "b": 2 * 10**5, "c": 4 * 10**5, "d": 10**6}
SUITE = suite_of(PARAMETERS)
COHORTS, CHECKPOINTS = grid(16)
SINCE = (CHECKPOINTS - COHORTS[:, None]).clip(0)


def scaling(rng, deviation=0.0, sizes=PARAMETERS):
    """One shape, whose level is a line in log parameters; each size deviates by cohort."""
    shape = 0.1 * (1 + 0.4 * rng.normal(size=(16, 1))) * np.exp(-SINCE / 400) + 0.03
    return {
        name: shape * np.log(count / 2e4) / 2 * (1 + deviation * rng.normal(size=(16, 1)))
        for name, count in sizes.items()
    }


def chosen(skills, **wanted):
    return skills.filter("chosen").filter(**wanted).row(0, named=True)


def true_of(tau, lines):
    at = np.searchsorted(COHORTS, lines["cohort"].to_numpy())
    return tau[at, at + 1]  # the cohort's own checkpoint


def test_leaving_one_cohort_out_is_least_squares_on_the_others():
    rng = np.random.default_rng(0)
    number = np.repeat(np.arange(5), [3, 1, 4, 2, 2])
    x, y = rng.normal(size=(12, 2)), rng.normal(size=12)

    found = leave_one_cohort_out(x, y, number)

    for g in range(5):
        coefficients = np.linalg.lstsq(x[number != g], y[number != g], rcond=None)[0]
        np.testing.assert_allclose(found[number == g], x[number == g] @ coefficients)


def test_halves_are_disjoint_balanced_and_the_same_for_every_size():
    runs = planted(np.random.default_rng(0), scaling(np.random.default_rng(0))).runs
    a, b = (split(one.panel, SETTINGS) for one in runs[:2])

    assert (a == b).all()
    for g in np.unique(runs[0].panel.cohort):
        members = runs[0].panel.cohort == g
        assert a[members].sum() == members.sum() // 2


@pytest.mark.slow
def test_planted_sizes_are_predicted_and_intervals_hold_at_the_nominal_rate():
    rng = np.random.default_rng(1)
    hits, skills = [], []
    for _ in range(12):
        tau = scaling(rng, 0.15)
        predicted, skilled = large_from_small(planted(rng, tau), SUITE)
        lines = predicted.filter(kind="instantaneous", size="d")
        if len(lines):
            truth = true_of(tau["d"], lines)
            inside = (lines["lower"].to_numpy() <= truth) & (truth <= lines["upper"].to_numpy())
            hits += inside[lines["fold"].to_numpy() == 0].tolist()
        skills.append(chosen(skilled, size="d", kind="instantaneous")["skill_mean"])

    assert len(hits) >= 8 * 16  # most are offered
    assert np.median(skills) > 0.4
    assert holds(hits)


@pytest.mark.slow
def test_pure_noise_gives_no_prediction_and_says_so():
    rng = np.random.default_rng(2)
    nothing = {name: np.zeros((16, 17)) for name in PARAMETERS}
    verdicts = []
    for _ in range(8):
        predicted, skilled = large_from_small(planted(rng, nothing), SUITE)
        verdicts += skilled.filter("chosen")["verdict"].to_list()
        assert not len(predicted)  # whatever is wrongly told from noise has no skill either

    assert verdicts.count("predicted") == 0
    # 1 in 20 is told from noise, and then skill is asked for
    assert verdicts.count("noise") > 0.8 * len(verdicts)


@pytest.mark.slow
def test_noise_of_shared_rows_does_not_pass_for_agreement():
    rng = np.random.default_rng(3)
    flat = {name: np.full((16, 17), 0.1) for name in PARAMETERS}
    correlations, p_values = [], []
    for _ in range(6):
        found = planted(rng, flat, Design(shared=0.95))
        small, large = (one.att.att[np.arange(16), np.arange(1, 17)] for one in found.runs[-2:])
        correlations.append(np.corrcoef(small, large)[0, 1])
        predicted, skilled = large_from_small(found, SUITE)
        line = chosen(skilled, size="d", kind="instantaneous")
        assert line["verdict"] in ("noise", "no_skill")
        assert not len(predicted.filter(size="d", kind="instantaneous"))
        p_values.append(line["permutation_p"])

    assert np.mean(correlations) > 0.8  # on the same rows, noise alone agrees
    assert np.min(p_values) > 0.005  # on disjoint rows it does not: 6 draws of a uniform


def test_low_rank_profiles_need_two_factors():
    rng = np.random.default_rng(4)
    one, two = rng.normal(size=(2, 16, 1))
    loads = {"a": (1.0, 0.2), "b": (0.6, 1.0), "c": (1.0, -0.5), "d": (1.0, 2.0)}
    tau = {
        name: 0.3 + 0.08 * (p * one + q * two) * np.exp(-SINCE / 2000)
        for name, (p, q) in loads.items()
    }
    _, skilled = large_from_small(planted(rng, tau, Design(rows=60, never=300)), SUITE)
    by_method = dict(
        skilled.filter(size="d", kind="instantaneous", sources="a, b, c")
        .select("method", "skill_mean")
        .iter_rows()
    )

    assert by_method["rank_2"] > 0.9  # both factors are in the sources, their noise is small
    assert by_method["rank_2"] > by_method["rank_1"] + 0.1
    assert by_method["rank_2"] > by_method["line"] + 0.1


@pytest.mark.slow
def test_a_size_that_was_never_scored_is_extrapolated_to_with_an_interval_that_holds():
    rng = np.random.default_rng(5)
    scored = {name: PARAMETERS[name] for name in "abc"}
    hits = []
    for _ in range(12):
        tau = scaling(rng, 0.1)
        found = planted(rng, {name: tau[name] for name in scored})
        predicted, _ = large_from_small(found, None, PARAMETERS)
        line = predicted.filter(pl.col("cohort").is_null(), kind="instantaneous").row(0, named=True)
        truth = tau["d"][np.arange(16), np.arange(1, 17)].mean()
        hits.append(line["lower"] <= truth <= line["upper"])
        assert (line["size"], line["observed"], line["fold"]) == ("d", None, None)

    assert np.mean(hits) >= 0.75  # 12 draws of .95 fall below it once in 300


def test_few_cohorts_are_no_ground_for_a_prediction():
    rng = np.random.default_rng(6)
    tau = {name: np.full((4, 5), 0.1) for name in "ab"}
    predicted, skilled = large_from_small(planted(rng, tau, Design(cohorts=4)), None)

    assert not len(predicted)
    assert set(skilled["verdict"]) == {"few_cohorts"}


def test_skill_is_none_where_the_floor_leaves_nothing():
    assert skill(np.ones(4), np.zeros(4)) is None
    assert skill(np.zeros(4), np.ones(4)).value == pytest.approx(1.0)
