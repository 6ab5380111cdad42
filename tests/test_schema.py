"""A table's contract: what passes, what is converted, and what each refusal says."""

import polars as pl
import pytest

from pythia_profile.errors import TableError
from pythia_profile.tables import ROWS, SCORES, conform


def scores(**changes):
    line = {
        "suite": "mini",
        "size": "xs",
        "seed": 0,
        "checkpoint": 32,
        "row_id": 5,
        "log_likelihood": -3.5,
        "accuracy": 0.25,
        "mean_rank": 40.0,
        "entropy": 3.0,
    }
    return pl.DataFrame([{**line, **changes}])


def test_a_conforming_table_keeps_its_extra_columns_behind_its_own():
    frame = conform(scores().with_columns(domain=pl.lit("code")).reverse(), SCORES)

    assert frame.columns == [*SCORES.columns, "domain"]


def test_narrow_numbers_are_widened_without_change():
    narrow = scores().cast({"row_id": pl.UInt16, "accuracy": pl.Float32})

    assert conform(narrow, SCORES).schema == SCORES.columns
    assert conform(narrow, SCORES)["accuracy"].item() == 0.25


def test_refusal_names_missing_mistyped_and_null_columns_at_once():
    frame = scores(row_id="five", entropy=None).drop("accuracy")

    with pytest.raises(TableError) as caught:
        conform(frame, SCORES)
    assert str(caught.value) == (
        "table 'scores': 'row_id' is String, expected Int64; 'accuracy' is missing; "
        "'entropy' holds 1 null, expected none"
    )


def test_a_key_that_stands_twice_is_refused_and_shown():
    with pytest.raises(TableError, match=r"2 lines share a key.*'row_id': 5"):
        conform(pl.concat([scores(), scores(log_likelihood=-1.0)]), SCORES)


def test_tokens_above_uint16_are_refused_not_wrapped():
    rows = pl.DataFrame(
        {"row_id": [0], "treatment_step": [1], "batch": [0], "tokens": [[1, 70_000]]}
    ).with_columns(earlier_exposure=pl.lit(0.0))

    with pytest.raises(TableError, match="'tokens' is List"):
        conform(rows, ROWS)
