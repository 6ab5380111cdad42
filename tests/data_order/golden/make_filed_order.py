"""Golden cases of the orders of Amber and Pico, made by running their public loaders.

    git clone https://github.com/LLM360/amber-train && git -C amber-train checkout 64bc595
    git clone https://github.com/pico-lm/pico-train && git -C pico-train checkout f0bfdf4
    cd tests/data_order/golden
    python make_filed_order.py amber-train pico-train > filed_order.json

Of Pico, `ShardedIterableDataset` hands out the rows of a stream to the ranks, which read batches
of it. Of Amber's `main_utils.py` only `load_jsonl_examples` and the schedule are run; lightning,
which the rest of the file needs, is replaced by an empty stand-in. A process seeds numpy as
`fabric.seed_everything` does, with `RANDOM_SEED + file`, and then reads one file after the other,
every rank by itself.
"""

import json
import sys
import tempfile
import types
from importlib.util import module_from_spec, spec_from_file_location
from itertools import islice
from pathlib import Path
from unittest.mock import MagicMock

import numpy as np

CASES = [  # files, rows of each, rows of a micro batch, ranks, files at which processes began
    (3, 50, 2, 3, (0,)),
    (4, 64, 4, 2, (0, 2)),
    (5, 97, 1, 8, (0, 1, 4)),
]


PICO = [(120, 8, 1), (120, 8, 2), (130, 12, 4)]
"""Rows, rows of a step, ranks."""


def stub(name):
    sys.modules[name] = MagicMock()


def pico_steps(sharded, rows, batch_size, world):
    """Rows of each step: every rank reads its share of a batch from its own stream."""
    streams = [iter(sharded(range(rows), rank, world)) for rank in range(world)]
    share = batch_size // world
    return [
        sorted(row for stream in streams for row in islice(stream, share))
        for _ in range(rows // batch_size)
    ]


def steps_of(load, folder, case):
    """Rows of each step, as the ranks of the original loader get them."""
    files, rows, micro, world, starts = case
    steps = []
    for number in range(files):
        begun = max(start for start in starts if start <= number)
        examples = []
        for rank in range(world):
            np.random.seed(11111 + begun)  # noqa: NPY002 (the loader's)
            for earlier in range(begun, number + 1):
                found = load(
                    filename=folder / f"train_{earlier}.jsonl",
                    n_examples=rows,
                    shuffle=True,
                    global_micro_batch_size=micro * world,
                    global_rank=rank,
                    world_size=world,
                )
            examples.append([example["token_ids"][0] for example in found])
        for first in range(0, len(examples[0]), micro):
            steps.append(sorted(r for rank in examples for r in rank[first : first + micro]))
    return steps


def main():
    for name in ("torch.distributed", "torch.distributed.fsdp", "torch.utils.data", "lightning"):
        stub(name)
    sys.modules["torch"] = types.SimpleNamespace(__path__=[])
    sys.modules["torch.utils"] = types.SimpleNamespace(__path__=[])
    sys.modules["torch.utils.data"].IterableDataset = object
    stub("lightning.fabric")
    stub("lightning.fabric.strategies")
    stub("model_utils")
    stub("model_utils.modeling_llama")
    sys.modules["tqdm"] = types.SimpleNamespace(tqdm=lambda lines, **_: lines)
    sys.path.insert(0, sys.argv[1])
    import main_utils

    orders = []
    for case in CASES:
        with tempfile.TemporaryDirectory() as folder:
            for number in range(case[0]):
                lines = [
                    json.dumps({"token_ids": [number * case[1] + row, 0]}) for row in range(case[1])
                ]
                (Path(folder) / f"train_{number}.jsonl").write_text("\n".join(lines))
            steps = steps_of(main_utils.load_jsonl_examples, Path(folder), case)
        facts = dict(zip(("files", "file_rows", "micro", "world", "starts"), case, strict=True))
        orders.append({**facts, "steps": steps})
    rate = main_utils.get_cosine_lr_decay_fn(274_320, 2000, 3e-4, 3e-5)
    updates = [1, 2, 2000, 2001, 2002, 100_000, 274_319, 274_320]
    rates = [[update, rate(update - 1)] for update in updates]
    place = Path(sys.argv[2]) / "src" / "training" / "utils" / "data.py"
    spec = spec_from_file_location("pico_data", place)
    pico = module_from_spec(spec)
    spec.loader.exec_module(pico)
    cases = [
        {"rows": n, "batch_size": b, "steps": pico_steps(pico.ShardedIterableDataset, n, b, w)}
        for n, b, w in PICO
    ]
    json.dump({"orders": orders, "pico": cases, "rates": rates}, sys.stdout, indent=None)


if __name__ == "__main__":
    main()
