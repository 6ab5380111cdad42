"""Power from tables: the design's figures are those of the pilot, and errors name what is wrong."""

import numpy as np
import polars as pl
import pytest
from scipy.special import stdtrit

from pythia_profile.did import effects, panel, pilot
from pythia_profile.did.errors import CovariateError, OptionError
from pythia_profile.did.settings import Estimation
from pythia_profile.errors import NotFoundError, SettingsError, TableError
from pythia_profile.profiles.estimates import estimate
from pythia_profile.profiles.study_power import PowerPlan
from pythia_profile.profiles.study_power import power as minimal_effects


def power(rows, scores, **plan):
    return minimal_effects(rows, scores, PowerPlan(**plan))


@pytest.fixture
def tables(planted):
    return planted(lambda *_: 0.3, sizes=("s", "m"), per_cohort=80, never=200)


def test_the_pilots_own_design_has_about_its_own_standard_error(tables):
    rows, scores = tables

    found = power(rows, scores, size="m", batches=[20], rows_per_batch=[4], controls=[200])

    laid = panel(rows, scores.filter(size="m"))
    att = effects(laid, Estimation(clusters="batch"))
    measured = (att.se[[0, 1, 2], [1, 2, 3]] ** 2).mean() ** 0.5
    # variances of 20 batches in each of three cohorts are known to 13 %
    assert found.designs["se"][0] == pytest.approx(measured, rel=0.2)
    assert found.variances == pilot(effects(laid, Estimation(clusters="row")), laid.cluster)
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
        ({"outcome": "loss"}, TableError, "'loss' is missing"),
        ({"effect": "calendar"}, SettingsError, "effect: got 'calendar'"),
        ({"target": "cell"}, SettingsError, "target: got 'cell', expected: 'cohort' or 'mean'"),
        ({"families": [0]}, SettingsError, r"families.0: got 0"),
        ({"controls": [1]}, SettingsError, r"controls.0: got 1, expected: greater"),
        ({"batches": [1], "rows_per_batch": [1]}, OptionError, "expected two treated rows"),
        ({"budget": 10}, OptionError, "budget: 10 tokens pay for 1 row;"),
        ({"power": 1.5}, SettingsError, "power: got 1.5"),
        ({"batches": [10**5000]}, SettingsError, "got a number of thousands of digits"),
        ({"budget": float("inf")}, SettingsError, "budget: got inf"),
    ],
)
def test_settings_out_of_range_are_errors(tables, settings, error, message):
    with pytest.raises(error, match=message):
        power(*tables, **settings)


def test_the_best_split_takes_no_more_rows_than_there_are_and_says_so(tables):
    bounds = {"most_batches": 12, "most_rows": 16, "most_controls": 700}

    found = power(*tables, budget=1e8, **bounds)

    assert {name: found.best[name] for name in ("batches", "rows", "controls")} == {
        "batches": 12,
        "rows": 16,
        "controls": 700,
    }
    said = " ".join(found.notes)
    for words in ("all 12 batches", "16 rows a batch", "700 never-treated rows", "of 1e+08"):
        assert words in said
    assert "6 designs ask for more than the 700 never-treated rows" in said
    small = " ".join(power(*tables, budget=3000, **bounds).notes)
    assert "takes all" in small  # batches come first
    assert "set most_batches" in small
    assert "most_controls" not in small


@pytest.mark.parametrize("budget", [3_000, 20_000, 100_000])
def test_no_split_within_the_bounds_beats_the_best(tables, budget):
    rows, scores = tables
    found = power(rows, scores, budget=budget, most_batches=6, most_rows=4, most_controls=150)
    splits = power(
        rows, scores, batches=range(1, 7), rows_per_batch=range(2, 5), controls=range(10, 151, 10)
    )

    affordable = splits.designs.filter(pl.col("scored_tokens") <= budget)
    assert found.best["se"] <= affordable["se"].min() * (1 + 1e-12)
    rows_scored = 3 * found.best["batches"] * found.best["rows"] + found.best["controls"]
    assert rows_scored * 4 * 2 <= budget


