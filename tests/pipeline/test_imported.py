"""A study folder entered with somebody else's rows and scores."""

import polars as pl
import pytest

from pythia_profile.errors import MissingTableError, StudyError, TableError
from pythia_profile.pipeline import makers, stages
from pythia_profile.pipeline.running import run_all, run_stage
from pythia_profile.pipeline.stages import STAGES, is_current, stage_states
from pythia_profile.report.page import quality
from pythia_profile.study import Estimation, Study, create_study, open_study, read_lock

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(planted, tmp_path):
    rows, scores = planted(lambda *_: 0.3, sizes=("xs", "s"))
    study = Study(suite="mini", sizes=("xs", "s"), estimate=Estimation(draws=50))
    create_study(tmp_path, study)
    rows.write_parquet(tmp_path / "rows.parquet")
    (tmp_path / "scores").mkdir()
    for size in ("xs", "s"):
        part = scores.filter(size=size).drop("entropy", "mean_rank")
        part.write_parquet(tmp_path / "scores" / f"{size}.parquet")
    return tmp_path


def test_effects_of_imported_tables_are_estimated_and_the_lock_says_whose_they_are(folder):
    for stage in ("att", "profile", "check"):
        run_stage(folder, stage)

    att = pl.read_parquet(folder / "att.parquet")
    assert att.filter(pl.col("checkpoint") >= pl.col("cohort"))["att"].mean() > 0.2
    records = read_lock(folder)["stages"]
    assert records["sample"]["source"] == records["score"]["source"] == "imported"
    states = stage_states(folder)
    assert (states["sample"], states["score"]) == ("not drawn here, kept", "imported")
    study = open_study(folder)
    assert is_current(folder, study, next(s for s in STAGES if s.name == "att"))


def test_other_imported_scores_make_what_rests_on_them_out_of_date(folder):
    run_stage(folder, "att")
    table = pl.read_parquet(folder / "scores" / "s.parquet")
    table.with_columns(pl.col("log_likelihood") + 1).write_parquet(folder / "scores" / "s.parquet")

    study = open_study(folder)
    assert not is_current(folder, study, next(s for s in STAGES if s.name == "att"))


def test_imported_scores_that_lack_something_are_named(folder):
    (folder / "scores" / "s.parquet").unlink()
    with pytest.raises(MissingTableError, match="no scores of size 's' and seed 0; they have xs"):
        run_stage(folder, "att")

    bad = pl.read_parquet(folder / "scores" / "xs.parquet").drop("log_likelihood")
    bad.write_parquet(folder / "scores" / "xs.parquet")
    with pytest.raises(TableError, match="'log_likelihood' is missing"):
        run_stage(folder, "att")


@pytest.fixture
def no_suite(monkeypatch):
    def opened(*_):
        raise AssertionError("the suite was opened")

    monkeypatch.setattr(makers, "ready_suite", opened)


@pytest.mark.parametrize("suite", ["mini", "of another lab"])
def test_a_run_on_imported_scores_opens_no_suite_and_stays_up_to_date(folder, suite, no_suite):
    file = folder / "study.toml"
    file.write_text(file.read_text().replace('suite = "mini"', f'suite = "{suite}"'))
    messages = []

    run_all(folder, 1, messages.append)

    assert messages[1].startswith("covariates: left out: the scores are imported")
    assert not (folder / "covariates.parquet").exists()
    assert (folder / "report.html").exists()
    states = stage_states(folder)
    assert states.pop("covariates") == "left out"
    assert states.pop("sample") == "not drawn here, kept"
    assert states.pop("score") == "imported"
    assert states.pop("remembered", "left out") == "left out"  # there is no model to read rows with
    assert set(states.values()) == {"up to date"}


