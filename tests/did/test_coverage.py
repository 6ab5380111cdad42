"""Coverage: the stored figures keep their promises, belong to this code, and are warned about.

`tests/bench/bench_did_coverage.py` made them. A share of n panels has the standard error
sqrt(.95 × .05 / n): .005 for 2,000 panels, .007 for 1,000, .011 for 400.
"""

import logging

import numpy as np
import polars as pl
import pytest

from pythia_profile.did import att_gt, bands, estimate, panel
from pythia_profile.did.settings import Estimation
from tests.bench.bench_did_coverage import DESIGNS, FIGURES, Design, coverage, simulate

STORED = pl.read_csv(FIGURES)
CLUSTERED = [name for name, d in DESIGNS.items() if d.batches and d.clustered]
PLAIN = [name for name, d in DESIGNS.items() if not d.batches]
TARGETS = ("cells", "event_time", "cohort", "overall")


def figures(design, target):
    return STORED.filter(design=design, target=target).row(0, named=True)


def is_nominal(share, panels):
    """Whether a share of independent panels is .95 up to chance.

    Within 3.5 standard errors of a binomial share: one of 2,000 right shares lies outside, and some
    60 are judged here. That is .017 of 2,000 panels, .038 of 400.
    """
    return abs(share - 0.95) <= 3.5 * np.sqrt(0.95 * 0.05 / panels)


def test_every_design_is_stored_with_all_its_panels():
    asked = {(name, target, d.panels) for name, d in DESIGNS.items() for target in TARGETS}

    assert set(STORED.select("design", "target", "panels").rows()) == asked


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("design", PLAIN)
def test_without_batch_effects_intervals_and_bands_cover_as_they_say(design, target):
    line = figures(design, target)

    assert is_nominal(line["single"], line["panels"])
    assert is_nominal(line["simultaneous"], line["panels"])


@pytest.mark.parametrize("target", ["event_time", "cohort", "overall"])
@pytest.mark.parametrize("design", CLUSTERED)
def test_with_batch_effects_clustered_aggregates_cover(design, target):
    line = figures(design, target)

    assert is_nominal(line["single"], line["panels"])
    assert is_nominal(line["simultaneous"], line["panels"])


def test_batches_that_are_ignored_undercover_everywhere():
    lines = STORED.filter(design="ten batches ignored")

    assert (lines["single"] < 0.9).all()
    assert (lines["simultaneous"] < 0.9).all()


@pytest.mark.parametrize("design", CLUSTERED)
def test_the_estimate_and_its_bands_warn_just_where_bands_over_cells_undercover(design):
    settings = Design(**{**small(DESIGNS[design])})
    y, cohort, checkpoints, cluster = simulate(settings, np.random.default_rng(0))

    att = att_gt(y, cohort, checkpoints, clusters=cluster)

    covered = figures(design, "cells")["simultaneous"] >= 0.93
    for said in (str(att), str(bands(att, 50))):
        assert ("do not trust bands over single cells" in said) != covered
    assert "do not trust" not in str(bands(att, 50, family="event_time"))


def small(design):
    """Settings with three cohorts; whether to warn depends on the batches of a cohort alone."""
    kept = {name: getattr(design, name) for name in ("rows", "batches", "icc")}
    return {**kept, "cohorts": 3, "never": 100}


def test_the_table_of_effects_comes_with_the_warning(planted_tables, caplog):
    scores, rows = planted_tables
    with caplog.at_level(logging.INFO, "pythia_profile"):
        estimate(panel(rows, scores), Estimation(clusters="batch", draws=50))

    (warning,) = [line for line in caplog.records if line.levelno == logging.WARNING]
    assert "do not trust bands over single cells" in warning.getMessage()
    assert any("critical value" in line.getMessage() for line in caplog.records)


@pytest.fixture
def planted_tables(planted):
    """Ten batches of four rows in each of three cohorts."""
    rows, scores = planted(lambda *_: 0.0)
    return scores, rows


@pytest.mark.slow
def test_the_stored_figures_are_those_of_this_code():
    """A few panels of one design, drawn anew with another seed."""
    panels = 120

    found = coverage(DESIGNS["thirty rows"], panels, seed=1)

    for target, (single, whole) in found.items():
        stored = figures("thirty rows", target)
        # four standard errors of a share of 120 panels; .02 each
        assert single == pytest.approx(stored["single"], abs=0.08)
        assert whole == pytest.approx(stored["simultaneous"], abs=0.08)
