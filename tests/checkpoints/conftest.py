"""Tiny GPT-NeoX checkpoints, saved as published ones are, in folders and on a stand-in hub."""

import io
import json
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import torch
from safetensors.torch import save
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM

from data_order.hub.access import Hub as HubSettings
from data_order.hub.retry import RetryPolicy
from pythia_profile.checkpoints.grid import locate
from pythia_profile.checkpoints.prefetch import Prefetcher
from pythia_profile.execute.worker import Worker
from pythia_profile.scoring.engine import Session, score_units
from pythia_profile.scoring.settings import Scoring
from pythia_profile.scoring.units import units_of
from pythia_profile.suites.folder import write_suite
from pythia_profile.suites.model import Size, Suite
from pythia_profile.tables import ROWS
from tests.stand_in.hub import Hub

CANARY = "hf_CANARYcanaryCANARYcanary"
MODELS, TEXTS = "tests/tiny", "tests/rows"
SHAPE = {
    "vocab_size": 50,
    "hidden_size": 16,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "intermediate_size": 32,
    "max_position_embeddings": 8,
}


def tiny_model(seed: int = 0, **changes) -> GPTNeoXForCausalLM:
    torch.manual_seed(seed)
    return GPTNeoXForCausalLM(GPTNeoXConfig(**{**SHAPE, **changes})).eval()


@pytest.fixture
def saved(tmp_path):
    """Save a tiny model: a factory of folders."""

    def save(name: str = "checkpoint", seed: int = 0, shard: str = "5GB", **changes) -> Path:
        folder = tmp_path / name
        tiny_model(seed, **changes).save_pretrained(folder, max_shard_size=shard)
        return folder

    return save


def tiny_tensors(seed: int) -> dict[str, torch.Tensor]:
    """Tensors of a tiny model under the names that published files have."""
    tensors = {name: value.clone() for name, value in tiny_model(seed).state_dict().items()}
    tensors["embed_out.weight"] = tensors.pop("lm_head.weight")
    return tensors


def tiny_files(seed: int, kind: str = "safetensors", shards: int = 1) -> dict[str, bytes]:
    """Files of a checkpoint, name -> bytes, as a repository holds them."""
    files = {"config.json": json.dumps({"model_type": "gpt_neox", **SHAPE}).encode()}
    tensors = tiny_tensors(seed)
    names = sorted(tensors)
    stem, ending = ("model", kind) if kind == "safetensors" else ("pytorch_model", kind)
    if shards == 1:
        return files | {f"{stem}.{ending}": written(tensors, kind)}
    weight_map = {}
    for number in range(shards):
        name = f"{stem}-{number + 1:05d}-of-{shards:05d}.{ending}"
        part = {tensor: tensors[tensor] for tensor in names[number::shards]}
        weight_map |= dict.fromkeys(part, name)
        files[name] = written(part, kind)
    index = {"metadata": {}, "weight_map": weight_map}
    return files | {f"{stem}.{ending}.index.json": json.dumps(index).encode()}


def written(tensors: dict, kind: str) -> bytes:
    if kind == "safetensors":
        return save(tensors)
    file = io.BytesIO()
    torch.save(tensors, file)
    return file.getvalue()


