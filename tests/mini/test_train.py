"""Training: the same bits whenever it stops and goes on, real checkpoints, a real state."""

import hashlib
import shutil

import numpy as np
import pytest
import torch
from transformers import GPTNeoXForCausalLM

from data_order import MegatronStore, TokenRows
from pythia_profile.errors import NotFoundError, StudyError
from pythia_profile.mini.build import config_of, mini_suite
from pythia_profile.mini.config import MINI_SIZES, MiniConfig
from pythia_profile.mini.train import architecture, initial_model
from pythia_profile.suites.folder import read_suite
from pythia_profile.training.loop import batches_in_order, load_state, start, train


def hashes(folder):
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*.safetensors"))
    }


@pytest.fixture
def one_thread():
    """Two threads sum in another order; workers train on one."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


def initial_state(size, config):
    return start(initial_model(size, config), config.recipe)


def train_on(state, rows, config):
    """Train on rows of the suite in their order; the steps made."""
    return [u.step for u in train(state, batches_in_order(rows, config.batch_size), config.recipe)]


def weights(model):
    return {name: value.detach().clone() for name, value in model.state_dict().items()}


@pytest.mark.slow
def test_two_builds_are_the_same_to_the_bit(tiny_suite, tiny_config, tmp_path):
    again = mini_suite(("s",), config=tiny_config, cache=tmp_path, workers=1)

    assert hashes(again.root / "s") == hashes(tiny_suite.root / "s")
    assert (again.root / "document.bin").read_bytes() == (
        tiny_suite.root / "document.bin"
    ).read_bytes()


@pytest.mark.slow
def test_a_broken_off_training_goes_on_to_the_same_bits(tiny_suite, tiny_config, tmp_path):
    home = tmp_path / tiny_suite.root.name
    shutil.copytree(tiny_suite.root, home)
    for step in (32, 48, 64):
        shutil.rmtree(home / "xs" / f"step{step}")
    (home / "xs" / ".step32.part").mkdir()

    resumed = mini_suite(("xs",), config=tiny_config, cache=tmp_path)

    assert hashes(resumed.root / "xs") == hashes(tiny_suite.root / "xs")


def test_a_finished_suite_is_reused(tiny_suite, tiny_config, tiny_cache, monkeypatch):
    monkeypatch.setattr("pythia_profile.mini.build.map_units", pytest.fail)

    assert mini_suite(("xs", "s"), config=tiny_config, cache=tiny_cache) == tiny_suite


def test_only_the_sizes_that_are_asked_for_are_given(tiny_suite, tiny_config, tiny_cache):
    ways = {"config": tiny_config, "cache": tiny_cache}

    assert list(mini_suite(("xs",), **ways).sizes) == ["xs"]
    assert list(mini_suite("s", **ways).sizes) == ["s"]
    assert list(mini_suite((), **ways).sizes) == ["xs", "s"]
    assert read_suite(tiny_suite.root) == tiny_suite


def test_the_folder_describes_itself(tiny_suite, tiny_config):
    assert read_suite(tiny_suite.root) == tiny_suite
    assert config_of(tiny_suite) == tiny_config
    assert list(tiny_suite.sizes) == ["xs", "s"]


def test_rows_lie_in_pythias_own_format(tiny_suite, tiny_config):
    store = MegatronStore(tiny_suite.root / "document")

    assert store.dtype == np.uint16
    assert store.documents.tolist() == [0]
    assert len(store) == tiny_config.training_rows + tiny_config.never_treated
    assert set(store.sizes.tolist()) == {tiny_config.row_tokens}


@pytest.mark.parametrize("size", MINI_SIZES)
def test_stated_parameters_are_those_of_the_model(size):
    from pythia_profile.mini.build import describe

    config = MiniConfig()
    model = GPTNeoXForCausalLM(architecture(size, config))

    stated = describe(None, config).size(size).parameters
    assert sum(p.numel() for p in model.parameters()) == stated


def test_training_follows_plain_adamw_written_out(tiny_suite, tiny_config):
    """Two updates by hand: gradient, clipping, AdamW's formulas, the schedule's rates."""
    rows = TokenRows.open(tiny_suite.root / "document", row_tokens=tiny_config.row_tokens)[0:16]
    state = initial_state("xs", tiny_config)
    theta = weights(state.model)
    model = GPTNeoXForCausalLM(architecture("xs", tiny_config))
    first = {name: torch.zeros_like(value) for name, value in theta.items()}
    second = {name: torch.zeros_like(value) for name, value in theta.items()}
    beta1, beta2 = tiny_config.beta1, tiny_config.beta2
    for update, rate in ((1, 0.0), (2, tiny_config.peak_lr)):
        model.load_state_dict(theta)
        batch = torch.tensor(rows[8 * (update - 1) : 8 * update].astype(np.int64))
        loss = model(input_ids=batch, labels=batch).loss
        names, parameters = zip(*model.named_parameters(), strict=True)
        gradients = torch.autograd.grad(loss, parameters)
        norm = torch.sqrt(sum((g**2).sum() for g in gradients))
        scale = min(1.0, tiny_config.clip / (norm.item() + 1e-6))
        for name, gradient in zip(names, gradients, strict=True):
            g = gradient * scale
            first[name] = beta1 * first[name] + (1 - beta1) * g
            second[name] = beta2 * second[name] + (1 - beta2) * g**2
            step = (first[name] / (1 - beta1**update)) / (
                (second[name] / (1 - beta2**update)).sqrt() + 1e-8
            )
            theta[name] = theta[name] * (1 - rate * tiny_config.weight_decay) - rate * step

    assert train_on(state, rows, tiny_config) == [1, 2]

    for name, value in weights(state.model).items():
        # Adam divides tiny gradients by their own size, so float32 noise is magnified there
        assert torch.allclose(value, theta[name], atol=2e-4), name


def test_the_first_update_has_rate_zero(tiny_suite, tiny_config):
    state = initial_state("xs", tiny_config)
    before = weights(state.model)
    rows = TokenRows.open(tiny_suite.root / "document", row_tokens=tiny_config.row_tokens)[0:8]

    train_on(state, rows, tiny_config)

    assert all(torch.equal(value, before[name]) for name, value in weights(state.model).items())


@pytest.mark.usefixtures("one_thread")
def test_a_state_read_back_trains_on_as_if_never_stopped(tiny_suite, tiny_config):
    rows = TokenRows.open(tiny_suite.root / "document", row_tokens=tiny_config.row_tokens)
    state = load_state(tiny_suite.root / "xs", 16, tiny_config.recipe)

    train_on(state, rows[128:256], tiny_config)

    later = load_state(tiny_suite.root / "xs", 32, tiny_config.recipe)
    assert all(
        torch.equal(value, weights(later.model)[name])
        for name, value in weights(state.model).items()
    )


def test_unknown_sizes_and_impossible_settings_are_named(tmp_path):
    with pytest.raises(NotFoundError, match="no size in suite 'mini': 'xl'"):
        mini_suite(("xl",), cache=tmp_path)
    with pytest.raises(StudyError, match="steps: got 100, expected a multiple of the interval 32"):
        MiniConfig(steps=100)
    with pytest.raises(StudyError, match="seed: got -1"):
        MiniConfig(seed=-1)
    assert list(tmp_path.iterdir()) == []
