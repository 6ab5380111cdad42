"""Drawings show every cell and every number of their table, and mark what the band marks."""

from itertools import pairwise

import numpy as np
import polars as pl
import pytest
from matplotlib import pyplot as plt
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import LineCollection, QuadMesh
from matplotlib.text import Text

from pythia_profile.errors import NotFoundError, TableError
from pythia_profile.figures import (
    agreement,
    counterfactual,
    difference,
    draw_all,
    event_time,
    heatmap,
    instantaneous,
    residual,
)
from pythia_profile.profiles.agreement import agreement as agree
from pythia_profile.profiles.estimates import estimate
from pythia_profile.profiles.profile import profile


@pytest.fixture(scope="module")
def tables():
    """Three sizes with an effect that only the largest shows beyond doubt."""
    rng = np.random.default_rng(0)
    checkpoints, cohort = [0, 10, 20, 30], np.repeat([10, 20, 30, 0], 30)
    rows = pl.DataFrame(
        {
            "row_id": np.arange(120),
            "treatment_step": pl.Series(cohort).set(pl.Series(cohort == 0), None),
            "batch": np.arange(120),
            "tokens": pl.Series([[1, 2]] * 120, dtype=pl.List(pl.UInt16)),
            "earlier_exposure": 0.0,
        }
    )
    parts = [
        pl.DataFrame(
            {
                "suite": "t",
                "size": size,
                "seed": 0,
                "checkpoint": c,
                "row_id": np.arange(120),
                "log_likelihood": gain * ((cohort > 0) & (cohort <= c)) + rng.normal(0, 0.2, 120),
                "accuracy": 0.5,
                "mean_rank": 1.0,
                "entropy": 1.0,
            }
        )
        for size, gain in (("xs", 0.0), ("s", 0.1), ("m", 1.0))
        for c in checkpoints
    ]
    scores = pl.concat(parts)
    found = estimate(rows, scores)
    return {
        "att": found.att,
        "placebo": found.placebo,
        "profiles": profile(rows, scores).with_columns(learning_rate=pl.lit(1e-3)),
        "agreement": agree(rows, scores),
    }


@pytest.fixture(autouse=True)
def closed():
    yield
    plt.close("all")


def names(axes):
    return [ax.get_title(loc="left") for ax in axes]


def mesh_of(ax):
    return next((c for c in ax.collections if isinstance(c, QuadMesh)), None) or ax.images[0]


def test_the_heatmap_holds_every_cell_of_every_size(tables):
    axes = heatmap(tables["att"])

    assert names(axes) == ["xs", "s", "m"]
    for ax in axes:
        cells = tables["att"].filter(pl.col("size") == ax.get_title(loc="left"))
        expected = cells.sort("cohort", "checkpoint")["att"].to_numpy().reshape(3, 4)
        assert np.allclose(np.ma.getdata(mesh_of(ax).get_array()).reshape(3, 4), expected)
        assert mesh_of(ax).get_alpha() is None


def outlined(ax, shape):
    """Cells inside the outlines: those that a walk from the left enters but does not leave."""
    edges = next(c for c in ax.collections if isinstance(c, LineCollection)).get_segments()
    crossed = np.zeros((shape[0], shape[1] + 1), int)
    for (x, top), (other, bottom) in edges:
        if x == other:
            crossed[int(min(top, bottom)) : int(max(top, bottom)), int(x)] += 1
    return np.cumsum(crossed, axis=1)[:, :-1] % 2 == 1


def test_outlines_hold_the_cells_whose_band_excludes_zero_and_no_others(tables):
    found = {}
    for ax in heatmap(tables["att"]):
        size = ax.get_title(loc="left")
        cells = tables["att"].filter(size=size).sort("cohort", "checkpoint")
        marked = cells.select((pl.col("lower") > 0) | (pl.col("upper") < 0)).to_series()
        expected = marked.fill_null(value=False).to_numpy().reshape(3, 4)
        np.testing.assert_array_equal(outlined(ax, (3, 4)), expected)
        found[size] = expected.sum()
    assert found["m"] == 6


def test_all_sizes_share_one_color_scale_that_is_even_around_zero(tables):
    limits = {mesh_of(ax).get_clim() for ax in heatmap(tables["att"])}

    assert len(limits) == 1
    low, high = limits.pop()
    assert low == -high
    assert high == pytest.approx(tables["att"]["att"].abs().max())


def full_size(tables, cohorts=60):
    """As many cells as make a few effects no measure of the scale, one of them far off."""
    steps = 1000 * np.arange(cohorts + 1)
    grid = pl.DataFrame({"cohort": steps[1:]}).join(
        pl.DataFrame({"checkpoint": steps}), how="cross"
    )
    far = (pl.col("cohort") == 1000) & (pl.col("checkpoint") == 1000)
    return grid.with_columns(
        outcome=pl.lit("log_likelihood"),
        size=pl.lit("xl"),
        att=pl.when(far).then(9.0).otherwise(0.1),
        lower=pl.lit(None, pl.Float64),
        upper=pl.lit(None, pl.Float64),
    )


