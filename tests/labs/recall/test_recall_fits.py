"""Rate against size: published anchors, planted laws, and what a likelihood says by hand."""

import numpy as np
import polars as pl
import pytest
from scipy import stats

from pythia_profile.labs.recall.recall_errors import RecallError
from pythia_profile.labs.recall.recall_fits import (
    PUBLISHED,
    fit_rate,
    fit_rates,
    fit_sentences,
    fit_table,
)

SIZES = np.array([7e7, 1.6e8, 4.1e8, 1e9, 1.4e9, 2.8e9, 6.9e9, 1.2e10])


@pytest.mark.parametrize(
    ("suite", "slope", "r2", "exponent", "power_r2"),
    # calculated from the published counts with another program, to the digits that are given
    [("pythia", 0.587, 0.984, 0.31, 0.986), ("pythia-deduped", 0.448, 0.979, 0.29, 0.987)],
)
def test_published_counts_have_the_slopes_and_fits_that_are_known(
    suite, slope, r2, exponent, power_r2
):
    found = {line["form"]: line for line in fit_table(PUBLISHED[suite]).iter_rows(named=True)}

    assert found["log_linear"]["slope"] == pytest.approx(slope, abs=5e-4)
    assert found["log_linear"]["r2"] == pytest.approx(r2, abs=5e-4)
    assert found["power"]["slope"] == pytest.approx(exponent, abs=5e-3)
    assert found["power"]["r2"] == pytest.approx(power_r2, abs=5e-4)


def test_forms_that_fit_alike_disagree_on_the_largest_model_from_small_ones():
    table = fit_table(PUBLISHED["pythia"], until=1.5e9)
    found = {line["form"]: line for line in table.iter_rows(named=True)}

    assert found["log_linear"]["predicted"] == pytest.approx(1.37, abs=5e-3)
    assert found["power"]["predicted"] == pytest.approx(2.08, abs=5e-3)
    assert found["power"]["observed"] == pytest.approx(1.63, abs=5e-3)
    said = " ".join(fit_sentences(table))
    assert "log_linear under-predicts the largest: 1.37 %" in said
    assert "power over-predicts the largest: 2.08 %" in said
    assert "cannot be told apart" in said


def test_slopes_intervals_and_fit_are_those_of_a_linear_regression():
    """scipy regresses on its own: slope, standard error, correlation."""
    share = np.array([0.001, 0.004, 0.006, 0.011, 0.010, 0.016, 0.018, 0.026])
    for fit, scaled in zip(
        fit_rates(SIZES, share),
        (100 * share, np.log10(share), np.log(share / (1 - share))),
        strict=True,
    ):
        other = stats.linregress(np.log10(SIZES), scaled)
        width = stats.t.ppf(0.975, 6) * other.stderr
        assert fit.slope == pytest.approx(other.slope, rel=1e-10)
        assert (fit.lower, fit.upper) == pytest.approx((other.slope - width, other.slope + width))
        assert fit.r2 == pytest.approx(other.rvalue**2, rel=1e-10)


def test_criteria_are_of_the_share_whatever_the_fitted_scale():
    """-2 log likelihood of the shares by difference quotients, plus the same penalty for all."""
    share = np.array([0.001, 0.004, 0.006, 0.011, 0.010, 0.016, 0.018, 0.026])
    linear, power, logit = fit_rates(SIZES, share)

    def errors(fit):
        """The normal law of the fitted scale; the likelihood's sd, without the loss of freedom."""
        middle = fit.intercept + fit.slope * np.log10(SIZES)
        return stats.norm(middle, fit.spread * np.sqrt(6 / 8))

    # distribution functions of the share itself
    laws = (
        lambda p: errors(linear).cdf(100 * p),
        lambda p: errors(power).cdf(np.log10(p)),
        lambda p: errors(logit).cdf(np.log(p) - np.log1p(-p)),
    )
    densities = [
        (law(share * (1 + 1e-5)) - law(share * (1 - 1e-5))) / (2e-5 * share) for law in laws
    ]
    costs = [
        -2 * np.log(density).sum() - fit.aicc
        for density, fit in zip(densities, (linear, power, logit), strict=True)
    ]

    # one constant for all: the penalty and the normal's own; quotients have some eight digits
    assert costs == pytest.approx([costs[0]] * 3, abs=1e-4)


@pytest.mark.parametrize("form", ["log_linear", "power", "logit"])
def test_a_planted_law_is_recovered_and_predicts(form):
    exact = {
        "log_linear": (-3.0 + 0.5 * np.log10(SIZES)) / 100,
        "power": 10 ** (-5.0 + 0.3 * np.log10(SIZES)),
        "logit": 1 / (1 + np.exp(8.0 - 0.4 * np.log10(SIZES))),
    }[form]
    slope = {"log_linear": 0.5, "power": 0.3, "logit": 0.4}[form]

    fit = fit_rate(form, SIZES[:-1], exact[:-1])

    assert fit.slope == pytest.approx(slope, rel=1e-9)
    assert fit.share(SIZES[-1]) == pytest.approx(exact[-1], rel=1e-9)


def test_intervals_cover_as_often_as_they_say():
    rng = np.random.default_rng(0)
    slopes, further = 0, 0
    for _ in range(1000):
        shares = 10 ** (-5.0 + 0.3 * np.log10(SIZES) + rng.normal(0, 0.05, len(SIZES)))
        fit = fit_rate("power", SIZES[:-1], shares[:-1])
        low, high = fit.interval(SIZES[-1])
        slopes += fit.lower <= 0.3 <= fit.upper
        further += low <= shares[-1] <= high

    # exact under normal errors; three binomial standard errors of 1000 draws
    assert slopes / 1000 == pytest.approx(0.95, abs=0.021)
    assert further / 1000 == pytest.approx(0.95, abs=0.021)


def test_a_model_that_memorizes_nothing_leaves_the_linear_form_alone():
    models = pl.DataFrame(
        {"parameters": [1e6, 1e7, 1e8, 1e9, 1e10], "memorized": [0, 1, 2, 3, 4], "rows": 100}
    )

    assert fit_table(models)["form"].to_list() == ["log_linear"]
    with pytest.raises(RecallError, match=r"form 'power': a share of 0 to 0\.04, expected"):
        fit_rate("power", models["parameters"], models["memorized"] / 100)


def test_too_few_models_and_a_bound_above_the_largest_are_refused():
    with pytest.raises(RecallError, match="2 models of 2 sizes"):
        fit_rate("power", [1e6, 1e7], [0.1, 0.2])
    with pytest.raises(RecallError, match="3 models of 1 sizes"):
        fit_rate("power", [1e6] * 3, [0.1, 0.2, 0.3])
    with pytest.raises(RecallError, match=r"until: got 2e\+10 parameters, expected fewer"):
        fit_table(PUBLISHED["pythia"], until=2e10)
