"""On trained models: bits by the profile, by the counterfactual truth, and by mem_U."""

import polars as pl
import pytest

from pythia_profile.cli import app
from pythia_profile.cli.app import run
from pythia_profile.labs.capacity.capacity_bridge import bridge, bridge_facts

pytestmark = pytest.mark.slow


def test_bits_by_the_profile_are_the_true_ones_within_two_standard_errors(demo, tmp_path):
    words = ["lab", "capacity", "bridge", str(demo.study), "--out", str(tmp_path / "bits")]
    assert run(app, [*words, "--quiet"]) == 0

    cells = pl.read_parquet(tmp_path / "bits" / "bridge.parquet")
    off = (cells["bits"] - cells["true_bits"]).abs()
    # all 38 of 38 on seed 0; cells of a cohort share rows, so a bad draw spoils several at a time
    assert (off <= 2 * cells["se"]).mean() >= 0.85
    assert cells["bits"].mean() > 2  # a row of 64 tokens; .03 nats a token, ten placebo errors
    assert (tmp_path / "bits" / "report.html").exists()


def test_mem_u_agrees_where_its_reference_never_read_the_rows(demo):
    found = bridge(demo.study)
    facts = bridge_facts(found)

    assert found.larger in {"s", "m"}
    assert facts["profile_mem_retrained"] > 0.7  # .94 over five cohorts
    assert facts["rows_mem_retrained"] > 0.9
    # a larger model that has read the rows too hides what this one holds
    assert facts["mean_mem_larger"] < facts["mean_mem_retrained"] / 2
    assert facts["profile_mem_larger"] < facts["profile_mem_retrained"]
