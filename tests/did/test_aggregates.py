"""Aggregates and contrasts: by hand from the cells, and their influence functions from the rows."""

import numpy as np
import pytest

from pythia_profile.did import NEVER, aggregate, att_gt, contrast, difference
from pythia_profile.did.errors import EmptyFamilyError, NoRowsError, OptionError, PanelShapeError
from pythia_profile.did.inference.aggregates import first_cohort_note
from tests.did.planted import planted

ROUNDING = 1e-12  # sums of some hundred numbers near 1, in float64
KINDS = (
    "event_time", "cohort", "calendar", "overall", "instantaneous", "persistent", "residual",
)  # fmt: skip
CONTROLS = ("never", "not_yet", "both")


def cells_of(kind, att):
    """Label -> (weights, cells) of an aggregate, written out from its definition."""
    rows = att.n_treated[:, 0]
    found = {}
    for i, g in enumerate(att.cohorts):
        post = [k for k, c in enumerate(att.checkpoints) if c >= g and np.isfinite(att.att[i, k])]
        for k, c in enumerate(att.checkpoints):
            if not np.isfinite(att.att[i, k]):
                continue
            chosen = {
                "event_time": (c - g, rows[i]),
                "cohort": (g, 1) if k in post else None,
                "calendar": (c, rows[i]) if k in post else None,
                "overall": (None, rows[i]) if k in post else None,
                "instantaneous": (g, 1) if post and k == post[0] else None,
                "persistent": (g, 1) if k in post[1:] else None,
                "residual": (g, 1) if k in post and c == att.checkpoints[-1] else None,
            }[kind]
            if chosen:
                found.setdefault(chosen[0], []).append((chosen[1], i, k))
    return found


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("control", ["never", "both"])
def test_each_aggregate_is_its_weighted_mean_of_cells(kind, control):
    panel = planted(cohorts=(10, 20, 30, 40))
    att = att_gt(panel.y, panel.cohort, panel.checkpoints, control=control)

    got = aggregate(att, kind)

    expected = {
        at: sum(w * att.att[i, k] for w, i, k in members) / sum(w for w, _, _ in members)
        for at, members in cells_of(kind, att).items()
    }
    if kind in ("instantaneous", "persistent", "residual"):
        rows = dict(zip(att.cohorts.tolist(), att.n_treated[:, 0].tolist(), strict=True))
        total = sum(rows[g] for g in expected)
        expected[None] = sum(rows[g] * value for g, value in expected.items()) / total
    assert set(got.labels) == set(expected)
    for at, value in zip(got.labels, got.estimate, strict=True):
        assert value == pytest.approx(expected[at], abs=ROUNDING)


@pytest.mark.parametrize("control", CONTROLS)
@pytest.mark.parametrize("base", ["universal", "varying"])
def test_a_contrast_of_one_cell_is_that_cell(control, base):
    panel = planted(cohorts=(10, 17, 20, 38), batch=3)
    att = att_gt(
        panel.y, panel.cohort, panel.checkpoints, control=control, base=base,
        clusters=panel.cluster, small_sample=False,
    )  # fmt: skip
    cells = np.argwhere(att.identified)
    weights = np.zeros((len(cells), *att.att.shape))
    weights[np.arange(len(cells)), cells[:, 0], cells[:, 1]] = 1.0

    got = contrast(att, weights)

    np.testing.assert_allclose(got.estimate, att.att[att.identified], atol=ROUNDING)
    np.testing.assert_allclose(got.se, att.se[att.identified], atol=1e-8)  # root of rounding


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("control", CONTROLS)
@pytest.mark.parametrize("shares", ["fixed", "estimated"])
def test_influence_functions_average_to_zero_and_give_the_standard_error(kind, control, shares):
    panel = planted(cohorts=(10, 17, 20, 50))
    att = att_gt(panel.y, panel.cohort, panel.checkpoints, control=control)
    got = aggregate(att, kind, shares=shares)

    psi = got.influence()

    assert psi.shape == (len(panel.y), len(got))
    np.testing.assert_allclose(psi.mean(axis=0), 0.0, atol=ROUNDING)
    np.testing.assert_allclose(np.sqrt((psi**2).mean(axis=0) / len(psi)), got.se, atol=1e-8)
    np.testing.assert_allclose(psi.T @ psi / len(psi) ** 2, got.covariance(), atol=ROUNDING)


