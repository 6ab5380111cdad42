"""linearmodels agrees on every cell; regressions and the naive estimator err as theory says."""

import numpy as np
import pandas as pd
import pytest
from linearmodels.panel import PanelOLS

from pythia_profile.did import NEVER, att_gt
from pythia_profile.did.diagnostics.alternatives import (
    event_study,
    naive_double_demeaned,
    twfe,
    two_by_two,
)
from pythia_profile.did.errors import NoControlError, OptionError
from tests.did.planted import planted

EFFECT = 1e-10  # least squares against differences of means
ERROR = 1e-10


@pytest.mark.parametrize("batch", [1, 3])
def test_each_cell_is_a_two_by_two_panel_ols(batch):
    panel = planted(cohorts=(10, 17, 30), rows=15, batch=batch, batch_noise=0.2)
    att = att_gt(
        panel.y, panel.cohort, panel.checkpoints, clusters=panel.cluster, small_sample=False
    )

    for i, g in enumerate(att.cohorts):
        for k, c in enumerate(att.checkpoints):
            if k == att.fit.comparison.base[i, k]:
                continue
            witness = two_by_two(
                panel.y, panel.cohort, panel.checkpoints, g, c, clusters=panel.cluster
            )
            assert att.att[i, k] == pytest.approx(witness.estimate[0], abs=EFFECT)
            assert att.se[i, k] == pytest.approx(witness.clustered[0], abs=ERROR)


def panel_ols(y, effects, clusters):
    """linearmodels' PanelOLS with row and checkpoint effects, its factors for few rows off."""
    index = pd.MultiIndex.from_product([np.arange(len(y)), np.arange(y.shape[1])])
    columns = {f"x{k}": x.ravel() for k, x in enumerate(effects)}
    model = PanelOLS(
        pd.Series(y.ravel(), index=index),
        pd.DataFrame(columns, index=index),
        entity_effects=True,
        time_effects=True,
    )
    plain = {"auto_df": False, "count_effects": False, "debiased": False}
    by = pd.DataFrame({"cluster": np.repeat(clusters, y.shape[1])}, index=index)
    clustered = model.fit(cov_type="clustered", clusters=by, **plain)
    return clustered, model.fit(cov_type="driscoll-kraay", **plain)


@pytest.mark.parametrize("batch", [1, 3])
def test_regressions_and_their_errors_are_those_of_linearmodels(batch):
    panel = planted(cohorts=(10, 17, 30), rows=15, batch=batch, batch_noise=0.2)
    args = (panel.y, panel.cohort, panel.checkpoints)
    never = panel.cohort == NEVER
    rows = np.where(never, 10_000 + np.arange(len(panel.y)), panel.cluster)
    named = rows if batch > 1 else np.arange(len(panel.y))
    first = np.searchsorted(panel.checkpoints, panel.cohort)
    since = np.where(never[:, None], -1, np.arange(panel.y.shape[1]) - first[:, None])
    post = (panel.checkpoints >= panel.cohort[:, None]).astype(float)
    times = [e for e in np.unique(since) if e != -1]

    for found, effects in (
        (twfe(*args, clusters=panel.cluster if batch > 1 else None), [post]),
        (
            event_study(*args, clusters=panel.cluster if batch > 1 else None),
            [(since == e).astype(float) for e in times],
        ),
    ):
        clustered, common = panel_ols(panel.y, effects, named)
        np.testing.assert_allclose(found.estimate, clustered.params, atol=EFFECT)
        np.testing.assert_allclose(found.clustered, clustered.std_errors, atol=ERROR)
        np.testing.assert_allclose(found.driscoll_kraay, common.std_errors, atol=ERROR)
    assert found.labels == tuple(times)


def test_effects_that_are_sums_of_row_and_checkpoint_effects_are_refused(small):
    rows = np.isin(small.cohort, [10, NEVER])
    y, cohort = small.y[rows], np.where(small.cohort[rows] == NEVER, 20, 10)

    with pytest.raises(OptionError, match="1 effects cannot be told apart"):
        twfe(y[:, 2:], cohort, small.checkpoints[2:])


