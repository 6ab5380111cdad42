"""Slopes of heterogeneity: regressions with interactions, planted slopes, coverage."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from pythia_profile.did import NEVER
from pythia_profile.did.diagnostics.slopes import effect_slope
from pythia_profile.did.errors import OptionError, SmallCohortError
from pythia_profile.did.panels import Panel
from pythia_profile.did.settings import Estimation
from pythia_profile.errors import NotFoundError

CHECKPOINTS = np.array([0, 10, 20, 30])
SLOPE = 0.25
BY_ROW = Estimation(clusters="row")


def panel_with(seed, slope=SLOPE, per_cohort=60, never=150, cohorts=(10, 20), batch_noise=0.0):
    """Effects .5 + slope · x from the cohort on; trends depend on x, too."""
    rng = np.random.default_rng(seed)
    cohort = np.concatenate([np.repeat(cohorts, per_cohort), np.full(never, NEVER)])
    x = rng.normal(2, 3, len(cohort))
    z = (x - x.mean()) / x.std()
    treated = cohort[:, None] <= CHECKPOINTS
    batch = np.where(cohort == NEVER, NEVER, np.arange(len(cohort)) // 5)
    shocks = batch_noise * rng.normal(size=(len(cohort), 1))[np.where(batch < NEVER, batch, 0)]
    y = rng.normal(size=(len(cohort), 4)) * (1 + 0.3 * abs(z[:, None])) * 0.2
    y += rng.normal(size=(len(cohort), 1)) + 0.1 * z[:, None] * CHECKPOINTS / 10
    y += treated * (0.5 + slope * z[:, None] + shocks * z[:, None])
    return Panel(
        run=("mine", "s", 0), outcome="log_likelihood", y=y, cohort=cohort, cluster=batch,
        weight=np.ones(len(cohort)), row_id=np.arange(len(cohort)), checkpoints=CHECKPOINTS,
        covariates=pl.DataFrame({"x": x, "word": ["a"] * len(x)}), notes=(),
    )  # fmt: skip


def test_of_one_cohort_it_is_the_interaction_of_a_regression_with_robust_errors():
    panel = panel_with(0, cohorts=(20,))

    found = effect_slope(panel, "x", BY_ROW, kind="instantaneous")

    change = panel.y[:, 2] - panel.y[:, 1]
    x = panel.covariates["x"].to_numpy()
    z, treated = (x - x.mean()) / x.std(), panel.cohort == 20
    design = np.stack([np.ones(len(z)), treated, z, treated * z], axis=1).astype(float)
    inverse = np.linalg.inv(design.T @ design)
    beta = inverse @ design.T @ change
    rest = change - design @ beta
    # one factor for each group, n/(n − 2), where HC1 has one for both
    factor = np.where(treated, 60 / 58, 150 / 148)
    meat = (design * (factor * rest**2)[:, None]).T @ design
    assert found.estimate == pytest.approx(beta[3], abs=1e-12)
    assert found.se == pytest.approx(np.sqrt((inverse @ meat @ inverse)[3, 3]), rel=1e-10)
    assert found.deviation == pytest.approx(x.std())


@pytest.mark.parametrize(
    ("settings", "noise"), [(BY_ROW, 0.0), (Estimation(clusters="batch"), 0.4)]
)
@pytest.mark.parametrize("kind", ["instantaneous", "persistent", "overall"])
def test_a_planted_slope_is_covered(settings, noise, kind):
    runs, inside = 150, 0
    for seed in range(runs):
        low, high = effect_slope(
            panel_with(seed, batch_noise=noise), "x", settings, kind=kind
        ).interval()
        inside += low <= SLOPE <= high

    # 150 draws of a probability of .95: .90 to .99 holds 99.6 % of the time
    assert 0.90 <= inside / runs <= 0.993


def test_rows_without_a_value_are_left_out():
    panel = panel_with(3)
    some = np.arange(len(panel)) % 7 != 0
    gappy = pl.when(pl.Series(some)).then("x")

    without = replace(panel, covariates=panel.covariates.with_columns(x=gappy))
    found = effect_slope(without, "x", BY_ROW)

    assert found == effect_slope(panel.keep(some, "none"), "x", BY_ROW)
    assert found.rows == some.sum() < len(panel)


@pytest.mark.parametrize(
    ("column", "settings", "error", "message"),
    [
        ("y", BY_ROW, NotFoundError, "no column of the rows 'y'"),
        ("word", BY_ROW, OptionError, "column 'word' is String, expected numbers"),
        ("x", Estimation(control="both"), OptionError, "slope: got control 'both'"),
        ("x", Estimation(covariates=("x",)), OptionError, r"covariates \['x'\]"),
    ],
)
def test_bad_input_is_its_own_error(column, settings, error, message):
    with pytest.raises(error, match=message):
        effect_slope(panel_with(0), column, settings)


def test_a_cohort_of_one_value_is_named():
    panel = panel_with(0)
    x = np.where(panel.cohort == 20, 1.0, panel.covariates["x"].to_numpy())
    with pytest.raises(SmallCohortError, match="slope of 'x': cohort 20 has 60 rows and 1 values"):
        effect_slope(replace(panel, covariates=pl.DataFrame({"x": x})), "x", BY_ROW)
