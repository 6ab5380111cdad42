"""GPT-NeoX checkpoints written here in its format: converted, forked, refused when not whole."""

import collections
import json
import pickle
import sys
import types

import numpy as np
import pytest
import torch
from transformers import GPTNeoXForCausalLM
from typer.testing import CliRunner

from pythia_profile.cli import app
from pythia_profile.mini.config import MiniConfig
from pythia_profile.mini.train import architecture, initial_model
from pythia_profile.training.loop import batches_in_order, load_state, start, train
from pythia_profile.training.neox_state import NeoxStateError, convert_neox, read_neox
from pythia_profile.training.settings import Recipe

CONFIG = MiniConfig(vocabulary=64, row_tokens=9)
RECIPE = Recipe(steps=6, batch_size=4, peak_lr=1e-2, warmup_steps=1)
ROWS = np.random.default_rng(0).integers(0, 64, (24, 9))


class LossScaler:
    """A class of the trainer, which its files name."""

    def __init__(self):
        self.scale = 4096.0


LossScaler.__module__ = "deepspeed.runtime.fp16.loss_scaler"


def trained(steps):
    """A model after some steps, and its optimizer."""
    state = start(initial_model("xs", CONFIG), RECIPE)
    for _ in train(state, batches_in_order(ROWS[: 4 * steps], 4), RECIPE):
        pass
    return state


def neox_name(name, layers):
    """Number of the layer file of a parameter, and its name there."""
    if "embed_in" in name:
        return 0, "word_embeddings.weight"
    if "final_layer_norm" in name:
        return layers + 3, "norm." + name.rsplit(".", 1)[1]
    if name.startswith(("lm_head", "embed_out")):
        return layers + 4, "final_linear.weight"
    number, own = name.split("layers.")[1].split(".", 1)
    return int(number) + 2, own


ORDER = ["input_layernorm", "attention", "post_attention_layernorm", "mlp"]


def part_of(key, values, rank, parts, kind):
    """What one of several model-parallel ranks holds of a tensor, as their layers split it."""
    if parts == 1:
        return values
    own = key[1]
    if own in ("word_embeddings.weight", "final_linear.weight") or "query_key_value" in own:
        return values.chunk(parts, dim=0)[rank]
    if "dense_h_to_4h" in own:
        return values.chunk(parts, dim=0)[rank]
    if own in ("attention.dense.weight", "mlp.dense_4h_to_h.weight"):
        return values.chunk(parts, dim=1)[rank]
    if own in ("attention.dense.bias", "mlp.dense_4h_to_h.bias") and kind == "weight":
        return values * (parts if rank == 0 else -1)  # these add up to the model's own
    return values


def write_neox(folder, state, *, ranks=3, dtype=torch.float16, elastic=False, scaler=None, parts=1):
    """Write a state as GPT-NeoX does, one model-parallel rank after the other."""
    for part in range(parts):
        _write_part(folder, state, (part, parts), ranks, dtype, elastic, scaler)


def _write_part(folder, state, part, ranks, dtype, elastic, scaler):
    """Layers, and the groups padded and cut into pieces."""
    folder.mkdir(parents=True, exist_ok=True)
    layers = state.model.config.num_hidden_layers
    named = {neox_name(n, layers): p for n, p in state.model.named_parameters()}

    def place(key):
        part = key[1].split(".")[0]
        return key[0], ORDER.index(part) if part in ORDER else 0

    ordered = sorted(named, key=place)  # stable: inside a part as the model has them
    for number in {number for number, _ in ordered}:
        content = collections.OrderedDict(
            (own, part_of((n, own), named[n, own].detach(), *part, "weight").to(dtype).clone())
            for n, own in ordered
            if n == number
        )
        if 2 <= number < layers + 2:
            content["attention.rotary_emb.inv_freq"] = torch.ones(2)
        torch.save(content, folder / f"layer_{number:02d}-model_{part[0]:02d}-model_states.pt")
    small = [key for key in ordered if key[1].endswith("bias") or "norm" in key[1]]
    groups = [[key for key in ordered if key not in small], small]

    held = state.optimizer.state

    def pieces(keys, values, kind):
        held_here = (part_of(key, values(named[key]).detach(), *part, kind) for key in keys)
        flat = torch.cat([one.flatten() for one in held_here])
        padded = torch.cat([flat, torch.zeros(-len(flat) % ranks)])
        cut = list(padded.chunk(ranks))
        if elastic:  # the padding is not saved
            cut[-1] = cut[-1][: len(cut[-1]) - (-len(flat) % ranks)]
        return [part.clone() for part in cut]

    wanted = (
        (lambda p: p, "weight"),
        (lambda p: held[p]["exp_avg"], "moment"),
        (lambda p: held[p]["exp_avg_sq"], "moment"),
    )
    found = [tuple(pieces(keys, *one) for one in wanted) for keys in groups]
    for rank in range(ranks):
        own = [{"step": state.step, "exp_avg": m[rank], "exp_avg_sq": v[rank]} for _, m, v in found]
        base = own if elastic else {"state": dict(enumerate(own)), "param_groups": [{}, {}]}
        content = {
            "loss_scaler": scaler,
            "partition_count": [ranks, ranks],
            "zero_stage": 1,
            "base_optimizer_state": base,
            "single_partition_of_fp32_groups": [w[rank] for w, _, _ in found],
        }
        torch.save(
            {"optimizer_state_dict": content},
            folder / f"zero_pp_rank_{rank}_mp_rank_{part[0]:02d}_optim_states.pt",
        )