def test_a_single_cell_far_off_does_not_set_the_scale_and_the_scale_says_so(tables):
    ax = heatmap(full_size(tables))
    bar = ax.figure.axes[-1]

    assert mesh_of(ax).get_clim() == (-0.1, 0.1)
    assert np.ma.getdata(mesh_of(ax).get_array()).max() == 9.0
    assert mesh_of(ax).colorbar.extend == "both"
    assert "nats per token" in bar.get_ylabel()


@pytest.mark.parametrize("cohorts", [20, 60, 143])
def test_labels_of_time_are_in_k_and_do_not_touch(tables, cohorts):
    ax = heatmap(full_size(tables, cohorts))
    FigureCanvasAgg(ax.figure).draw()

    for labels, low, high in (
        (ax.get_xticklabels(), "x0", "x1"),
        (ax.get_yticklabels(), "y1", "y0"),
    ):
        boxes = [label.get_window_extent() for label in labels if label.get_text()]
        assert len(boxes) >= 2
        for one, other in pairwise(boxes):
            gap = getattr(other, low) - getattr(one, high)
            assert gap > 2 if low == "x0" else gap < -2
        assert all(text.get_text() in ("0", *map("{}k".format, range(144))) for text in labels)


def test_marks_lie_before_treatment_and_are_named_once(tables):
    axes = heatmap(tables["att"], marks={"warm-up ends": 15})
    (figure,) = {ax.figure for ax in axes}
    (legend,) = figure.legends

    assert [t.get_text() for t in legend.get_texts()][-1] == "warm-up ends (15)"
    for ax in axes:
        (line,) = [one for one in ax.lines if len(one.get_xdata()) == 3]
        x, y = line.get_data()
        assert x.tolist() == [0, 2.5, 2.5]  # columns: checkpoints 0, 10, 20, 30
        assert y.tolist() == [1.5, 1.5, 3]  # rows: cohorts 10, 20, 30, downward


def test_a_difference_is_that_of_the_cells_and_outlined_where_bands_do_not_overlap(tables):
    ax = difference(tables["att"], "m", "xs")

    cells = tables["att"].sort("cohort", "checkpoint")
    m, xs = (
        cells.filter(size=size).select("att", "lower", "upper").to_numpy() for size in ("m", "xs")
    )
    np.testing.assert_allclose(
        np.ma.getdata(mesh_of(ax).get_array()).ravel(), m[:, 0] - xs[:, 0], atol=1e-15
    )
    apart = (m[:, 1] > xs[:, 2]) | (m[:, 2] < xs[:, 1])
    np.testing.assert_array_equal(outlined(ax, (3, 4)).ravel(), apart)
    assert ax.get_title(loc="left") == "m minus xs"


def test_a_user_can_choose_sizes_and_axes_and_restyle_them(tables):
    _, (left, right) = plt.subplots(1, 2)

    assert heatmap(tables["att"], size="s", ax=left, title="small") is left
    assert residual(tables["profiles"], size="m", ax=right, title="medium") is right
    assert names([left, right]) == ["small", "medium"]
    assert event_time(tables["profiles"], size=["m", "xs"]).get_legend_handles_labels()[1] == [
        "m",
        "xs",
    ]
    assert isinstance(heatmap(tables["att"], size="s"), Axes)
    with pytest.raises(NotFoundError, match="no size 'xxl'; known: xs, s, m"):
        heatmap(tables["att"], size="xxl")
    with pytest.raises(TableError, match="ax: got one for 3 panels; choose one with size="):
        heatmap(tables["att"], ax=left)


def test_curves_and_points_are_those_of_the_table(tables):
    for cohorts, kind in (("constant", "event_time_balanced"), ("all", "event_time")):
        curve = event_time(tables["profiles"], cohorts=cohorts)
        lines = tables["profiles"].filter(kind=kind, size="m").sort("event_time")
        drawn = next(line for line in curve.lines if line.get_label() == "m")
        assert np.allclose(drawn.get_xydata(), lines.select("event_time", "att"))
    for ax, size in zip(instantaneous(tables["profiles"]), ("xs", "s", "m"), strict=True):
        points = tables["profiles"].filter(kind="instantaneous", size=size)
        points = points.filter(pl.col("cohort").is_not_null()).sort("cohort")
        assert np.allclose(ax.containers[0].lines[0].get_ydata(), points["att"])
    assert len(residual(tables["profiles"])) == 3


def test_effects_and_rates_share_the_axis_of_time_and_their_zero(tables):
    for ax in instantaneous(tables["profiles"]):
        (rate,) = [other for other in ax.figure.axes if other.bbox.bounds == ax.bbox.bounds][1:]
        assert rate.get_xlim() == ax.get_xlim()
        zeros = [one.transData.transform((0, 0))[1] for one in (ax, rate)]
        assert zeros[0] == pytest.approx(zeros[1])
        assert np.allclose(rate.lines[0].get_ydata(), 1e-3)


