import numpy as np
import pytest
from linearmodels.iv import IV2SLS

from pythia_profile.findings.known_noise import regression, signal
from tests.findings.nominal_rate import holds

N = 16
X = np.column_stack([np.ones(N), np.linspace(1.0, 0.1, N)])


def correlated(rng):
    root = rng.normal(size=(N, N)) / 4
    return 0.5 * root @ root.T + 0.5  # as effects that share their control rows


def test_without_noise_it_is_ordinary_least_squares():
    rng = np.random.default_rng(0)
    y = X @ [1.0, 2.0] + rng.normal(size=N)

    ours = regression(y, X, np.zeros((N, N)))
    theirs = IV2SLS(y, X, None, None).fit(cov_type="unadjusted", debiased=True)

    np.testing.assert_allclose(ours.coefficients, theirs.params, rtol=1e-6)
    # the spread goes into the weights, alike for all: only rounding can differ
    np.testing.assert_allclose(ours.se, theirs.std_errors, rtol=1e-6)
    np.testing.assert_allclose(ours.interval()[0], theirs.conf_int()["lower"], rtol=1e-6)


@pytest.mark.parametrize("spread", [0.0, 0.7])
def test_a_planted_slope_is_within_its_interval_at_the_nominal_rate(spread):
    rng = np.random.default_rng(1)
    noise = correlated(rng)
    root = np.linalg.cholesky(noise + 1e-12 * np.eye(N))
    hits = []
    for _ in range(300):
        y = X @ [1.0, 2.0] + root @ rng.normal(size=N) + spread * rng.normal(size=N)
        lower, upper = regression(y, X, noise).interval()
        hits.append(lower[1] <= 2.0 <= upper[1])

    assert holds(hits)


def test_shared_noise_is_no_signal_however_large():
    rng = np.random.default_rng(2)
    noise = 0.01 * np.eye(N) + 4.0
    root = np.linalg.cholesky(noise)
    p = [signal(root @ rng.normal(size=N), noise, seed)[1] for seed in range(200)]

    assert holds(np.array(p) > 0.05)


def test_reliability_is_the_share_that_is_not_noise():
    rng = np.random.default_rng(3)
    found = [signal(2 * rng.normal(size=N) + rng.normal(size=N), np.eye(N))[0] for _ in range(200)]

    # 4 of 5 parts are signal; a share of 16 numbers varies by about .07
    assert np.mean(found) == pytest.approx(0.8, abs=0.03)
