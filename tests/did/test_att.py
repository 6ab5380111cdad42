"""ATT(g, c): planted truth, brute force, invariances."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import ttest_ind

from pythia_profile.did import NEVER, att_gt, bands
from tests.did.planted import brute_cell, planted

ROUNDING = 1e-12  # sums of some hundred numbers near 1, in float64
CONTROLS = ("never", "not_yet", "both")


def test_planted_effect_is_found_exactly_where_there_is_no_noise():
    panel = planted(noise=0.0)

    effect = att_gt(panel.y, panel.cohort, panel.checkpoints)

    np.testing.assert_allclose(effect.att, panel.truth, atol=ROUNDING)


@pytest.mark.parametrize("control", CONTROLS)
@pytest.mark.parametrize("base", ["universal", "varying"])
@pytest.mark.parametrize("estimator", ["did", "diff"])
@pytest.mark.parametrize("cohorts", [(10, 20, 30), (3, 14, 17, 38), (12, 50)])
def test_each_cell_is_the_difference_of_mean_changes(control, base, estimator, cohorts):
    panel = planted(cohorts=cohorts)
    theta = 1.0 if estimator == "did" else 0.0

    effect = att_gt(
        panel.y, panel.cohort, panel.checkpoints, control=control, base=base, estimator=estimator
    )

    for i, g in enumerate(cohorts):
        for k, c in enumerate(panel.checkpoints):
            if estimator == "diff" and base == "varying" and c == 0 and g > 0:
                continue  # the plain difference needs no base
            att, se, treated, controls = brute_cell(
                panel.y, panel.cohort, panel.checkpoints, g, c,
                control=control, base=base, theta=theta,
            )  # fmt: skip
            np.testing.assert_allclose(effect.att[i, k], att, atol=ROUNDING)
            np.testing.assert_allclose(effect.se[i, k], se, atol=ROUNDING)
            if np.isfinite(att):
                assert effect.n_treated[i, k] == treated
                assert effect.n_control[i, k] == controls


@given(seed=st.integers(0, 2**32 - 1), control=st.sampled_from(CONTROLS))
@settings(max_examples=30, deadline=None)
def test_a_trend_common_to_all_rows_changes_nothing(seed, control):
    panel = planted(seed)
    trend = 10 * np.random.default_rng(seed).normal(size=len(panel.checkpoints))

    plain = att_gt(panel.y, panel.cohort, panel.checkpoints, control=control)
    moved = att_gt(panel.y + trend, panel.cohort, panel.checkpoints, control=control)

    np.testing.assert_allclose(moved.att, plain.att, atol=100 * ROUNDING)
    np.testing.assert_allclose(moved.se, plain.se, atol=100 * ROUNDING)
    assert bands(moved, 50).critical == pytest.approx(bands(plain, 50).critical)


@given(seed=st.integers(0, 2**32 - 1), base=st.sampled_from(["universal", "varying"]))
@settings(max_examples=30, deadline=None)
def test_permuted_rows_change_no_bit(seed, base):
    panel = planted(seed, batch=3)
    order = np.random.default_rng(seed).permutation(len(panel.y))
    settings_ = {"control": "both", "base": base}

    plain = att_gt(panel.y, panel.cohort, panel.checkpoints, clusters=panel.cluster, **settings_)
    mixed = att_gt(
        panel.y[order],
        panel.cohort[order],
        panel.checkpoints,
        clusters=panel.cluster[order],
        **settings_,
    )

    np.testing.assert_array_equal(mixed.att, plain.att)
    np.testing.assert_array_equal(mixed.se, plain.se)
    np.testing.assert_array_equal(bands(mixed, 50).upper, bands(plain, 50).upper)


@given(
    seed=st.integers(0, 2**32 - 1),
    steps=st.lists(st.integers(1, 10**6), min_size=5, max_size=5),
    floats=st.booleans(),
)
@settings(max_examples=30, deadline=None)
def test_new_names_for_cohorts_and_checkpoints_change_nothing(seed, steps, floats):
    panel = planted(seed)
    grid = np.cumsum(steps) / (7 if floats else 1)
    names = dict(zip(panel.checkpoints.tolist(), grid.tolist(), strict=True))
    cohort = np.array([names.get(g, NEVER) for g in panel.cohort.tolist()])

    plain = att_gt(panel.y, panel.cohort, panel.checkpoints)
    renamed = att_gt(panel.y, cohort, grid)

    np.testing.assert_array_equal(renamed.att, plain.att)
    np.testing.assert_array_equal(renamed.se, plain.se)
    np.testing.assert_array_equal(bands(renamed, 50).upper, bands(plain, 50).upper)


@pytest.mark.parametrize("size", [1.0, 1e6])
@pytest.mark.parametrize("control", CONTROLS)
def test_levels_of_rows_change_nothing_however_large(small, size, control):
    levels = size * np.random.default_rng(0).normal(size=(len(small.y), 1))
    settings_ = {"control": control, "units": np.arange(len(small.y))}

    plain = att_gt(small.y, small.cohort, small.checkpoints, **settings_)
    moved = att_gt(small.y + levels, small.cohort, small.checkpoints, **settings_)

    rounding = size * 1e-14  # adding the level rounds the outcome itself, to 1e-16 of the level
    np.testing.assert_allclose(moved.att, plain.att, atol=ROUNDING + rounding)
    np.testing.assert_allclose(moved.se, plain.se, atol=ROUNDING + rounding)
    np.testing.assert_allclose(
        bands(moved).upper[plain.post], bands(plain).upper[plain.post], atol=1e-9 + 10 * rounding
    )


def test_outcomes_of_any_number_type_are_taken(small):
    whole = np.rint(100 * small.y)

    expected = att_gt(whole, small.cohort, small.checkpoints)
    for dtype in (np.int16, np.int64, np.float32):
        got = att_gt(whole.astype(dtype), small.cohort, small.checkpoints)
        np.testing.assert_array_equal(got.att, expected.att)
    listed = att_gt(whole.tolist(), small.cohort.tolist(), small.checkpoints.tolist())
    np.testing.assert_array_equal(listed.att, expected.att)


@pytest.mark.parametrize("scale", [1e-90, 1e90])
def test_the_unit_of_the_outcome_scales_effects_and_errors_only(small, scale):
    plain = att_gt(small.y, small.cohort, small.checkpoints)
    scaled = att_gt(scale * small.y, small.cohort, small.checkpoints)

    np.testing.assert_allclose(scaled.att / scale, plain.att, atol=ROUNDING)
    np.testing.assert_allclose(scaled.se / scale, plain.se, atol=ROUNDING)
    np.testing.assert_allclose(scaled.df, plain.df)
    assert bands(scaled).critical == pytest.approx(bands(plain).critical)


def test_degrees_of_freedom_are_welchs():
    panel = planted(cohorts=(10,), rows=12, never=15)
    att = att_gt(panel.y, panel.cohort, panel.checkpoints, small_sample=True)

    change = panel.y[:, 2] - panel.y[:, 0]
    on, off = change[panel.cohort == 10], change[panel.cohort == NEVER]
    test = ttest_ind(on, off, equal_var=False)
    assert att.df[0, 2] == pytest.approx(test.df)
    assert att.att[0, 2] / att.se[0, 2] == pytest.approx(test.statistic)
    lower, upper = att.interval(0.9)
    expected = test.confidence_interval(0.9)
    assert (lower[0, 2], upper[0, 2]) == pytest.approx((expected.low, expected.high))


def test_the_layout_of_the_matrix_in_memory_changes_no_bit(small):
    by_row = att_gt(np.ascontiguousarray(small.y), small.cohort, small.checkpoints)
    by_column = att_gt(np.asfortranarray(small.y), small.cohort, small.checkpoints)

    np.testing.assert_array_equal(by_column.att, by_row.att)
    np.testing.assert_array_equal(by_column.se, by_row.se)


def test_discrete_outcomes_with_equal_rows_do_not_depend_on_their_order():
    rng = np.random.default_rng(0)
    y = rng.integers(0, 2, size=(90, 4)).astype(float)  # at most 16 distinct rows
    cohort, cluster = np.repeat([10, 20, NEVER], 30), np.arange(90) // 3
    order = rng.permutation(90)

    plain = att_gt(y, cohort, [0, 10, 20, 30], clusters=cluster)
    mixed = att_gt(y[order], cohort[order], [0, 10, 20, 30], clusters=cluster[order])

    np.testing.assert_array_equal(bands(mixed).upper, bands(plain).upper)


def test_cohorts_between_checkpoints_use_the_last_one_before_them(small):
    between = np.where(small.cohort == NEVER, NEVER, small.cohort - 4)

    on_grid = att_gt(small.y, small.cohort, small.checkpoints)
    off_grid = att_gt(small.y, between, small.checkpoints)

    np.testing.assert_array_equal(off_grid.att, on_grid.att)
    assert off_grid.event_time[0].tolist() == [-6, 4, 14, 24, 34]


def test_a_cohort_after_the_last_checkpoint_has_placebo_cells_only():
    panel = planted(cohorts=(10, 90))

    effect = att_gt(panel.y, panel.cohort, panel.checkpoints)

    assert not effect.post[1].any()
    assert effect.placebo[1].tolist() == [True] * 4 + [False]


def test_anticipation_moves_the_base_back(small):
    late = att_gt(small.y, np.where(small.cohort == 10, NEVER, small.cohort), small.checkpoints,
                  anticipation=1)  # fmt: skip

    base = small.y[:, 0]  # one checkpoint before the base of cohort 20, which is 10
    treated = small.cohort == 20
    control = (small.cohort == NEVER) | (small.cohort == 10)
    change = small.y[:, 2] - base
    assert late.att[0, 2] == pytest.approx(change[treated].mean() - change[control].mean())
    assert late.placebo[1].tolist() == [True, False, False, False, False]


def test_adjustment_for_the_base_removes_what_the_base_predicts():
    panel = planted(noise=0.0, rows=60, never=100)
    rng = np.random.default_rng(3)
    start = panel.y[:, :1]
    regressed = panel.y - 0.4 * start + 0.001 * rng.normal(size=panel.y.shape)
    regressed[:, 0] = panel.y[:, 0]  # later outcomes follow the first with slope 0.6
    regressed[panel.cohort == 10, :] += [1.0, 0.6, 0.6, 0.6, 0.6]  # that cohort starts higher

    did = att_gt(regressed, panel.cohort, panel.checkpoints)
    adjusted = att_gt(regressed, panel.cohort, panel.checkpoints, estimator="ancova")

    truth = panel.truth[0, 1:]
    np.testing.assert_allclose(did.att[0, 1:], truth - 0.4, atol=0.2)  # wrong by design
    np.testing.assert_allclose(adjusted.att[0, 1:], truth, atol=0.002)
    np.testing.assert_allclose(adjusted.fit.comparison.theta[0, 1:], 0.6, atol=0.001)


def test_adjusted_effects_are_zero_at_the_base_without_rounding(small):
    adjusted = att_gt(small.y, small.cohort, small.checkpoints, estimator="ancova", control="both")

    for i, b in enumerate(adjusted.fit.comparison.base[:, 0]):
        assert (adjusted.att[i, b], adjusted.se[i, b]) == (0.0, 0.0)


def test_adjustment_with_a_constant_base_is_difference_in_differences():
    panel = planted(cohorts=(10,))
    panel.y[:, 0] = 4.0

    did = att_gt(panel.y, panel.cohort, panel.checkpoints)
    adjusted = att_gt(panel.y, panel.cohort, panel.checkpoints, estimator="ancova")

    np.testing.assert_allclose(adjusted.att, did.att, atol=ROUNDING)
    np.testing.assert_allclose(adjusted.se, did.se, atol=ROUNDING)


def test_equal_weights_are_no_weights_and_integer_weights_are_copies(small):
    twice = np.arange(len(small.y)) % 2 + 1

    plain = att_gt(small.y, small.cohort, small.checkpoints)
    scaled = att_gt(small.y, small.cohort, small.checkpoints, weights=np.full(len(small.y), 3.0))
    weighted = att_gt(small.y, small.cohort, small.checkpoints, weights=twice)
    copied = att_gt(
        np.repeat(small.y, twice, axis=0), np.repeat(small.cohort, twice), small.checkpoints
    )

    np.testing.assert_allclose(scaled.att, plain.att, atol=ROUNDING)
    np.testing.assert_allclose(scaled.se, plain.se, atol=ROUNDING)
    np.testing.assert_allclose(weighted.att, copied.att, atol=ROUNDING)


def test_copies_of_rows_in_one_cluster_leave_the_standard_error_alone(small):
    ids = np.arange(len(small.y))

    plain = att_gt(small.y, small.cohort, small.checkpoints)
    copies = att_gt(
        np.repeat(small.y, 3, axis=0),
        np.repeat(small.cohort, 3),
        small.checkpoints,
        clusters=np.repeat(ids, 3),
        small_sample=False,
    )

    np.testing.assert_allclose(copies.se, plain.se, atol=ROUNDING)


def test_an_estimate_says_what_it_is(small):
    text = str(att_gt(small.y, small.cohort, small.checkpoints, control="not_yet"))

    assert text == (
        "ATT(g, c) of 3 cohorts at 5 checkpoints, 42 treated rows, up to 30 control rows "
        "('not_yet'); estimator did, universal base\n9 of 15 cells have no controls or no base, "
        "and no estimate"
    )


def test_few_clusters_are_noted():
    panel = planted(batch=3)

    effect = att_gt(panel.y, panel.cohort, panel.checkpoints, clusters=panel.cluster)

    assert any(
        "as few as 4 clusters: do not trust bands over single cells" in n for n in effect.notes
    )
    assert not att_gt(panel.y, panel.cohort, panel.checkpoints).notes


def test_dates_and_words_are_numbered_in_their_order(small):
    days = np.datetime64("2026-01-01") + small.checkpoints
    words = [f"week {k}" for k in (1, 2, 3, 4, 10)]
    place = np.searchsorted(small.checkpoints, np.where(small.cohort == NEVER, 0, small.cohort))
    dates = np.where(small.cohort == NEVER, np.datetime64("NaT"), days[place])
    named = [None if g == NEVER else words[k] for g, k in zip(small.cohort, place, strict=True)]

    plain = att_gt(small.y, small.cohort, small.checkpoints)

    for labels, cohort in ((days, dates), (words, named), (days.tolist(), dates.tolist())):
        found = att_gt(small.y, cohort, labels)
        np.testing.assert_array_equal(found.att, plain.att)
        assert found.cohorts.tolist() == [1, 2, 3]
        assert found.checkpoints.tolist() == [0, 1, 2, 3, 4]
        assert "are numbered 0 to 4" in found.notes[0]


@pytest.mark.parametrize("never", [np.nan, np.inf])
def test_never_treated_rows_may_be_marked_as_in_other_packages(small, never):
    """R's did writes Inf or 0, differences NaN, csdid and diff-diff infinity."""
    marked = np.where(small.cohort == NEVER, never, small.cohort)

    got = att_gt(small.y, marked, small.checkpoints)

    np.testing.assert_array_equal(got.att, att_gt(small.y, small.cohort, small.checkpoints).att)
