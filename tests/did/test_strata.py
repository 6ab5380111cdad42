"""Strata: each is the estimate of its own rows, and differences have the variance of both."""

import numpy as np
import pytest

from pythia_profile.did import NEVER, aggregate, att_gt
from pythia_profile.did.diagnostics.strata import by_stratum, difference
from pythia_profile.did.errors import EmptyFamilyError, NoControlError, OptionError
from pythia_profile.did.settings import Estimation
from pythia_profile.errors import NotFoundError
from tests.did.planted import planted
from tests.did.test_balance import with_covariates


def stratified(**covariates):
    panel = planted(rows=40, never=60)
    rng = np.random.default_rng(0)
    domain = rng.permutation(np.where(np.arange(len(panel.y)) % 3, "prose", "code"))
    panel.y[domain == "code"] += 0.5 * (panel.checkpoints >= panel.cohort[domain == "code", None])
    exposure = rng.uniform(size=len(panel.y))
    return panel, with_covariates(panel, domain=domain, exposure=exposure, **covariates)


def test_each_stratum_is_estimated_from_its_own_rows():
    panel, laid = stratified()

    found = by_stratum(laid, "domain", Estimation(control="both"))

    assert list(found) == ["code", "prose"]
    for name, att in found.items():
        mine = (laid.covariates["domain"] == name).to_numpy()
        alone = att_gt(panel.y[mine], panel.cohort[mine], panel.checkpoints, control="both")
        np.testing.assert_allclose(att.att, alone.att, atol=1e-12)
        np.testing.assert_allclose(att.se, alone.se, atol=1e-12)


def test_the_difference_of_strata_finds_what_was_planted():
    _, laid = stratified()
    found = by_stratum(laid, "domain")

    curves = [aggregate(found[name], "overall") for name in ("code", "prose")]
    gap = difference(*curves)

    assert gap.se[0] == pytest.approx(np.hypot(curves[0].se[0], curves[1].se[0]), rel=1e-9)
    assert abs(gap.estimate[0] - 0.5) < 4 * gap.se[0]


def test_differences_are_taken_over_common_labels():
    _, laid = stratified()
    found = by_stratum(laid, "domain")
    whole = aggregate(found["code"], "event_time")
    some = whole.only([10, 0])

    gap = difference(whole, some)

    assert gap.labels == (0, 10)
    np.testing.assert_allclose(gap.estimate, 0.0, atol=1e-15)
    with pytest.raises(EmptyFamilyError, match="share none"):
        difference(whole.only([0]), some.only([10]))


def test_numbers_are_cut_into_ranges():
    _, laid = stratified()

    halves = by_stratum(laid, "exposure", cut=2)
    ranges = by_stratum(laid, "exposure", cut=[0.4, 0.7])

    sizes = [len(att.fit.rows) for att in halves.values()]
    assert abs(sizes[0] - sizes[1]) <= 1
    assert list(ranges)[1] == "2: 0.4 < exposure <= 0.7"
    exposure = laid.covariates["exposure"].to_numpy()
    assert [len(att.fit.rows) for att in ranges.values()] == [
        (exposure <= 0.4).sum(),
        ((exposure > 0.4) & (exposure <= 0.7)).sum(),
        (exposure > 0.7).sum(),
    ]


def test_rows_without_a_value_are_a_stratum():
    panel = planted(rows=40, never=60)
    score = np.where(np.arange(len(panel.y)) % 2, np.nan, 1.0)

    found = by_stratum(with_covariates(panel, score=score), "score", cut=[0.5])

    assert list(found) == ["2: 0.5 < score <= inf", "null"]


@pytest.mark.parametrize(
    ("column", "settings", "error", "message"),
    [
        ("domian", {}, NotFoundError, "did you mean 'domain'"),
        ("exposure", {}, OptionError, "180 distinct numbers; say cut=2"),
        ("domain", {"cut": 2}, OptionError, "only numbers are cut"),
        ("exposure", {"cut": 1}, OptionError, "two groups or more"),
        ("exposure", {"cut": [0.5, 0.2]}, OptionError, "ascending edges"),
        ("held_out", {}, NoControlError, "stratum held_out = False, 120 rows: control='never'"),
    ],
)
def test_bad_input_is_its_own_error(column, settings, error, message):
    panel, _ = stratified()
    count = len(panel.y)
    _, laid = stratified(held_out=np.where(panel.cohort == NEVER, "True", "False"))

    with pytest.raises(error, match=message.replace("180", str(count)).replace("120", "126")):
        by_stratum(laid, column, **settings)