def test_the_influence_function_is_the_effect_of_leaving_a_row_out():
    panel = planted(rows=40, never=60)
    att = att_gt(panel.y, panel.cohort, panel.checkpoints, control="both")
    psi = aggregate(att, "overall").influence()[:, 0]

    for row in (0, 45, len(panel.y) - 1):
        tilt = np.ones(len(panel.y))
        tilt[row] += 1e-5
        moved = att_gt(panel.y, panel.cohort, panel.checkpoints, control="both", weights=tilt)
        # The cohorts' shares in the aggregate stay as they were: they are fixed by design.
        fixed = contrast(moved, aggregate(att, "overall").parts[0].weights)
        slope = (fixed.estimate[0] - aggregate(att, "overall").estimate[0]) / 1e-5
        assert len(panel.y) * slope == pytest.approx(psi[row], rel=1e-3)


def test_clustered_standard_errors_sum_the_influence_over_clusters():
    panel = planted(cohorts=(10, 20, 30), rows=20, batch=4, batch_noise=0.3)
    att = att_gt(
        panel.y, panel.cohort, panel.checkpoints, clusters=panel.cluster, small_sample=False
    )
    got = aggregate(att, "event_time")

    psi = got.influence() / len(panel.y)
    own = panel.cluster == NEVER
    names = np.where(own, 10**6 + np.arange(len(own)), panel.cluster)
    sums = np.array([psi[names == name].sum(axis=0) for name in np.unique(names)])
    np.testing.assert_allclose(np.sqrt((sums**2).sum(axis=0)), got.se, atol=1e-8)


def test_estimated_shares_add_variance_only_where_effects_differ_between_cohorts():
    panel = planted()
    att = att_gt(panel.y, panel.cohort, panel.checkpoints)

    fixed = aggregate(att, "event_time")
    estimated = aggregate(att, "event_time", shares="estimated")
    alone = [k for k, at in enumerate(fixed.labels) if at == 30]  # reached by the first cohort only

    np.testing.assert_array_equal(estimated.estimate, fixed.estimate)
    assert (estimated.se >= fixed.se - ROUNDING).mean() > 0.5
    np.testing.assert_allclose(estimated.se[alone], fixed.se[alone], atol=ROUNDING)


def test_balance_keeps_the_cohorts_and_event_times_that_all_reach():
    panel = planted(cohorts=(10, 20, 40), checkpoints=(0, 10, 20, 30, 40, 50))
    att = att_gt(panel.y, panel.cohort, panel.checkpoints)

    got = aggregate(att, "event_time", balance=20)

    assert got.labels == (-10, 0, 10, 20)  # cohorts 10 and 20; the first has no event time -20
    shares = att.n_treated[:2, 0] / att.n_treated[:2, 0].sum()
    assert got.estimate[1] == pytest.approx(shares @ [att.att[0, 1], att.att[1, 2]], abs=ROUNDING)


@pytest.mark.parametrize("kind", KINDS)
def test_an_aggregate_over_some_cohorts_is_that_of_a_panel_without_the_others(kind):
    panel = planted(cohorts=(10, 20, 30))
    att = att_gt(panel.y, panel.cohort, panel.checkpoints)
    kept = panel.cohort != 20
    without = att_gt(panel.y[kept], panel.cohort[kept], panel.checkpoints)

    got = aggregate(att, kind, cohorts=[10, 30])

    expected = aggregate(without, kind)
    assert got.labels == expected.labels
    np.testing.assert_allclose(got.estimate, expected.estimate, atol=ROUNDING)
    np.testing.assert_allclose(got.se, expected.se, atol=1e-8)


def test_late_cohorts_are_compared_with_early_ones_along_event_time():
    panel = planted(cohorts=(10, 20, 30))
    att = att_gt(panel.y, panel.cohort, panel.checkpoints)

    gap = difference(
        aggregate(att, "event_time", cohorts=[30]), aggregate(att, "event_time", cohorts=[10, 20])
    )

    rows = att.n_treated[:2, 0] / att.n_treated[:2, 0].sum()
    assert gap.labels == (-20, -10, 0, 10)
    assert gap.estimate[2] == pytest.approx(att.att[2, 3] - rows @ [att.att[0, 1], att.att[1, 2]])


def test_a_difference_of_contrasts_of_one_panel_knows_their_covariance():
    panel = planted()
    att = att_gt(panel.y, panel.cohort, panel.checkpoints)
    weights = np.zeros((2, *att.att.shape))
    weights[0, 0, 1] = weights[1, 2, 3] = 1.0
    both = contrast(att, weights)

    late = contrast(att, weights[1], labels=["x"]) - contrast(att, weights[0], labels=["x"])

    covariance = both.covariance()
    expected = covariance[0, 0] + covariance[1, 1] - 2 * covariance[0, 1]
    assert late.estimate[0] == pytest.approx(both.estimate[1] - both.estimate[0], abs=ROUNDING)
    assert late.se[0] == pytest.approx(np.sqrt(expected), rel=1e-9)
    assert len(late.parts) == 1


