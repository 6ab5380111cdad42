"""Coverage at equal covariates: the stored figures keep their promises and belong to this code.

`tests/bench/bench_covariate_coverage.py` made them, from simulated panels and by giving rows of the
demonstration that no step has read made-up cohorts. A share of 400 panels has the standard error
.011, so of the bands' many shares a few lie a point beyond .93 to .97 by chance.
"""

import polars as pl
import pytest

from tests.bench.bench_covariate_coverage import ESTIMATORS, FIGURES, How, simulated
from tests.did.test_coverage import is_nominal

STORED = pl.read_csv(FIGURES)


def test_every_estimator_is_stored_for_simulated_and_for_permuted_rows():
    for design in ("simulated", "permuted xs"):
        found = STORED.filter(pl.col("design") == design)
        assert {*ESTIMATORS} <= set(found["estimator"])
        assert (found["panels"] == 400).all()


def test_intervals_of_cells_and_aggregates_cover_as_they_say():
    assert all(is_nominal(share, 400) for share in STORED["single"])
    means = STORED.group_by("estimator").agg(pl.col("single").mean())
    assert means["single"].is_between(0.94, 0.965).all()


def test_bands_cover_as_they_say():
    assert all(is_nominal(share, 400) for share in STORED["simultaneous"])
    means = STORED.group_by("estimator").agg(pl.col("simultaneous").mean())
    assert means["simultaneous"].is_between(0.93, 0.97).all()


@pytest.mark.slow
@pytest.mark.parametrize("adjustment", ["regression", "doubly_robust"])
def test_the_stored_figures_are_those_of_this_code(adjustment):
    """A few panels, drawn anew with another seed."""
    shares = simulated(How(adjustment, tuple(range(6))), 50, seed=1)

    for target in ("cells", "event_time", "cohort", "overall"):
        whole = sum(share[target][1] for share in shares) / len(shares)
        assert is_nominal(whole, 50)
    single = sum(share["cells"][0] for share in shares) / len(shares)
    # over the many cells of each of 50 panels; cells of a panel move together, as ten would apart
    assert is_nominal(single, 10 * 50)
