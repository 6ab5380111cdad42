"""Checks of a panel: by hand, and on panels with a planted fault."""

import numpy as np
import polars as pl
import pytest
from scipy.stats import chi2_contingency

from pythia_profile.did import NEVER, Panel, att_gt
from pythia_profile.did.diagnostics.balance import (
    baseline_balance,
    covariate_balance,
)
from pythia_profile.did.diagnostics.leave_one_out import leave_one_out
from pythia_profile.did.errors import PanelShapeError
from pythia_profile.did.precision import batch_icc, reliability
from tests.did.planted import planted


@pytest.mark.parametrize("control", ["never", "both"])
def test_reliability_is_the_correlation_within_treated_and_controls(control):
    panel = planted(cohorts=(10, 17, 20))
    att = att_gt(panel.y, panel.cohort, panel.checkpoints, control=control)

    rho = reliability(att)

    for i, g in enumerate(att.cohorts):
        for k, c in enumerate(att.checkpoints):
            b = att.fit.comparison.base[i, k]
            later = (panel.cohort > max(c, att.checkpoints[b])) & (panel.cohort != g)
            off = panel.cohort == NEVER if control == "never" else later
            now, before = (
                np.concatenate([y[side] - y[side].mean() for side in (panel.cohort == g, off)])
                for y in (panel.y[:, k], panel.y[:, b])
            )
            assert rho[i, k] == pytest.approx(np.corrcoef(now, before)[0, 1], abs=1e-10)


def test_variance_of_did_over_diff_follows_from_reliability():
    panel = planted(rows=2000, never=4000, noise=0.5)
    did = att_gt(panel.y, panel.cohort, panel.checkpoints)
    diff = att_gt(panel.y, panel.cohort, panel.checkpoints, estimator="diff")

    rho = reliability(did)[1, 3]

    # Exact where both checkpoints have the same variance; here it grows by a fifth.
    assert (did.se[1, 3] / diff.se[1, 3]) ** 2 == pytest.approx(2 * (1 - rho), rel=0.25)


def test_icc_finds_the_planted_share_of_batch_variance():
    rng = np.random.default_rng(0)
    batches, per = 400, 8
    cohort = np.append(np.full(batches * per, 10), np.full(50, NEVER))
    cluster = np.append(np.repeat(np.arange(batches), per), np.full(50, NEVER))
    shock = np.append(np.repeat(rng.normal(size=batches), per), np.zeros(50))
    change = 0.5 * shock + rng.normal(size=len(cohort)) * np.sqrt(0.75)
    y = np.stack([np.zeros(len(cohort)), change], axis=1) + rng.normal(size=(len(cohort), 1))

    icc = batch_icc(att_gt(y, cohort, [0, 10]), cluster)

    # Share of variance .25; 400 batches of 8 tell an intraclass correlation to about .02.
    assert icc[0, 1] == pytest.approx(0.25, abs=0.06)


def test_icc_is_the_analysis_of_variance_with_unequal_batches():
    panel = planted(rows=13, batch=3)
    order = np.random.default_rng(1).permutation(len(panel.y))
    att = att_gt(panel.y[order], panel.cohort[order], panel.checkpoints)

    icc = batch_icc(att, panel.cluster[order])

    mine = panel.cohort == 20
    change = panel.y[mine, 3] - panel.y[mine, 1]
    parts = [change[panel.cluster[mine] == k] for k in np.unique(panel.cluster[mine])]
    between = sum(len(p) * (p.mean() - change.mean()) ** 2 for p in parts) / (len(parts) - 1)
    within = sum(((p - p.mean()) ** 2).sum() for p in parts) / (len(change) - len(parts))
    size = (len(change) - sum(len(p) ** 2 for p in parts) / len(change)) / (len(parts) - 1)
    assert icc[1, 3] == pytest.approx((between - within) / (between + (size - 1) * within))
    assert np.isnan(batch_icc(att, np.arange(len(order)))).all()
    with pytest.raises(PanelShapeError, match="expected 60 whole numbers"):
        batch_icc(att, np.arange(3))


