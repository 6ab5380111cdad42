"""Planted laws are recovered, and refused where they cannot be told from a line in the logs."""

import json

import numpy as np
import polars as pl
import pytest

from pythia_profile.cli import app
from pythia_profile.cli.app import run
from pythia_profile.errors import EstimationError, NotFoundError, TableError
from pythia_profile.labs.law.law_fit import Fitting, fit_law
from pythia_profile.labs.law.law_forms import Cells, exponent_sse, fit_form, fit_forms
from pythia_profile.labs.law.law_profile import bootstrap, identified, leave_one_rank_out

RANKS, LENGTHS = 2.0 ** np.arange(7), np.array([50, 100, 300, 1000, 3000, 10_000])
RANK, TOKENS = (axis.ravel() for axis in np.meshgrid(RANKS, LENGTHS, indexing="ij"))
BASE = np.full(len(RANK), 20.0)


def planted(gain, noise=0.0, seed=0):
    errors = np.random.default_rng(seed).normal(0, noise, len(RANK)) if noise else 0
    return Cells(RANK, TOKENS, gain + errors, BASE)


POWER = 6 * RANK**0.25 * TOKENS**-0.2
OFFSET = 6 * RANK**0.25 * TOKENS**-0.2 + 0.5
LINE = 4 + 0.6 * np.log(RANK) - 0.35 * np.log(TOKENS)


@pytest.mark.parametrize(
    ("name", "gain", "truth"),
    [
        ("power", POWER, {"C": 6, "alpha": 0.25, "beta": 0.2}),
        ("power_offset", OFFSET, {"C": 6, "alpha": 0.25, "beta": 0.2, "b": 0.5}),
        ("log_linear", LINE, {"c": 4, "alpha": 0.6, "beta": 0.35}),
        ("saturating", -20 * np.expm1(-POWER / 4), {"C": 1.5, "alpha": 0.25, "beta": 0.2}),
    ],
)
def test_each_form_is_recovered_where_it_was_planted_without_noise(name, gain, truth):
    found = fit_form(name, planted(gain))

    # the simplex stops at 1e-7 of the exponents; C and b follow them some 100 times as fast
    assert dict(found.parameters) == pytest.approx(truth, rel=1e-3)
    assert found.r2 == pytest.approx(1, abs=1e-8)


@pytest.mark.parametrize("name", ["power", "power_offset", "log_linear", "saturating"])
def test_the_form_that_was_planted_has_the_best_aicc_or_nests_it(name):
    gain = {
        "power": POWER,
        "power_offset": OFFSET,
        "log_linear": LINE,
        "saturating": -20 * np.expm1(-POWER / 4),
    }[name]
    forms = fit_forms(planted(gain, noise=0.01))

    # a nesting form gains at most its one further parameter's chi-square: 10 is p = .002
    assert forms[name].aicc - min(form.aicc for form in forms.values()) < 10


def test_the_error_at_given_exponents_is_that_of_a_regression():
    cells = planted(OFFSET, noise=0.1)
    design = np.column_stack([RANK**0.4 * TOKENS**-0.3, np.ones_like(RANK)])
    expected = np.linalg.lstsq(design, cells.gain, rcond=None)[1]

    assert exponent_sse(0.4, 0.3, cells) == pytest.approx(expected[0], rel=1e-9)


def test_the_error_at_exponents_of_almost_nothing_is_that_of_a_line_in_the_logs():
    cells = planted(LINE, noise=0.05)
    line = fit_form("log_linear", cells)
    step = 1e-6
    at = (step * line.parameters["alpha"], step * line.parameters["beta"])

    assert exponent_sse(*at, cells) == pytest.approx(line.sse, rel=1e-4)


def verdict(cells):
    forms = fit_forms(cells)
    return identified(forms["power_offset"], forms["log_linear"], cells)


@pytest.mark.parametrize(("gain", "flat"), [(LINE, True), (OFFSET, False), (POWER, False)])
def test_exponents_are_refused_on_a_log_law_and_given_on_a_power_law(gain, flat):
    found = [verdict(planted(gain, noise=0.03, seed=seed)) for seed in range(12)]

    # at level .95 a log law is wrongly told apart in one of twenty; 4 of 12 or more has p < .003
    assert sum(one.flat == flat for one in found) >= 9
    assert ("No exponents" in found[0].sentence) == flat


def test_gains_that_do_not_vary_have_no_exponents():
    assert verdict(planted(np.full(len(RANK), 3.0))).flat


def test_profile_intervals_cover_the_planted_exponents_as_often_as_they_say():
    found = [verdict(planted(OFFSET, noise=0.03, seed=seed)) for seed in range(25)]
    alpha = np.array([one.alpha for one in found])
    beta = np.array([one.beta for one in found])

    # 20 of 25 or fewer has p < .01 where coverage is .95
    assert ((alpha[:, 0] <= 0.25) & (alpha[:, 1] >= 0.25)).sum() >= 21
    assert ((beta[:, 0] <= 0.2) & (beta[:, 1] >= 0.2)).sum() >= 21
    assert (np.diff(alpha) < 0.5).all()


