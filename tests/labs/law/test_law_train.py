"""One adapter beside frozen weights: what changes, what does not, what is written."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from pythia_profile.checkpoints.load import CheckpointLoader
from pythia_profile.cli import app
from pythia_profile.cli.app import run
from pythia_profile.execute.worker import Worker
from pythia_profile.labs.law import law_base, law_train
from pythia_profile.labs.law.law_adapter import (
    adapted_modules,
    frozen_digest,
    load_adapter,
    save_adapter,
    with_adapter,
)
from pythia_profile.labs.law.law_base import opened_base
from pythia_profile.labs.law.law_data import Answers, answers_of
from pythia_profile.labs.law.law_pass import forced, written
from pythia_profile.labs.law.law_settings import LawSettings
from pythia_profile.labs.law.law_train import train_unit
from pythia_profile.labs.law.law_unit import LawUnit, batch_sizes, updates_of
from tests.stand_in.hub import Hub


def test_an_adapter_is_kept_and_loaded_with_equal_logits(tiny_suite, tmp_path):
    folder = tiny_suite.folder_of("s", 64)
    rows = torch.arange(12)[None]
    plain = CheckpointLoader().load(folder)(input_ids=rows).logits
    model = with_adapter(CheckpointLoader().load(folder), 3, modules="all", layers=(0, 1), seed=5)
    assert torch.equal(model(input_ids=rows).logits, plain)  # the second factor is 0
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter += 0.1
    expected = model(input_ids=rows).logits
    save_adapter(model, tmp_path)
    again = load_adapter(CheckpointLoader().load(folder), tmp_path)

    assert not torch.equal(expected, plain)
    assert torch.equal(again(input_ids=rows).logits, expected)


def test_a_low_rank_map_by_hand_is_what_the_adapter_adds(tiny_suite):
    folder = tiny_suite.folder_of("xs", 64)
    base = CheckpointLoader().load(folder)
    name = "gpt_neox.layers.1.mlp.dense_4h_to_h"
    weight = base.get_submodule(name).weight.detach().clone()
    model = with_adapter(CheckpointLoader().load(folder), 2, layers=(1,), scaling=3.0)
    layer = model.base_model.model.get_submodule(name)
    down, up = layer.lora_A["default"].weight, layer.lora_B["default"].weight
    torch.nn.init.normal_(up, generator=torch.Generator().manual_seed(0))
    states = torch.randn(5, weight.shape[1])

    expected = states @ (weight + 3.0 * up @ down).T + layer.bias
    torch.testing.assert_close(layer(states), expected, rtol=1e-4, atol=1e-4)  # float32


def test_parts_of_layers_are_named(tiny_suite):
    model = CheckpointLoader().load(tiny_suite.folder_of("s", 64))
    prefix = "gpt_neox.layers.1."

    assert adapted_modules(model, [1], "mlp") == [
        prefix + "mlp.dense_h_to_4h",
        prefix + "mlp.dense_4h_to_h",
    ]
    assert adapted_modules(model, [1], "attention") == [
        prefix + "attention.query_key_value",
        prefix + "attention.dense",
    ]
    assert len(adapted_modules(model, [0, 1], "all")) == 8


def test_parts_of_layers_are_named_in_other_architectures():
    from transformers import LlamaConfig, LlamaForCausalLM

    shape = {"hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 2}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=9, num_attention_heads=2, **shape))

    names = [f"model.layers.0.mlp.{name}_proj" for name in ("gate", "up", "down")]
    assert adapted_modules(model, [0], "mlp") == names
    assert len(adapted_modules(model, [0], "all")) == 7
    adapted = with_adapter(model, 2, layers=(0,))
    trained = sum(p.numel() for p in adapted.parameters() if p.requires_grad)
    assert trained == 3 * 2 * (16 + 24)  # each map between 16 and 24 gets 2 rows and 2 columns


def test_a_checkpoint_on_the_hub_is_fetched_and_given_an_adapter(tiny_suite, tmp_path, monkeypatch):
    source = tiny_suite.folder_of("xs", 64)
    size = replace(tiny_suite.sizes["xs"], weights="tests/tiny")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    with Hub() as hub:
        monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
        files = {path.name: path.read_bytes() for path in source.iterdir()}
        hub.add("model", "tests/tiny", files, revision="step64")
        published = replace(tiny_suite, sizes={"xs": size}, root=None, store=None, tokenizer=None)
        monkeypatch.setattr(law_base, "open_suite", lambda *_, **__: published)
        settings = LawSettings(suite="published", size="xs", checkpoint=64, data="documents")
        with opened_base(settings) as base:
            fetched = CheckpointLoader().load(base.folder).state_dict()
            (answers,) = answers_of(settings.replace(answer_tokens=(20,)), base, 0).values()

    own = CheckpointLoader().load(source).state_dict()
    assert base.folder.is_relative_to(tmp_path / "cache")
    assert all(torch.equal(own[name], fetched[name]) for name in own)
    assert answers.tokens == 20


def unit_of(tiny_suite, home, method, **changes):
    """Train one adapter beside a model whose head is scaled up, so that tokens can be certain."""
    values = {"suite": str(tiny_suite.root), "size": "s", "data": "documents", "document_tokens": 5}
    values |= {"answer_tokens": (10,), "updates": 100, "modules": "all", "layers": (0, 1)}
    settings = LawSettings(**{**values, **changes})
    with opened_base(settings) as base:
        (answers,) = answers_of(settings, base, 0).values()
        model = CheckpointLoader().load(base.folder)
        model.lm_head.weight = torch.nn.Parameter(20 * model.lm_head.weight)
        model.save_pretrained(home / "base")
        base = replace(base, folder=home / "base")
        unit = LawUnit(home, settings, base, answers, 16, 10, method, settings.updates, 0)
    unit.folder.mkdir(parents=True)
    train_unit(unit, Worker("cpu", 1, lambda _: None))
    return json.loads((unit.folder / "result.json").read_text())


def test_ot_stops_where_nothing_is_below_the_threshold_and_every_answer_is_written(
    tiny_suite, tmp_path
):
    stopped = unit_of(tiny_suite, tmp_path, "ot")
    plain = unit_of(tiny_suite, tmp_path, "sft")

    assert stopped["made"] < 100 == plain["made"]
    assert stopped["exact"] == stopped["certain"] == 1
    assert stopped["correct_below"] == 0
    assert stopped["loss"] > plain["loss"]  # it left every token just above one half
    assert stopped["tokens_trained"] < stopped["tokens_read"] == 10 * (stopped["made"] + 1)


def test_every_frozen_weight_has_the_bits_it_had(tiny_suite, tmp_path, monkeypatch):
    trained = []
    monkeypatch.setattr(law_train, "save_adapter", lambda model, _: trained.append(model))
    assert unit_of(tiny_suite, tmp_path, "sft", updates=20)["base_unchanged"]
    own = CheckpointLoader().load(tmp_path / "base").state_dict()
    found = trained[0].unload().state_dict()  # by peft: the model without its adapter

    assert own.keys() == found.keys()
    assert all(own[name].numpy().tobytes() == found[name].numpy().tobytes() for name in own)


def test_a_single_bit_of_a_frozen_weight_is_noticed(tiny_suite):
    model = CheckpointLoader().load(tiny_suite.folder_of("xs", 64))
    before = frozen_digest(model)
    weight = model.gpt_neox.final_layer_norm.weight
    weight.data = weight.data.clone()  # not the file's own bytes
    assert frozen_digest(model) == before
    weight.data.view(torch.int32)[3] ^= 1

    assert frozen_digest(model) != before


def test_or_it_goes_on_with_the_plain_mean(tiny_suite, tmp_path):
    found = unit_of(tiny_suite, tmp_path, "ot", when_empty="mean")

    assert found["made"] == 100
    assert found["exact"] == 1


def test_what_is_written_is_what_transformers_generates(tiny_suite):
    model = CheckpointLoader().load(tiny_suite.folder_of("s", 64))
    prompts = np.random.default_rng(0).integers(300, size=(6, 5))
    wrote = model.generate(
        torch.from_numpy(prompts),
        attention_mask=torch.ones(6, 5, dtype=int),
        max_new_tokens=8,
        do_sample=False,
        pad_token_id=0,
        eos_token_id=None,
    ).numpy()
    wrong = wrote.copy()
    wrong[1, 9] = (wrong[1, 9] + 1) % 300
    scored = np.zeros((6, 12), bool)
    scored[:, 4:] = True

    right = written(model, Answers(wrong, scored))
    expected = np.ones((6, 12), bool)
    expected[1, 8] = False
    np.testing.assert_array_equal(right, expected)


def test_prompts_of_unequal_length_are_written_as_each_alone(tiny_suite):
    model = CheckpointLoader().load(tiny_suite.folder_of("xs", 64))
    rng = np.random.default_rng(1)
    pairs = [
        (rng.integers(300, size=n).tolist(), rng.integers(300, size=6).tolist()) for n in (2, 5, 9)
    ]
    together = Answers.of(pairs)
    right = written(model, together)
    for number, pair in enumerate(pairs):
        alone = Answers.of([pair])
        np.testing.assert_array_equal(
            right[number][together.scored[number]], written(model, alone)[alone.scored]
        )
        np.testing.assert_allclose(
            forced(model, together).loss[number][together.scored[number]],
            forced(model, alone).loss[alone.scored],
            rtol=1e-4,
        )


def test_a_curriculum_reads_only_what_is_open():
    settings = LawSettings(updates=300)

    assert [opened for opened, _ in batch_sizes("sw_phone_book", 7, 64)] == [2, 3, 5, 6, 7]
    assert updates_of("ot", "tokens", 10, settings) == 300
    mean = np.mean([size for _, size in batch_sizes("sw_phone_book", 40, 64)])
    assert updates_of("sw_phone_book", "tokens", 40, settings) == round(300 * 40 / mean)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--ranks", "64"], "ranks: got 64, mini xs step 64 has width 32"),
        (["--set", "layers=[7]"], "no layer of mini xs step 64: '7'; known: 0, 1"),
        (["--set", "document_tokens=14"], "answer 1 is longer than the context: 14 tokens"),
        (["--set", "ranks=[0]"], "ranks: got (0,), expected whole numbers from 1 on"),
        (["--methods", "soft"], "methods.0: got 'soft', expected: 'sft', 'ot'"),
        (["--set", "peak_lr=inf"], "peak_lr: got inf, expected: a finite number"),
        (["--set", "rank=3"], "unknown setting 'rank'"),
        (["--checkpoint", "3"], "no checkpoint 3 of mini xs"),
        (
            ["--file", "qa.jsonl", "--data", "documents"],
            "file: got 'qa.jsonl' with data 'documents'",
        ),
        (["--file", "none.jsonl"], "'none.jsonl' cannot be read"),
    ],
)
def test_bad_input_is_one_line(tiny_suite, tmp_path, words, message, capsys):
    given = ["--suite", str(tiny_suite.root), "--size", "xs", "--out", str(tmp_path / "out")]
    given += [] if "--file" in words else ["--data", "documents"]

    assert run(app, ["lab", "law", "train", *given, *words]) == 2
    said = capsys.readouterr().err
    assert message in said
    assert said.count("\n") == 1