def test_controls_that_cost_degrees_of_freedom_are_explained(tables):
    few = power(*tables, batches=[5], rows_per_batch=[1], controls=[100, 2000], families=[30])
    many = power(*tables, batches=[40], rows_per_batch=[1], controls=[100, 2000], families=[30])

    assert few.designs["mde"][1] > few.designs["mde"][0]
    assert few.designs["se"][1] < few.designs["se"][0]
    assert any("with 5 batches of 1 row, 2,000 controls find" in note for note in few.notes)
    assert many.designs["mde"][1] < many.designs["mde"][0]
    assert not any("degrees of freedom" in note for note in many.notes)


def test_a_test_simulated_at_its_own_power_also_finds_less_with_more_controls():
    """Welch's t test of one cohort at the 5 % of 30 tests, with the effect that 500 controls find.

    400,000 draws tell a power near .8 to .0006; the two powers are some .05 apart.
    """
    rng = np.random.default_rng(3)
    treated, tail = 0.2, 1 - 0.95 ** (1 / 30)

    def share_found(effect, control):
        variance = treated * rng.chisquare(4, 400_000) / 4 + control
        drawn = rng.normal(effect, np.sqrt(treated + control), 400_000)
        df = variance**2 / ((variance - control) ** 2 / 4)
        return (np.abs(drawn) > stdtrit(df, 1 - tail / 2) * np.sqrt(variance)).mean()

    assert share_found(3.97, 5 / 500) > share_found(3.97, 5 / 2000) + 0.01


def test_a_pilot_without_tokens_needs_to_be_told_how_long_rows_are(tables):
    rows, scores = tables

    with pytest.raises(TableError, match="'tokens' is missing; add it, or give tokens"):
        power(rows.drop("tokens"), scores)
    found = power(rows.drop("tokens", "batch"), scores, tokens=2)
    assert found.variances.between == 0


@pytest.mark.parametrize("bound", ["most_batches", "most_rows", "most_controls"])
def test_a_bound_below_one_is_refused(tables, bound):
    with pytest.raises(SettingsError, match=f"{bound}: got 0, expected"):
        power(*tables, **{bound: 0})


def test_covariates_of_the_rows_make_designs_as_precise_as_they_make_estimates():
    """Changes are x plus noise of a third of its deviation: at equal x, a tenth of the variance."""
    rng = np.random.default_rng(0)
    step = np.concatenate([np.repeat([5, 15], 800), np.full(1600, -1)])
    x = rng.normal(size=len(step))
    y = rng.normal(size=(len(step), 3)) / 3 / np.sqrt(2) + x[:, None] * [0, 1, 0]
    y += rng.normal(size=(len(step), 1))
    ids = np.arange(len(step))
    treated = pl.Series(step).replace(-1, None)
    rows = pl.DataFrame({"row_id": ids, "treatment_step": treated, "x": x})
    lines = {"row_id": np.repeat(ids, 3), "checkpoint": np.tile([0, 10, 20], len(ids))}
    named = {"suite": "mine", "size": "s", "seed": 0}
    scores = pl.DataFrame({**lines, "log_likelihood": y.ravel()}).with_columns(
        pl.lit(value).alias(name) for name, value in named.items()
    )
    plan = PowerPlan(batches=(10,), rows_per_batch=(10,), controls=(500,), tokens=64)

    plain = minimal_effects(rows, scores, plan)
    equal = minimal_effects(rows, scores, plan, Estimation(covariates=("x",)))

    # of 1,600 and 1,600 rows, standard deviations are known to 2 %
    expected = np.sqrt((1 / 9) / (1 + 1 / 9))
    ratio = equal.designs["se"][0] / plain.designs["se"][0]
    assert ratio == pytest.approx(expected, rel=0.08)
    assert equal.designs["mde"][0] < 0.4 * plain.designs["mde"][0]


