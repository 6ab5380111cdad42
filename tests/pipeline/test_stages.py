"""Stages of a study: estimated once, known by records, scores read only for their numbers."""

import json
import shutil
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from typer.testing import CliRunner

import pythia_profile as pp
from pythia_profile.cli import app
from pythia_profile.cli.app import run
from pythia_profile.did import estimation
from pythia_profile.did.settings import Estimation
from pythia_profile.mini.settings import Audit
from pythia_profile.pipeline import fingerprints
from pythia_profile.pipeline.fingerprints import Fingerprints
from pythia_profile.pipeline.kept import load_estimate, save_estimate, study_estimates
from pythia_profile.pipeline.reasons import differences
from pythia_profile.pipeline.running import run_all, run_stage
from pythia_profile.pipeline.stages import (
    STAGES,
    explain_stages,
    facts_now,
    inputs_of,
    key_of,
    stage_states,
)
from pythia_profile.profiles.estimates import estimate
from pythia_profile.study import Sampling, Study, create_study, open_study
from pythia_profile.tables import FOUND

pytestmark = pytest.mark.slow

OUTCOMES = ("log_likelihood", "accuracy")


def counted(patch, module, name, calls):
    """Note the first argument of every call of a function."""
    real = getattr(module, name)

    def call(first, *others, **settings):
        calls.append(first)
        return real(first, *others, **settings)

    patch.setattr(module, name, call)


@pytest.fixture(scope="module")
def calls():
    return []


@pytest.fixture(scope="module")
def made(tiny_suite, tmp_path_factory, calls):
    """A finished study; how often it estimated is in `calls`."""
    folder = tmp_path_factory.mktemp("studies") / "study"
    study = Study(
        suite=str(tiny_suite.root),
        sizes=("xs", "s"),
        outcomes=OUTCOMES,
        sample=Sampling(rows_per_cohort=24, batches_per_cohort=0, never_treated=96),
        estimate=Estimation(draws=50),
        audit=Audit(size="xs", cohorts=1),
    )
    create_study(folder, study)
    with pytest.MonkeyPatch.context() as patch:
        counted(patch, estimation, "effects_of_rows", calls)
        run_all(folder, 1)
    return folder


@pytest.fixture
def study(made, tmp_path):
    """A copy that a test may change."""
    return Path(shutil.copytree(made, tmp_path / "study"))


def test_each_run_and_outcome_is_estimated_once(made, calls):
    # as the study says and, beside it, at equal features; by the rows' own steps, and by the plain
    # difference; findings, on two halves of the rows; and the retraining, another panel
    assert len(calls) == 3 * 2 * 2 * len(OUTCOMES) + 1
    assert set(stage_states(made).values()) == {"up to date"}


def test_findings_of_a_study_are_its_tables_and_what_these_say(study):
    found = pp.open_study(study).findings
    shown = CliRunner().invoke(app, ["findings", str(study), "--json"])

    assert {*found.tables} == {table.name for table in FOUND}
    assert json.loads(shown.stdout)["sentences"] == found.sentences
    assert any(sentence.startswith("xs") for sentence in found.sentences)


def test_stages_one_after_the_other_estimate_nothing_again(study, monkeypatch):
    monkeypatch.setattr(estimation, "effects_of_rows", None)
    before = {p.name: pl.read_parquet(p) for p in study.glob("*.parquet")}

    for stage in ("att", "profile", "check", "plot", "report"):
        run_stage(study, stage)

    for name, table in before.items():
        assert table.equals(pl.read_parquet(study / name)), name


def test_other_draws_make_other_bands_of_the_same_estimates(study, monkeypatch):
    create_study(study, open_study(study).replace(estimate=Estimation(draws=60)), replace=True)
    monkeypatch.setattr(estimation, "effects_of_rows", None)
    before = pl.read_parquet(study / "att.parquet")

    run_stage(study, "att")

    after = pl.read_parquet(study / "att.parquet")
    assert after["att"].equals(before["att"])
    assert not after["upper"].equals(before["upper"])