def test_agreement_shows_correlation_interval_and_reliability(tables):
    known = tables["agreement"].with_columns(lower=pl.lit(0.25), upper=pl.lit(0.75))
    ax = agreement(known)

    texts = [text.get_text() for text in ax.texts]
    first = tables["agreement"].row(0, named=True)
    assert f"{first['pearson']:.2f}\n[0.25, 0.75]" in texts
    unknown = agreement(tables["agreement"].with_columns(lower=pl.lit(None), upper=pl.lit(None)))
    assert any("not told" in text.get_text() for text in unknown.texts)
    assert sum(text.startswith("reliability\n") for text in texts) == 3


@pytest.mark.slow
def test_figures_are_written_twice_with_the_same_bytes(tables, tmp_path):
    for folder in (tmp_path / "a", tmp_path / "b"):
        names = draw_all(tables, folder, ["log_likelihood"], formats=("svg", "png", "pdf"))
    assert not plt.get_fignums()
    assert names == [
        *("heatmap", "difference", "event_time", "event_time_all"),
        *("instantaneous", "residual", "agreement"),
    ]
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name


@pytest.mark.slow
def test_the_first_outcome_is_the_main_one_and_others_carry_their_name(tables, tmp_path):
    low = pl.col("att", "lower", "upper") * 0.5
    both = {
        name: pl.concat([table, table.with_columns(low, outcome=pl.lit("accuracy"))])
        for name, table in tables.items()
        if name in ("att", "profiles")
    }
    both["agreement"] = tables["agreement"].clear()

    names = draw_all(both, tmp_path, ["log_likelihood", "accuracy"])

    assert names[:4] == ["heatmap", "difference", "event_time", "event_time_all"]
    assert names[4:6] == ["instantaneous", "residual"]
    assert names[6:] == [f"{name}_accuracy" for name in names[:6]]
    for name in ("heatmap", "event_time", "residual"):
        main, other = ((tmp_path / f"{name}{end}.svg").read_text() for end in ("", "_accuracy"))
        assert "log-likelihood (nats per token)" in main
        assert "greedy accuracy" not in main
        assert "greedy accuracy (share of tokens)" in other


def test_an_outcome_that_was_left_out_because_it_never_varies_is_not_drawn(tables, tmp_path):
    only = {"att": tables["att"]}

    assert draw_all(only, tmp_path, ["log_likelihood", "recall_32_32_full"]) == draw_all(
        only, tmp_path, ["log_likelihood"]
    )


def _has_words(artist):
    return not isinstance(artist, Text) or artist.get_text()


@pytest.mark.parametrize("draw", [event_time, instantaneous, residual])
@pytest.mark.parametrize("outcome", ["log_likelihood", "accuracy"])
def test_every_word_lies_within_the_figure(tables, draw, outcome):
    drawn = draw(tables["profiles"].with_columns(outcome=pl.lit(outcome)), outcome=outcome)
    figure = np.ravel([drawn])[0].figure
    FigureCanvasAgg(figure).draw()

    for ax in figure.axes:
        legend = ax.get_legend()
        words = [ax.xaxis.label, ax.yaxis.label, *([legend] if legend else []), *figure.legends]
        for word in filter(_has_words, words):
            box = word.get_window_extent()
            assert figure.bbox.x0 <= box.x0, word
            assert figure.bbox.y0 <= box.y0, word
            assert box.x1 <= figure.bbox.x1, word
            assert box.y1 <= figure.bbox.y1, word


def test_no_line_passes_through_the_legend(tables):
    ax = event_time(tables["profiles"])
    FigureCanvasAgg(ax.figure).draw()

    assert not ax.get_legend().get_window_extent().overlaps(ax.get_window_extent())


def test_the_ends_of_every_band_are_drawn(tables):
    ax = event_time(tables["profiles"], cohorts="all")

    for size in ("xs", "s", "m"):
        band = tables["profiles"].filter(kind="event_time", size=size).sort("event_time")
        for end in ("lower", "upper"):
            assert any(
                len(line.get_ydata()) == len(band)
                and np.array_equal(line.get_ydata(), band[end], equal_nan=True)
                for line in ax.lines
            ), (size, end)


def test_six_sizes_stand_in_two_rows_of_three(tables):
    six = pl.concat(
        tables["att"].filter(size="m").with_columns(size=pl.lit(f"{k}b")) for k in range(6)
    )
    places = [ax.get_position() for ax in heatmap(six)]

    assert len({round(place.x0, 2) for place in places}) == 3
    assert len({round(place.y0, 2) for place in places}) == 2


def test_a_null_band_is_drawn_and_not_marked(tables):
    bare = tables["att"].with_columns(
        lower=pl.lit(None, pl.Float64), upper=pl.lit(None, pl.Float64)
    )

    for ax in heatmap(bare):
        assert not outlined(ax, (3, 4)).any()


@pytest.mark.parametrize(
    ("draw", "table"),
    [(heatmap, "att"), (event_time, "profiles"), (residual, "profiles"), (agreement, "agreement")],
)
def test_nothing_to_draw_is_an_error_and_no_empty_figure(tables, draw, table):
    with pytest.raises(TableError, match="nothing to draw"):
        draw(tables[table], outcome="no_such_outcome")
    with pytest.raises(TableError, match="nothing to draw"):
        counterfactual(pl.DataFrame({"cohort": []}))
