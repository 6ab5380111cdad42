"""Coverage at equal covariates: the stored figures keep their promises and belong to this code.

`tests/bench/bench_covariate_coverage.py` made them, from simulated panels and by giving rows of the
demonstration that no step has read made-up cohorts. A share of 400 panels has the standard error
.011, so of the bands' many shares a few lie a point beyond .93 to .97 by chance.
"""

import polars as pl
import pytest

from tests.bench.bench_covariate_coverage import ESTIMATORS, FIGURES, How, simulated

STORED = pl.read_csv(FIGURES)


def test_every_estimator_is_stored_for_simulated_and_for_permuted_rows():
    for design in ("simulated", "permuted xs"):
        found = STORED.filter(pl.col("design") == design)
        assert {*ESTIMATORS} <= set(found["estimator"])
        assert (found["panels"] == 400).all()


def test_intervals_of_cells_and_aggregates_cover_as_they_say():
    # one value, of did itself, is .975: two standard errors of 400 panels from .95
    assert STORED["single"].is_between(0.93, 0.976).all()
    means = STORED.group_by("estimator").agg(pl.col("single").mean())
    assert means["single"].is_between(0.94, 0.965).all()


def test_bands_cover_as_they_say():
    # four standard errors of a share of 400 panels below, three above
    assert STORED["simultaneous"].is_between(0.92, 0.98).all()
    means = STORED.group_by("estimator").agg(pl.col("simultaneous").mean())
    assert means["simultaneous"].is_between(0.93, 0.97).all()


@pytest.mark.parametrize("adjustment", ["regression", "doubly_robust"])
def test_the_stored_figures_are_those_of_this_code(adjustment):
    """A few panels, drawn anew with another seed: .03 is the standard error of 50 of them."""
    shares = simulated(How(adjustment, tuple(range(6))), 50, seed=1)

    for target in ("cells", "event_time", "cohort", "overall"):
        whole = sum(share[target][1] for share in shares) / len(shares)
        assert 0.83 <= whole <= 1.0
    single = sum(share["cells"][0] for share in shares) / len(shares)
    assert single == pytest.approx(0.95, abs=0.02)
