"""Tables as other tools write them: types, nulls, and what cannot be read as what it should be."""

import numpy as np
import polars as pl
import pytest

from pythia_profile.did import effects, estimate, panel
from pythia_profile.did.errors import OptionError
from pythia_profile.did.settings import Estimation
from pythia_profile.errors import TableError
from tests.did.test_panels import tables


@pytest.fixture
def scored():
    return tables()


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (
            lambda s, r: (pl.concat([s, s[:2].with_columns(row_id=pl.lit(None, pl.Int64))]), r),
            "table 'scores': 'row_id' holds 2 nulls",
        ),
        (
            lambda s, r: (pl.concat([s, s[:1].with_columns(checkpoint=pl.lit(None, pl.Int64))]), r),
            "table 'scores': 'checkpoint' holds 1 null",
        ),
        (
            lambda s, r: (s, pl.concat([r, r[:1].with_columns(row_id=pl.lit(None, pl.Int64))])),
            "table 'rows': 'row_id' holds 1 null",
        ),
        (
            lambda s, r: (s.cast({"log_likelihood": pl.String}), r),
            "table 'scores': 'log_likelihood' is String, expected numbers",
        ),
        (
            lambda s, r: (s, r.cast({"treatment_step": pl.String})),
            "table 'rows': 'treatment_step' is String, expected numbers",
        ),
        (
            lambda s, r: (s, r.with_columns(pl.col("batch") + 0.5)),
            "table 'rows': 45 values of 'batch' are no whole numbers",
        ),
    ],
)
def test_unknown_keys_and_words_for_numbers_are_refused(scored, spoil, message):
    scores, rows = spoil(*scored)

    with pytest.raises(TableError, match=message):
        panel(rows, scores)


def as_pandas(values):
    """Whole numbers with gaps as NaN."""
    return values.cast(pl.Float64).fill_null(float("nan"))


@pytest.mark.parametrize(
    "change",
    [
        lambda s, r: (s.cast({"row_id": pl.UInt16, "checkpoint": pl.Int8}), r),
        lambda s, r: (s, r.cast({"treatment_step": pl.Float64, "batch": pl.Float32})),
        lambda s, r: (s, r.with_columns(treatment_step=as_pandas(r["treatment_step"]))),
        lambda s, r: (s.cast({"suite": pl.Categorical}), r.cast({"domain": pl.Categorical})),
        lambda s, r: (s.cast({"size": pl.Enum(["xs"])}), r.cast({"row_id": pl.UInt64})),
        lambda s, r: (s.lazy(), r.lazy()),
    ],
)  # fmt: skip
def test_columns_of_other_types_with_the_same_values_change_nothing(scored, change):
    plain = effects(panel(*scored[::-1]), Estimation(clusters="batch"))

    other = effects(panel(*change(*scored)[::-1]), Estimation(clusters="batch"))

    np.testing.assert_array_equal(other.att, plain.att)
    np.testing.assert_array_equal(other.se, plain.se)


def test_the_table_of_cells_has_no_bands_over_aggregates(scored):
    with pytest.raises(OptionError, match=r"use bands\(att, family='event_time'\)"):
        estimate(panel(*scored[::-1]), Estimation(family="event_time"))
