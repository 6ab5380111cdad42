"""What it costs to load the next checkpoint. Run with `pytest -m bench -s tests/bench`.

The shape is that of Pythia 70m, weights are random. Each figure comes from a child process of its
own, so that its peak memory is its own; swaps and fresh loads alternate within one process.
"""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.machine import machine

pytestmark = pytest.mark.bench

ROOT = Path(__file__).parents[2]

MAKE = """
import sys, torch
from pathlib import Path
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM
folder, stored, shards = Path(sys.argv[1]), sys.argv[2], sys.argv[3]
config = GPTNeoXConfig(
    vocab_size=50_304, hidden_size=512, num_hidden_layers=6, num_attention_heads=8,
    intermediate_size=2048, max_position_embeddings=2048,
)
for step in range(3):
    torch.manual_seed(step)
    model = GPTNeoXForCausalLM(config).to(getattr(torch, stored))
    model.save_pretrained(folder / f"step{step}", max_shard_size=shards)
"""

SWAP = """
import statistics, sys, time
from pathlib import Path
import torch
from transformers import GPTNeoXForCausalLM
from pythia_profile.checkpoints.load import CheckpointLoader

folder, wanted = Path(sys.argv[1]), sys.argv[2]
loader = CheckpointLoader(dtype=wanted)
loader.load(folder / "step0")
clocks = (time.perf_counter, time.process_time)
swaps, fresh = [], []
for turn in range(15):
    place = folder / f"step{1 + turn % 2}"
    started = [clock() for clock in clocks]
    model = loader.load(place)
    swaps.append([clock() - begun for clock, begun in zip(clocks, started)])
    started = [clock() for clock in clocks]
    other = GPTNeoXForCausalLM.from_pretrained(place, dtype=getattr(torch, wanted)).eval()
    fresh.append([clock() - begun for clock, begun in zip(clocks, started)])
    ours, theirs = model.state_dict(), other.state_dict()
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    del other, theirs
for place, name in enumerate(("wall", "cpu")):
    ours, theirs = ([times[place] for times in of] for of in (swaps, fresh))
    ratios = [b / a for a, b in zip(ours, theirs)]
    print(
        f"{name}: swap {1e3 * statistics.median(ours):.1f} ms (least {1e3 * min(ours):.1f}), "
        f"from_pretrained {1e3 * statistics.median(theirs):.1f} ms (least {1e3 * min(theirs):.1f}),"
        f" ratio {statistics.median(ratios):.1f}, of the least {min(theirs) / min(ours):.1f}"
    )
"""

MEMORY = """
import sys
from pathlib import Path
import torch
from pythia_profile.checkpoints.load import CheckpointLoader

def field(name, file="/proc/self/status"):
    for line in open(file):
        if line.startswith(name):
            return int(line.split()[1]) / 1e3

folder, wanted = Path(sys.argv[1]), sys.argv[2]
torch.zeros(1).half()
files = sorted((folder / "step1").glob("*.safetensors"))
largest = max(path.stat().st_size for path in files) / 1e6
before = field("VmRSS")
loader = CheckpointLoader(dtype=wanted)
model = loader.load(folder / "step0")
size = sum(p.numel() * p.element_size() for p in model.parameters()) / 1e6
for step in (1, 2, 1, 2):
    loader.load(folder / f"step{step}")
grown = field("VmHWM") - before
print(f"peak {grown:.0f} MB above the start; model {size:.0f} MB + largest file {largest:.0f} MB")
assert grown <= size + largest + 40, "more than model and one file, and 40 MB of Python's own"
"""

WAYS = [
    ("float32", "float32", "5GB"),
    ("float16", "float32", "5GB"),
    ("float16", "float32", "60MB"),
]


def child(code, *arguments):
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", code, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=ROOT,
        env={**os.environ, "HF_HUB_DISABLE_PROGRESS_BARS": "1", "TRANSFORMERS_VERBOSITY": "error"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.strip()


@pytest.mark.parametrize(("stored", "wanted", "shards"), WAYS)
def test_a_swap_is_three_times_as_fast_and_takes_no_second_model(tmp_path, stored, wanted, shards):
    child(MAKE, tmp_path, stored, shards)
    files = len(list((tmp_path / "step1").glob("*.safetensors")))

    timed, memory = child(SWAP, tmp_path, wanted), child(MEMORY, tmp_path, wanted)

    print(f"\n70m, {stored} in {files} files, run in {wanted}, {machine()}")
    print("\n".join(f"  {line}" for line in (*timed.splitlines(), memory)))