def test_two_sizes_on_the_same_rows_are_compared_row_by_row():
    small, large = planted(seed=1), planted(seed=2)
    large.y = 0.9 * small.y + 0.1 * large.y
    ids = np.random.default_rng(0).permutation(len(small.y))
    one = att_gt(small.y, small.cohort, small.checkpoints, units=ids)
    shuffled = np.random.default_rng(1).permutation(len(ids))
    two = att_gt(large.y[shuffled], large.cohort[shuffled], large.checkpoints, units=ids[shuffled])

    got = aggregate(two, "event_time") - aggregate(one, "event_time")
    paired = aggregate(
        att_gt(large.y - small.y, small.cohort, small.checkpoints, units=ids), "event_time"
    )

    np.testing.assert_allclose(got.estimate, paired.estimate, atol=ROUNDING)
    np.testing.assert_allclose(got.se, paired.se, atol=1e-8)
    np.testing.assert_allclose(got.covariance(), paired.covariance(), atol=ROUNDING)


def test_panels_without_common_rows_are_independent():
    one, two = planted(seed=1), planted(seed=2)
    first = att_gt(one.y, one.cohort, one.checkpoints, units=np.arange(len(one.y)))
    second = att_gt(two.y, two.cohort, two.checkpoints, units=1000 + np.arange(len(two.y)))

    a, b = (aggregate(att, "overall") for att in (first, second))

    assert (a - b).se[0] == pytest.approx(np.hypot(a.se[0], b.se[0]), rel=1e-9)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda a: aggregate(a, "mean"), OptionError, "got 'mean', expected one of event_time"),
        (lambda a: aggregate(a, "cohort", balance=10), OptionError, "expected event_time"),
        (lambda a: aggregate(a, "cohort", cohorts=[15]), OptionError, "no cohort 15; the first"),
        (
            lambda a: aggregate(a, "cohort", shares="random"),
            OptionError,
            "expected one of fixed, estimated",
        ),
        (
            lambda a: aggregate(a, "event_time", balance=99),
            EmptyFamilyError,
            "none of 3 cohorts is followed that long; the longest is followed for 30 steps",
        ),
        (lambda a: contrast(a, np.zeros((3, 4))), PanelShapeError, r"expected \(3, 5\)"),
        (lambda a: contrast(a, np.zeros((3, 5))), EmptyFamilyError, "of the 0 cells with a weight"),
        (
            lambda a: aggregate(a, "overall") - aggregate(a, "cohort"),
            PanelShapeError,
            "labels differ",
        ),
        (
            lambda a: aggregate(a, "overall") - aggregate(other(), "overall"),
            NoRowsError,
            "pass units= to att_gt",
        ),
    ],
)
def test_bad_input_is_its_own_error(small, call, error, message):
    with pytest.raises(error, match=message):
        call(att_gt(small.y, small.cohort, small.checkpoints))


def test_aggregates_without_cells_say_so():
    panel = planted(cohorts=(50, 60))
    att = att_gt(panel.y, panel.cohort, panel.checkpoints)

    for kind in ("overall", "instantaneous", "residual"):
        with pytest.raises(EmptyFamilyError, match=f"{kind}: none of"):
            aggregate(att, kind)


def other():
    panel = planted(seed=5)
    return att_gt(panel.y, panel.cohort, panel.checkpoints)


def test_a_first_cohort_that_moves_the_mean_is_named_with_the_mean_without_it():
    panel = planted(rows=60, never=120)
    noisy = panel.y + 3 * np.random.default_rng(1).normal(size=panel.y.shape)
    assert first_cohort_note(att_gt(noisy, panel.cohort, panel.checkpoints)) == ()
    odd = panel.y - 2.0 * (panel.cohort == 10)[:, None] * (panel.checkpoints >= 10)

    (note,) = first_cohort_note(att_gt(odd, panel.cohort, panel.checkpoints))

    att = att_gt(odd, panel.cohort, panel.checkpoints)
    rest = aggregate(att, "overall", cohorts=[20, 30])
    assert f"without cohort 10 {rest.estimate[0]:.4f} ± {rest.se[0]:.4f}" in note
    assert "its base, checkpoint 0, is the least" in note
