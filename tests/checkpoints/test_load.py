"""Strict loading: the checkpoint's own tensors, bit for bit, or a named error."""

import json
import pickle

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import GPTNeoXForCausalLM, Olmo2Config, Olmo2ForCausalLM

from pythia_profile.checkpoints.load import CheckpointLoader
from pythia_profile.checkpoints.weights import CheckpointError

FLOAT8 = torch.float8_e4m3fn
ROTARY = "gpt_neox.layers.0.attention.rotary_emb.inv_freq"
TOKENS = torch.tensor([[1, 2, 3, 4]])


def parameters(model):
    return {name: value.clone() for name, value in model.state_dict().items()}


def assert_equal_weights(model, expected):
    found = parameters(model)
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.equal(found[name], value), name


def edit(folder, change):
    """Rewrite a checkpoint's tensors after `change` has edited them."""
    path = folder / "model.safetensors"
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)


def test_weights_and_logits_are_those_of_transformers_own_loading(saved):
    folder = saved()
    reference = GPTNeoXForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()

    model = CheckpointLoader().load(folder)

    assert_equal_weights(model, parameters(reference))
    assert torch.equal(model(TOKENS).logits, reference(TOKENS).logits)
    assert not model.training


def test_the_next_checkpoint_replaces_the_weights_of_the_same_model(saved):
    first, second = saved("step0"), saved("step1", seed=1)
    loader = CheckpointLoader()
    model = loader.load(first)

    swapped = loader.load(second)

    assert swapped is model
    assert_equal_weights(swapped, parameters(CheckpointLoader().load(second)))


def test_another_architecture_gets_a_model_of_its_own(saved):
    loader = CheckpointLoader()
    narrow = loader.load(saved("narrow"))

    wide = loader.load(saved("wide", hidden_size=32))

    assert wide is not narrow
    assert wide.config.hidden_size == 32


def test_shards_and_pickles_hold_the_same_model(saved):
    whole = saved("whole")
    expected = parameters(CheckpointLoader().load(whole))
    shards = saved("shards", shard="4KB")
    pickled = saved("pickled")
    tensors = load_file(pickled / "model.safetensors")
    torch.save(tensors, pickled / "pytorch_model.bin")
    (pickled / "model.safetensors").unlink()

    assert (shards / "model.safetensors.index.json").exists()
    assert_equal_weights(CheckpointLoader().load(shards), expected)
    assert_equal_weights(CheckpointLoader().load(pickled), expected)


def test_old_pickles_and_old_buffers_are_read(saved):
    folder = saved()
    expected = parameters(CheckpointLoader().load(folder))
    tensors = load_file(folder / "model.safetensors")
    layer = "gpt_neox.layers.0.attention"
    tensors[f"{layer}.bias"] = torch.ones(1, 1, 8, 8, dtype=torch.bool)
    tensors[f"{layer}.masked_bias"] = torch.tensor(-1e9)
    tensors[f"{layer}.rotary_emb.inv_freq"] = torch.ones(1)
    torch.save(tensors, folder / "pytorch_model.bin", _use_new_zipfile_serialization=False)
    (folder / "model.safetensors").unlink()

    assert_equal_weights(CheckpointLoader().load(folder), expected)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_the_stated_dtype_is_used_and_rotary_frequencies_stay_exact(saved, dtype):
    folder = saved()
    reference = GPTNeoXForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()

    model = CheckpointLoader(dtype=dtype).load(folder)

    assert {p.dtype for p in model.parameters()} == {getattr(torch, dtype)}
    assert model.gpt_neox.rotary_emb.inv_freq.dtype == torch.float32
    assert torch.equal(model(TOKENS).logits, reference(TOKENS).logits)