def test_level_gap_is_the_difference_of_base_outcomes():
    panel = planted(rows=50, never=80)
    panel.y[panel.cohort == 20] += 2.0

    gap = baseline_balance(att_gt(panel.y, panel.cohort, panel.checkpoints))

    never = panel.y[panel.cohort == NEVER]
    for place, (g, b) in enumerate([(10, 0), (20, 1), (30, 2)]):
        difference = panel.y[panel.cohort == g, b].mean() - never[:, b].mean()
        assert gap.difference[place] == pytest.approx(difference)
        assert gap.standardized[place] == pytest.approx(difference / never[:, b].std())
    assert gap.labels == (10, 20, 30)
    assert gap.p_value[1] < 1e-6


def with_covariates(panel, **covariates):
    return Panel(
        run=("mini", "xs", 0),
        outcome="log_likelihood",
        y=panel.y,
        cohort=panel.cohort,
        cluster=panel.cluster,
        weight=np.ones(len(panel.y)),
        row_id=np.arange(len(panel.y)),
        checkpoints=panel.checkpoints,
        covariates=pl.DataFrame(covariates),
        notes=(),
    )


def test_traits_of_treated_and_controls_are_compared():
    panel = planted(rows=50, never=80)
    rng = np.random.default_rng(0)
    treated = panel.cohort != NEVER
    domain = np.where(rng.uniform(size=len(treated)) < 0.3 + 0.4 * treated, "code", "prose")
    same = rng.normal(size=len(treated))
    length = np.full(len(treated), 2049)

    gap = covariate_balance(with_covariates(panel, domain=domain, same=same, length=length))

    table = [[(domain[side] == w).sum() for w in ("code", "prose")] for side in (treated, ~treated)]
    assert gap.labels == ("domain", "same", "length")
    assert gap.p_value[0] == pytest.approx(chi2_contingency(table, correction=False).pvalue)
    assert abs(gap.difference[0]) == pytest.approx(
        abs(table[0][0] / sum(table[0]) - table[1][0] / sum(table[1]))
    )
    assert gap.difference[1] == pytest.approx(same[treated].mean() - same[~treated].mean())
    assert (gap.difference[2], gap.p_value[2]) == (0.0, 1.0)


def long_panel(seed=0, cohorts=12):
    steps = tuple(10 * k for k in range(1, cohorts + 1))
    return planted(seed, cohorts=steps, checkpoints=(0, *steps), rows=30, never=60, noise=0.05)


def test_a_checkpoint_with_the_weights_of_another_step_shows():
    panel = long_panel()
    faulty = panel.y.copy()
    faulty[:, 5] = faulty[:, -1]  # step 50 was published with the last step's weights

    found = leave_one_out(att_gt(faulty, panel.cohort, panel.checkpoints))
    fine = leave_one_out(att_gt(panel.y, panel.cohort, panel.checkpoints))

    assert found.suspects == (50,)
    assert fine.suspects == ()
    assert np.argmax(abs(found.change)) == 5
    assert "suspects 50" in str(found)


@pytest.mark.parametrize("control", ["never", "not_yet", "both"])
def test_leaving_out_a_checkpoint_is_estimating_without_it(control):
    panel = long_panel(cohorts=6)
    att = att_gt(panel.y, panel.cohort, panel.checkpoints, control=control)

    check = leave_one_out(att)

    def overall(effect):
        cells = effect.post
        return np.average(effect.att[cells], weights=effect.n_treated[cells])

    for k in range(1, 7):
        kept = np.arange(7) != k
        without = att_gt(panel.y[:, kept], panel.cohort, panel.checkpoints[kept], control=control)
        assert check.change[k] == pytest.approx(overall(without) - overall(att), abs=1e-12)
    kept = panel.cohort != 10  # without checkpoint 0 the first cohort has no base
    without = att_gt(panel.y[kept, 1:], panel.cohort[kept], panel.checkpoints[1:], control=control)
    same = att_gt(panel.y[kept], panel.cohort[kept], panel.checkpoints, control=control)
    assert check.change[0] == pytest.approx(overall(without) - overall(same), abs=1e-12)


def test_the_first_checkpoint_does_not_stand_out_for_the_cohort_that_goes_with_it():
    """A cohort of far larger effects is no fault of the checkpoint before it."""
    panel = long_panel()
    large = panel.y + 2.0 * ((panel.cohort == 10)[:, None] & (panel.checkpoints >= 10))

    check = leave_one_out(att_gt(large, panel.cohort, panel.checkpoints))

    assert check.change[0] == pytest.approx(0.0, abs=1e-12)  # no other cohort has it as its base
