"""Golden cases of shuffled orders, made by running the public loaders.

    git clone https://github.com/allenai/OLMo && git -C OLMo checkout 59a53e3
    git clone https://github.com/allenai/OLMo-core && git -C OLMo-core checkout fa6c501
    cd tests/data_order/golden
    PYTHONPATH=../../.. python make_shuffled_order.py OLMo OLMo-core > shuffled_order.json

Only the modules that decide the order are imported; what they import beside that, and what is not
installed, is replaced by stand-ins that are never called.
"""

import importlib
import json
import sys
import tempfile
import types
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np

from tests.data_order.repeating_rows import repeating_rows

LEGACY = [  # rows, seed, pass, batch, first batch, world
    (97, 6198, 0, 8, 0, 1),
    (97, 6198, 1, 8, 0, 1),
    (4096, 6198, 0, 64, 10, 4),
    (1000, 42069, 0, 16, 0, 2),
    (5, 0, 3, 2, 0, 1),
]
CORE = [  # bytes of the files, row tokens, target row tokens, seed, pass, batch, world
    ([404, 396, 8, 1000], 4, 4, 34521, 1, 4, 1),
    ([404, 396, 8, 1000, 404], 4, 8, 34521, 1, 4, 2),
    ([404, 396, 8, 1000], 4, 8, 1337, 2, 6, 1),
    ([4000, 4096], 16, 16, 7, 1, 8, 4),
]


MISSING = (
    "bettermap",
    "dataclass_extensions",
    "olmo_data",
    "datasets",
    "boto3",
    "botocore",
    "cached_path",
    "google",
    "importlib_resources",
    "omegaconf",
    "requests",
    "rich",
    "s3fs",
    "wandb",
)


class Missing(types.ModuleType):
    """Stands for a package that is not needed for the order: empty classes, and mocks."""

    __path__ = ()

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        anything = {"__init__": lambda *_, **__: None, "__call__": lambda _, function: function}
        anything["recoverable_errors"] = ()
        anything["register"] = classmethod(lambda *_, **__: lambda kind: kind)
        return type(name, (), anything) if name[0].isupper() else MagicMock(name=name)


class Finder:
    """Gives a stand-in for every package that cannot be imported."""

    def find_spec(self, name, *_):
        if name.split(".")[0] not in MISSING:
            return None
        return importlib.machinery.ModuleSpec(name, self)

    def create_module(self, spec):
        return Missing(spec.name)

    def exec_module(self, module):
        pass


def package(name, folder):
    """Make a package without running its `__init__`, which would import all of it."""
    module = types.ModuleType(name)
    module.__path__ = [str(folder)]
    sys.modules[name] = module


def legacy_cases(olmo):
    package("olmo", olmo / "olmo")
    package("olmo.data", olmo / "olmo" / "data")
    loader = importlib.import_module("olmo.data.iterable_dataset").IterableDataset
    cases = []
    for rows, seed, number, batch, first, world in LEGACY:
        ranks = []
        for rank in range(world):
            data = loader(
                [[i] for i in range(rows)],
                batch,
                seed=seed,
                epoch=number,
                start_index=first * batch,
                drop_last=True,
                world_size=world,
                rank=rank,
                fs_local_rank=rank,
                num_threads=0,
            )
            ranks.append([item["index"] for item in data])
        own = batch // world
        whole = min(rows // world // own, rows // batch) - first
        steps = [
            sorted(i for ids in ranks for i in ids[step * own : (step + 1) * own])
            for step in range(whole)
        ]
        cases.append(
            {"rows": rows, "seed": seed, "pass": number, "batch_size": batch, "first": first}
            | {"steps": steps}
        )
    return cases


def masks():
    util = importlib.import_module("olmo.data.util")
    return [
        any(hit.times >= 32 for hit in util.find_periodic_sequences(row, max_period=13))
        for row in repeating_rows()
    ]


def rates():
    """Rates of OLMo-2 7B at some updates; the trainer counts the tokens of the batch it reads."""
    sys.modules["olmo"].LayerNormBase = type("LayerNormBase", (), {})
    optim = importlib.import_module("olmo.optim")
    ways = {"grad_clip_warmup_steps": None, "grad_clip_warmup_factor": None, "warmup_min_lr": 0.0}
    first = optim.CosWithWarmup(warmup_steps=8_388_608_000, alpha_f=0.1, t_max=int(5e12), **ways)
    tokens = 1024 * 4096
    updates = [1, 2, 1999, 2000, 2001, 50_000, 464_323, 928_646]
    stage_1 = [first.get_lr(3e-4, update * tokens, 0) for update in updates]
    second = optim.LinearWithWarmup(warmup_steps=0, alpha_f=0.0, **ways)
    late = [1, 6000, 11_920, 11_921, 11_922, 11_931]
    stage_2 = [second.get_lr(6.1499e-5, update, 11_921) for update in late]
    return {"stage1": [updates, stage_1], "stage2": [late, stage_2]}


def core_cases(core):
    package("olmo_core", core / "src" / "olmo_core")
    package("olmo_core.data", core / "src" / "olmo_core" / "data")
    loaders = importlib.import_module("olmo_core.data.data_loader")
    datasets = importlib.import_module("olmo_core.data.numpy_dataset")
    cases = []
    for sizes, tokens, target, seed, number, batch, world in CORE:
        with tempfile.TemporaryDirectory() as folder:
            paths = []
            for i, size in enumerate(sizes):
                path = Path(folder) / f"{i}.npy"
                np.arange(size // 4, dtype=np.uint32).tofile(path)
                paths.append(path)
            dataset = datasets.NumpyFSLDataset(
                *paths,
                sequence_length=tokens,
                pad_token_id=0,
                eos_token_id=0,
                vocab_size=10_000,
                dtype=np.uint32,
                max_target_sequence_length=target,
            )
            ranks = []
            for rank in range(world):
                loader = loaders.NumpyDataLoaderBase.wrap_numpy_dataset(
                    dataset,
                    global_batch_size=batch * tokens,
                    collator=MagicMock(),
                    work_dir=folder,
                    seed=seed,
                    dp_world_size=world,
                    dp_rank=rank,
                )
                loader.reshuffle(epoch=number, in_memory=True)
                indices = loader._get_local_instance_indices(loader.get_global_indices())
                ranks.append(np.asarray(indices).reshape(-1, batch // world))
            steps = np.sort(np.concatenate(ranks, axis=1), axis=1)
            first = [dataset[int(i)]["input_ids"].tolist() for i in steps[0]]
        cases.append(
            {"sizes": sizes, "row_tokens": tokens, "together": target // tokens, "seed": seed}
            | {"pass": number, "batch_size": batch, "rows": len(dataset)}
            | {"steps": steps.tolist(), "tokens_of_step_1": first}
        )
    return cases


if __name__ == "__main__":
    sys.meta_path.append(Finder())
    olmo, core = (Path(argument).resolve() for argument in sys.argv[1:3])
    golden = {"legacy": legacy_cases(olmo), "core": core_cases(core), "masked": masks()}
    golden["rates"] = rates()
    sys.stdout.write(json.dumps(golden, separators=(",", ":")) + "\n")
