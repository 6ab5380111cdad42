"""A grid of adapters from the command line: its tables, budgets, page, and what they show."""

import json
import tomllib

import numpy as np
import polars as pl
import pytest

from pythia_profile.checkpoints.load import CheckpointLoader
from pythia_profile.cli import app
from pythia_profile.cli.app import run
from pythia_profile.execute.worker import Worker
from pythia_profile.labs.law.law_adapter import load_adapter
from pythia_profile.labs.law.law_base import opened_base
from pythia_profile.labs.law.law_data import answers_of
from pythia_profile.labs.law.law_pass import forced
from pythia_profile.labs.law.law_settings import LawSettings
from pythia_profile.labs.law.law_summary import compared, not_monotone, summary
from pythia_profile.labs.law.law_train import train_unit
from pythia_profile.labs.law.law_unit import LawUnit
from pythia_profile.training import units

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def out(tiny_suite, tmp_path_factory):
    """Thirty adapters from the command line, with two workers."""
    folder = tmp_path_factory.mktemp("law") / "out"
    words = ["lab", "law", "train", "--suite", str(tiny_suite.root), "--size", "s"]
    words += ["--data", "documents", "--ranks", "1,4,16", "--answer-tokens", "20,80"]
    words += ["--methods", "sft,ot,sw,sw_phone_book", "--set", "updates=120"]
    words += ["--set", "evaluations=4", "--out", str(folder)]
    assert run(app, [*words, "--set", "document_tokens=5", "--workers", "2", "--quiet"]) == 0
    return folder


@pytest.fixture(scope="module")
def runs(out):
    return pl.read_parquet(out / "runs.parquet")


@pytest.fixture(scope="module")
def tokens(out):
    return pl.read_parquet(out / "tokens.parquet")


def test_both_budgets_are_kept(runs):
    plain = runs.filter(pl.col("method") == "sft").select(
        "budget", "rank", "tokens_asked", "tokens_read", "made"
    )
    paired = runs.join(plain, on=["budget", "rank", "tokens_asked"], suffix="_plain")
    equal = {name: paired.filter(pl.col("budget") == name) for name in ("updates", "tokens")}

    assert (equal["updates"]["made"] == equal["updates"]["made_plain"]).all()
    # a whole number of updates in five stages, each of a whole number of answers
    assert (
        (equal["tokens"]["tokens_read"] / equal["tokens"]["tokens_read_plain"] - 1).abs() < 0.02
    ).all()
    curriculum = equal["tokens"].filter(pl.col("method") == "sw_phone_book")
    assert (curriculum["made"] > 1.4 * curriculum["made_plain"]).all()


def test_gains_rise_with_rank_and_fall_with_length(runs):
    gains = (
        runs.filter((pl.col("method") == "sft") & (pl.col("budget") == "updates"))
        .sort("rank", "tokens_asked")["gain"]
        .to_numpy()
        .reshape(3, 2)
    )

    assert (np.diff(gains, axis=0) > 0).all()
    assert (gains[:, 0] > gains[:, 1]).all()


def test_nothing_above_one_half_fails_and_writing_follows_teacher_forcing(runs, tokens):
    own = runs.unique("adapter")
    above = tokens.filter(pl.col("p") > 0.5)

    assert (own["checked"] >= own["tokens_read"]).all()
    assert own["violations"].sum() == 0
    assert own["base_unchanged"].all()
    assert own["above"].sum() > len(above) > 10
    assert above["greedy"].all()
    assert ((tokens["margin"] > 0) == tokens["greedy"]).all()
    assert own["failed_before_below"].sum() == 0
    assert own["written_unlike_forced"].sum() == 0
    np.testing.assert_allclose(own["exact"], own["forced_exact"])
    assert own["exact"].max() > 0
    np.testing.assert_allclose(tokens["p"].log(), -tokens["loss"], atol=1e-4)  # float32


