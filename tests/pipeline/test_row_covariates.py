"""Covariates of a study: features with their provenance; a reference is clean, or refused."""

import numpy as np
import polars as pl
import pytest

from pythia_profile.errors import StudyError
from pythia_profile.pipeline.row_covariates import (
    covariate_table,
    other_rows,
    reference_columns,
    with_covariates,
)
from pythia_profile.profiles.features import FEATURES, count, row_features
from pythia_profile.study import Study
from pythia_profile.suites.sampling import open_rows

STUDY = Study(suite="mini", sizes=("xs", "s"))


@pytest.fixture
def scored(planted):
    """Rows, and what a model that read none of them gives them."""
    rows, _ = planted(lambda *_: 0.0)
    value = np.random.default_rng(0).normal(-3, 0.5, len(rows))
    return rows, pl.DataFrame({"row_id": rows["row_id"], "log_likelihood": value})


def test_features_come_with_what_they_were_counted_on(tiny_suite, tiny_rows, tmp_path):
    table, provenance = covariate_table(tmp_path, STUDY, tiny_suite, tiny_rows)

    assert table.columns == ["row_id", *(f"features.{name}" for name in FEATURES)]
    assert table["row_id"].equals(tiny_rows["row_id"])
    # 512 rows are read in training, 96 never; 96 of the former and all of the latter are sampled
    assert provenance["features"] == (
        "counts of 416 rows of suite 'mini' that are not in the sample"
    )


def test_a_row_of_the_sample_does_not_count_itself(tiny_suite, tiny_rows, tmp_path):
    table, _ = covariate_table(tmp_path, STUDY, tiny_suite, tiny_rows)

    store = open_rows(tiny_suite)
    others = np.setdiff1d(np.arange(len(store)), tiny_rows["row_id"].to_numpy())
    counts = count(np.stack([store[r] for r in others.tolist()]), tiny_suite.vocabulary)
    alone = row_features(np.array(tiny_rows["tokens"].to_list()), counts)
    assert table["features.bigram"].to_list() == alone["bigram"].to_list()


def test_rows_without_tokens_have_no_features_and_it_is_said(tiny_suite, tiny_rows, tmp_path):
    table, provenance = covariate_table(tmp_path, STUDY, tiny_suite, tiny_rows.drop("tokens"))

    assert table.columns == ["row_id"]
    assert provenance["features"] == "none: the table 'rows' holds no tokens"


@pytest.mark.parametrize("rows", [1_000, 16_384, 16_385, 10**8])
def test_counts_never_see_a_sampled_row(rows):
    sampled = np.random.default_rng(0).integers(0, rows, 900)

    blocks = other_rows(rows, sampled)

    taken = np.concatenate([np.arange(a, b)[kept] for a, b, kept in blocks])
    assert not set(taken) & set(sampled)
    assert len(set(taken)) == len(taken) <= max(16_384, 128 * 64)
    assert taken.min() >= 0
    assert taken.max() < rows


def test_a_reference_becomes_columns_in_the_order_of_the_rows(scored):
    rows, scores = scored

    found = reference_columns(scores.sample(fraction=1.0, shuffle=True, seed=0), rows)

    assert found.columns == ["row_id", "reference.log_likelihood"]
    assert found["reference.log_likelihood"].to_list() == scores["log_likelihood"].to_list()


def test_a_reference_that_read_the_treated_rows_is_refused(scored):
    rows, scores = scored
    treated = rows["treatment_step"].is_not_null()

    with pytest.raises(StudyError, match="read 100% of the treated and 0% of the never-treated"):
        reference_columns(scores.with_columns(read=treated), rows)
    knows = scores.with_columns(log_likelihood=pl.col("log_likelihood") + 0.4 * treated)
    with pytest.raises(StudyError, match="knows the treated rows better than the never-treated"):
        reference_columns(knows, rows)


def test_a_reference_that_read_all_rows_or_none_is_clean(scored):
    rows, scores = scored

    for read in (True, False):
        assert len(reference_columns(scores.with_columns(read=pl.lit(read)), rows)) == len(rows)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.head(150), "50 of 200 sampled rows are not in it"),
        (lambda s: s.drop("row_id"), "expected row_id and one of log_likelihood"),
        (lambda s: s.select("row_id"), "got columns row_id; expected"),
    ],
)
def test_a_reference_that_does_not_hold_the_rows_is_named(scored, change, message):
    rows, scores = scored

    with pytest.raises(StudyError, match=message):
        reference_columns(change(scores), rows)


def test_a_reference_that_is_missing_is_named(tiny_suite, tiny_rows, tmp_path):
    study = STUDY.replace(reference="other.parquet")

    with pytest.raises(StudyError, match=r"no table '.*other.parquet'; expected 'held_out'"):
        covariate_table(tmp_path, study, tiny_suite, tiny_rows)


def test_a_reference_table_joins_the_features(tiny_suite, tiny_rows, tmp_path):
    value = np.random.default_rng(0).normal(size=len(tiny_rows))
    scores = pl.DataFrame({"row_id": tiny_rows["row_id"], "log_likelihood": value})
    scores.write_parquet(tmp_path / "other.parquet")

    study = STUDY.replace(reference="other.parquet")
    table, provenance = covariate_table(tmp_path, study, tiny_suite, tiny_rows)

    assert table["reference.log_likelihood"].to_numpy() == pytest.approx(value)
    assert provenance["reference"].startswith("'other.parquet', sha256 ")


def test_rows_take_up_their_covariates(tiny_rows, tmp_path):
    assert with_covariates(tmp_path, tiny_rows) is tiny_rows
    table = tiny_rows.select("row_id").with_columns(pl.lit(1.5).alias("features.bigram"))
    table.write_parquet(tmp_path / "covariates.parquet")

    found = with_covariates(tmp_path, tiny_rows)

    assert found.columns == [*tiny_rows.columns, "features.bigram"]
    assert (found["features.bigram"] == 1.5).all()
