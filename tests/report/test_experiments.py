"""The section on other orders and planted texts: there where a study has them, else not."""

import polars as pl

from pythia_profile.tables import CROSSOVER_MEANS, INSERTIONS
from tests.report.test_page import page_of, text_of

RUN = {"suite": "mini", "size": "xs", "seed": 0, "outcome": "log_likelihood"}


def line_of(table, **values):
    return pl.DataFrame([{**RUN, **values}], schema=table.columns)


def test_the_gain_over_did_and_the_audit_by_planted_texts_are_told(tables):
    mean = {"kind": "overall", "cohort": None, "lower": 0.0, "upper": 0.1, "did_se": 0.02}
    means = pl.concat(
        line_of(CROSSOVER_MEANS, **mean, estimator=name, att=0.05, se=se, ratio=se / 0.02)
        for name, se in (("did", 0.02), ("crossover mini 1", 0.015), ("combined", 0.01))
    )
    planted = line_of(
        INSERTIONS,
        **{"arm": "1 copy", "window": "all", "kind": "overall", "lower": 0.0, "upper": 0.1},
        **{"att": 0.05, "se": 0.02, "experiment": 0.04, "experiment_se": 0.01},
        **{"difference": 0.01, "difference_se": 0.02, "items": 64},
    )

    whole = page_of({**tables, "crossover_means": means, "insertions": planted})
    page = text_of(whole)

    assert "Experiments in the training" in page
    # a standard error of a half is that of four times the rows
    assert "overall 0.0500 ± 0.0100 (did alone 0.0500 ± 0.0200: worth 4.0 times its rows)" in page
    # the same as a table: estimator, effect, its error, did's over the same cells, the gain
    assert "overall combined 0.0500 0.0100 0.0200 4.0" in page
    assert "overall crossover mini 1 0.0500 0.0150 0.0200 1.8" in page
    assert "1 copy all overall 64 0.0500 0.0200 0.0400 0.0100 0.0100 0.0200" in page
    assert "difference +0.0100 ± 0.0200 (0.5 standard errors)" in page
    assert 'href="#experiments"' in whole
    assert "Experiments in the training" not in page_of(tables)