def test_the_tables_hold_what_a_fresh_model_with_the_adapter_says(out, runs, tokens, tiny_suite):
    """Loaded again from peft's files into weights of their own."""
    line = runs.filter(method="sft", rank=16).row(0, named=True)
    settings = LawSettings(**tomllib.loads((out / "law.toml").read_text()))
    with opened_base(settings) as base:
        answers = answers_of(settings, base, 0)[line["tokens_asked"]]
        fresh = CheckpointLoader().load(base.folder)
    folder = out / "adapters" / line["adapter"] / "adapter"
    assert {path.name for path in folder.iterdir()} >= {
        "adapter_config.json",
        "adapter_model.safetensors",
    }
    found = forced(load_adapter(fresh, folder), answers)
    lines = tokens.filter(adapter=line["adapter"], step=line["made"])

    np.testing.assert_array_equal(found.loss[answers.scored], lines["loss"])
    np.testing.assert_array_equal(found.margin[answers.scored], lines["margin"])


def test_a_run_in_this_process_gives_the_numbers_of_the_workers(out, runs, tmp_path):
    settings = LawSettings(**tomllib.loads((out / "law.toml").read_text()))
    with opened_base(settings) as base:
        answers = answers_of(settings, base, 0)[20]
        unit = LawUnit(tmp_path, settings, base, answers, 4, 20, "sw", settings.updates, 0)
        unit.folder.mkdir()
        train_unit(unit, Worker("cpu", 1, lambda _: None))
    again = json.loads((unit.folder / "result.json").read_text())
    line = runs.filter(adapter=unit.folder.name).row(0, named=True)

    assert again == {name: line[name] for name in again}  # bit for bit


def test_what_cannot_be_compared_is_said(runs, tokens):
    alone = summary(runs.filter(method="ot"), tokens)

    assert alone.fit is None
    assert "nothing to compare" in alone.sentences["methods"]
    assert alone.facts["adapters"] == 6
    assert not alone.facts["not_monotone"]
    assert "would have an order" in alone.sentences["monotone"]


def test_methods_are_compared_cell_by_cell_where_plain_training_is_at_the_boundary():
    """Two cells by hand: one at the boundary, one known by heart."""
    lines = [("sft", 4, 0.8, 1.0), ("ot", 4, 0.9, 1.2), ("sft", 8, 1.0, 0.1), ("ot", 8, 0.5, 2.0)]
    frame = pl.DataFrame(
        [
            {"method": method, "rank": rank, "accuracy": accuracy, "loss": loss, "budget": "tokens"}
            for method, rank, accuracy, loss in lines
        ]
    ).with_columns(
        *(pl.lit(1).alias(name) for name in ("tokens_asked", "seed", "made", "tokens_read")),
        *(pl.lit(0.5).alias(name) for name in ("written_accuracy", "exact")),
    )
    found = compared(frame).filter(method="ot").row(0, named=True)

    assert (found["cells"], found["decoupled"]) == (1, 1)
    assert found["accuracy_gain"] == found["least_gain"] == pytest.approx(0.1)


def test_cells_out_of_order_are_named():
    gains = {(1, 10): 3.0, (2, 10): 2.0, (1, 20): 1.0, (2, 20): 2.5}
    frame = pl.DataFrame(
        [
            {"method": "sft", "rank": rank, "tokens_asked": length, "gain": gain}
            for (rank, length), gain in gains.items()
        ]
    )

    assert not_monotone(frame) == ["rank 1 to 2 at 10 tokens", "10 to 20 tokens at rank 2"]


def test_the_same_command_reads_what_is_there(out, runs, monkeypatch, capsys):
    monkeypatch.setattr(units, "map_units", None)  # nothing is left to be trained
    words = ["lab", "law", "train", str(out / "law.toml"), "--out", str(out), "--json"]

    assert run(app, words) == 0
    facts = json.loads(capsys.readouterr().out)
    assert facts["violations"] == 0
    assert facts["adapters"] == runs["adapter"].n_unique() == 30
    assert pl.read_parquet(out / "runs.parquet").equals(runs)


def test_a_table_of_tokens_is_checked_from_the_command_line(out, tmp_path, capsys):
    assert run(app, ["lab", "law", "threshold", str(out / "tokens.parquet")]) == 0
    assert "0 of these not the greedy choice" in capsys.readouterr().out
    bad = tmp_path / "tokens.csv"
    pl.DataFrame({"p": [0.7, 0.2], "greedy": [False, True]}).write_csv(bad)
    assert run(app, ["lab", "law", "threshold", str(bad), "--json"]) == 1
    assert json.loads(capsys.readouterr().out)["violations"] == 1