def constant_effect(seed=0):
    """Effect .4 for all rows and checkpoints from the cohort on."""
    panel = planted(seed, rows=60, never=100, noise=0.05)
    planted_now = np.zeros_like(panel.y)
    for i, g in enumerate((10, 20, 30)):
        planted_now[panel.cohort == g] = panel.truth[i]
    panel.y += 0.4 * (panel.checkpoints >= panel.cohort[:, None]) - planted_now
    return panel


def test_with_one_constant_effect_all_estimators_find_it():
    panel = constant_effect()
    args = (panel.y, panel.cohort, panel.checkpoints)

    one = twfe(*args)
    curve = event_study(*args)

    assert abs(one.estimate[0] - 0.4) < 4 * one.clustered[0]
    after = [k for k, e in enumerate(curve.labels) if e >= 0]
    before = [k for k, e in enumerate(curve.labels) if e < -1]
    assert (abs(curve.estimate[after] - 0.4) < 4 * curve.clustered[after]).all()
    assert (abs(curve.estimate[before]) < 4 * curve.clustered[before]).all()
    assert curve.labels == (-3.0, -2.0, 0.0, 1.0, 2.0, 3.0)
    assert (curve.driscoll_kraay > 0).all()


def test_twfe_is_biased_where_effects_grow_and_att_gt_is_not():
    checkpoints = np.arange(0, 70, 10)
    panel = planted(cohorts=(10, 20, 30, 40, 50), checkpoints=checkpoints, noise=0.0, rows=20)
    since = np.maximum(
        checkpoints - np.where(panel.cohort == NEVER, 10**6, panel.cohort)[:, None], -1
    )
    y = np.random.default_rng(0).normal(size=(len(panel.y), 1)) + 0.1 * (since + 1)
    y = y[panel.cohort != 50]
    cohort = panel.cohort[panel.cohort != 50]

    effect = att_gt(y, cohort, checkpoints, control="both")
    regression = twfe(y, cohort, checkpoints)

    truth = 0.1 * (effect.event_time + 1)
    np.testing.assert_allclose(effect.att[effect.post], truth[effect.post], atol=1e-10)
    mean = np.average(truth[effect.post], weights=effect.n_treated[effect.post])
    assert regression.estimate[0] < 0.95 * mean


def test_the_naive_estimator_subtracts_the_mean_effect():
    panel = planted(noise=0.0)

    naive = naive_double_demeaned(panel.y, panel.cohort, panel.checkpoints)

    expected = panel.truth - panel.truth.mean(axis=1, keepdims=True)
    np.testing.assert_allclose(naive, expected, atol=1e-12)
    assert naive[2, 0] < -0.1  # "memorized less" long before it was read


def test_bad_input_is_its_own_error(small):
    treated = small.cohort != NEVER
    args = (small.y[treated], small.cohort[treated], small.checkpoints)

    with pytest.raises(NoControlError, match="all 42 rows are treated"):
        event_study(*args)
    with pytest.raises(NoControlError, match="all 42 rows are treated"):
        naive_double_demeaned(*args)
    for c in (0, 15):
        with pytest.raises(OptionError, match=f"no checkpoint {c}"):
            two_by_two(small.y, small.cohort, small.checkpoints, 10, c)


def test_a_design_that_does_not_fit_is_refused_beforehand():
    wide = np.broadcast_to(np.arange(3000.0)[:, None], (3000, 400))
    y = wide + np.arange(400) * np.linspace(0, 1, 3000)[:, None]
    cohort = np.append(np.repeat(np.arange(1, 300), 10), np.full(10, NEVER))

    with pytest.raises(OptionError, match="take fewer cohorts or checkpoints"):
        event_study(y, cohort, np.arange(400))
