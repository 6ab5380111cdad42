from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from pythia_profile.findings.bits import bits
from pythia_profile.profiles.estimates import RunEstimate
from tests.findings.planted_sizes import SETTINGS, STEP, Design, grid, planted, suite_of

COHORTS, CHECKPOINTS = grid(4)
TAU = 0.1 * np.ones((4, 5))
SUITE = suite_of({"a": 1000}, cohorts=4)


def run(seed=0, **changes):
    design = Design(cohorts=4, rows=30)
    one = planted(np.random.default_rng(seed), {"a": TAU}, design).runs[0]
    panel = replace(one.panel, **changes)
    return RunEstimate(panel, one.att)


def test_a_nat_is_many_bits_by_hand():
    one = run()
    lines = bits(one, SETTINGS, SUITE)
    att, se = one.att.att[1, 3], one.att.se[1, 3]
    of_row = lines.filter(per="row", cohort=COHORTS[1], checkpoint=CHECKPOINTS[3])
    of_cohort = lines.filter(per="cohort", cohort=COHORTS[1], checkpoint=CHECKPOINTS[3])

    assert of_row["bits"].item() == pytest.approx(att * 64 / np.log(2))  # rows of 65 tokens
    assert of_row["se"].item() == pytest.approx(se * 64 / np.log(2))
    assert of_cohort["rows"].item() == 8 * STEP  # eight rows a step
    assert of_cohort["bits"].item() == pytest.approx(8 * STEP * att * 64 / np.log(2))


def test_totals_are_sums_over_the_cohorts_read_and_count_the_controls_they_share():
    one = run()
    lines = bits(one, SETTINGS, SUITE)
    total = lines.filter(per="checkpoint", checkpoint=CHECKPOINTS[-1])
    share = lines.filter(per="parameter", checkpoint=CHECKPOINTS[-1])
    last = lines.filter(per="cohort", checkpoint=CHECKPOINTS[-1])

    assert total["bits"].item() == pytest.approx(last["bits"].sum())
    assert total["rows"].item() == 8 * STEP * 4
    assert share["bits"].item() == pytest.approx(total["bits"].item() / 1000)
    assert total["se"].item() > np.sqrt((last["se"] ** 2).sum())  # not as if independent


def test_rows_of_different_lengths_count_by_their_tokens():
    rng = np.random.default_rng(1)
    length = rng.integers(20, 100, size=len(run().panel))
    one = run(1, covariates=pl.DataFrame({"length": length}))
    line = bits(one, SETTINGS, None).filter(per="row", cohort=COHORTS[0], checkpoint=100)

    panel = one.panel
    change = (panel.y[:, 1] - panel.y[:, 0]) * (length - 1) / np.log(2)
    treated, never = panel.cohort == COHORTS[0], panel.cohort > 10**6
    assert line["bits"].item() == pytest.approx(change[treated].mean() - change[never].mean())


def test_without_a_suite_or_in_another_unit_no_total_is_made_up():
    assert set(bits(run(), SETTINGS, None)["per"]) == {"row"}
    assert bits(run(outcome="accuracy"), SETTINGS, SUITE) is None
