"""Drawings show every cell and every number of their table, and mark what the band marks."""

import numpy as np
import polars as pl
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.collections import QuadMesh

from pythia_profile.errors import TableError
from pythia_profile.figures import (
    agreement,
    counterfactual,
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


def panels(figure):
    return [ax for ax in figure.axes if any(isinstance(c, QuadMesh) for c in ax.collections)]


def test_the_heatmap_holds_every_cell_of_every_size(tables):
    figure = heatmap(tables["att"])

    axes = [ax for ax in panels(figure) if ax.get_title(loc="left")]
    assert [ax.get_title(loc="left") for ax in axes] == ["xs", "s", "m"]
    for ax in axes:
        cells = tables["att"].filter(pl.col("size") == ax.get_title(loc="left"))
        expected = cells.sort("cohort", "checkpoint")["att"].to_numpy().reshape(3, 4)
        mesh = next(c for c in ax.collections if isinstance(c, QuadMesh))
        assert np.allclose(np.ma.getdata(mesh.get_array()).reshape(3, 4), expected)


def test_dots_mark_the_cells_whose_band_excludes_zero_and_no_others(tables):
    for ax in panels(heatmap(tables["att"])):
        size = ax.get_title(loc="left")
        if not size:
            continue
        cells = tables["att"].filter(pl.col("size") == size)
        marked = cells.filter((pl.col("lower") > 0) | (pl.col("upper") < 0))
        dots = next(line for line in ax.lines if line.get_marker() == ".")
        places = {(int(x), int(y)) for x, y in dots.get_xydata()}
        expected = {
            (checkpoint // 10, cohort // 10 - 1)
            for cohort, checkpoint in marked.select("cohort", "checkpoint").rows()
        }
        assert places == expected
        assert size != "m" or len(places) == 6


def test_all_sizes_share_one_color_scale_that_is_even_around_zero(tables):
    axes = [ax for ax in panels(heatmap(tables["att"])) if ax.get_title(loc="left")]
    meshes = [ax.collections[0] for ax in axes]

    limits = {mesh.get_clim() for mesh in meshes}
    assert len(limits) == 1
    low, high = limits.pop()
    assert low == -high


def test_curves_and_points_are_those_of_the_table(tables):
    for cohorts, kind in (("constant", "event_time_balanced"), ("all", "event_time")):
        curve = event_time(tables["profiles"], cohorts=cohorts).axes[0]
        lines = tables["profiles"].filter(kind=kind, size="m").sort("event_time")
        drawn = next(line for line in curve.lines if line.get_label() == "m")
        assert np.allclose(drawn.get_xydata(), lines.select("event_time", "att"))
    above, below = instantaneous(tables["profiles"]).axes
    assert len(above.containers) == len(below.lines) == 3
    assert len(residual(tables["profiles"]).axes[0].containers) == 3


def test_the_curve_of_all_cohorts_shows_how_many_reach_an_event_time(tables):
    (constant,), (_, counts) = (
        event_time(tables["profiles"], cohorts=cohorts).axes for cohorts in ("constant", "all")
    )

    (bars,) = counts.collections  # cohorts 10, 20, 30 at checkpoints 0 to 30
    assert {path.vertices[1, 0]: path.vertices[1, 1] for path in bars.get_paths()} == {
        -30: 1, -20: 2, -10: 3, 0: 3, 10: 2, 20: 1,
    }  # fmt: skip
    assert constant.get_title(loc="left") == "the same 2 cohorts throughout"
    diamonds = [line for line in constant.lines if line.get_marker() == "D"]
    assert [line.get_xydata().tolist() for line in diamonds] == [[[-10, 0]]]


def test_agreement_shows_correlation_interval_and_reliability(tables):
    known = tables["agreement"].with_columns(lower=pl.lit(0.25), upper=pl.lit(0.75))
    figure = agreement(known)

    texts = [text.get_text() for text in figure.axes[0].texts]
    first = tables["agreement"].row(0, named=True)
    assert f"{first['pearson']:.2f}\n[0.25, 0.75]" in texts
    unknown = agreement(tables["agreement"].with_columns(lower=pl.lit(None), upper=pl.lit(None)))
    assert any("not told" in text.get_text() for text in unknown.axes[0].texts)
    assert sum(text.startswith("self\n") for text in texts) == 3


def test_figures_are_written_twice_with_the_same_bytes(tables, tmp_path):
    for folder in (tmp_path / "a", tmp_path / "b"):
        names = draw_all(tables, folder, ["log_likelihood"])
    assert names == [
        *("heatmap", "event_time", "event_time_all", "instantaneous", "residual", "agreement")
    ]
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes(), path.name


def test_the_first_outcome_is_the_main_one_and_others_carry_their_name(tables, tmp_path):
    low = pl.col("att", "lower", "upper") * 0.5
    both = {
        name: pl.concat([table, table.with_columns(low, outcome=pl.lit("accuracy"))])
        for name, table in tables.items()
        if name in ("att", "profiles")
    }
    both["agreement"] = tables["agreement"].clear()

    names = draw_all(both, tmp_path, ["log_likelihood", "accuracy"])

    assert names[:5] == ["heatmap", "event_time", "event_time_all", "instantaneous", "residual"]
    assert names[5:] == [f"{name}_accuracy" for name in names[:5]]
    for name in ("heatmap", "event_time", "residual"):
        main, other = ((tmp_path / f"{name}{end}.svg").read_text() for end in ("", "_accuracy"))
        assert "log-likelihood (nats per token)" in main
        assert "greedy accuracy" not in main
        assert "greedy accuracy (share of tokens)" in other


@pytest.mark.parametrize("draw", [event_time, instantaneous, residual])
@pytest.mark.parametrize("outcome", ["log_likelihood", "accuracy"])
def test_every_word_lies_within_the_figure(tables, draw, outcome):
    figure = draw(tables["profiles"].with_columns(outcome=pl.lit(outcome)), outcome=outcome)
    FigureCanvasAgg(figure).draw()

    for ax in figure.axes:
        legend = ax.get_legend()
        words = [ax.xaxis.label, ax.yaxis.label, *([legend] if legend else [])]
        for word in words:
            box = word.get_window_extent()
            assert figure.bbox.x0 <= box.x0, word
            assert figure.bbox.y0 <= box.y0, word
            assert box.x1 <= figure.bbox.x1, word
            assert box.y1 <= figure.bbox.y1, word


def test_no_line_passes_through_the_legend(tables):
    ax = event_time(tables["profiles"]).axes[0]
    FigureCanvasAgg(ax.figure).draw()

    assert not ax.get_legend().get_window_extent().overlaps(ax.get_window_extent())


def test_the_ends_of_every_band_are_drawn(tables):
    ax = event_time(tables["profiles"], cohorts="all").axes[0]

    for size in ("xs", "s", "m"):
        band = tables["profiles"].filter(kind="event_time", size=size).sort("event_time")
        for end in ("lower", "upper"):
            assert any(
                len(line.get_ydata()) == len(band)
                and np.array_equal(line.get_ydata(), band[end], equal_nan=True)
                for line in ax.lines
            ), (size, end)


def test_no_more_than_two_panels_stand_side_by_side(tables):
    axes = [ax for ax in panels(heatmap(tables["att"])) if ax.get_title(loc="left")]

    assert len({round(ax.get_position().x0, 2) for ax in axes}) == 2


def test_a_null_band_is_drawn_and_not_marked(tables):
    bare = tables["att"].with_columns(
        lower=pl.lit(None, pl.Float64), upper=pl.lit(None, pl.Float64)
    )

    for ax in panels(heatmap(bare)):
        assert all(len(line.get_xdata()) == 0 for line in ax.lines if line.get_marker() == ".")


@pytest.mark.parametrize(
    ("draw", "table"),
    [(heatmap, "att"), (event_time, "profiles"), (residual, "profiles"), (agreement, "agreement")],
)
def test_nothing_to_draw_is_an_error_and_no_empty_figure(tables, draw, table):
    with pytest.raises(TableError, match="nothing to draw"):
        draw(tables[table], outcome="no_such_outcome")
    with pytest.raises(TableError, match="nothing to draw"):
        counterfactual(pl.DataFrame({"cohort": []}))
