"""A study folder entered with somebody else's rows and scores."""

import polars as pl
import pytest

from pythia_profile.errors import MissingTableError, TableError
from pythia_profile.pipeline.stages import STAGES, is_current, run_stage, stage_states
from pythia_profile.study import Estimation, Study, create_study, open_study, read_lock


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
