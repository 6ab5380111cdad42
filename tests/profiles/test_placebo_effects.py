"""Placebo rows: kept out of every effect, and an effect of their own, which must be 0."""

import numpy as np
import polars as pl
import pytest

from pythia_profile.profiles.diagnostics import check
from pythia_profile.profiles.estimates import estimate
from pythia_profile.profiles.placebo_effects import placebo_lines
from pythia_profile.tables import CONTRASTS, conform


def with_placebo(planted, gain):
    """Two runs of rows side by side: an effect of 0.8, and placebo rows with one of `gain`."""
    rows, scores = planted(lambda *_: 0.8, per_cohort=60, never=300)
    others, more = planted(lambda *_: gain, per_cohort=40, never=0)
    shift = 10**6
    rows = pl.concat(
        [
            rows.with_columns(placebo=pl.lit(False)),
            others.with_columns(pl.col("row_id") + shift, placebo=pl.lit(True)),
        ],
        how="diagonal_relaxed",
    )
    return rows, pl.concat([scores, more.with_columns(pl.col("row_id") + shift)])


def test_effects_do_not_see_placebo_rows(planted):
    rows, scores = with_placebo(planted, 5.0)
    without = rows.filter(~pl.col("placebo")).drop("placebo")

    found = estimate(rows, scores)

    assert found.att.equals(estimate(without, scores).att)
    assert any("placebo rows set aside" in note for note in found.notes)


@pytest.mark.parametrize("gain", [0.0, 0.5])
def test_the_effect_on_placebo_rows_is_what_was_planted(planted, gain):
    rows, scores = with_placebo(planted, gain)

    checks = check(rows, scores)

    lines = checks.contrasts.filter(between="placebo rows")
    conform(checks.contrasts, CONTRASTS)
    overall = lines.filter(kind="overall").row(0, named=True)
    # four standard errors, of noise drawn once
    assert overall["att"] == pytest.approx(gain, abs=4 * overall["se"])
    assert (overall["lower"] > 0) == (gain > 0)
    assert lines["kind"].to_list() == ["overall", "instantaneous", "persistent", "residual"]
    sentence = next(line for line in checks.sentences if "placebo rows minus" in line)
    assert f"overall {overall['att']:+.4f}" in sentence


def test_tables_without_placebo_rows_have_no_such_line(planted):
    rows, scores = planted(lambda *_: 0.8, per_cohort=20, never=40)

    assert placebo_lines(rows, scores) == ([], [])
    assert not len(check(rows, scores).contrasts.filter(between="placebo rows"))
    assert np.isfinite(check(rows, scores).contrasts["att"].to_numpy()).all()
