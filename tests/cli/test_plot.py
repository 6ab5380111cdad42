"""The verb `plot`: all figures of a study, or a choice of them in other formats."""

import polars as pl
import pytest

from pythia_profile.cli.app import app, run
from pythia_profile.figures import FIGURES
from pythia_profile.pipeline.inputs import run_marks
from pythia_profile.pipeline.running import run_stage
from pythia_profile.study import Estimation, Study, create_study, open_study

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def study(planted, tmp_path_factory):
    """Three sizes with effects, entered with rows and scores; drawn once."""
    folder = tmp_path_factory.mktemp("plot")
    rows, scores = planted(lambda *_: 0.3, sizes=("xs", "s", "m"))
    create_study(folder, Study(suite="mini", sizes=("xs", "s", "m"), estimate=Estimation(draws=20)))
    rows.write_parquet(folder / "rows.parquet")
    (folder / "scores").mkdir()
    scores.write_parquet(folder / "scores" / "all.parquet")
    for stage in ("att", "profile", "plot"):
        run_stage(folder, stage)
    return folder


def test_a_choice_of_figures_sizes_and_formats_leaves_those_of_the_report_alone(study, capsys):
    before = {path.name: path.stat().st_mtime_ns for path in (study / "figures").iterdir()}
    chosen = ["--which", "heatmap,difference", "--size", "m,xs", "--format", "pdf,svg"]
    assert run(app, ["plot", str(study), *chosen]) == 0

    names = capsys.readouterr().out.split()
    assert names == [
        str(study / "plots" / f"{name}.{kind}")
        for name in ("heatmap", "difference")
        for kind in ("pdf", "svg")
    ]
    svg = (study / "plots" / "heatmap.svg").read_text()
    assert ">m<" in svg
    assert ">xs<" in svg
    assert ">s<" not in svg
    assert "xs minus m" in (study / "plots" / "difference.svg").read_text()
    assert (study / "plots" / "heatmap.pdf").read_bytes().startswith(b"%PDF")
    assert {path.name: path.stat().st_mtime_ns for path in (study / "figures").iterdir()} == before


@pytest.mark.parametrize(
    ("option", "message"),
    [
        (["--which", "heatmpa"], "error: no figure 'heatmpa'; did you mean 'heatmap'?"),
        (["--which", "seeds"], "error: no figure of this study 'seeds'; known: heatmap"),
        (["--size", "xxl"], "error: no size of this study 'xxl'; known: xs, s, m"),
        (["--format", "gif"], "error: no format 'gif'; known: svg, png, pdf"),
    ],
)
def test_what_cannot_be_drawn_is_one_line(study, capsys, option, message):
    assert run(app, ["plot", str(study), *option, "--out", str(study / "none")]) == 2

    captured = capsys.readouterr()
    assert captured.err.startswith(message)
    assert len(captured.err.splitlines()) == 1


def test_the_help_names_every_figure(capsys):
    assert run(app, ["plot", "--help"]) == 0

    words = capsys.readouterr().out.replace("\n", " ").replace(",", " ").replace(".", " ").split()
    assert {*FIGURES} <= {*words}


def test_the_turns_of_the_learning_rate_are_marked_where_they_are_known(study, tmp_path):
    rows = pl.read_parquet(study / "rows.parquet")
    create_study(tmp_path, Study(suite="of another lab", sizes=("xs",)))
    repeated = pl.when(pl.col("treatment_step") > 20).then(0.9).otherwise(0.1)
    rows.with_columns(earlier_exposure=repeated).write_parquet(tmp_path / "rows.parquet")

    assert [*run_marks(study, open_study(study))] == ["warm-up ends", "rate at its floor"]
    (mark,) = run_marks(tmp_path, open_study(tmp_path)).items()
    assert mark[0] == "most of a row read before"
    assert 20 < mark[1] <= 30
