"""Every class of a published suite: loaded strictly, as transformers loads it, and scored."""

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from pythia_profile.checkpoints.architecture import MODEL_TYPES, config_fault
from pythia_profile.checkpoints.load import CheckpointLoader
from pythia_profile.checkpoints.weights import CheckpointError
from pythia_profile.scoring.forward import score_checkpoint
from pythia_profile.tables import ROWS
from tests.tiny_classes import CONFIGS, tiny_of_class

TOKENS = np.random.default_rng(0).integers(2, 50, (6, 13))


@pytest.fixture(params=CONFIGS)
def folders(request, tmp_path):
    """Two checkpoints of a class."""
    for seed in (0, 1):
        tiny_of_class(request.param, seed).save_pretrained(tmp_path / str(seed))
    return tmp_path / "0", tmp_path / "1"


def test_each_class_is_loaded_and_swapped_as_transformers_loads_it(folders):
    loader, ids = CheckpointLoader(), torch.from_numpy(TOKENS)

    for folder in folders:
        reference = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
        model = loader.load(folder)
        assert type(model) is type(reference)
        assert torch.equal(model(ids).logits, reference(ids).logits)


def test_each_class_is_scored_as_by_cross_entropy(folders):
    model = CheckpointLoader().load(folders[0])
    rows = pl.DataFrame(
        {
            "row_id": np.arange(6),
            "treatment_step": [1, 2, 3, None, None, None],
            "batch": [0, 1, 2, None, None, None],
            "tokens": TOKENS.tolist(),
            "earlier_exposure": 0.0,
        },
        schema_overrides=ROWS.columns,
    )

    found = score_checkpoint(model, rows)

    reference = AutoModelForCausalLM.from_pretrained(folders[0], dtype=torch.float32).eval()
    ids = torch.from_numpy(TOKENS)
    with torch.no_grad():
        logits = reference(ids[:, :-1]).logits.double()
    loss = torch.nn.functional.cross_entropy(
        logits.transpose(1, 2), ids[:, 1:], reduction="none"
    ).mean(dim=1)
    # float32 statistics of logits near 1
    assert found["log_likelihood"].to_numpy() == pytest.approx(-loss.numpy(), abs=2e-6)


def test_each_class_is_refused_where_a_tensor_is_missing_or_of_another_model(folders):
    path = folders[0] / "model.safetensors"
    tensors = load_file(path)
    parts = ("q_proj.weight", "c_attn.weight", "query_key_value.weight")
    name = next(name for name in tensors if name.endswith(parts))
    value = tensors.pop(name)
    save_file(tensors, path)
    with pytest.raises(CheckpointError, match=f"missing: {name}"):
        CheckpointLoader().load(folders[0])
    save_file({**tensors, name: value[:3].contiguous()}, path)
    with pytest.raises(CheckpointError, match=f"mismatched: {name}"):
        CheckpointLoader().load(folders[0])


def test_other_classes_are_refused_by_their_config_alone():
    assert set(CONFIGS) == set(MODEL_TYPES)
    for kind in ("gpt2", "hf_olmo", "pico_decoder", "olmo_hybrid"):
        assert config_fault({"model_type": kind}).startswith(f"model_type is '{kind}', expected")
