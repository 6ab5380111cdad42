"""Simultaneous bands: draws by brute force, invariances bit for bit, families, bad input."""

from dataclasses import replace

import numpy as np
import pytest

from pythia_profile.did import NEVER, aggregate, att_gt, bands, contrast
from pythia_profile.did.errors import DegenerateError, EmptyFamilyError, OptionError
from pythia_profile.did.inference.bootstrap import BootstrapSpec, cell_draws, contrast_draws
from pythia_profile.did.inference.multipliers import multipliers
from pythia_profile.did.inference.simultaneous import bands_of, interquartile_sigma
from tests.did.planted import brute_cell, planted

GRID = 1e-11  # outcomes near 1 are rounded to a grid of about 2**-46 before they are summed


def estimates(panel, **settings):
    return att_gt(panel.y, panel.cohort, panel.checkpoints, **settings)


@pytest.mark.parametrize("control", ["never", "not_yet", "both"])
@pytest.mark.parametrize("base", ["universal", "varying"])
@pytest.mark.parametrize("kind", ["normal", "rademacher", "mammen", "webb"])
def test_draws_are_influence_functions_times_multipliers(control, base, kind):
    panel = planted(cohorts=(10, 17, 20, 50))
    ids = 7 + np.arange(len(panel.y))
    att = estimates(panel, control=control, base=base, units=ids)
    weights = multipliers(ids, 60, 4, kind).values()

    drawn = [errors[:-1] for errors in cell_draws(att, BootstrapSpec(60, 4, kind))]

    for i, g in enumerate(att.cohorts):
        for k, c in enumerate(att.checkpoints):
            if not att.identified[i, k]:
                assert np.isnan(drawn[i][k]).all()
                continue
            b = att.checkpoints[att.fit.comparison.base[i, k]]
            change = panel.y[:, k] - panel.y[:, att.fit.comparison.base[i, k]]
            treated = panel.cohort == g
            later = (panel.cohort > max(b, c)) & ~treated & (panel.cohort != NEVER)
            never = panel.cohort == NEVER
            off = {"never": never, "not_yet": later, "both": later | never}[control]
            psi = np.where(treated, (change - change[treated].mean()) / treated.sum(), 0.0)
            psi -= np.where(off, (change - change[off].mean()) / off.sum(), 0.0)
            np.testing.assert_allclose(drawn[i][k], psi @ weights, atol=GRID)


@pytest.mark.parametrize("shares", ["fixed", "estimated"])
def test_draws_of_aggregates_are_their_influence_times_multipliers(shares):
    panel = planted()
    ids = np.arange(len(panel.y))
    got = aggregate(estimates(panel, control="both", units=ids), "event_time", shares=shares)

    (drawn,) = contrast_draws([got], BootstrapSpec(50, 1))

    expected = got.influence().T @ multipliers(ids, 50, 1).values() / len(panel.y)
    np.testing.assert_allclose(drawn, expected, atol=GRID)


@pytest.mark.parametrize("control", ["never", "both"])
def test_draws_of_adjusted_effects_are_their_influence_times_multipliers(control):
    panel = planted(cohorts=(10, 17, 20), rows=20, never=30)
    ids = np.arange(len(panel.y))
    att = estimates(panel, control=control, estimator="ancova", units=ids)
    weights = multipliers(ids, 50, 1).values()
    one_each = np.zeros((int(att.identified.sum()), *att.att.shape))
    cells = np.argwhere(att.identified)
    one_each[np.arange(len(cells)), cells[:, 0], cells[:, 1]] = 1.0
    each = contrast(att, one_each)

    drawn = np.stack([errors[:-1] for errors in cell_draws(att, BootstrapSpec(50, 1))])

    psi = each.influence()
    np.testing.assert_allclose(drawn[att.identified], psi.T @ weights / len(ids), atol=GRID)
    np.testing.assert_allclose(psi.mean(axis=0), 0.0, atol=1e-12)
    np.testing.assert_allclose(each.se, att.se[att.identified], atol=1e-8)
    np.testing.assert_allclose(psi.T @ psi / len(ids) ** 2, each.covariance(), atol=1e-12)


