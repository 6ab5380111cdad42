"""Effects at equal covariates: three other packages, brute force, planted truth, bad input.

`covariate_references.py` made the stored answers. Their logit stops at a change of the deviance of
1e-8, ours at the last bit, which is what the tolerance of doubly robust errors allows for.
"""

import json

import numpy as np
import pytest

from pythia_profile.did import NEVER, aggregate, att_gt, bands
from pythia_profile.did.errors import CovariateError
from tests.did.covariate_references import CASES, NEVER_READ, STORED, panel

ANSWERS = json.loads(STORED.read_text())
PARITY = 1e-8
METHODS = {"reg": "regression", "dr": "doubly_robust"}


def estimated(case):
    y, cohort, checkpoints, x, weights = panel(case)
    return att_gt(
        y,
        np.where(cohort == NEVER_READ, NEVER, cohort),
        checkpoints,
        control=case.control,
        base=case.base,
        weights=weights if case.sampled else None,
        covariates=x,
        adjustment=METHODS[case.method],
    )


def cells_of(att):
    known = att.identified & (att.se > 0)
    return {
        (int(g), int(c)): (att.att[i, j], att.se[i, j])
        for i, g in enumerate(att.cohorts)
        for j, c in enumerate(att.checkpoints)
        if known[i, j]
    }


@pytest.mark.parametrize("package", ["csdid", "moderndid"])
@pytest.mark.parametrize("name", CASES)
def test_cells_are_those_of_other_packages(name, package):
    ours = cells_of(estimated(CASES[name]))
    theirs = {(g, c): (effect, se) for g, c, effect, se in ANSWERS[name][package]}

    assert set(ours) == {cell for cell, (_, se) in theirs.items() if se > 0}
    for cell, (effect, se) in ours.items():
        assert effect == pytest.approx(theirs[cell][0], abs=PARITY)
        assert se == pytest.approx(theirs[cell][1], rel=PARITY)


@pytest.mark.parametrize("kind", ["event_time", "cohort", "calendar"])
@pytest.mark.parametrize("name", CASES)
def test_aggregates_are_those_of_csdid(name, kind):
    ours = aggregate(estimated(CASES[name]), kind, shares="estimated")

    for label, effect, se in ANSWERS[name]["aggregates"][kind]:
        at = ours.labels.index(label)
        assert ours.estimate[at] == pytest.approx(effect, abs=PARITY)
        assert ours.se[at] == pytest.approx(se, rel=PARITY)


@pytest.mark.parametrize("name", [name for name in CASES if ANSWERS[name]["drdid"]])
def test_the_influence_of_each_row_is_that_of_drdid(name):
    case = CASES[name]
    att = estimated(case)
    effect, influence = ANSWERS[name]["drdid"]
    g, c = att.cohorts.tolist().index(20), 4
    if case.base == "varying":
        assert att.fit.comparison.base[g, c] == 1
    weights = np.zeros(att.att.shape)
    weights[g, c] = 1.0

    from pythia_profile.did.inference.contrasts import contrast

    ours = contrast(att, weights).influence()[:, 0] / len(panel(case)[1])
    cohort = panel(case)[1]
    used = (cohort == 20) | (cohort == NEVER_READ)

    assert att.att[g, c] == pytest.approx(effect, abs=PARITY)
    assert ours[used] == pytest.approx(np.array(influence) / used.sum(), abs=PARITY)
    assert (ours[~used] == 0).all()


@pytest.fixture(scope="module")
def world():
    """A panel of four cohorts whose outcome moves with two covariates and with its base."""
    rng = np.random.default_rng(0)
    checkpoints = np.array([0, 10, 20, 30, 40])
    cohort = np.repeat([10, 20, 30, 40, NEVER], [30, 31, 32, 33, 60])
    x = rng.normal(size=(len(cohort), 2))
    moving = rng.normal(size=(len(cohort), 5)).cumsum(axis=1)
    effect = 0.3 * (cohort[:, None] <= checkpoints)
    y = x @ rng.normal(size=(2, 5)).cumsum(axis=1) + 0.5 * moving + effect
    y += 0.2 * rng.normal(size=y.shape)
    return y, cohort, checkpoints, x, moving


def least_squares(y, cohort, checkpoints, g, c, columns, controls):
    """Regression-adjusted ATT(g, c) and the mean of squared influences, row by row."""
    b = max(k for k, p in enumerate(checkpoints) if p < g)
    at = checkpoints.tolist().index(c)
    x = np.column_stack([np.ones(len(y)), *(v if v.ndim == 1 else v[:, b] for v in columns)])
    change = y[:, at] - y[:, b]
    beta = np.linalg.lstsq(x[controls], change[controls], rcond=None)[0]
    rest, treated = change - x @ beta, cohort == g
    effect = rest[treated].mean()
    influence = np.zeros(len(y))
    influence[treated] = (rest[treated] - effect) / treated.sum()
    lever = np.linalg.pinv(x[controls].T @ x[controls]) @ x[treated].mean(axis=0)
    influence[controls] = -rest[controls] * (x[controls] @ lever)
    return effect, influence