def test_another_estimator_is_estimated_and_the_old_estimates_go(study):
    names = {p.name for p in (study / "estimates").iterdir()}
    other = Estimation(draws=50, estimator="diff")
    create_study(study, open_study(study).replace(estimate=other), replace=True)

    run_stage(study, "att")

    assert len(names) == len(list((study / "estimates").iterdir())) == 4
    assert not names & {p.name for p in (study / "estimates").iterdir()}


def test_status_plot_and_report_of_a_finished_study_read_no_score(study, monkeypatch):
    stage_states(study)  # a copied folder is looked at once
    read = []
    counted(monkeypatch, fingerprints, "file_sha256", read)
    counted(monkeypatch, pl, "read_parquet", read)

    states = stage_states(study)
    run_stage(study, "plot")
    run_stage(study, "report")

    assert set(states.values()) == {"up to date"}
    assert [p for p in read if Path(p).name == "scores.parquet"] == []


def test_finished_scores_are_known_by_their_records_alone(made, monkeypatch):
    (made / ".hashes.json").unlink()
    read = []
    counted(monkeypatch, fingerprints, "file_sha256", read)

    assert set(stage_states(made).values()) == {"up to date"}
    assert "scores.parquet" not in [Path(p).name for p in read]


def test_a_changed_score_or_table_is_noticed(study):
    stage_states(study)
    scores = next((study / "scores").rglob("scores.parquet"))
    scores.write_bytes(scores.read_bytes() + b"x")
    assert stage_states(study)["score"] == "out of date"

    shutil.copy(study / "att.parquet", study / "rows.parquet")
    assert stage_states(study)["sample"] == "not drawn here, kept"


def test_a_kept_estimate_is_the_one_that_was_made(planted, tmp_path):
    rows, scores = planted(lambda *_: 0.3)
    for settings in (Estimation(), Estimation(estimator="ancova", clusters="row")):
        one = estimate(rows, scores, settings).runs[0]

        save_estimate(one, tmp_path / "one.npz")
        found = load_estimate(tmp_path / "one.npz")

        for name in ("att", "se", "cohorts", "checkpoints", "n_treated", "n_control", "df"):
            np.testing.assert_array_equal(getattr(found.att, name), getattr(one.att, name))
        assert (found.att.notes, found.panel.notes) == (one.att.notes, one.panel.notes)
        assert found.names == one.names
        assert found.panel.covariates.equals(one.panel.covariates)
        assert found.att.settings == one.att.settings


def test_a_damaged_kept_estimate_is_made_again(study):
    for path in (study / "estimates").iterdir():
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
    before = pl.read_parquet(study / "att.parquet")

    assert load_estimate(path) is None
    found = study_estimates(study, open_study(study))

    assert found.att.equals(before)
    assert load_estimate(path) is not None


@pytest.mark.parametrize("content", [b"", b"x" * 20, b"\0" * 100])
def test_what_is_no_estimate_is_passed_over(tmp_path, content):
    (tmp_path / "one.npz").write_bytes(content)

    assert load_estimate(tmp_path / "one.npz") is None
    assert load_estimate(tmp_path / "none.npz") is None


def why(folder):
    return {name: found.why for name, found in explain_stages(folder).items() if found.to_do}


def test_what_made_a_stage_out_of_date_is_named(study):
    create_study(study, open_study(study).replace(checkpoints=(0, 16, 32, 48)), replace=True)
    found = why(study)
    assert found["sample"] == "checkpoints [] → [0, 16, 32, 48]"
    assert found["plot"].startswith("att is to be run, profile is to be run")

    (study / "att.parquet").unlink()
    rows = pl.read_parquet(study / "rows.parquet")
    rows.head(100).write_parquet(study / "rows.parquet")
    found = why(study)
    assert found["score"] == "checkpoints [] → [0, 16, 32, 48], rows.parquet changed"
    assert found["att"].endswith("rows.parquet changed, att.parquet is missing")


