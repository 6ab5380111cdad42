"""Two runs with other orders: planted truth, brute force, coverage, and the gain over one run."""

from dataclasses import replace

import numpy as np
import pytest

from pythia_profile.did import NEVER, aggregate, bands
from pythia_profile.did.crossover_design import crossover, pair
from pythia_profile.did.errors import NoRowsError, PanelShapeError
from pythia_profile.did.estimation import effects
from pythia_profile.did.inference.combined import combine
from pythia_profile.did.settings import Estimation
from tests.did.two_runs import two_runs

# sums of a few hundred float64 numbers of size 1
EXACT = 1e-12


@pytest.mark.parametrize("estimator", ["diff", "did", "ancova"])
def test_without_noise_the_planted_effect_is_found(estimator):
    runs = two_runs(noise=0)
    known = crossover(runs.one, runs.other, estimator=estimator)

    cells = known.post
    assert cells.sum() > 20
    assert np.abs(known.att - runs.truth)[cells].max() < EXACT


def test_a_cell_is_the_difference_of_means_of_rows_unread_in_the_other_run():
    runs = two_runs(3)
    both = pair(runs.one, runs.other)
    att = crossover(both, estimator="diff")
    gap, cohort = runs.one.y - runs.other.y, runs.one.cohort
    for g, c in [(10, 10), (10, 40), (30, 50), (50, 20)]:
        at = c // 10
        unread = runs.other.cohort > c
        own = gap[(cohort == g) & unread, at]
        rest = gap[(cohort > max(c, g - 10)) & (cohort != g) & unread, at]
        if c < g:  # rows must be unread in the other run at the base, too
            base = runs.other.cohort > g - 10
            own = gap[(cohort == g) & unread & base, at]
            rest = gap[(cohort > g - 10) & (cohort != g) & unread & base, at]
        cell = g // 10 - 1, at
        se = (own.var(ddof=1) / len(own) + rest.var(ddof=1) / len(rest)) ** 0.5

        assert att.n_treated[cell] == len(own)
        assert att.n_control[cell] == len(rest)
        assert att.att[cell] == pytest.approx(own.mean() - rest.mean(), abs=EXACT)
        assert att.se[cell] == pytest.approx(se, abs=EXACT)


def test_ancova_is_the_regression_with_the_base_gap_among_controls():
    runs = two_runs(4)
    att = crossover(runs.one, runs.other)
    gap, unread = runs.one.y - runs.other.y, runs.other.cohort > 40
    own = gap[(runs.one.cohort == 20) & unread]
    rest = gap[(runs.one.cohort > 40) & unread]

    slope = np.polyfit(rest[:, 1], rest[:, 4], 1)[0]

    expected = (own[:, 4] - slope * own[:, 1]).mean() - (rest[:, 4] - slope * rest[:, 1]).mean()
    assert att.att[1, 4] == pytest.approx(expected, abs=EXACT)


# 40 panels, whose cells err together: the coverage of one panel has a standard deviation of about
# .07, hence .011 for the mean, of which three; 150 panels gave .936 to .946 for each
@pytest.mark.slow
@pytest.mark.parametrize("batch", [0, 8])
def test_intervals_cover_as_they_say(batch):
    covered = {"crossover": [], "combined": [], "overall": []}
    for seed in range(40):
        runs = two_runs(seed, cohorts=5, per_cohort=80, batch=batch)
        both, settings = pair(runs.one, runs.other), Estimation(clusters="auto")
        did, own = effects(both.panel, settings), crossover(both, settings=settings)
        together = combine([did, own])
        whole = together.aggregate("overall")
        truth = whole.parts[0].weights @ runs.truth.ravel()
        truth += whole.parts[1].weights @ runs.truth.ravel()
        for name, (lower, upper), true, member in (
            ("crossover", own.interval(), runs.truth, own.post),
            ("combined", (together.lower, together.upper), runs.truth, did.post),
            ("overall", whole.interval(), truth, np.array([True])),
        ):
            covered[name].append(((lower <= true) & (true <= upper))[member].mean())

    assert np.mean(covered["crossover"]) == pytest.approx(0.95, abs=0.035)
    assert np.mean(covered["combined"]) == pytest.approx(0.95, abs=0.035)
    # a share of 40 has a standard error of .034
    assert np.mean(covered["overall"]) > 0.95 - 3 * 0.034