def test_tied_embeddings_need_be_stored_once_only(tmp_path):
    torch.manual_seed(0)
    config = Olmo2Config(
        vocab_size=50,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        tie_word_embeddings=True,
    )
    reference = Olmo2ForCausalLM(config).eval()
    reference.save_pretrained(tmp_path)

    model = CheckpointLoader().load(tmp_path)

    assert "lm_head.weight" not in load_file(tmp_path / "model.safetensors")
    assert torch.equal(model(TOKENS).logits, reference(TOKENS).logits)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.pop("embed_out.weight"), "missing: lm_head.weight"),
        (lambda t: t.update(extra=torch.ones(2)), "unexpected: extra"),
        (
            lambda t: t.update({"embed_out.weight": torch.ones(49, 16)}),
            r"mismatched: embed_out.weight is torch.float32 \(49, 16\), expected floats \(50, 16\)",
        ),
        (
            lambda t: t.update({"embed_out.weight": torch.ones(50, 16, dtype=torch.int32)}),
            "mismatched: embed_out.weight is torch.int32",
        ),
        (
            lambda t: t.update({"lm_head.weight": t["embed_out.weight"] + 1}),
            "stored twice and different: embed_out.weight and lm_head.weight",
        ),
        (
            lambda t: t["gpt_neox.embed_in.weight"][3].fill_(float("nan")),
            "NaN or infinity: gpt_neox.embed_in.weight",
        ),
        (
            lambda t: t["gpt_neox.final_layer_norm.bias"].fill_(float("inf")),
            "NaN or infinity: gpt_neox.final_layer_norm.bias",
        ),
        (
            lambda t: t["gpt_neox.layers.1.mlp.dense_h_to_4h.weight"].zero_(),
            "all zero: gpt_neox.layers.1.mlp.dense_h_to_4h.weight",
        ),
        (
            lambda t: t.update({"embed_out.weight": t["embed_out.weight"].to(FLOAT8)}),
            r"less precision than the rest: embed_out.weight \(torch.float8_e4m3fn, most are torch."
            "float32",
        ),
        (
            lambda t: t.update({ROTARY: torch.tensor([0.5])}),
            f"rotary frequencies not as by rope_theta: {ROTARY}",
        ),
    ],
)
def test_tensors_that_do_not_fit_are_refused_by_name(saved, change, message):
    folder = saved()
    edit(folder, change)
    loader = CheckpointLoader()

    with pytest.raises(CheckpointError, match=message):
        loader.load(folder)


def test_a_tensor_that_is_stored_twice_and_equal_is_read(saved):
    folder = saved()
    edit(folder, lambda t: t.update({"lm_head.weight": t["embed_out.weight"].clone()}))

    CheckpointLoader().load(folder)


def test_a_tied_head_that_differs_from_the_embedding_is_refused(tmp_path):
    config = Olmo2Config(
        vocab_size=50,
        hidden_size=16,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        tie_word_embeddings=True,
    )
    Olmo2ForCausalLM(config).save_pretrained(tmp_path)
    edit(tmp_path, lambda t: t.update({"lm_head.weight": torch.randn(50, 16)}))

    with pytest.raises(CheckpointError, match=r"twice and different: \S+ and \S+"):
        CheckpointLoader().load(tmp_path)


def test_norms_that_are_stored_more_precisely_than_the_rest_are_read(saved):
    folder = saved()
    half = {torch.float32: torch.bfloat16}
    edit(
        folder,
        lambda t: t.update(
            {name: value.to(half[value.dtype]) for name, value in t.items() if "norm" not in name}
        ),
    )

    CheckpointLoader().load(folder)


def test_rotary_frequencies_are_those_of_the_config_after_every_load(saved):
    folder, loader = saved(hidden_size=64, rotary_pct=1.0), CheckpointLoader()
    frequencies = loader.load(folder).gpt_neox.rotary_emb.inv_freq
    expected = 10_000.0 ** -(torch.arange(0, len(frequencies) * 2, 2) / (len(frequencies) * 2))
    assert torch.allclose(frequencies, expected)

    frequencies.mul_(1.01)

    with pytest.raises(CheckpointError, match="inv_freq is not what its config"):
        loader.load(folder)
    assert loader.load(folder) is not None  # a model anew


def test_a_sparse_tensor_in_a_pickle_is_named(saved):
    folder = saved()
    tensors = load_file(folder / "model.safetensors")
    tensors["embed_out.weight"] = tensors["embed_out.weight"].to_sparse()
    torch.save(tensors, folder / "pytorch_model.bin")
    (folder / "model.safetensors").unlink()

    with pytest.raises(CheckpointError, match=r"'embed_out\.weight' is stored as sparse"):
        CheckpointLoader().load(folder)


def test_a_refused_checkpoint_leaves_nothing_of_itself_in_the_next(saved):
    good, bad = saved("good"), saved("bad", seed=1)
    edit(bad, lambda tensors: tensors.pop("embed_out.weight"))
    loader = CheckpointLoader()

    with pytest.raises(CheckpointError):
        loader.load(bad)

    assert_equal_weights(loader.load(good), parameters(CheckpointLoader().load(good)))


