"""Coverage: the stored figures hold their promises, and a short simulation does so every time."""

import numpy as np
import polars as pl
import pytest

from tests.bench.bench_did_coverage import DESIGNS, FIGURES, Design, coverage

INDEPENDENT = (
    "plain", "thirty rows", "forty cohorts", "pythia", "not yet treated", "adjusted",
    "skewed", "heavy tails",
)  # fmt: skip
CLUSTERED = ("ten batches", "fifty batches", "pythia, ten batches")


@pytest.fixture(scope="module")
def figures():
    return pl.read_csv(FIGURES)


def test_every_design_has_stored_figures(figures):
    for name, design in DESIGNS.items():
        lines = figures.filter(pl.col("design") == name)
        assert lines["target"].to_list() == ["cells", "event_time", "cohort", "overall"]
        assert (lines["panels"] == design.panels).all()


@pytest.mark.parametrize("design", INDEPENDENT)
def test_intervals_and_bands_cover_without_batch_effects(figures, design):
    lines = figures.filter(pl.col("design") == design)

    assert lines["single"].is_between(0.93, 0.97).all()
    assert lines["simultaneous"].is_between(0.93, 0.97).all()


@pytest.mark.parametrize("design", CLUSTERED)
def test_clustered_aggregates_cover_with_batch_effects(figures, design):
    lines = figures.filter(pl.col("design") == design, pl.col("target") != "cells")

    assert lines["single"].is_between(0.92, 0.97).all()


def test_ignoring_batches_is_punished(figures):
    lines = figures.filter(pl.col("design") == "ten batches ignored")

    assert (lines["single"] < 0.9).all()


@pytest.mark.parametrize("batches", [0, 30])
def test_a_short_simulation_covers(batches):
    panels = 120
    design = Design(
        cohorts=6, rows=60, never=150, batches=batches, icc=0.2 if batches else 0.0, draws=299
    )

    found = coverage(design, panels, seed=1)

    # Four standard errors of a share of .95; cells of a panel are correlated, so their share is
    # taken to be as uncertain as one interval's. Bands have no upper limit but 1.
    slack = 4 * np.sqrt(0.95 * 0.05 / panels)
    for single, whole in found.values():
        assert single >= 0.95 - slack
        assert whole >= 0.95 - slack
    assert abs(found["cells"][0] - 0.95) < 0.02  # 36 cells in each of 120 panels