def test_early_cohorts_gain_and_the_combination_is_never_worse_than_either():
    runs = two_runs(1)
    both = pair(runs.one, runs.other)
    did, own = effects(both.panel), crossover(both)

    together = combine([did, own])

    assert (own.se[0, 1:4] < 0.8 * did.se[0, 1:4]).all()
    assert np.isnan(own.att[-1, -1])
    for one in (did, own):
        shared = one.post
        assert (together.se[shared] <= one.se[shared] * (1 + 1e-9)).all()
    assert np.allclose(together.weights.sum(axis=0), 1)
    assert (together.weights >= 0).all()
    late = ~own.identified
    assert np.array_equal(together.att[late], did.att[late])


def test_an_aggregate_of_the_combination_is_the_sum_of_its_cells():
    runs = two_runs(2)
    both = pair(runs.one, runs.other)
    together = combine([effects(both.panel), crossover(both)])
    whole = aggregate(together.estimates[0], "overall")

    found = together.aggregate("overall")

    expected = whole.parts[0].weights @ together.att.ravel()
    assert found.estimate == pytest.approx(expected, abs=EXACT)
    assert found.se[0] < whole.se[0]


def test_bands_and_aggregates_follow_as_for_any_estimate():
    runs = two_runs(5)
    att = crossover(runs.one, runs.other)

    band = bands(att, draws=300, seed=1)
    curve = aggregate(att, "event_time")

    # the bootstrap's scale of a cell is its standard error: 300 draws tell it to some 6 %
    cells = band.member
    assert np.median(band.sigma[cells] / att.se[cells]) == pytest.approx(1, abs=0.1)
    assert {0, 10} <= set(curve.labels)
    assert (np.delete(curve.se, curve.labels.index(-10)) > 0).all()  # −10 is the base


def test_rows_unread_in_neither_run_keep_the_placebo_at_zero():
    runs = two_runs(6)
    att = crossover(runs.one, runs.other)

    cells = att.placebo
    z = att.att[cells] / att.se[cells]

    assert np.abs(z).max() < 4.5
    assert att.placebo.sum() > 15


def test_rows_that_the_other_run_lacks_serve_the_own_estimate_alone():
    runs = two_runs(7)
    some = np.arange(len(runs.other)) % 2 == 0
    half = runs.other.keep(some, "every other row")

    both = pair(runs.one, half)

    assert len(both.panel) == len(runs.one)
    assert not crossover(both).n_treated.max() > 40
    assert np.array_equal(effects(both.panel).att, effects(runs.one).att)


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        (lambda runs: (runs.one, runs.one), PanelShapeError, "one order"),
        (lambda runs: (runs.one, None), NoRowsError, "one run alone"),
        (
            lambda runs: (runs.one, replace(runs.other, row_id=runs.other.row_id + 10**6)),
            NoRowsError,
            "0 have the same row_id",
        ),
        (
            lambda runs: (runs.one, replace(runs.other, checkpoints=runs.other.checkpoints + 1)),
            PanelShapeError,
            "0 common checkpoints",
        ),
        (
            lambda runs: (runs.one, replace(runs.other, outcome="accuracy")),
            PanelShapeError,
            "accuracy",
        ),
        (lambda runs: (runs.one, replace(runs.other, step=None)), NoRowsError, "treatment steps"),
    ],
)
def test_runs_that_do_not_fit_are_named(change, error, message):
    with pytest.raises(error, match=message):
        crossover(*change(two_runs(0)))


def test_only_estimates_of_one_panel_are_combined():
    runs = two_runs(0)
    did = effects(runs.one)

    with pytest.raises(PanelShapeError, match="cohorts differ"):
        combine([did, effects(runs.one.keep(runs.one.cohort != 10, "no first cohort"))])
    assert (runs.one.cohort == NEVER).any()
