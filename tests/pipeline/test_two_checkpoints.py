"""A study of two checkpoints: from two folders and two files of text to a report."""

import json

import polars as pl
import pytest
from tokenizers import Tokenizer

import pythia_profile as pp
from data_order.store.megatron import MegatronStore
from pythia_profile.cli import app
from pythia_profile.cli.app import run
from pythia_profile.errors import NotFoundError, StudyError

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def given(tiny_suite, tmp_path_factory):
    """Folders of the models before and after, text that was read, and text that was not."""
    folder = tmp_path_factory.mktemp("fine-tune")
    tokenizer = Tokenizer.from_file(str(tiny_suite.root / tiny_suite.tokenizer))
    store = MegatronStore(tiny_suite.root / tiny_suite.store)
    for name, rows in (("read", range(300)), ("held-out", range(512, 608))):
        texts = [tokenizer.decode(store[row].tolist()) for row in rows]
        lines = [json.dumps({"text": text}) for text in texts]
        (folder / f"{name}.jsonl").write_text("\n".join(lines))
    models = tiny_suite.root / "xs"
    return {
        "models": (models / "step0", models / "step64"),
        "texts": {"read": folder / "read.jsonl", "held_out": folder / "held-out.jsonl"},
        "tokenizer": tiny_suite.root / tiny_suite.tokenizer,
    }


@pytest.fixture(scope="module")
def study(given, tmp_path_factory):
    folder = tmp_path_factory.mktemp("two") / "study"
    words = ["--models", *map(str, given["models"]), "--tokenizer", str(given["tokenizer"])]
    words += ["--read", str(given["texts"]["read"]), "--held-out", str(given["texts"]["held_out"])]
    words += ["--row-tokens", "17", "--set", "draws=50"]
    assert run(app, ["init", str(folder), *words]) == 0
    assert run(app, ["run", str(folder), "--workers", "1"]) == 0
    return folder


def test_a_fine_tune_goes_from_files_to_a_report(study):
    page = (study / "report.html").read_text(encoding="utf-8")

    assert "There is no persistent effect: no cell of that kind." in page
    assert "all rows that were read are one cohort" in page
    att = pl.read_parquet(study / "att.parquet").filter(pl.col("checkpoint") == 1)
    assert att["cohort"].to_list() == [1]


def test_its_effect_is_that_of_two_groups_and_two_checkpoints(study):
    rows = pl.read_parquet(study / "rows.parquet").select("row_id", "treatment_step")
    scores = pl.read_parquet(study / "scores/**/scores.parquet").join(rows, on="row_id")
    wide = scores.pivot("checkpoint", index=["row_id", "treatment_step"], values="log_likelihood")
    change = wide.select("treatment_step", change=pl.col("1") - pl.col("0"))
    treated = pl.col("treatment_step").is_not_null()
    effect = change.filter(treated)["change"].mean() - change.filter(~treated)["change"].mean()

    profiles = pl.read_parquet(study / "profiles.parquet")
    mean = profiles.filter(pl.col("cohort").is_null(), pl.col("event_time").is_null())
    found = dict(mean.select("kind", "att").iter_rows())
    assert found["instantaneous"] == pytest.approx(effect, abs=1e-12)
    assert found["residual"] == pytest.approx(effect, abs=1e-12)
    assert found["persistent"] is None
    assert profiles["learning_rate"].null_count() == len(profiles)


def test_the_same_as_a_function(given, study, tmp_path):
    made = pp.two_checkpoints(
        tmp_path / "again", *given["models"], **given["texts"], tokenizer=given["tokenizer"],
        row_tokens=17, settings={"draws": 50},
    )  # fmt: skip

    assert made == pp.open_study(study)
    assert (tmp_path / "again/suite/rows.bin").read_bytes() == (
        study / "suite/rows.bin"
    ).read_bytes()


def test_what_cannot_be_compared_is_named(given, tmp_path, tiny_suite):
    before, after = given["models"]
    named = {"tokenizer": given["tokenizer"], "row_tokens": 17}
    both = {"read": given["texts"]["read"], "held_out": given["texts"]["read"]}

    with pytest.raises(StudyError, match="before and after are one folder"):
        pp.two_checkpoints(tmp_path / "a", before, before, **given["texts"], **named)
    with pytest.raises(StudyError, match="different models: "):
        pp.two_checkpoints(
            tmp_path / "a", before, tiny_suite.root / "s/step64", **given["texts"], **named
        )
    with pytest.raises(StudyError, match="held-out rows are among the rows that were read"):
        pp.two_checkpoints(tmp_path / "a", before, after, **both, **named)
    with pytest.raises(NotFoundError, match=r"no config.json in"):
        pp.two_checkpoints(tmp_path / "a", tmp_path, after, **given["texts"], **named)
    with pytest.raises(NotFoundError, match=r"no tokenizer.json in"):
        pp.two_checkpoints(tmp_path / "a", before, after, **given["texts"], row_tokens=17)
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ([], "give one of --suite and --models"),
        (["--suite", "mini", "--models", "a", "b"], "give one of --suite and --models"),
        (["--models", "a", "b"], "--models needs --read and --held-out"),
    ],
)
def test_init_needs_a_suite_or_models(tmp_path, capsys, words, message):
    assert run(app, ["init", str(tmp_path / "new"), *words]) == 2

    assert message in capsys.readouterr().err
