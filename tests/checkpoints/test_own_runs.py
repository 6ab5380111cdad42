"""Checkpoints that other trainers saved: scored, or refused by name before anything is fetched."""

import json
from dataclasses import replace

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel, LlamaConfig, LlamaForCausalLM

from pythia_profile.cli import app
from pythia_profile.cli.app import run
from pythia_profile.suites.folder import write_suite
from tests.checkpoints.conftest import DONE, MODELS, SHAPE, tiny_model

LLAMA = {**SHAPE, "num_key_value_heads": 2}


def save_llama(folder):
    LlamaForCausalLM(LlamaConfig(**LLAMA)).save_pretrained(folder)


def save_gpt2(folder):
    config = GPT2Config(vocab_size=50, n_embd=16, n_layer=2, n_head=2, n_positions=8)
    GPT2LMHeadModel(config).save_pretrained(folder)


def save_deepspeed(folder):
    folder.mkdir(parents=True)
    torch.save({"module": {}}, folder / "mp_rank_00_model_states.pt")
    torch.save({}, folder / "layer_00-model_00-model_states.pt")


def save_torch_shards(folder):
    folder.mkdir(parents=True)
    (folder / "__0_0.distcp").write_bytes(b"x")


def own(published, save, revision="global_step{label}"):
    """Put checkpoints of an own run in folders, under the names that its trainer gave them."""
    (size,) = published.suite.sizes.values()
    sizes = {"s": replace(size, weights=MODELS)}
    published.suite = replace(published.suite, sizes=sizes, revision=revision)
    write_suite(published.suite, published.folder / "suite")
    for step in published.suite.sizes["s"].checkpoints:
        torch.manual_seed(step)
        save(published.folder / "suite" / MODELS / revision.format(label=step))
    return published


@pytest.mark.parametrize("revision", ["step{label}", "global_step{label}", "iter_{label:07}"])
@pytest.mark.parametrize("model", ["llama", "gpt_neox"])
def test_folders_of_a_run_are_scored_whatever_they_are_called(published, rows, model, revision):
    saves = {"llama": save_llama, "gpt_neox": lambda folder: tiny_model(1).save_pretrained(folder)}
    made = own(published, saves[model], revision)

    assert made.score(rows, "accept") == DONE
    assert made.hub.log == []


@pytest.mark.parametrize(
    ("save", "code", "message"),
    [
        (save_gpt2, 4, "config.json: model_type is 'gpt2', expected one of gpt_neox"),
        (save_deepspeed, 2, "DeepSpeed files, as GPT-NeoX saves them; convert them with its tools"),
        (save_torch_shards, 2, "shards of torch.distributed; save the model as a Hugging Face"),
    ],
)
def test_what_cannot_be_loaded_is_refused_by_name(
    published, save, code, message, tmp_path, capsys, in_process
):
    own(published, save)
    study = str(tmp_path / "study")
    small = ["--set=rows_per_cohort=4", "--set=batches_per_cohort=0", "--set=never_treated=6"]
    assert run(app, ["init", study, "--suite", str(tmp_path / "suite"), *small]) == 0
    assert run(app, ["sample", study]) == 0
    fetched = len(published.hub.requests("cdn"))

    for verb in ("audit", "plan", "score"):
        capsys.readouterr()
        found = run(app, [verb, study])
        said = "".join(capsys.readouterr())
        assert message in said, verb

    assert found == code
    assert len(published.hub.requests("cdn")) == fetched


def test_files_of_other_trainers_are_named_on_the_hub_too(published, rows):
    files = {"config.json": json.dumps({"model_type": "gpt_neox", **SHAPE}).encode()}
    published.publish(2, files | {"mp_rank_00/model_optim_rng.pt": b"x" * 100})

    grid = published.score(rows)

    assert set(grid) == {0, 4}
    assert not [r for r in published.hub.requests("cdn") if "optim_rng" in r.path]
