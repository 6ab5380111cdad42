from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from pythia_profile.did import NEVER
from pythia_profile.findings.second_readings import by_exposure, dose, exposure
from tests.findings.nominal_rate import holds
from tests.findings.planted_sizes import SETTINGS, Design, grid, planted

COHORTS, CHECKPOINTS = grid(8)
SINCE = (CHECKPOINTS - COHORTS[:, None]).clip(0)
FIRST = 0.2 * np.exp(-SINCE / 400)
SECOND = 0.35


def twice(rng, rows=40):
    """Rows of which a half is read again at a later checkpoint; the second effect stays."""
    design = Design(cohorts=8, rows=rows, never=200)
    one = planted(rng, {"a": FIRST}, design).runs[0]
    panel = one.panel
    again = np.full(len(panel), NEVER)
    for g in COHORTS[:4]:
        members = np.flatnonzero(panel.cohort == g)
        some = members[: rows // 2]
        again[some] = g + rng.choice([200, 300], size=len(some))
    y = panel.y + SECOND * (panel.checkpoints >= again[:, None])
    return replace(one, panel=replace(panel, y=y, second=again))


def told(lines):
    return {(line["quantity"], line["kind"]): line for line in lines}


def first_residual():
    return FIRST[:, -1].mean()


def test_a_second_exposure_is_recovered_and_its_bias_of_the_first_shown():
    rng = np.random.default_rng(0)
    second, first, naive, bias = [], [], [], []
    for _ in range(25):
        found = told(exposure(twice(rng), SETTINGS))
        line, alone, plain = (
            found[name, "residual"] for name in ("second", "first_only", "first_naive")
        )
        second.append(line["lower"] <= SECOND <= line["upper"])
        first.append(alone["lower"] <= first_residual() <= alone["upper"])
        naive.append(plain["lower"] <= first_residual() <= plain["upper"])
        bias.append(plain["estimate"] - alone["estimate"])

    assert holds(second)
    assert holds(first)
    assert np.mean(naive) < 0.5
    # half of the rows of half of the cohorts carry the second effect at the end
    assert np.mean(bias) == pytest.approx(SECOND / 4, rel=0.1)


def test_rows_read_before_are_compared_cohort_by_cohort():
    rng = np.random.default_rng(1)
    one = planted(rng, {"a": FIRST}, Design(cohorts=8, rows=60)).runs[0]
    panel = one.panel
    # late cohorts were read before more often, and have larger residual effects
    chance = np.where(panel.cohort == NEVER, 0.0, panel.cohort / 1000)
    read = rng.random(len(panel)) < chance
    y = panel.y - 0.1 * read[:, None] * (panel.checkpoints >= panel.cohort[:, None])
    laid = replace(panel, y=y, covariates=pl.DataFrame({"earlier_exposure": read.astype(float)}))
    gap = told(by_exposure(laid, SETTINGS))["difference", "residual"]

    assert gap["lower"] <= -0.1 <= gap["upper"]
    assert gap["upper"] < 0


def test_dose_is_a_slope_over_doublings():
    rng = np.random.default_rng(2)
    one = planted(rng, {"a": np.full((8, 9), 0.1)}, Design(cohorts=8, rows=120)).runs[0]
    panel = one.panel
    treated = panel.cohort != NEVER
    copies = np.where(treated, 2 ** rng.integers(0, 4, size=len(panel)), 0)
    added = 0.05 * np.log2(np.maximum(copies, 1))[:, None]
    y = panel.y + added * (panel.checkpoints >= panel.cohort[:, None])
    laid = replace(panel, y=y, covariates=pl.DataFrame({"copies": copies}))
    lines = list(dose(laid, SETTINGS))
    slope = told(lines)["dose", "instantaneous"]

    assert slope["lower"] <= 0.05 <= slope["upper"]
    assert slope["lower"] > 0
    assert [line["subset"] for line in lines if line["kind"] == "residual"] == [
        *("1 copies", "2 copies", "4 copies", "8 copies"),
        "all",
    ]


def test_rows_that_tell_nothing_of_their_exposure_say_nothing():
    one = planted(np.random.default_rng(3), {"a": FIRST}, Design(cohorts=8)).runs[0]
    known = pl.DataFrame({"earlier_exposure": np.zeros(len(one.panel))})

    assert not list(exposure(one, SETTINGS))
    same = replace(one, panel=replace(one.panel, covariates=known))
    assert not list(exposure(same, SETTINGS))
