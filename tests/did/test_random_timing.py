"""A random training order: the efficient estimate and the exact test, by simulation."""

import numpy as np
import polars as pl
import pytest
from scipy.stats import kstest

from pythia_profile.did import NEVER, aggregate, att_gt, efficient, randomization_test
from pythia_profile.did.errors import EmptyFamilyError, OptionError
from pythia_profile.did.panels import Panel

GRID = 10 * np.arange(6)


def simulated(seed, effect=0.0, rows=60, never=120, rho=0.5, drift=0.0):
    """Cohorts 20 to 50; levels persist by half from one checkpoint to the next."""
    rng = np.random.default_rng(seed)
    cohort = np.append(np.repeat(GRID[2:], rows), np.full(never, NEVER))
    y = rng.normal(size=(len(cohort), len(GRID)))
    for c in range(1, len(GRID)):
        y[:, c] = rho * y[:, c - 1] + np.sqrt(1 - rho**2) * y[:, c]
    y += effect * (cohort[:, None] <= GRID)
    y[:, 1] += drift * (cohort == 40)
    return y, cohort


def as_panel(y, cohort, batch=None):
    ids = np.arange(len(y))
    return Panel(
        run=("s", "m", 0), outcome="log_likelihood", y=y, cohort=cohort,
        cluster=np.full(len(y), NEVER) if batch is None else batch, weight=np.ones(len(y)),
        row_id=ids, checkpoints=GRID, covariates=pl.DataFrame({"length": ids}), notes=(),
    )  # fmt: skip


@pytest.mark.slow
def test_the_efficient_estimate_is_unbiased_and_has_the_smallest_variance():
    errors = {"did": [], "diff": [], "efficient": []}
    covered = []
    for seed in range(250):
        y, cohort = simulated(seed, effect=0.3)
        diff, did = (att_gt(y, cohort, GRID, estimator=e) for e in ("diff", "did"))
        best = efficient(diff)
        errors["efficient"].append(best.estimate[0] - 0.3)
        errors["did"].append(aggregate(did, "overall").estimate[0] - 0.3)
        errors["diff"].append(aggregate(diff, "overall").estimate[0] - 0.3)
        lower, upper = best.interval()
        covered.append(lower[0] <= 0.3 <= upper[0])

    spread = {name: np.std(values) for name, values in errors.items()}
    assert spread["efficient"] < 0.97 * min(spread["did"], spread["diff"])
    assert abs(np.mean(errors["efficient"])) < 4 * spread["efficient"] / 250**0.5
    assert np.mean(covered) > 0.95 - 4 * (0.05 * 0.95 / 250) ** 0.5


def test_with_outcomes_that_hardly_change_the_efficient_estimate_is_that_of_did():
    y, cohort = simulated(1, effect=0.3, rho=0.999)
    best = efficient(att_gt(y, cohort, GRID, estimator="diff"))
    did = aggregate(att_gt(y, cohort, GRID), "overall")

    assert best.estimate[0] == pytest.approx(did.estimate[0], abs=0.3 * did.se[0])
    assert best.se[0] <= did.se[0] * 1.001


@pytest.mark.slow
@pytest.mark.parametrize("hypothesis", ["no_effect", "placebo"])
@pytest.mark.parametrize("by_batch", [False, True])
def test_p_values_are_uniform_where_nothing_happens(hypothesis, by_batch):
    p = []
    for seed in range(200):
        y, cohort = simulated(seed, rows=12, never=24)
        batch = np.arange(len(y)) // 3
        if by_batch:  # rows of a batch share a shock: permuting rows would reject too often
            y += np.random.default_rng(seed).normal(size=(batch.max() + 1, 1, 6))[batch, 0]
        test = randomization_test(
            as_panel(y, cohort, batch), hypothesis, by_batch=by_batch, draws=59, seed=seed
        )
        p.append(test.p_value)

    # 200 discrete p-values; Kolmogorov-Smirnov would reject uniformity once in 1,000 such runs.
    spread = np.array(p) - np.random.default_rng(0).uniform(size=200) / 60
    assert kstest(spread, "uniform").pvalue > 1e-3


def test_an_effect_and_a_drift_are_found():
    y, cohort = simulated(0, effect=1.0)
    found = randomization_test(as_panel(y, cohort), draws=199)
    assert found.p_value == 1 / 200
    assert found.statistic == pytest.approx(
        aggregate(att_gt(y, cohort, GRID), "cohort").estimate.mean(), abs=1e-9
    )
    assert "no_effect: p = 0.005 by 199 reassignments of 240 units" in str(found)

    y, cohort = simulated(0, drift=1.0)
    assert randomization_test(as_panel(y, cohort), "placebo", draws=199).p_value < 0.02


def test_bad_input_is_its_own_error():
    y, cohort = simulated(0)
    with pytest.raises(OptionError, match="got estimator 'did', expected effects by 'diff'"):
        efficient(att_gt(y, cohort, GRID))
    with pytest.raises(OptionError, match="got 0 draws and 0 gaps"):
        randomization_test(as_panel(y, cohort), draws=0)
    with pytest.raises(EmptyFamilyError, match="1 cohort, expected two"):
        randomization_test(as_panel(y, np.where(cohort == NEVER, NEVER, 20)))