def test_a_record_without_settings_only_says_that_something_changed(study):
    lock = json.loads((study / "lock.json").read_text())
    for record in lock["stages"].values():
        for name in ("settings", "inputs", "version"):
            del record[name]
    (study / "lock.json").write_text(json.dumps(lock))
    assert why(study) == {}

    create_study(study, open_study(study).replace(estimate=Estimation(draws=60)), replace=True)
    assert why(study)["att"] == "settings or inputs changed"


def test_a_new_study_has_not_run(tmp_path):
    create_study(tmp_path, Study(suite="mini", sizes=("xs",)))

    assert {found.state for found in explain_stages(tmp_path).values()} == {"not run"}


@pytest.fixture
def texts(tmp_path):
    """A study beside the files that its settings name."""
    (tmp_path / "suite").mkdir()
    (tmp_path / "suite" / "suite.toml").write_text("batch_size = 1")
    for name in ("held.bin", "held.idx", "pile.idx", "scores.parquet"):
        (tmp_path / name).write_text(name)
    folder = tmp_path / "study"
    sample = Sampling(held_out="../held", documents=str(tmp_path / "pile.idx"))
    create_study(
        folder,
        Study(suite="../suite", sizes=("s",), sample=sample, reference="../scores.parquet"),
    )
    return folder


NAMED = {
    "held.bin": ["sample"],
    "held.idx": ["sample"],
    "pile.idx": ["sample"],
    "scores.parquet": ["covariates"],
    "suite/suite.toml": ["sample", "covariates", "score", "profile", "findings"],
}


@pytest.mark.parametrize("name", NAMED)
def test_a_file_that_a_setting_names_is_an_input_by_its_content(texts, name):
    study, files = open_study(texts), Fingerprints(texts)
    before = {stage.name: facts_now(files, study, stage) for stage in STAGES}

    (texts.parent / name).write_text("other")

    now = {stage.name: facts_now(Fingerprints(texts), study, stage) for stage in STAGES}
    changed = [name for name in now if key_of(now[name]) != key_of(before[name])]
    assert changed == NAMED[name]
    said = differences(before[changed[0]], now[changed[0]])
    assert [words.endswith(f"{name} changed") for words in said] == [True]


def test_a_study_that_moved_without_its_sources_stays_current(texts):
    (sample,) = [stage for stage in STAGES if stage.name == "sample"]
    study = open_study(texts)
    record = facts_now(Fingerprints(texts), study, sample)

    shutil.rmtree(texts.parent / "suite")
    (texts.parent / "pile.idx").unlink()

    assert key_of(facts_now(Fingerprints(texts), study, sample, record)) == key_of(record)


def test_covariates_that_no_effect_uses_make_no_effect_out_of_date(study):
    table = pl.read_parquet(study / "covariates.parquet")
    table.with_columns(pl.lit(1.0).alias("features.new")).write_parquet(
        study / "covariates.parquet"
    )
    # balance and precision are about all covariates that there are
    assert set(why(study)) == {"covariates", "precision", "check", "report"}

    used = Estimation(draws=50, covariates=("features.unigram",))
    create_study(study, open_study(study).replace(estimate=used), replace=True)
    (att,) = [stage for stage in STAGES if stage.name == "att"]
    assert "covariates.parquet" in inputs_of(study, open_study(study), att)


def test_files_that_only_an_earlier_version_read_are_named(tmp_path, capsys):
    create_study(tmp_path, Study(suite="mini", sizes=("xs",)))
    (tmp_path / "gaps.parquet").write_text("")
    (tmp_path / "twins").mkdir()

    assert run(app, ["status", str(tmp_path)]) == 0

    assert "read by nothing, to be deleted: gaps.parquet, twins" in capsys.readouterr().out
