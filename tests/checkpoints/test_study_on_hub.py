"""A study of a suite on the hub, from its settings to its scores, through the command line."""

import json

import polars as pl
import pytest
import torch
from transformers import GPTNeoXForCausalLM

from pythia_profile.cli import app
from pythia_profile.cli.app import run
from tests.checkpoints.conftest import MODELS, STEPS, tiny_model

pytestmark = pytest.mark.slow

SMALL = ("rows_per_cohort=4", "batches_per_cohort=0", "never_treated=6", "draws=20")


def begin(published, name="study", *settings):
    folder = published.folder / name
    chosen = [f"--set={one}" for one in (*SMALL, *settings)]
    suite = str(published.folder / "suite")
    assert run(app, ["init", str(folder), "--suite", suite, *chosen]) == 0
    return folder


@pytest.fixture
def scored(published):
    folder = begin(published)
    assert run(app, ["sample", str(folder)]) == 0
    assert run(app, ["covariates", str(folder)]) == 0
    assert run(app, ["score", str(folder), "--workers", "1"]) == 0
    return folder


def test_checkpoints_in_every_format_are_listed_pinned_fetched_loaded_and_scored(published, scored):
    rows = pl.read_parquet(scored / "rows.parquet")
    lock = json.loads((scored / "lock.json").read_text())["checkpoints"][MODELS]
    branches = published.hub.repositories["model", MODELS].branches

    assert {name: branches[name] for name in branches} == lock["branches"]
    assert {name for tree in lock["trees"].values() for name, *_ in tree} >= {
        "pytorch_model.bin",
        "model.safetensors",
        "model-00003-of-00003.safetensors",
    }
    tokens = torch.tensor(rows["tokens"].to_list())
    stored = torch.tensor(published.tokens[rows["row_id"].to_numpy()].astype("int64"))
    assert torch.equal(tokens, stored)
    for step in STEPS:
        table = pl.read_parquet(scored / f"scores/tiny/s/seed0/step{step}/scores.parquet")
        model: GPTNeoXForCausalLM = tiny_model(step)
        with torch.no_grad():
            logits = model(tokens[:, :-1]).logits.double()
        losses = torch.nn.functional.cross_entropy(
            logits.transpose(1, 2), tokens[:, 1:], reduction="none"
        )
        # float32 forward passes over other batches: the last bits of numbers near 4
        assert table["log_likelihood"].to_numpy() == pytest.approx(
            -losses.mean(dim=1).numpy(), abs=1e-5
        )


def test_a_second_run_asks_for_nothing_and_nothing_stays_on_disk(published, scored, capsys):
    published.hub.log.clear()

    for verb in ("sample", "covariates", "score", "run"):
        capsys.readouterr()
        assert run(app, [verb, str(scored)]) == 0, verb

    assert published.hub.log == []
    assert (
        "sample: up to date\ncovariates: up to date\nscore: up to date" in capsys.readouterr().out
    )
    assert not list((published.folder / "cache").rglob("*.safetensors"))