def test_all_rows_of_a_cluster_share_their_multiplier():
    panel = planted(rows=20, batch=4)
    att = estimates(
        panel, clusters=panel.cluster, units=np.arange(len(panel.y)), small_sample=False
    )
    own = panel.cluster == NEVER
    weights = np.where(
        own[:, None],
        multipliers(np.arange(len(own)), 40, 8).values(),
        multipliers(panel.cluster, 40, 8, stream=1).values(),
    )
    got = aggregate(att, "overall")

    (drawn,) = contrast_draws([got], BootstrapSpec(40, 8))

    np.testing.assert_allclose(drawn, got.influence().T @ weights / len(own), atol=GRID)


@pytest.mark.parametrize("multiplier", ["normal", "rademacher", "mammen", "webb"])
@pytest.mark.parametrize("control", ["never", "both"])
def test_workers_chunks_and_order_of_rows_change_no_bit(multiplier, control):
    panel = planted(rows=30, never=70, batch=3)
    settings = {"control": control, "clusters": panel.cluster}
    att = estimates(panel, **settings)
    order = np.random.default_rng(0).permutation(len(panel.y))
    mixed = att_gt(
        panel.y[order],
        panel.cohort[order],
        panel.checkpoints,
        control=control,
        clusters=panel.cluster[order],
    )
    plain = BootstrapSpec(200, 3, multiplier)

    (expected, curve) = bands_of([att, aggregate(att, "event_time")], plain)

    for workers in (2, 4):
        for chunk in (1, 7, 10_000):
            how = replace(plain, workers=workers, chunk=chunk)
            got, got_curve = bands_of([att, aggregate(att, "event_time")], how)
            np.testing.assert_array_equal(got.lower, expected.lower)
            np.testing.assert_array_equal(got_curve.upper, curve.upper)
    got, got_curve = bands_of([mixed, aggregate(mixed, "event_time")], plain)
    np.testing.assert_array_equal(got.lower, expected.lower)
    np.testing.assert_array_equal(got_curve.upper, curve.upper)


def test_fewer_draws_are_the_first_of_many():
    att = estimates(planted())

    many = next(iter(cell_draws(att, BootstrapSpec(400, 6))))
    few = next(iter(cell_draws(att, BootstrapSpec(150, 6))))

    np.testing.assert_array_equal(few, many[:, :150])


def test_bands_of_several_targets_are_those_of_each():
    att = estimates(planted())
    curve = aggregate(att, "event_time")

    together = bands_of([att, curve], BootstrapSpec(300, 2))

    np.testing.assert_array_equal(together[0].upper, bands(att, 300, 2).upper)
    np.testing.assert_array_equal(together[1].upper, bands(curve, 300, 2).upper)


def test_critical_value_and_scale_follow_their_definition():
    att = estimates(planted(rows=200, never=300))
    draws = np.stack([e[:-1] for e in cell_draws(att, BootstrapSpec(999, 5))])
    members = att.post

    got = bands(att, 999, 5)

    cells = draws[members]
    ordered = np.sort(cells, axis=1)
    sigma = (ordered[:, 749] - ordered[:, 249]) / 1.3489795003921634
    largest = np.sort((np.abs(cells) / sigma[:, None]).max(axis=0))
    np.testing.assert_allclose(got.sigma[members], sigma)
    assert got.critical == pytest.approx(largest[949])
    assert got.size == members.sum() == 9
    assert np.isnan(got.lower[~members]).all()


def test_the_spread_of_draws_is_the_analytic_standard_error():
    att = estimates(planted(rows=60, never=100))
    draws = np.stack([e[:-1] for e in cell_draws(att, BootstrapSpec(20_000, 0))])

    ratio = draws.std(axis=2)[att.se > 0] / att.se[att.se > 0]

    assert abs(ratio - 1).max() < 5 / np.sqrt(2 * 20_000)  # five standard errors of a deviation


def test_interquartile_sigma_of_normal_numbers_is_their_deviation():
    numbers = np.random.default_rng(0).normal(scale=[[1.0], [3.0]], size=(2, 200_000))

    np.testing.assert_allclose(interquartile_sigma(numbers), [1.0, 3.0], rtol=0.01)