def test_a_truncated_file_is_named(saved):
    folder = saved()
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-100])

    with pytest.raises(CheckpointError, match=r"model.safetensors is damaged or truncated"):
        CheckpointLoader().load(folder)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_pickle_that_would_run_code_is_not_executed(saved, tmp_path, zipped):
    folder = saved()
    (folder / "model.safetensors").unlink()
    trace = tmp_path / "executed"

    class Malicious:
        def __reduce__(self):
            return (open, (str(trace), "w"))

    path = folder / "pytorch_model.bin"
    if zipped:
        torch.save({"a": Malicious()}, path)
    else:
        path.write_bytes(pickle.dumps({"a": Malicious()}))

    with pytest.raises(CheckpointError, match="not executed"):
        CheckpointLoader().load(folder)
    assert not trace.exists()


@pytest.mark.parametrize("name", ["../outside.safetensors", "/etc/hostname", "a/b.safetensors"])
def test_an_index_that_leaves_its_folder_is_refused(saved, name):
    folder = saved()
    (folder / "model.safetensors").unlink()
    index = {"weight_map": {"embed_out.weight": name}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))

    with pytest.raises(CheckpointError, match="outside its folder"):
        CheckpointLoader().load(folder)


def test_a_config_that_asks_for_its_own_code_is_refused(saved):
    folder = saved()
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModelForCausalLM": "evil.Model"}
    (folder / "config.json").write_text(json.dumps(config))

    with pytest.raises(CheckpointError, match="auto_map"):
        CheckpointLoader().load(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "not valid JSON"),
        (
            '{"model_type": "bert"}',
            "model_type is 'bert', expected one of gpt_neox",
        ),
        ("[]", "model_type is None"),
        ('{"model_type": ["gpt_neox"]}', r"model_type is \['gpt_neox'\]"),
        (
            '{"model_type": "gpt_neox", "quantization_config": {"bits": 4}}',
            "quantized weights are another model",
        ),
        ("[" * 200_000, "not valid JSON"),
    ],
)
def test_a_broken_config_is_named(saved, text, message):
    folder = saved()
    (folder / "config.json").write_text(text)

    with pytest.raises(CheckpointError, match=message):
        CheckpointLoader().load(folder)


def test_a_huge_config_is_not_read(saved):
    folder = saved()
    with (folder / "config.json").open("wb") as file:
        file.truncate(100 * 2**20)

    with pytest.raises(CheckpointError, match="104,857,600 bytes, expected at most"):
        CheckpointLoader().load(folder)


def test_a_folder_without_weights_says_what_is_there(saved):
    folder = saved()
    (folder / "model.safetensors").unlink()

    with pytest.raises(CheckpointError, match=r"no weights in .*got config.json"):
        CheckpointLoader().load(folder)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_swaps_through_every_format_are_bit_identical_to_fresh_loads(saved, dtype):
    folders = [saved("a"), saved("b", seed=1, shard="4KB"), saved("c", seed=2), saved("d", seed=3)]
    tensors = load_file(folders[2] / "model.safetensors")
    torch.save(tensors, folders[2] / "pytorch_model.bin")
    (folders[2] / "model.safetensors").unlink()
    half = {
        name: value.half() for name, value in load_file(folders[3] / "model.safetensors").items()
    }
    save_file(half, folders[3] / "model.safetensors")
    loader = CheckpointLoader(dtype=dtype)

    for folder in [*folders, *reversed(folders)]:
        model = loader.load(folder)
        fresh = CheckpointLoader(dtype=dtype).load(folder)
        reference = GPTNeoXForCausalLM.from_pretrained(folder, dtype=getattr(torch, dtype)).eval()

        assert_equal_weights(model, parameters(fresh))
        assert_equal_weights(model, parameters(reference))
        assert torch.equal(model(TOKENS).logits, reference(TOKENS).logits)


def test_a_loaded_checkpoint_is_not_written_to_by_the_next(saved):
    first, second = saved("first"), saved("second", seed=1)
    before = (first / "model.safetensors").read_bytes()
    loader = CheckpointLoader()
    loader.load(first)

    loader.load(second)

    assert (first / "model.safetensors").read_bytes() == before
