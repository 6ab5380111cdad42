"""What the demonstration shows, read from its tables; and that it can be broken off and reused."""

import json
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import polars as pl
import pytest
import torch
from scipy.stats import spearmanr
from transformers import GPTNeoXForCausalLM

from pythia_profile.tables import (
    AGREEMENT,
    ATT,
    COUNTERFACTUAL,
    COUNTERFACTUAL_SUMMARY,
    PLACEBO,
    PROFILES,
    ROWS,
    SCORES,
    conform,
)

pytestmark = pytest.mark.slow
TABLES = [ROWS, ATT, PLACEBO, PROFILES, AGREEMENT, COUNTERFACTUAL, COUNTERFACTUAL_SUMMARY]


@pytest.fixture(scope="module")
def tables(demo):
    return {
        table.name: conform(pl.read_parquet(demo.study / f"{table.name}.parquet"), table)
        for table in TABLES
    }


def means(profiles, kind):
    chosen = profiles.filter((pl.col("kind") == kind) & pl.col("cohort").is_null())
    return chosen.select("size", "att", "se")


def test_the_folder_holds_everything_that_was_promised(demo):
    there = {path.name for path in demo.study.iterdir()}

    assert there >= {
        "study.toml",
        "scores",
        "figures",
        "report.html",
        "lock.json",
        *(f"{table.name}.parquet" for table in TABLES),
    }
    scores = pl.read_parquet(demo.study / "scores/**/*.parquet")
    conform(scores, SCORES)
    assert scores.select("size", "checkpoint").unique().height == 3 * 17


def test_nothing_is_noted_where_nothing_is_to_do(demo):
    """A fresh run of the default settings asks nothing of its reader, and says nothing twice."""
    lines = [line for line in demo.out.splitlines() if line]

    assert not [line for line in lines if "note" in line or "clusters=" in line]
    assert len({*lines}) == len(lines)


def test_instantaneous_memorization_grows_with_size_and_is_beyond_doubt(tables):
    found = means(tables["profiles"], "instantaneous")

    assert found["size"].to_list() == ["xs", "s", "m"]
    assert found["att"].is_sorted()
    assert (found["att"] > 5 * found["se"]).all()


def test_memories_fade(tables):
    at_once, later = (means(tables["profiles"], k) for k in ("instantaneous", "persistent"))

    assert (later["att"] < at_once["att"]).all()
    assert (later["att"] > 0).all()


def test_nothing_is_seen_before_treatment(tables):
    joint = tables["placebo"].filter(pl.col("test") == "joint")

    assert len(joint) == 3
    assert (joint["p_value"] >= 0.01).all()


def test_instantaneous_memorization_follows_the_learning_rate(tables):
    lines = tables["profiles"].filter(
        (pl.col("kind") == "instantaneous") & pl.col("cohort").is_not_null()
    )

    for size in ("xs", "s", "m"):
        of_size = lines.filter(pl.col("size") == size)
        assert spearmanr(of_size["att"], of_size["learning_rate"]).statistic > 0.6, size


def test_the_estimate_agrees_with_the_true_counterfactual(tables):
    cells, summary = tables["counterfactual"], tables["counterfactual_summary"]
    whole = summary.filter(pl.col("by") == "all").row(0, named=True)

    assert cells["cohort"].n_unique() == 3
    assert cells.select(pl.corr("att", "truth")).item() >= 0.8
    assert abs(cells["error"].mean()) < 3 * whole["bias_se"]
    assert cells["covered"].mean() >= 0.85


def test_every_row_has_the_step_of_its_place_in_the_order(tables):
    rows = tables["rows"]
    treated = rows.filter(pl.col("treatment_step").is_not_null())

    assert (treated["treatment_step"] == treated["row_id"] // 16 + 1).all()
    assert (rows.filter(pl.col("treatment_step").is_null())["row_id"] >= 8192).all()
    assert len(rows) - len(treated) == 1024
    cohort = (treated["treatment_step"] + 31) // 32 * 32
    assert cohort.value_counts()["count"].unique().to_list() == [96]


def test_scores_are_those_of_the_checkpoint_in_the_cache(demo, tables):
    lock = json.loads((demo.study / "lock.json").read_text())
    (suite,) = (demo.study.parent / "cache").rglob("mini-*")
    row = tables["rows"].row(100, named=True)
    model = GPTNeoXForCausalLM.from_pretrained(suite / "s/step256", dtype=torch.float32).eval()
    ids = torch.tensor([row["tokens"]])
    with torch.no_grad():
        loss = model(ids, labels=ids).loss.item()

    scores = pl.read_parquet(demo.study / "scores/**/*.parquet")
    found = scores.filter(
        (pl.col("size") == "s")
        & (pl.col("checkpoint") == 256)
        & (pl.col("row_id") == row["row_id"])
    )
    # a forward pass of another batch shape differs in the last bits of float32
    assert found["log_likelihood"].item() == pytest.approx(-loss, abs=2e-5)
    assert lock["suite"]["name"] == "mini"


def test_a_second_run_reuses_everything(demo):
    before = {path: path.stat().st_mtime_ns for path in demo.study.rglob("*.parquet")}

    done = demo.again()

    assert done.returncode == 0
    assert done.stdout.count("up to date") == 13
    assert {path: path.stat().st_mtime_ns for path in demo.study.rglob("*.parquet")} == before


def test_results_go_to_stdout_and_progress_to_stderr(demo):
    lines = demo.out.splitlines()
    stages = [line.split(":")[0] for line in lines[: lines.index("")]]

    assert lines[-1] == (demo.study / "report.html").resolve().as_uri()
    assert [line.split()[0] for line in lines[len(stages) + 1 : -2]] == ["size", "xs", "s", "m"]
    assert stages == [
        "sample",
        "covariates",
        "score",
        "att",
        "precision",
        "profile",
        "estimands",
        "check",
        "findings",
        "counterfactual",
        "remembered",
        "plot",  # what the report's stage would say is the last line, its address
    ]


@pytest.mark.parametrize(("sent", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_it_says_how_to_go_on_and_leaves_nobody_running(tmp_path, sent, code):
    environment = {**os.environ, "XDG_CACHE_HOME": str(tmp_path / "cache")}
    words = [sys.executable, "-m", "pythia_profile", "demo", "--quick", "--out"]
    process = subprocess.Popen(
        [*words, str(tmp_path / "study")], env=environment, stderr=subprocess.PIPE, text=True
    )
    deadline = time.monotonic() + 120
    while not list(tmp_path.rglob("step32")) and time.monotonic() < deadline:
        time.sleep(0.05)
    process.send_signal(sent)
    _, said = process.communicate(timeout=10)

    assert process.returncode == code
    assert said.splitlines()[-1].startswith("interrupted; resume with: pythia-profile demo --quick")
    assert not [line for line in processes() if str(tmp_path) in line]


def processes() -> list[str]:
    """Command lines of all processes."""
    lines = []
    for file in Path("/proc").glob("[0-9]*/cmdline"):
        with suppress(OSError):
            lines.append(file.read_bytes().replace(b"\0", b" ").decode())
    return lines