def test_families_select_their_cells(small):
    att = estimates(small)
    curve = aggregate(att, "event_time")
    mask = np.zeros(att.att.shape, bool)
    mask[1, 3] = True

    assert bands(att, 100).size == 9
    assert bands(att, 100, family="placebo").size == 3
    everything = bands(att, 100, family="all")
    assert (everything.size, everything.degenerate) == (15, 3)
    assert bands(att, 100, family="path:20").member.any(axis=1).tolist() == [False, True, False]
    assert bands(att, 100, family=mask).size == 1
    assert bands(curve, 100).size == len(curve)
    np.testing.assert_array_equal(
        bands(att, 100, family="event_time").upper, bands(curve, 100).upper
    )
    assert bands(curve, 100, family="post").size == 4


def test_a_family_of_one_has_the_critical_value_of_one():
    att = estimates(planted(rows=300, never=300))
    one = np.zeros(att.att.shape, bool)
    one[0, 2] = True

    got = bands(att, 20_000, family=one)

    assert got.critical == pytest.approx(1.96, abs=0.05)  # simulated from 20,000 draws
    assert got.effective == pytest.approx(1.0, abs=0.15)


def test_a_band_says_what_it_is():
    text = str(bands(estimates(planted()), 300, 7))

    assert "95% simultaneous band over family 'post': 9 cells; critical value" in text
    assert "300 normal draws, seed 7" in text
    assert "over family 'event_time, all'" in str(
        bands(estimates(planted()), 100, family="event_time")
    )


def test_cells_without_variance_are_dropped_and_counted():
    panel = planted()
    frozen = panel.y.copy()
    frozen[:, 2] = frozen[:, 1]  # weights of two checkpoints are the same

    got = bands(estimates(planted_with(panel, frozen)), 100, family="all")

    assert got.degenerate == 5  # three bases; 20 against base 10, and 10 against base 20
    assert np.isfinite(got.critical)


def planted_with(panel, y):
    return type(panel)(y, panel.cohort, panel.checkpoints, panel.cluster, panel.truth)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (
            lambda a: bands(a, family="late"),
            OptionError,
            "expected post, placebo, all, path:COHORT",
        ),
        (lambda a: bands(a, family="path:15"), OptionError, "no such cohort; the first are 10, 20"),
        (
            lambda a: bands(a, family=np.zeros(a.att.shape, bool)),
            EmptyFamilyError,
            "none of 15 cells",
        ),
        (
            lambda a: bands(a, family=np.ones(3, bool)),
            OptionError,
            r"expected bool of shape \(3, 5\)",
        ),
        (lambda a: bands(a, 0), OptionError, "draws: got 0, expected a whole number from 10"),
        (lambda a: bands(a, workers=0), OptionError, "workers: got 0"),
        (lambda a: bands(a, level=1.0), OptionError, r"level: got 1\.0"),
        (lambda a: bands(a, multiplier="gauss"), OptionError, "expected one of normal"),
        (lambda a: bands(a, seed=-5), OptionError, "seed: got -5"),
        (
            lambda a: bands(aggregate(a, "cohort"), family="post"),
            OptionError,
            "expected all or a mask",
        ),
    ],
)
def test_bad_input_is_its_own_error(small, call, error, message):
    with pytest.raises(error, match=message):
        call(estimates(small))


def test_a_family_without_any_variance_is_an_error():
    panel = planted(noise=0.0)

    with pytest.raises(DegenerateError, match="all 9 cells of the family have zero variance"):
        bands(estimates(panel))


def test_brute_force_and_bands_speak_of_the_same_cells(small):
    att = estimates(small)

    got = bands(att, 500)

    for i, k in np.argwhere(att.post):
        _, se, _, _ = brute_cell(
            small.y, small.cohort, small.checkpoints, att.cohorts[i], att.checkpoints[k]
        )
        assert got.sigma[i, k] == pytest.approx(se, rel=0.25)  # an interquartile range of 500 draws
        assert got.lower[i, k] < att.att[i, k] < got.upper[i, k]
