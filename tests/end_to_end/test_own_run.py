"""docs/own_run.md takes a stranger's tiny run from its files to a profile, as it is written."""

import re
import shlex
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from pythia_profile.cli import app
from pythia_profile.cli.app import run
from pythia_profile.training.languages import Bigram
from pythia_profile.training.loop import next_token_loss, start, train
from pythia_profile.training.settings import Recipe

GUIDE = Path(__file__).parents[2] / "docs" / "own_run.md"


@pytest.fixture
def strangers_run(tmp_path):
    """A tiny model, trained by a plain loop on 40 steps of 8 rows, of which 140 more are left."""
    rows = Bigram.draw(40, seed=0, concentration=0.3).rows(460, 33, seed=1)
    folder = tmp_path / "my-run"
    shape = {"hidden_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    torch.manual_seed(0)
    config = GPTNeoXConfig(
        vocab_size=40, intermediate_size=128, max_position_embeddings=32, **shape
    )
    recipe = Recipe(steps=40, batch_size=8, peak_lr=1e-2)
    state = start(GPTNeoXForCausalLM(config), recipe)
    state.model.save_pretrained(folder / "s" / "step0")
    batches = (torch.from_numpy(rows[8 * g : 8 * g + 8].astype(np.int64)) for g in range(40))
    for update in train(state, batches, recipe, loss=next_token_loss):
        if update.step % 10 == 0:
            state.model.save_pretrained(folder / "s" / f"step{update.step}")
    np.save(folder / "rows.npy", rows.astype(np.uint16))
    return tmp_path


def commands() -> list[list[str]]:
    blocks = re.findall(r"```sh\n(.*?)```", GUIDE.read_text(encoding="utf-8"), re.DOTALL)
    lines = "".join(blocks).splitlines()
    return [shlex.split(line.removeprefix("pythia-profile ")) for line in lines]


@pytest.mark.slow
def test_the_guide_s_commands_lead_to_a_profile(strangers_run, monkeypatch, capsys):
    monkeypatch.chdir(strangers_run)

    for command in commands():
        assert run(app, command) == 0, command

    said = capsys.readouterr().out
    assert "rows: 0 to 319 are read, 140 past the last step are never-treated" in said
    att = pl.read_parquet("my-study/att.parquet")
    now = att.filter(pl.col("cohort") == pl.col("checkpoint"))["att"]
    assert len(now) == 4
    # read a few steps ago at a rate of 0.01: remembered, on average over the cohorts
    assert now.mean() > 0
    assert Path("my-study/report.html").stat().st_size > 10_000
    profiles = pl.read_parquet("my-study/profiles.parquet")
    assert set(profiles["kind"]) >= {"instantaneous", "residual"}