@pytest.mark.parametrize("control", ["never", "not_yet", "both"])
def test_each_cell_is_a_least_squares_of_its_own(world, control):
    y, cohort, checkpoints, x, moving = world

    att = att_gt(
        y,
        cohort,
        checkpoints,
        control=control,
        covariates={"a": x[:, 0], "b": x[:, 1], "moving": moving, "base": y},
    )

    for i, g in enumerate(att.cohorts):
        for j, c in enumerate(checkpoints):
            base = checkpoints[checkpoints < g].max()
            later = (cohort > max(base, c)) & (cohort != g) & (cohort != NEVER)
            pool = {"never": cohort == NEVER, "not_yet": later, "both": later | (cohort == NEVER)}
            if not pool[control].any():
                assert np.isnan(att.att[i, j])
                continue
            effect, influence = least_squares(
                y, cohort, checkpoints, g, c, [x[:, 0], x[:, 1], moving, y], pool[control]
            )
            assert att.att[i, j] == pytest.approx(effect, abs=1e-12)
            assert att.se[i, j] == pytest.approx(np.sqrt((influence**2).sum()), abs=1e-12)


def test_clustered_errors_are_sums_over_batches(world):
    y, cohort, checkpoints, x, _ = world
    batch = np.where(cohort == NEVER, NEVER, np.arange(len(cohort)) // 3)

    batch = np.where(cohort == NEVER, NEVER, 1000 * (cohort // 10) + batch)
    att = att_gt(
        y,
        cohort,
        checkpoints,
        clusters=batch,
        covariates={"a": x[:, 0], "b": x[:, 1], "base": y},
        small_sample=False,
    )

    own = np.where(batch == NEVER, -np.arange(len(batch)) - 1, batch)
    controls = cohort == NEVER
    _, influence = least_squares(y, cohort, checkpoints, 20, 40, [*x.T, y], controls)
    sums = np.bincount(np.unique(own, return_inverse=True)[1], weights=influence)
    assert att.se[1, 4] == pytest.approx(np.sqrt((sums**2).sum()), abs=1e-12)


def test_regression_on_the_base_outcome_is_ancova(world):
    y, cohort, checkpoints, _, _ = world

    ours = att_gt(y, cohort, checkpoints, covariates={"base": y})
    ancova = att_gt(y, cohort, checkpoints, estimator="ancova")

    assert ours.att == pytest.approx(ancova.att, abs=1e-10)
    assert ours.se == pytest.approx(ancova.se, abs=1e-10)


@pytest.mark.parametrize("how", ["regression", "doubly_robust"])
def test_without_covariates_it_is_did(world, how):
    y, cohort, checkpoints, _, _ = world

    plain = att_gt(y, cohort, checkpoints)
    ours = att_gt(y, cohort, checkpoints, covariates=np.zeros((len(y), 0)), adjustment=how)

    assert ours.att == pytest.approx(plain.att, abs=1e-12)
    assert ours.se == pytest.approx(plain.se, abs=1e-12)


@pytest.mark.parametrize("how", ["regression", "doubly_robust"])
def test_neither_scale_nor_order_of_covariates_and_rows_matters(world, how):
    y, cohort, checkpoints, x, moving = world
    order = np.random.default_rng(1).permutation(len(y))

    one = att_gt(
        y,
        cohort,
        checkpoints,
        covariates={"a": x[:, 0], "b": x[:, 1], "moving": moving},
        adjustment=how,
    )
    other = att_gt(
        y[order],
        cohort[order],
        checkpoints,
        covariates={"b": 1e6 + 1e3 * moving[order], "c": -5 * x[order, 1], "a": x[order, 0]},
        adjustment=how,
    )

    assert other.att == pytest.approx(one.att, abs=1e-9)
    assert other.se == pytest.approx(one.se, abs=1e-9)


@pytest.mark.parametrize("how", ["regression", "doubly_robust"])
def test_what_differs_between_cohorts_is_taken_off(how):
    """Cohorts of harder rows, whose outcome moves more: did is biased, the adjusted ones not."""
    rng = np.random.default_rng(2)
    checkpoints = np.array([0, 10, 20])
    cohort = np.repeat([10, 20, NEVER], [800, 800, 2000])
    x = rng.normal(size=len(cohort)) + 0.5 * (cohort == 20)
    y = np.outer(x, [0.0, 1.0, 2.0]) + 0.1 * rng.normal(size=(len(x), 3))
    y += 0.2 * (cohort[:, None] <= checkpoints)

    plain = att_gt(y, cohort, checkpoints)
    ours = att_gt(y, cohort, checkpoints, covariates=x, adjustment=how)

    assert abs(plain.att[1, 2] - 0.2) > 0.3
    assert (np.abs(ours.att[ours.post] - 0.2) < 4 * ours.se[ours.post]).all()
    assert (ours.se[ours.post] < 0.5 * plain.se[plain.post]).all()


def test_the_doubly_robust_form_survives_a_wrong_regression():
    """The outcome moves with exp x, treatment with x: a line in x is wrong, a logit in x right."""
    rng = np.random.default_rng(3)
    x = rng.normal(size=40_000)
    treated = rng.uniform(size=len(x)) < 1 / (1 + np.exp(1.5 - 0.8 * x))
    cohort = np.where(treated, 10, NEVER)
    y = np.outer(np.exp(x), [0.0, 1.0]) + 0.1 * rng.normal(size=(len(x), 2))
    y[treated, 1] += 0.5

    line = att_gt(y, cohort, [0, 10], covariates=x)
    robust = att_gt(y, cohort, [0, 10], covariates=x, adjustment="doubly_robust")

    assert abs(line.att[0, 1] - 0.5) > 5 * line.se[0, 1]
    assert abs(robust.att[0, 1] - 0.5) < 3 * robust.se[0, 1]


@pytest.mark.parametrize("how", ["regression", "doubly_robust"])
@pytest.mark.parametrize("control", ["never", "both"])
def test_draws_have_the_variance_of_the_estimates(world, control, how):
    y, cohort, checkpoints, x, moving = world
    att = att_gt(
        y,
        cohort,
        checkpoints,
        control=control,
        covariates={"a": x[:, 0], "b": x[:, 1], "moving": moving},
        adjustment=how,
    )
    curve = aggregate(att, "event_time")

    cells, aggregates = bands(att, 4000), bands(curve, 4000)

    # the interquartile sd of 4,000 draws is off by 1.6 %, of 20 cells by 5 % at most
    assert cells.sigma[cells.member] == pytest.approx(att.se[cells.member], rel=0.07)
    member = aggregates.member
    assert aggregates.sigma[member] == pytest.approx(curve.se[member], rel=0.07)


def test_aggregates_are_weighted_sums_of_influences(world):
    y, cohort, checkpoints, x, _ = world
    att = att_gt(y, cohort, checkpoints, covariates=x, adjustment="doubly_robust")
    overall = aggregate(att, "overall")

    weights = att.post * att.n_treated / (att.post * att.n_treated).sum()
    total = np.zeros(len(y))
    for g in range(len(att.cohorts)):
        for h in (g, len(att.cohorts)):
            place = att.fit.rows.input_index[att.fit.rows.group(h)]
            found = att.fit.regressions.scores(att.fit.rows, att.fit.comparison, g, h)
            total[place] += found @ weights[g]

    assert overall.estimate[0] == pytest.approx((att.att * weights).sum(), abs=1e-12)
    assert overall.influence()[:, 0] / len(y) == pytest.approx(total, abs=1e-14)
    assert overall.se[0] == pytest.approx(np.sqrt((total**2).sum()), rel=1e-12)


def test_workers_and_order_of_rows_do_not_change_a_draw(world):
    y, cohort, checkpoints, x, _ = world
    order = np.random.default_rng(4).permutation(len(y))
    settings = {"covariates": x, "units": np.arange(len(y))}
    one = bands(att_gt(y, cohort, checkpoints, **settings), 100)
    moved = {"covariates": x[order], "units": np.arange(len(y))[order]}
    other = bands(att_gt(y[order], cohort[order], checkpoints, **moved), 100, workers=2)

    assert other.critical == pytest.approx(one.critical, rel=1e-12)


@pytest.mark.parametrize(
    ("covariates", "message"),
    [
        (np.zeros((3, 1)), "of shape \\(3, 1\\), expected \\(186, covariates\\)"),
        (np.full(186, "a"), "expected numbers"),
        (np.where(np.arange(186) == 7, np.nan, 1.0), "'x0': 1 of 186 rows have no finite value, f"),
        (np.ones(186), "'x0': the same for all 60 control rows of cohort 10"),
        (np.outer(np.arange(186), [1, 2]), "'x0', 'x1': one of them is a sum of the others"),
        (np.random.default_rng(0).normal(size=(186, 60)), "60 control rows for 60 covariates"),
    ],
)
def test_bad_covariates_are_named(world, covariates, message):
    y, cohort, checkpoints, _, _ = world

    with pytest.raises(CovariateError, match=message):
        att_gt(y, cohort, checkpoints, covariates=covariates)


def test_rows_without_counterpart_are_named(world):
    y, cohort, checkpoints, _, _ = world
    apart = (cohort == 20) + 0.01 * np.random.default_rng(0).normal(size=len(y))

    with pytest.raises(CovariateError, match="cohort 20: covariates tell treated from control"):
        att_gt(y, cohort, checkpoints, covariates=apart, adjustment="doubly_robust")


def test_gaps_and_covariates_do_not_go_together(world):
    y, cohort, checkpoints, x, _ = world
    holed = y.copy()
    holed[0, 0] = np.nan

    with pytest.raises(CovariateError, match="choose missing='balanced'"):
        att_gt(holed, cohort, checkpoints, covariates=x, missing="available")