@pytest.fixture(autouse=True)
def _home(tmp_path, monkeypatch):
    """Nothing of the user's is read or written."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("HF_HOME", str(tmp_path / "hf"))
    monkeypatch.setenv("HF_TOKEN", CANARY)


@pytest.fixture
def hub(monkeypatch):
    with Hub() as running:
        monkeypatch.setenv("HF_ENDPOINT", running.endpoint)
        yield running


@dataclass
class Published:
    """A suite of one size whose checkpoints and rows lie on the stand-in."""

    hub: Hub
    folder: Path
    suite: Suite
    steps: dict[int, dict[str, bytes]] = field(default_factory=dict)

    def publish(self, step: int, files: dict) -> str:
        """Put a checkpoint on its branch; returns the commit."""
        self.steps[step] = files
        return self.hub.add("model", MODELS, files, revision=f"step{step}")

    def on_disk(self, seeds: dict[int, int]) -> None:
        """Put the checkpoints in folders of the suite instead: step -> seed of its weights."""
        (size,) = self.suite.sizes.values()
        self.suite = replace(self.suite, sizes={"s": replace(size, weights=MODELS)})
        write_suite(self.suite, self.folder / "suite")
        for step, seed in seeds.items():
            folder = self.folder / "suite" / MODELS / f"step{step}"
            folder.mkdir(parents=True)
            for name, content in tiny_files(seed).items():
                (folder / name).write_bytes(content)

    @property
    def settings(self) -> HubSettings:
        return HubSettings(endpoint=self.hub.endpoint, cache=self.folder / "cache", retry=QUICK)

    @property
    def tokens(self) -> np.ndarray:
        return np.random.default_rng(5).integers(0, 50, (40, 9)).astype("<u2")

    def score(self, rows: pl.DataFrame, faulty: str = "refuse", **how) -> dict[int, str]:
        """Score every checkpoint in this process; returns the state of each."""
        grid = locate(self.suite, ["s"], hub=self.settings, keep=how.pop("keep", 0))
        works = units_of(self.suite, grid, faulty)
        scores = self.folder / "scores"
        downloads = Prefetcher(retry=QUICK, **how)
        settings = Scoring(batch_tokens=64)
        session = Session(rows=rows, scores=scores, settings=settings, prefetcher=downloads)
        score_units(works, session)
        return {work.unit.checkpoint: state_of(scores / work.unit.path) for work in works}


def state_of(place: Path) -> str:
    """State of a unit, with the reason where it has no scores."""
    for word in ("quarantine", "failed"):
        if (place / f"{word}.json").exists():
            assert not (place / "scores.parquet").exists()
            return f"{word}: {json.loads((place / f'{word}.json').read_text())['reason']}"
    assert (place / "scores.parquet").exists()
    return "done" if (place / "done.json").exists() else "nothing"


QUICK = RetryPolicy(retries=2, first_wait=0.01, longest_wait=0.05, total_wait=5.0)
STEPS = (0, 2, 4)
DONE = dict.fromkeys(STEPS, "done")


@pytest.fixture
def published(hub, tmp_path):
    """Three checkpoints in three formats: only a pickle, safetensors, three shards."""
    size = Size(
        name="s",
        layers=2,
        width=16,
        heads=2,
        parameters=8000,
        peak_lr=1e-3,
        min_lr=1e-4,
        precision="float32",
        weights=f"hf://{MODELS}",
        checkpoints=STEPS,
    )
    suite = Suite(
        name="tiny",
        title="three checkpoints on the hub",
        batch_size=8,
        steps=4,
        row_tokens=9,
        vocabulary=50,
        schedule="neox_v1",
        warmup_steps=1,
        seed=0,
        sizes={"s": size},
        root=tmp_path / "suite",
        store=f"hf://datasets/{TEXTS}",
    )
    made = Published(hub, tmp_path, suite)
    write_suite(suite, tmp_path / "suite")
    made.publish(0, tiny_files(0, "bin"))
    made.publish(2, tiny_files(2))
    made.publish(4, tiny_files(4, shards=3))
    hub.add("model", MODELS, made.steps[4], revision="main")
    hub.add("dataset", TEXTS, {"document-00000-of-00000.bin": made.tokens.tobytes()})
    return made


@pytest.fixture
def rows() -> pl.DataFrame:
    tokens = np.random.default_rng(1).integers(0, 50, (12, 9))
    return pl.DataFrame(
        {
            "row_id": np.arange(12),
            "treatment_step": [1] * 4 + [3] * 4 + [None] * 4,
            "batch": [0] * 4 + [2] * 4 + [None] * 4,
            "tokens": tokens.tolist(),
            "earlier_exposure": 0.0,
        },
        schema_overrides=ROWS.columns,
    )


@pytest.fixture
def in_process(monkeypatch):
    """Score in this process instead of in workers, which take seconds to begin."""

    def map_units(function, units, resources, on_part):
        worker = Worker("cpu", 1, lambda amount: on_part("scoring", amount, 0))
        return [function(unit, worker) for unit in units[:1]]

    monkeypatch.setattr(import_module("pythia_profile.scoring.run"), "map_units", map_units)
