"""Power from tables: the design's figures are those of the pilot, and errors name what is wrong."""

import pytest

from pythia_profile.did import effects, panel, pilot
from pythia_profile.did.errors import OptionError
from pythia_profile.errors import NotFoundError, TableError
from pythia_profile.profiles.power import power


@pytest.fixture
def tables(planted):
    return planted(lambda *_: 0.3, sizes=("s", "m"), per_cohort=80, never=200)


def test_the_pilots_own_design_has_about_its_own_standard_error(tables):
    rows, scores = tables

    found = power(rows, scores, size="m", batches=[20], rows_per_batch=[4], controls=[200])

    laid = panel(scores.filter(size="m"), rows)
    att = effects(laid, clusters="batch")
    measured = (att.se[[0, 1, 2], [1, 2, 3]] ** 2).mean() ** 0.5
    # variances of 20 batches in each of three cohorts are known to 13 %
    assert found.designs["se"][0] == pytest.approx(measured, rel=0.2)
    assert found.variances == pilot(effects(laid), laid.cluster)
    assert found.designs["family"].to_list()[0] == 1
    assert 1 < found.designs["family"][1] <= 6
    assert found.designs["scored_tokens"][0] == (3 * 80 + 200) * 4 * 2


def test_a_plan_may_have_other_cohorts_checkpoints_and_tokens(tables):
    found = power(
        *tables, cohorts=143, tokens=2048, batches=[10], rows_per_batch=[10], controls=[2000]
    )

    assert found.designs["scored_tokens"][0] == (14_300 + 2000) * 144 * 2048
    assert any("2 scored tokens, the planned ones 2048" in note for note in found.notes)


def test_the_best_split_stays_within_the_budget_and_beats_the_design(tables):
    rows, scores = tables
    found = power(rows, scores, batches=[20], rows_per_batch=[4], controls=[200], families=[1])

    rows_scored = 3 * found.best["batches"] * found.best["rows"] + found.best["controls"]

    assert found.budget == 440 * 4 * 2
    assert rows_scored * 4 * 2 <= found.budget
    assert found.best["batches"] <= 10  # ten steps from one checkpoint to the next
    alone = power(rows, scores, budget=found.budget, most_batches=1000)
    assert alone.best["mde"] <= found.designs["mde"][0] + 1e-12


def test_it_prints_a_line_for_each_design_and_the_best(tables):
    text = str(power(*tables, batches=[5, 10], rows_per_batch=[2], controls=[100], families=[1, 9]))

    lines = text.splitlines()
    assert lines[0].split("  ")[-2:] == ["mde, 1 test", "mde, 9 tests"]
    assert lines[3].startswith("best split of 1.28e+03 scored tokens")
    assert all(line.startswith("note: ") for line in lines[4:])


@pytest.mark.parametrize(
    ("settings", "error", "message"),
    [
        ({"size": "l"}, NotFoundError, "no size in the pilot 'l'"),
        ({"outcome": "loss"}, TableError, "loss missing"),
        ({"effect": "calendar"}, OptionError, "effect: got 'calendar'"),
        ({"target": "cell"}, OptionError, "expected one of cohort, mean"),
        ({"families": [0]}, OptionError, "families: got 0"),
        ({"controls": [1]}, OptionError, "1 controls; expected two rows or more"),
        ({"budget": 10}, OptionError, "budget: 10 tokens pay for 1 rows"),
        ({"power": 1.5}, OptionError, "power: got 1.5"),
    ],
)
def test_settings_out_of_range_are_errors(tables, settings, error, message):
    with pytest.raises(error, match=message):
        power(*tables, **settings)
