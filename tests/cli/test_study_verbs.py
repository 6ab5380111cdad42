"""A study through its verbs, from settings to report, on a tiny suite in a folder."""

import hashlib
import json
import re
import shutil
from pathlib import Path

import polars as pl
import pytest

from pythia_profile.cli import app
from pythia_profile.cli.app import run
from pythia_profile.tables import AGREEMENT, ATT, CHECKS, PLACEBO, PROFILES, ROWS, conform
from tests.cli.test_study_words import VERBS, begin

pytestmark = pytest.mark.slow

TABLES = {
    "rows.parquet": ROWS,
    "att.parquet": ATT,
    "placebo.parquet": PLACEBO,
    "profiles.parquet": PROFILES,
    "agreement.parquet": AGREEMENT,
    **{f"{table.name}.parquet": table for table in CHECKS},
}


def hashes(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*.parquet"))
        if not any(part.startswith(".") for part in path.relative_to(folder).parts)
    }


@pytest.fixture(scope="module")
def study(tiny_suite, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("study") / "study"
    assert begin(folder, tiny_suite.root) == 0
    for verb in VERBS:
        assert run(app, [verb, str(folder)]) == 0
    return folder


def test_each_verb_leaves_its_table_and_the_report_holds_everything(study):
    for name, table in TABLES.items():
        conform(pl.read_parquet(study / name), table)
    scores = pl.read_parquet(study / "scores/**/scores.parquet")
    assert len(scores) == 2 * 5 * len(pl.read_parquet(study / "rows.parquet"))
    assert {path.stem for path in (study / "figures").glob("*.svg")} == {
        "heatmap",
        "difference",
        "event_time",
        "event_time_all",
        "instantaneous",
        "residual",
        "agreement",
    }
    assert (study / "report.html").stat().st_size > 50_000


def test_run_finds_everything_up_to_date(study, capsys):
    assert run(app, ["run", str(study)]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert [line.split(": ")[1] for line in lines[: len(VERBS)]] == ["up to date"] * len(VERBS)
    means = pl.read_parquet(study / "profiles.parquet").filter(
        pl.col("cohort").is_null(), pl.col("event_time").is_null()
    )
    head, *table = lines[len(VERBS) + 1 : -2]
    assert re.split("  +", head) == [
        "size", "at once", "later", "at the end", "kept", "p before reading", "unit",
    ]  # fmt: skip
    assert [line.split()[0] for line in table] == ["xs", "s"]
    for line, size in zip(table, ("xs", "s"), strict=True):
        for kind in ("instantaneous", "persistent", "residual"):
            att = means.filter(size=size, kind=kind)["att"].item()
            assert f"{att:.3f}" in line or f"{att:.4f}" in line
    assert lines[-1] == (study / "report.html").resolve().as_uri()


def test_a_changed_setting_runs_the_stages_it_concerns(study, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(study, copy)
    file = copy / "study.toml"
    file.write_text(file.read_text().replace("draws = 50", "draws = 60"))

    assert run(app, ["status", str(copy), "--json"]) == 0

    states = json.loads(capsys.readouterr().out)
    drawn = "estimate.draws 50 → 60"  # the settings that a stage keeps, against the file's
    assert states.pop("why") == {
        **dict.fromkeys(VERBS[VERBS.index("att") : VERBS.index("plot")], drawn),
        "plot": "att is to be run, profile is to be run, findings is to be run",
        "report": drawn,
    }
    assert states.pop("next") == f"pythia-profile run {copy}"
    assert states == {
        "sample": "up to date",
        "covariates": "up to date",
        "score": "up to date",
        "att": "out of date",
        "precision": "out of date",
        "profile": "out of date",
        "estimands": "out of date",
        "check": "out of date",
        "findings": "out of date",
        "plot": "out of date",
        "report": "out of date",
    }


def test_a_dry_run_says_what_would_run_and_why_and_runs_nothing(study, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(study, copy)
    file = copy / "study.toml"
    file.write_text(file.read_text().replace("draws = 50", "draws = 60"))
    before = (copy / "att.parquet").read_bytes()

    assert run(app, ["run", str(copy), "--dry-run"]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert lines[:4:3] == [
        f"{'sample':<15} up to date",
        f"{'att':<15} out of date: estimate.draws 50 → 60",
    ]
    assert lines[-1] == f"next: pythia-profile run {copy}"
    assert (copy / "att.parquet").read_bytes() == before


def test_two_studies_with_one_seed_have_the_same_bytes(study, tiny_suite, tmp_path):
    again = tmp_path / "again"
    assert begin(again, tiny_suite.root) == 0
    assert run(app, ["run", str(again), "--workers", "1"]) == 0

    assert hashes(again) == hashes(study)


def test_another_seed_draws_other_rows(study, tiny_suite, tmp_path):
    assert begin(tmp_path / "other", tiny_suite.root, "sample.seed=1") == 0
    assert run(app, ["sample", str(tmp_path / "other")]) == 0

    rows = pl.read_parquet(tmp_path / "other/rows.parquet")["row_id"]
    assert not rows.equals(pl.read_parquet(study / "rows.parquet")["row_id"])


def test_a_study_moved_elsewhere_needs_its_checkpoints_no_more(study, tmp_path):
    moved = tmp_path / "moved"
    shutil.copytree(study, moved)
    file = moved / "study.toml"
    lines = file.read_text().splitlines()
    gone = [f'suite = "{tmp_path}/gone"' if x.startswith("suite") else x for x in lines]
    file.write_text("\n".join(gone))

    for verb in ("att", "profile", "check", "plot", "report"):
        assert run(app, [verb, str(moved)]) == 0
    assert hashes(moved) == hashes(study)


@pytest.mark.parametrize(
    ("verb", "message"),
    [
        ("score", "no rows.parquet in"),
        ("att", "no rows.parquet in"),
        ("profile", "no rows.parquet in"),
        ("check", "no rows.parquet in"),
        ("plot", "no att.parquet in"),
        ("report", "no att.parquet in"),
    ],
)
def test_a_stage_without_its_input_names_the_verb_to_run_first(
    tiny_suite, tmp_path, capsys, verb, message
):
    begin(tmp_path / "new", tiny_suite.root)

    assert run(app, [verb, str(tmp_path / "new")]) == 2

    error = capsys.readouterr().err
    assert error.startswith(f"error: {message}")
    assert "first" in error
    assert error.count("\n") == 1


def test_quarantined_checkpoints_are_reported_and_the_others_are_estimated(
    tiny_suite, tmp_path, capsys
):
    models = tmp_path / "models"
    shutil.copytree(tiny_suite.root, models)
    weights = models / "s/step48/model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-64])
    begin(tmp_path / "study", models)
    run(app, ["sample", str(tmp_path / "study")])
    capsys.readouterr()

    assert run(app, ["score", str(tmp_path / "study")]) == 3

    error = capsys.readouterr().err
    assert "1 of 10 checkpoints could not be scored (1 quarantined): s step 48" in error
    assert "damaged or truncated" in error
    for verb in ("att", "profile", "plot", "report"):
        assert run(app, [verb, str(tmp_path / "study")]) == 0
    att = pl.read_parquet(tmp_path / "study/att.parquet")
    assert att.filter(pl.col("size") == "s")["checkpoint"].unique().sort().to_list() == [
        0,
        16,
        32,
        64,
    ]


def test_rows_of_ones_own_are_kept_and_said_to_be(study, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(study, copy)
    rows = pl.read_parquet(copy / "rows.parquet")
    own = rows.filter(pl.col("row_id") != rows["row_id"].item(0))
    own.write_parquet(copy / "rows.parquet")

    assert run(app, ["run", str(copy)]) == 0

    assert "rows.parquet was not drawn here and is kept" in capsys.readouterr().out
    assert pl.read_parquet(copy / "rows.parquet").equals(own)
    scored = pl.read_parquet(next((copy / "scores").rglob("scores.parquet")))
    assert sorted(scored["row_id"]) == sorted(own["row_id"])


def test_an_estimate_says_which_checkpoints_it_lacks(study, tmp_path, caplog):
    copy = tmp_path / "copy"
    shutil.copytree(study, copy)
    lost = next((copy / "scores").rglob("step32/done.json")).parent
    shutil.rmtree(lost)

    assert run(app, ["att", str(copy)]) == 0

    assert re.search(r"1 of \d+ checkpoints are missing or not scored yet \(32\)", caplog.text)


def test_a_report_from_older_tables_warns_and_is_made_again(study, tmp_path, caplog, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(study, copy)
    file = copy / "study.toml"
    settings = file.read_text()
    file.write_text(settings.replace("draws = 50", "draws = 60"))

    assert run(app, ["report", str(copy)]) == 0

    assert (
        "report is made from att, precision, profile, estimands, check, findings, plot, older than"
        in caplog.text
    )
    assert "older than the settings" in (copy / "report.html").read_text()
    file.write_text(settings)
    capsys.readouterr()
    assert run(app, ["run", str(copy)]) == 0
    assert "att: up to date" in capsys.readouterr().out
    assert "older than the settings" not in (copy / "report.html").read_text()


def test_set_changes_a_setting_and_names_the_stages_that_run_again(study, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(study, copy)

    assert run(app, ["set", str(copy), "draws=60"]) == 0

    lines = capsys.readouterr().out.splitlines()
    assert lines[0].endswith("study.toml: estimate.draws is 50 before, 60 now")
    assert lines[1] == "out of date: {}".format(", ".join(VERBS[VERBS.index("att") :]))
    assert lines[2] == f"next: pythia-profile run {copy}"
    toml = (copy / "study.toml").read_text()
    assert toml.replace("draws = 60", "draws = 50") == (study / "study.toml").read_text()


@pytest.mark.parametrize("arguments", [["set", "draws=60"], ["set", ".", "draws=60"]])
def test_without_a_folder_the_study_is_this_one(study, tmp_path, monkeypatch, arguments):
    shutil.copytree(study, tmp_path / "copy")
    monkeypatch.chdir(tmp_path / "copy")

    assert run(app, arguments) == 0
    assert run(app, ["status"]) == 0
    assert "draws = 60" in Path("study.toml").read_text()


@pytest.mark.parametrize(
    ("pairs", "message"),
    [
        (["drawz=3"], "unknown setting 'drawz'"),
        (["draws"], "expected NAME=VALUE"),
        ([], "name a setting and its value"),
    ],
)
def test_a_wrong_change_leaves_the_file_as_it_was(study, tmp_path, capsys, pairs, message):
    copy = tmp_path / "copy"
    shutil.copytree(study, copy)

    assert run(app, ["set", str(copy), *pairs]) == 2

    assert message in capsys.readouterr().err
    assert (copy / "study.toml").read_bytes() == (study / "study.toml").read_bytes()


def test_a_study_compared_with_itself_differs_in_nothing(study, capsys):
    assert run(app, ["compare", str(study), str(study), "--json"]) == 0

    found = json.loads(capsys.readouterr().out)
    assert found["settings"] == []
    there = {path.stem for path in study.glob("*.parquet")} | {"scores"}
    assert [line["table"] for line in found["tables"]][:3] == ["rows", "covariates", "scores"]
    assert {line["table"] for line in found["tables"]} == there
    assert found["notes"] == []
    assert all(line["a"] == line["b"] == line["shared"] for line in found["tables"])
    assert not any(line["differ"] or line["largest"] for line in found["tables"])
    assert all(line["difference"] == 0 for line in found["effects"])


def test_compare_finds_a_planted_difference(study, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(study, copy)
    run(app, ["set", str(copy), "draws=60"])
    att = pl.read_parquet(copy / "att.parquet")
    shift = pl.Series([0.0, 0.0, 0.0, 0.5] + [0.0] * (len(att) - 4))
    att.with_columns(pl.col("att") + shift).head(-1).write_parquet(copy / "att.parquet")
    capsys.readouterr()

    assert run(app, ["compare", str(study), str(copy), "--json"]) == 0

    found = json.loads(capsys.readouterr().out)
    assert found["settings"] == [{"setting": "estimate.draws", "a": "50", "b": "60"}]
    (note,) = found["notes"]  # the copy's effects are of the draws before
    assert note.startswith(f"out of date in '{copy}': att, placebo, precision, profiles, ")
    assert f"pythia-profile run {copy}" in note
    line = next(line for line in found["tables"] if line["table"] == "att")
    assert (line["a"], line["b"], line["differ"]) == (len(att), len(att) - 1, 1)
    assert line["largest"] == pytest.approx(0.5, abs=1e-12)  # one addition in float64


def test_compare_finds_a_score_that_differs(study, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(study, copy)
    unit = next((copy / "scores").rglob("xs/seed0/step32/scores.parquet"))
    table = pl.read_parquet(unit)
    table[4, "log_likelihood"] = table[4, "log_likelihood"] - 0.25
    table.write_parquet(unit)
    record = unit.with_name("done.json")
    known = json.loads(record.read_text())
    known["sha256"] = hashlib.sha256(unit.read_bytes()).hexdigest()
    record.write_text(json.dumps(known))
    capsys.readouterr()

    assert run(app, ["compare", str(study), str(copy), "--json"]) == 0

    line = next(x for x in json.loads(capsys.readouterr().out)["tables"] if x["table"] == "scores")
    assert (line["differ"], line["largest"]) == (1, 0.25)


def test_every_verb_that_prints_facts_prints_them_as_json(study, tmp_path, capsys):
    copy = tmp_path / "copy"
    shutil.copytree(study, copy)
    for words in (["run"], ["run", "--dry-run"], ["plot"], ["att"], ["plan"], ["profile"]):
        assert run(app, [words[0], str(copy), *words[1:], "--json"]) == 0
        assert json.loads(capsys.readouterr().out), words


def test_init_over_another_study_says_how_to_change_it_and_not_to_delete(study, capsys):
    words = ["init", str(study), "--suite", "mini", "--sizes", "xs"]
    assert run(app, words) == 2
    error = capsys.readouterr().err
    assert "pythia-profile set" in error
    assert "delete" not in error


def test_estimands_of_tokens_and_along_a_column_from_the_command_line(tiny_suite, tmp_path, capsys):
    folder = tmp_path / "tokens"
    few = ("rows_per_cohort=12", "batches_per_cohort=0", "never_treated=24", "token_table=true")
    begin(folder, tiny_suite.root, "training_seed=0", *few)
    for verb in ("sample", "covariates", "score"):
        assert run(app, [verb, str(folder)]) == 0
    words = ["--tokens", "position", "--classes", "2", "--slope", "features.bigram", "--draws", "0"]

    assert run(app, ["estimands", str(folder), *words]) == 0

    table = pl.read_parquet(folder / "estimands.parquet")
    assert {"tokens 1-8", "tokens 9-16"} <= set(table["stratum"].drop_nulls())
    assert len(table.filter(pl.col("estimand") == "slope of overall")) == 2
    # both halves of a row have as many tokens, so their mean is the row's effect
    halves = table.filter(
        pl.col("estimand") == "overall", pl.col("stratum").is_in(["tokens 1-8", "tokens 9-16"])
    )
    whole = table.filter(pl.col("estimand") == "overall", pl.col("stratum").is_null())
    means = halves.group_by("size", maintain_order=True).agg(pl.col("att").mean())
    # surprisals of tokens are kept in half precision: .004 of one, .001 of a mean of changes
    for size, mean in means.iter_rows():
        assert mean == pytest.approx(whole.filter(size=size)["att"].item(), abs=2e-3)
    capsys.readouterr()
    assert run(app, ["estimands", str(folder), "--tokens", "place"]) == 2
    assert "--tokens: got 'place', expected position or frequency" in capsys.readouterr().err
