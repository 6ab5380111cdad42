"""Drawings of findings show the numbers of their tables, and nothing where nothing was found."""

import numpy as np
import polars as pl
import pytest
from matplotlib import pyplot as plt

from pythia_profile.errors import TableError
from pythia_profile.figures import decay, draw_all, prediction, seeds
from pythia_profile.tables import DECAY, FINDINGS, PREDICTION, PROFILES, conform

RUN = {"suite": "t", "seed": 0, "outcome": "log_likelihood"}


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


@pytest.fixture
def predicted():
    rng = np.random.default_rng(0)
    lines = []
    for kind, checkpoint in (("cell", 40), ("residual", None)):
        for cohort in (10, 20, 30):
            for fold in (0, 1):
                at, noise = rng.normal(0.2, 0.1), rng.normal(0, 0.02)
                line = {
                    **RUN,
                    **{"size": "l", "kind": kind, "cohort": cohort, "checkpoint": checkpoint},
                    **{"fold": fold, "method": "scaling", "sources": "xs, s", "predicted": at},
                    **{"lower": at - 0.05, "upper": at + 0.05, "observed": at + noise},
                    **{"observed_se": 0.02, "covered": cohort != 30},
                }
                lines.append(line)
    never_scored = {**lines[0], "size": "xl", "fold": None, "observed": None, "observed_se": None}
    table = pl.DataFrame([*lines, {**never_scored, "covered": None}], schema=PREDICTION.columns)
    return conform(table, PREDICTION)


def test_predictions_lie_over_what_was_observed_and_those_outside_are_marked(predicted):
    cells, residuals = prediction(predicted)

    for ax, kind in ((cells, "cell"), (residuals, "residual")):
        some = predicted.filter(kind=kind, size="l")
        inside, outside = (some.filter(covered=is_so) for is_so in (True, False))
        for line, lines in zip(ax.lines[-3:-1], (inside, outside), strict=True):
            np.testing.assert_allclose(line.get_xydata(), lines.select("predicted", "observed"))
            assert str(len(lines)) in line.get_label()
    assert (cells.get_title(loc="left"), residuals.get_title(loc="left")) == ("cell", "residual")
    assert cells.figure.get_suptitle().startswith("l predicted from xs, s,")
    assert isinstance(prediction(predicted, kind="residual", title="mine"), plt.Axes)
    with pytest.raises(TableError, match="nothing to draw: no prediction of 'xl' was observed"):
        prediction(predicted, size="xl")


@pytest.fixture
def found():
    lines = [
        {
            **RUN,
            **{"seed": None, "size": size, "finding": "seeds", "kind": kind, "subset": "mean"},
            **{"quantity": quantity, "estimate": value, "se": None, "lower": value / 2},
            **{"upper": 2 * value, "p_value": None, "n": 5, "verdict": ""},
        }
        for size in ("xs", "s")
        for kind, between in (("instantaneous", 0.04), ("residual", 0.01))
        for quantity, value in (("between_sd", between), ("within_sd", 0.02))
    ]
    out = {**lines[0], "quantity": "outlier", "subset": "seed 3", "verdict": "outlier"}
    return conform(pl.DataFrame([*lines, out], schema=FINDINGS.columns), FINDINGS)


def test_deviations_between_and_within_seeds_stand_side_by_side(found):
    drawn = seeds(found)

    labels = [text.get_text() for text in drawn[0].get_yticklabels()]
    assert labels == ["instantaneous, mean", "residual, mean"]
    for ax, size in zip(drawn, ("xs", "s"), strict=True):
        for container, quantity in zip(ax.containers, ("between_sd", "within_sd"), strict=True):
            some = found.filter(size=size, quantity=quantity)
            at, place = container.lines[0].get_data()
            assert dict(zip(np.round(place).astype(int).tolist(), at, strict=True)) == dict(
                enumerate(some["estimate"])
            )
    assert "stands out: seed 3" in drawn[0].get_title(loc="left")
    with pytest.raises(TableError, match="score two training seeds or more"):
        seeds(found.filter(quantity="outlier"))


@pytest.fixture
def laws():
    line = dict.fromkeys(DECAY.columns)
    line |= {**RUN, "size": "s", "subset": "constant", "chosen": True, "cohorts": 4, "points": 9}
    line |= {"horizon": 80, "verdict": "fitted", "law": "exponential_plateau", "level": 0.1}
    line |= {"initial": 0.5, "rate": 0.05, "half_life": np.log(2) / 0.05}
    other = {**line, "law": "constant", "chosen": False}
    return conform(pl.DataFrame([line, other], schema=DECAY.columns), DECAY)


@pytest.fixture
def profiles():
    times = np.arange(-10, 90, 10)
    values = np.where(times < 0, 0.0, 0.1 + 0.4 * np.exp(-0.05 * times))
    frame = pl.DataFrame({"event_time": times, "att": values, "se": 0.01})
    frame = frame.with_columns(
        **{k: pl.lit(v) for k, v in RUN.items()},
        size=pl.lit("s"),
        kind=pl.lit("event_time_balanced"),
        cohort=pl.lit(None, pl.Int64),
        lower=pl.col("att") - 0.02,
        upper=pl.col("att") + 0.02,
    )
    return conform(frame, PROFILES)


def test_the_law_passes_through_a_curve_that_obeys_it(laws, profiles):
    ax = decay(laws, profiles)

    points, law = ax.lines[0], ax.lines[1]
    assert points.get_xdata().tolist() == list(range(0, 90, 10))
    drawn = np.interp(points.get_xdata(), *law.get_data())
    np.testing.assert_allclose(drawn, points.get_ydata(), atol=1e-3)  # a line of 300 points
    half = next(line for line in ax.lines if len({*line.get_xdata()}) == 1)
    assert half.get_xdata()[0] == pytest.approx(np.log(2) / 0.05)
    assert ax.get_title(loc="left") == "s: exponential + plateau"


def test_a_power_law_is_drawn_by_its_own_formula(laws, profiles):
    power = laws.with_columns(law=pl.lit("power"), level=pl.lit(0.0), rate=pl.lit(0.7))
    x, y = decay(power.filter("chosen"), profiles).lines[1].get_data()

    np.testing.assert_allclose(y, 0.5 * (1 + x / 10) ** -0.7)  # its unit is the first event time


def test_findings_are_drawn_with_the_figures_of_a_study(predicted, found, laws, profiles, tmp_path):
    cells = predicted.filter(kind="cell", fold=0, size="l")
    att = cells.select(
        *("suite", "size", "seed", "outcome", "cohort", "checkpoint", "lower", "upper"),
        att="observed",
    )
    tables = {"att": att, "profiles": profiles, "agreement": pl.DataFrame({"outcome": ["none"]})}
    tables |= {"prediction": predicted, "findings": found, "decay": laws}

    names = draw_all(tables, tmp_path, ["log_likelihood"], formats=("svg",))

    assert names == ["heatmap", "event_time", "prediction", "seeds", "decay"]
    empty = {name: table.clear() for name, table in tables.items() if name != "att"}
    assert draw_all({**empty, "att": att}, tmp_path, ["log_likelihood"]) == ["heatmap"]