def _drawn(rng, cohorts, batches, rows, controls):
    """A panel of a design: shocks by batch, features and a reference that explain the changes."""
    steps = np.repeat([50 * k + np.arange(1, batches + 1) for k in range(cohorts)], rows)
    step = np.concatenate([steps, np.full(controls, -1)])
    treated = step > 0
    count, grid = len(step), np.arange(0, 50 * cohorts + 1, 50)
    features, reference = rng.normal(size=(2, count))
    # by which a row's outcome grows with every checkpoint, read or not
    slope = 0.5 * features + 0.7 * reference + rng.normal(scale=0.25, size=count)
    shocks = rng.normal(scale=0.3, size=(50 * cohorts + 1, len(grid)))[np.maximum(step, 0)]
    y = rng.normal(size=(count, 1)) + slope[:, None] * grid / 50 + shocks * treated[:, None]
    read = treated[:, None] & (step[:, None] <= grid)
    named = {"suite": "mine", "size": "s", "seed": 0}
    table = {
        "row_id": np.arange(count),
        "treatment_step": pl.Series(step).replace(-1, None),
        "batch": pl.Series(step).replace(-1, None),
        "features.bigram": features,
        "reference.log_likelihood": reference,
    }
    ids = {"row_id": np.repeat(np.arange(count), len(grid)), "checkpoint": np.tile(grid, count)}
    scores = pl.DataFrame({**ids, "log_likelihood": (y + 0.2 * read).ravel()})
    return pl.DataFrame(table), scores.with_columns(**{k: pl.lit(v) for k, v in named.items()})


@pytest.mark.slow
@pytest.mark.parametrize("covariates", [(), ("features",), ("features", "reference")])
def test_standard_errors_of_designs_are_what_studies_of_that_design_turn_out_to_have(covariates):
    """Predicted at equal covariates from a pilot, against the spread of effects over new studies.

    By hand: without covariates a change varies by .5² + .7² + .25² within and .3² · 2 between
    batches; what is held equal is not there. 150 studies of three cohorts tell a deviation to
    1/√(2 · 450) = 3.3 %, the pilot's variances of 3 · 40 batches theirs to about 4 %.
    """
    rng = np.random.default_rng(0)
    plan = PowerPlan(batches=(8,), rows_per_batch=(5,), controls=(300,), tokens=64)
    settings = Estimation(covariates=covariates)

    found = minimal_effects(*_drawn(rng, 3, 40, 10, 2000), plan, settings)

    predicted = found.designs["se"][0]
    within = 0.25**2 + (0 if covariates else 0.5**2) + (0 if "reference" in covariates else 0.7**2)
    by_hand = np.sqrt(2 * 0.3**2 / 8 + within / 40 + within / 300)
    assert predicted == pytest.approx(by_hand, rel=0.12)
    made = [estimate(*_drawn(rng, 3, 8, 5, 300), settings) for _ in range(150)]
    effects = np.array([[one.runs[0].att.att[g, g + 1] for g in range(3)] for one in made])
    assert effects.mean() == pytest.approx(0.2, abs=4 * predicted / np.sqrt(450))
    assert predicted == pytest.approx(effects.std(), rel=0.12)  # three of the errors above


def test_power_tells_what_features_and_a_reference_are_worth():
    tables = _drawn(np.random.default_rng(1), 3, 40, 10, 2000)
    plan = PowerPlan(batches=(8,), rows_per_batch=(5,), controls=(300,), tokens=64)

    plain = minimal_effects(*tables, plan)
    with_both = minimal_effects(
        *tables, plan, Estimation(covariates=("features", "reference", "base"))
    )

    assert plain.covariates == ()
    assert plain.worth["covariates"].to_list() == [
        *("", "features, base", "features, reference, base"),
    ]
    errors = dict(plain.worth.select("covariates", "se").rows())
    assert errors[""] == plain.designs["se"][0]
    assert errors["features, reference, base"] == with_both.designs["se"][0]
    line = plain.worth.row(2, named=True)
    assert line["rows"] == pytest.approx((errors[""] / line["se"]) ** 2)
    assert f"as if {line['rows']:.1f} times the rows" in str(plain)
    assert "(--covariates features,reference,base)" in str(plain)
    assert "(--covariates features,reference,base)" not in str(with_both)
    assert "at equal features, reference, base" in with_both.notes[0]


def test_a_covariate_that_the_pilot_lacks_is_named():
    tables = _drawn(np.random.default_rng(1), 2, 8, 5, 100)
    plan = PowerPlan(tokens=64)

    with pytest.raises(CovariateError, match="sizes"):
        minimal_effects(*tables, plan, Estimation(covariates=("sizes",)))