def test_the_bootstrap_agrees_with_the_standard_error_of_a_linear_form():
    cells = planted(LINE, noise=0.1)
    form = fit_form("log_linear", cells)
    low, high = bootstrap(form, cells, draws=400, rng=np.random.default_rng(1))["alpha"]
    design = np.column_stack([np.ones_like(RANK), np.log(RANK), -np.log(TOKENS)])
    variance = form.sse / (len(RANK) - 3) * np.linalg.inv(design.T @ design)[1, 1]

    # quantiles of 400 draws are known to about a tenth of the interval
    assert high - low == pytest.approx(2 * 1.96 * np.sqrt(variance), rel=0.2)


def test_a_rank_left_out_is_predicted_exactly_by_the_planted_form_alone():
    cells = planted(LINE)

    assert (
        leave_one_rank_out("log_linear", cells) < 1e-9 < 0.01 < leave_one_rank_out("power", cells)
    )
    with pytest.raises(EstimationError, match="2 ranks; leaving one out needs three"):
        leave_one_rank_out("power", cells.take(RANK < 4))


def runs(gain, **more):
    return pl.DataFrame(
        {"rank": RANK, "answer_tokens": TOKENS, "loss": 20 - gain, "base_loss": BASE, **more}
    )


def test_saturated_cells_are_left_out_and_counted():
    gain = OFFSET + np.random.default_rng(0).normal(0, 0.02, len(RANK))
    gain[RANK == 64] = 19.95
    found = fit_law(runs(gain), Fitting(draws=20))

    assert found.dropped == len(LENGTHS)
    assert not found.identified.flat
    low, high = found.intervals["alpha"]
    assert low < 0.25 < high


def test_no_parameter_of_a_power_law_is_said_where_it_is_refused():
    found = fit_law(runs(LINE + np.random.default_rng(0).normal(0, 0.03, len(RANK))))
    table = found.table()

    assert found.identified.flat
    assert found.intervals == {}
    powers = table.filter(pl.col("form").str.starts_with("power"))
    assert powers.select("C", "alpha", "beta", "b").null_count().sum_horizontal().item() == 8
    assert any(line.startswith("No exponents") for line in found.sentences())


@pytest.mark.parametrize(
    ("table", "error", "words"),
    [
        (runs(LINE).drop("loss"), TableError, "'loss' is missing"),
        (runs(LINE).with_columns(pl.lit("x").alias("rank")), TableError, "'rank' is String"),
        (runs(LINE).with_columns(pl.lit(None, float).alias("loss")), TableError, "not finite"),
        (runs(LINE).with_columns(pl.lit(0).alias("rank")), TableError, "from 1"),
        (runs(np.full(len(RANK), -1e308)), TableError, "got a loss of"),
        (runs(BASE - 0.01), EstimationError, "all are saturated"),
        (runs(LINE).filter(pl.col("rank") == 1), EstimationError, "have rank 1"),
        (runs(LINE).head(12), EstimationError, "2 ranks"),
        (runs(LINE, method=["a", "b"] * 21), TableError, "2 methods; choose one: a, b"),
    ],
)
def test_a_table_that_cannot_be_fitted_is_one_line(table, error, words):
    with pytest.raises(error, match=words) as raised:
        fit_law(table, Fitting(draws=20))
    assert "\n" not in str(raised.value)


def test_an_adapter_that_stands_under_both_budgets_is_one_cell():
    twice = pl.concat([runs(OFFSET, budget=name) for name in ("updates", "tokens")])
    found = fit_law(twice, Fitting(draws=20))

    assert len(found.cells.gain) == len(RANK)
    assert found.table().equals(fit_law(runs(OFFSET), Fitting(draws=20)).table())


def test_an_unknown_method_is_named():
    with pytest.raises(NotFoundError, match="no method 'c'"):
        fit_law(runs(LINE, method=["a", "b"] * 21), method="c")


def test_the_verb_fits_a_file(tmp_path, capsys):
    path = tmp_path / "runs.csv"
    runs(OFFSET + np.random.default_rng(0).normal(0, 0.02, len(RANK))).write_csv(path)

    assert run(app, ["lab", "law", "fit", str(path), "--draws", "20", "--json"]) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["cells"] == 42
    assert not facts["exponents"]["flat"]
    assert run(app, ["lab", "law", "fit", str(path), "--draws", "20"]) == 0
    assert "alpha lies in" in capsys.readouterr().out
    assert run(app, ["lab", "law", "fit", str(tmp_path / "none.csv")]) == 2
    assert "no table of runs" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("verb", "table", "words"),
    [
        ("fit", "rank,answer_tokens,loss,base_loss\n1,100,1e308,5\n", "got a loss of 1e+308"),
        ("fit", "rank,loss\n1,2\n", "'answer_tokens' is missing"),
        ("threshold", "p,greedy\n1.5,true\n0.2,true\n", "1 of 2 lines lack p or greedy, or have"),
        ("threshold", "p,greedy\nNaN,true\n-0.1,true\n,true\n", "3 of 3 lines lack p"),
        ("threshold", "p\n0.5\n", "'greedy' is missing"),
    ],
)
def test_a_wrong_file_is_named_in_one_line(tmp_path, capsys, verb, table, words):
    path = tmp_path / "given.csv"
    path.write_text(table)

    assert run(app, ["lab", "law", verb, str(path)]) == 2
    said = capsys.readouterr().err
    assert str(path) in said
    assert words in said
    assert said.count("\n") == 1
