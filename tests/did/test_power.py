"""Design: variance components recovered, standard errors predicted, power at the stated effect."""

import numpy as np
import pytest

from pythia_profile.did import NEVER, aggregate, att_gt, bands
from pythia_profile.did.errors import OptionError
from pythia_profile.did.inference.power import Pilot, Planned, best_split, design, pilot

COMPONENTS = Pilot(effect="instantaneous", between=0.01, within=0.04, control=0.03, shared=0.03)
CHECKPOINTS = np.arange(0, 60, 10)
COHORTS = CHECKPOINTS[1:]


def panel(rng, batches=20, rows=5, controls=400, effect=0.0):
    """Changes against the base: shocks of batches, of rows; levels that do not matter."""
    count = len(COHORTS) * batches
    cohort = np.append(np.repeat(COHORTS, batches * rows), np.full(controls, NEVER))
    cluster = np.append(np.repeat(np.arange(count), rows), np.full(controls, NEVER))
    y = rng.normal(size=(len(cohort), 1)) * np.ones(len(CHECKPOINTS))
    shock = np.repeat(0.1 * rng.normal(size=count), rows)
    treated = np.arange(count * rows)
    first = np.searchsorted(CHECKPOINTS, cohort[treated])
    y[treated, first] += shock + 0.2 * rng.normal(size=len(treated)) + effect
    y[count * rows :] += np.sqrt(0.03 / 2) * rng.normal(size=(controls, len(CHECKPOINTS)))
    return y, cohort, cluster


def test_variance_components_of_a_pilot_are_recovered():
    found = []
    for seed in range(20):
        y, cohort, cluster = panel(np.random.default_rng(seed), batches=60)
        found.append(pilot(att_gt(y, cohort, CHECKPOINTS), cluster))

    # Means over 20 pilots of 300 batches: within 5 % for variances, 15 % for the one between.
    assert np.mean([p.between for p in found]) == pytest.approx(0.01, rel=0.15)
    assert np.mean([p.within for p in found]) == pytest.approx(0.04, rel=0.05)
    assert np.mean([p.control for p in found]) == pytest.approx(0.03, rel=0.05)


@pytest.mark.parametrize("target", ["cohort", "mean"])
def test_predicted_standard_errors_are_those_of_the_estimate(target):
    y, cohort, cluster = panel(np.random.default_rng(0), batches=200, controls=3000)
    large = att_gt(y, cohort, CHECKPOINTS)
    y, cohort, small_cluster = panel(np.random.default_rng(1), batches=20, rows=5, controls=600)
    small = att_gt(y, cohort, CHECKPOINTS, clusters=small_cluster)

    table = design(
        pilot(large, cluster),
        Planned(cohorts=5, target=target),
        batches=[20],
        rows=[5],
        controls=[600],
    )

    measured = aggregate(small, "instantaneous")
    se = measured.se[-1] if target == "mean" else np.sqrt((measured.se[:-1] ** 2).mean())
    # One small panel: a variance from 20 batches in each of 5 cohorts is known to 14 %.
    assert table["se"][0] == pytest.approx(se, rel=0.2)


def test_an_effect_of_the_minimal_size_is_found_with_the_stated_power():
    line = design(COMPONENTS, Planned(cohorts=5), batches=[20], rows=[5], controls=[400]).row(
        0, named=True
    )
    rng = np.random.default_rng(3)
    found = []
    for _ in range(150):
        y, cohort, cluster = panel(rng, effect=line["mde"])
        lower, upper = aggregate(
            att_gt(y, cohort, CHECKPOINTS, clusters=cluster), "instantaneous"
        ).interval()
        found += [*((lower > 0) | (upper < 0))[:-1]]

    # 750 tests, five in a panel with common controls: two percentage points a standard error.
    assert np.mean(found) == pytest.approx(0.8, abs=0.06)


def test_larger_families_and_fewer_rows_need_larger_effects():
    table = design(COMPONENTS, Planned(cohorts=5), families=[1, 100], batches=[5, 20], rows=[5])

    def mde(**line):
        return table.filter(**line)["mde"][0]

    base = {"controls": 2000, "rows": 5}
    assert mde(batches=20, family=1, **base) < mde(batches=20, family=100, **base)
    assert mde(batches=20, family=1, **base) < mde(batches=5, family=1, **base)
    assert table["scored_rows"].to_list() == [
        5 * b * 5 + n for b in (5, 20) for n in (500, 2000, 8000) for _ in (1, 100)
    ]
    assert table["scored_tokens"][0] == (5 * 5 * 5 + 500) * 6 * 2048


def test_a_family_may_be_given_by_the_bands_of_a_pilot():
    y, cohort, _ = panel(np.random.default_rng(0))
    band = bands(att_gt(y, cohort, CHECKPOINTS))

    table = design(COMPONENTS, Planned(cohorts=5), families=[band], batches=[200], rows=[1])

    assert table["family"][0] == band.effective
    assert table["critical"][0] == pytest.approx(band.critical, abs=0.1)  # t at 199 df


@pytest.mark.parametrize("target", ["cohort", "mean"])
@pytest.mark.parametrize("most_batches", [8, 1000])
def test_the_best_split_beats_every_other(target, most_batches):
    budget = 600 * 6 * 2048
    study = Planned(cohorts=5, target=target)
    split = best_split(COMPONENTS, budget, study, most_batches=most_batches)

    def error(b, r, n):
        line = design(COMPONENTS, study, batches=[b], rows=[r], controls=[n])
        assert line["scored_tokens"][0] <= budget
        return line["se"][0]

    best = error(split["batches"], split["rows"], split["controls"])
    for b in (2, 5, 8, 20, 60, 110):
        for r in (1, 2, 5, 13):
            if b <= most_batches and 600 - 5 * b * r >= 2:
                assert best <= error(b, r, 600 - 5 * b * r) + 1e-12


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: Planned(cohorts=0), OptionError, "cohorts: got 0"),
        (lambda: Planned(cohorts=2, power=1.0), OptionError, "power: got 1.0"),
        (lambda: Planned(cohorts=2, target="cell"), OptionError, "one of cohort, mean"),
        (
            lambda: design(COMPONENTS, Planned(cohorts=2), batches=[1], rows=[1]),
            OptionError,
            "1 batch of 1 row and 500 controls",
        ),
        (
            lambda: best_split(COMPONENTS, 1e5, Planned(cohorts=5), most_batches=10),
            OptionError,
            "pay for 8 rows; expected 12 or more for 5 cohorts",
        ),
    ],
)
def test_bad_input_is_its_own_error(call, error, message):
    with pytest.raises(error, match=message):
        call()


def test_a_pilot_needs_never_treated_controls(small):
    att = att_gt(small.y, small.cohort, small.checkpoints, control="both")

    with pytest.raises(OptionError, match="with never-treated controls"):
        pilot(att)
    with pytest.raises(OptionError, match="expected instantaneous"):
        pilot(att, effect="calendar")
