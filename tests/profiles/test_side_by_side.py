"""Estimates without covariates and at equal ones, side by side."""

import numpy as np
import polars as pl
import pytest

from pythia_profile.did.settings import Estimation
from pythia_profile.profiles.estimates import estimate
from pythia_profile.profiles.side_by_side import covariate_sets, side_by_side, summary


@pytest.fixture
def tables(planted):
    """Rows whose outcome moves with a feature, by more at each checkpoint."""
    rows, scores = planted(lambda *_: 0.3)
    hard = np.random.default_rng(0).normal(size=len(rows))
    moved = pl.DataFrame({"row_id": rows["row_id"], "hard": hard})
    scores = scores.join(moved, on="row_id").with_columns(
        log_likelihood=pl.col("log_likelihood") + 0.02 * pl.col("checkpoint") * pl.col("hard")
    )
    return rows.with_columns(pl.Series("features.hard", hard)), scores.drop("hard")


def test_what_the_features_explain_is_taken_off_and_the_effect_stays(tables):
    found = side_by_side(estimate(*tables, Estimation(draws=50)))

    assert summary(found).startswith("at equal features, base, standard errors are 0.")
    plain = found.filter(pl.col("covariates") == "")
    adjusted = found.filter(pl.col("covariates") == "features, base")
    assert plain["kind"].to_list() == ["instantaneous", "persistent", "overall"]
    assert plain["ratio"].to_list() == [1.0, 1.0, 1.0]
    assert (adjusted["ratio"] < 0.7).all()
    assert adjusted["se"].to_list() == pytest.approx(
        (plain["se"] * adjusted["ratio"]).to_list(), rel=1e-12
    )
    assert (np.abs(adjusted["att"] - 0.3) < 4 * adjusted["se"]).all()


def test_covariates_that_the_study_asks_for_are_a_set_of_their_own(tables):
    settings = Estimation(draws=50, covariates=("features.hard",), adjustment="doubly_robust")

    found = side_by_side(estimate(*tables, settings))

    sets = found["covariates"].unique(maintain_order=True).to_list()
    assert sets == ["", "features, base", "features.hard"]
    assert set(found["adjustment"]) == {"none", "doubly_robust"}


def test_a_set_that_allows_no_estimate_is_left_out_with_a_warning(tables, caplog):
    rows, scores = tables
    found = side_by_side(
        estimate(
            rows.with_columns(pl.lit(1.0).alias("features.same")), scores, Estimation(draws=50)
        )
    )

    assert set(found["covariates"]) == {""}
    assert summary(found) == "no covariates are known"
    assert "covariate 'features.same': the same for all" in caplog.text


def test_sets_are_those_that_the_columns_allow():
    assert covariate_sets(["length"], ()) == []
    assert covariate_sets(["reference.log_likelihood"], ()) == [("reference", "base")]
    assert covariate_sets(["features.bigram", "reference.log_likelihood"], ()) == [
        ("features", "base"),
        ("features", "reference", "base"),
    ]