def test_a_reference_of_imported_scores_is_joined_without_the_suite(folder, no_suite):
    rows = pl.read_parquet(folder / "rows.parquet")
    rows.select("row_id", log_likelihood=-3.0).write_parquet(folder / "other.parquet")
    file = folder / "study.toml"
    file.write_text(file.read_text().replace('reference = ""', 'reference = "other.parquet"'))

    run_stage(folder, "covariates")

    found = pl.read_parquet(folder / "covariates.parquet")
    assert found.columns == ["row_id", "reference.log_likelihood"]
    assert read_lock(folder)["covariates"]["features"].startswith("none: the scores are imported")


def test_the_report_counts_imported_scores(folder):
    path = folder / "scores" / "s.parquet"
    table = pl.read_parquet(path)
    least = pl.col("row_id") < 2
    missing = pl.when(least & (pl.col("checkpoint") == 30)).then(None).otherwise("log_likelihood")
    table.with_columns(log_likelihood=missing).write_parquet(path)

    lines = quality(folder, open_study(folder)).rows()

    assert lines == [("xs", 4, "200", 0, "imported"), ("s", 4, "200", 2, "imported")]


@pytest.fixture
def effects(folder, tmp_path_factory):
    """A study entered with effects alone, of a suite that is not known here."""
    run_stage(folder, "att")
    entered = tmp_path_factory.mktemp("effects")
    study = Study(suite="of another lab", sizes=("xs", "s"))
    create_study(entered, study)
    (entered / "att.parquet").write_bytes((folder / "att.parquet").read_bytes())
    return entered


LEFT_OUT = (
    *("sample", "covariates", "score", "precision", "profile", "estimands", "check", "findings"),
)


def test_a_study_is_entered_at_its_effects(effects):
    before = stage_states(effects)
    assert before == {**dict.fromkeys(LEFT_OUT, "left out"), "att": "imported"} | dict.fromkeys(
        ("plot", "report"), "not run"
    )
    messages, table = [], (effects / "att.parquet").read_bytes()

    run_all(effects, 1, messages.append)

    assert messages[-2] == "plot: heatmap, difference"
    assert "left out: the effects are imported, and there are no scores" in messages[0]
    assert (effects / "att.parquet").read_bytes() == table
    assert read_lock(effects)["stages"]["att"]["source"] == "imported"
    assert [*read_lock(effects)["stages"]["att"]["outputs"]] == ["att.parquet"]
    assert stage_states(effects) == before | dict.fromkeys(("plot", "report"), "up to date")
    page = (effects / "report.html").read_text()
    assert "imported, not made by this study (att)" in page
    assert "The effects are imported" in page
    assert "Parallel trends" not in page
    assert 'id="time"' not in page


def test_verbs_on_imported_effects_leave_a_note_and_never_overwrite_them(effects):
    assert run_stage(effects, "profile").startswith("profile: left out: the effects are imported")
    with pytest.raises(StudyError, match=r"att\.parquet was not estimated here and is kept"):
        run_stage(effects, "att")


def test_other_imported_effects_make_the_figures_out_of_date(effects):
    run_all(effects)
    table = pl.read_parquet(effects / "att.parquet")
    table.with_columns(pl.col("att") + 1).write_parquet(effects / "att.parquet")

    found = stages.explain_stages(effects)

    assert found["att"].state == "imported"
    assert found["plot"].why == "att.parquet changed"


def test_imported_effects_that_lack_something_are_named(effects):
    table = pl.read_parquet(effects / "att.parquet")
    table.filter(size="xs").write_parquet(effects / "att.parquet")
    with pytest.raises(MissingTableError, match="no effects of size 's', seed 0 and outcome 'log_"):
        run_stage(effects, "plot")

    table.drop("se").write_parquet(effects / "att.parquet")
    with pytest.raises(TableError, match="'se' is missing"):
        run_stage(effects, "plot")


def test_effects_made_here_are_not_taken_for_imported_when_the_scores_are_gone(folder):
    run_stage(folder, "att")
    for path in (folder / "scores").iterdir():
        path.unlink()

    assert stage_states(folder)["att"] == "out of date"