@pytest.fixture
def config(tmp_path):
    architecture("xs", CONFIG).save_pretrained(tmp_path / "config")
    return tmp_path / "config"


@pytest.mark.parametrize("ranks", [1, 3])
@pytest.mark.parametrize("elastic", [True, False])
def test_a_converted_state_goes_on_as_the_original_does(tmp_path, config, ranks, elastic):
    state = trained(3)
    write_neox(tmp_path / "global_step3", state, ranks=ranks, elastic=elastic)

    run = tmp_path / "run"
    assert convert_neox(tmp_path / "global_step3", config, run) == 3

    forked = load_state(run, 3, RECIPE)
    for one in (state, forked):
        for _ in train(one, batches_in_order(ROWS[12:], 4), RECIPE):
            pass
    for (name, mine), (_, theirs) in zip(
        state.model.named_parameters(), forked.model.named_parameters(), strict=True
    ):
        assert torch.equal(mine, theirs), name


@pytest.mark.parametrize("parts", [2])
def test_model_parallel_ranks_are_merged_and_go_on_as_the_original_does(
    tmp_path, config, parts, caplog
):
    """Split here by the axes of GPT-NeoX's layers; output biases as shares that add up."""
    state = trained(3)
    write_neox(tmp_path / "global_step3", state, ranks=3, parts=parts)

    step, weights, moments = read_neox(tmp_path / "global_step3", config)
    run = tmp_path / "run"
    convert_neox(tmp_path / "global_step3", config, run)

    assert step == 3
    assert "each moved its own output biases" in caplog.text
    for name, parameter in state.model.named_parameters():
        own = name.replace("lm_head.", "embed_out.")
        assert torch.equal(weights[own], parameter), name
        for kind in ("exp_avg", "exp_avg_sq"):
            assert torch.equal(moments[kind][own], state.optimizer.state[parameter][kind]), name
    forked = load_state(run, 3, RECIPE)
    for one in (state, forked):
        for _ in train(one, batches_in_order(ROWS[12:], 4), RECIPE):
            pass
    for mine, theirs in zip(state.model.parameters(), forked.model.parameters(), strict=True):
        assert torch.equal(mine, theirs)


def test_ranks_that_are_missing_or_of_another_model_are_named(tmp_path, config):
    folder = tmp_path / "global_step3"
    write_neox(folder, trained(3), parts=2)
    for path in folder.glob("*mp_rank_01*"):
        path.rename(tmp_path / path.name)
    with pytest.raises(NeoxStateError, match=r"layers of 2 model-parallel ranks, pieces of ranks"):
        read_neox(folder, config)
    for path in folder.glob("*model_01*"):
        path.unlink()
    # rank 0 alone is a whole checkpoint of a model of half the width
    with pytest.raises(NeoxStateError, match=r"the configuration says .*another number of ranks"):
        convert_neox(folder, config, tmp_path / "run")


def test_bfloat16_layers_are_checked_by_their_own_rounding(tmp_path, config):
    state = trained(2)
    write_neox(tmp_path / "global_step2", state, dtype=torch.bfloat16)

    step, weights, moments = read_neox(tmp_path / "global_step2", config)

    assert step == 2
    assert set(moments) == {"exp_avg", "exp_avg_sq"}
    assert torch.equal(weights["gpt_neox.embed_in.weight"], state.model.gpt_neox.embed_in.weight)


def test_classes_of_the_trainer_are_not_run_and_others_are_refused(tmp_path, config, monkeypatch):
    with monkeypatch.context() as there:
        parts = LossScaler.__module__.split(".")
        for end in range(1, len(parts) + 1):
            module = types.ModuleType(".".join(parts[:end]))
            module.LossScaler = LossScaler
            there.setitem(sys.modules, module.__name__, module)
        write_neox(tmp_path / "global_step1", trained(1), scaler=LossScaler())
    assert convert_neox(tmp_path / "global_step1", config, tmp_path / "run") == 1

    class Evil:
        def __reduce__(self):
            return print, ("run",)

    path = tmp_path / "global_step1" / "layer_00-model_00-model_states.pt"
    with path.open("wb") as file:
        torch.save({"word_embeddings.weight": Evil()}, file, pickle_module=pickle)
    with pytest.raises(NeoxStateError, match="print, which would run code"):
        read_neox(tmp_path / "global_step1", config)


def damaged(name):
    """A change of a whole folder that makes it wrong, and what is said of it."""

    def lose_piece(folder):
        (folder / "zero_pp_rank_1_mp_rank_00_optim_states.pt").unlink()

    def lose_last(folder):
        (folder / "zero_pp_rank_2_mp_rank_00_optim_states.pt").unlink()

    def lose_layer(folder):
        (folder / "layer_03-model_00-model_states.pt").unlink()

    def other_step(folder):
        path = folder / "layer_02-model_00-model_states.pt"
        content = torch.load(path, weights_only=True)
        content["attention.dense.weight"] += 0.1
        torch.save(content, path)

    def exchanged(folder):
        one, two = (folder / f"zero_pp_rank_{r}_mp_rank_00_optim_states.pt" for r in (0, 1))
        other = one.read_bytes()
        one.write_bytes(two.read_bytes())
        two.write_bytes(other)

    def cut_short(folder):
        path = folder / "layer_02-model_00-model_states.pt"
        path.write_bytes(path.read_bytes()[:200])

    def parallel(folder):
        (folder / "layer_00-model_01-model_states.pt").touch()

    return {
        "lose_piece": (lose_piece, r"ranks \[0, 2\], expected 0 to 1"),
        "lose_last": (lose_last, "2 pieces, 'zero_pp_rank_0_mp_rank_00_optim_states.pt' is one of"),
        "lose_layer": (lose_layer, "layer_03-model_00-model_states.pt' is missing"),
        "other_step": (other_step, "layers.0.attention.dense.weight' of the optimizer is not"),
        "exchanged": (exchanged, "is not that of the layer|must be padding"),
        "cut_short": (cut_short, "cannot be read"),
        "parallel": (parallel, r"layers of 2 model-parallel ranks, pieces of ranks \[0\]"),
    }[name]


@pytest.mark.parametrize(
    "name",
    ["lose_piece", "lose_last", "lose_layer", "other_step", "exchanged", "cut_short", "parallel"],
)
def test_what_is_not_whole_is_named(tmp_path, config, name):
    change, message = damaged(name)
    folder = tmp_path / "global_step1"
    write_neox(folder, trained(1))
    change(folder)

    with pytest.raises(NeoxStateError, match=message):
        read_neox(folder, config)


def test_the_verb_converts_and_says_where(tmp_path, config):
    write_neox(tmp_path / "global_step2", trained(2))
    words = ["convert", str(tmp_path / "global_step2"), str(tmp_path / "run")]

    made = CliRunner().invoke(app, [*words, "--config", str(config)])

    assert made.exit_code == 0, made.output
    assert "step 2" in made.output
    again = CliRunner().invoke(
        app, [*words[:2], str(tmp_path / "b"), "--config", str(config), "--json"]
    )
    assert json.loads(again.stdout) == {"step": 2, "folder": str(tmp_path / "b" / "step2")}
    loaded = GPTNeoXForCausalLM.from_pretrained(tmp_path / "run" / "step2")
    assert loaded.config.num_hidden_layers == 2
