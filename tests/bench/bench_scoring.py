"""What scoring costs beside the bare forward pass. Run with `pytest -m bench -s tests/bench`.

All ways run in turn in one process, several rounds, and the fastest round of each counts: other
work on the machine can only slow one down. Memory is measured in processes of their own.

    bare           the body and the product with the output matrix, no statistics
    ours           `score_checkpoint`: every statistic of every target
    all logits     log-softmax of all logits, then surprisal, rank and entropy: the published way
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.machine import machine

pytestmark = pytest.mark.timeout(1800)

ROOT = Path(__file__).parents[2]

COMMON = """
import json, resource, sys, time
import torch
from transformers import GPTNeoXConfig, GPTNeoXForCausalLM
from pythia_profile.scoring import score_checkpoint

SHAPES = {
    "70m": dict(
        hidden_size=512, num_hidden_layers=6, num_attention_heads=8, intermediate_size=2048
    ),
    "1.4b": dict(
        hidden_size=2048, num_hidden_layers=24, num_attention_heads=16, intermediate_size=8192
    ),
}
VOCABULARY = 50_304

def build(size, dtype, device):
    torch.manual_seed(0)
    config = GPTNeoXConfig(
        vocab_size=VOCABULARY, rotary_pct=0.25, max_position_embeddings=2048, **SHAPES[size]
    )
    model = GPTNeoXForCausalLM(config).eval().to(device, dtype)
    model.set_attn_implementation("sdpa")
    return model

def draw(count):
    return torch.randint(0, VOCABULARY, (count, 2049), generator=torch.Generator().manual_seed(1))

@torch.no_grad()
def bare(model, rows):
    model(rows[:, :-1], use_cache=False).logits

@torch.no_grad()
def all_logits(model, rows):
    logits = model(rows[:, :-1], use_cache=False).logits
    log_p = logits.log_softmax(-1)
    of_target = log_p.gather(-1, rows[:, 1:, None])
    rank = (log_p > of_target).sum(-1)
    entropy = -(log_p.exp() * log_p).sum(-1)
    return of_target[..., 0].mean(1), rank, entropy

def ours(model, rows):
    return score_checkpoint(model, rows.cpu().numpy())

def wait(device):
    if device == "cuda":
        torch.cuda.synchronize()

def rounds(ways, count, device):
    best = {name: float("inf") for name in ways}
    for work in ways.values():
        work()
    for _ in range(count):
        for name, work in ways.items():
            wait(device)
            begun = time.perf_counter()
            work()
            wait(device)
            best[name] = min(best[name], time.perf_counter() - begun)
    return best

def operations(model, rows):
    \"\"\"Multiplications and additions of all matrix products in a forward pass.\"\"\"
    matrices = (p for n, p in model.named_parameters() if p.ndim == 2 and "embed_in" not in n)
    inner = sum(p.numel() for p in matrices)
    tokens = rows[:, 1:].numel()
    attention = 4 * tokens * 2048 * model.config.hidden_size * model.config.num_hidden_layers
    return 2 * inner * tokens + attention

def report(**found):
    print("FOUND " + json.dumps(found))
"""

TIMES = (
    COMMON
    + """
size, dtype, device, count = sys.argv[1], getattr(torch, sys.argv[2]), sys.argv[3], int(sys.argv[4])
if device == "cpu":
    torch.set_num_threads(2)
model, rows = build(size, dtype, device), draw(count).to(device)
published = build(size, torch.float32, device) if size == "70m" else None
n = 2048 if device == "cpu" else 8192
square = torch.randn(n, n, device=device).to(dtype)
ways = {
    "bare": lambda: bare(model, rows),
    "ours": lambda: ours(model, rows),
    "matmul": lambda: square @ square,
}
if published is not None:
    ways["all logits, float32"] = lambda: all_logits(published, rows)
best = rounds(ways, 4, device)
reference = score_checkpoint(published or model, rows.cpu().numpy())["log_likelihood"]
deviation = float((ours(model, rows)["log_likelihood"] - reference).abs().max())
rate = operations(model, rows) / best["ours"] / (2 * n**3 / best["matmul"])
report(seconds=best, matmul_share=rate, deviation=deviation)
"""
)

CHUNKS = (
    COMMON
    + """
from pythia_profile.scoring import token_statistics
torch.set_num_threads(2)
dtype = getattr(torch, sys.argv[1])
generator = torch.Generator().manual_seed(0)
hidden = torch.randn(4096, 512, generator=generator).to(dtype)
head = (0.02 * torch.randn(VOCABULARY, 512, generator=generator)).to(dtype)
targets = torch.randint(0, VOCABULARY, (4096,), generator=generator)
ways = {
    str(chunk): lambda chunk=chunk: token_statistics(hidden, head, targets, chunk=chunk)
    for chunk in (64, 192, 384, 512)
}
report(seconds=rounds(ways, 4, "cpu"))
"""
)

MEMORY = (
    COMMON
    + """
torch.set_num_threads(2)
model, rows = build("70m", torch.float32, "cpu"), draw(2)

def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

way = {"ours": ours, "all logits": all_logits}[sys.argv[1]]
way(model, rows[:, :65])  # what is loaded on first use
before = resident()
with open("/proc/self/clear_refs", "w") as file:
    file.write("5")
way(model, rows)
with open("/proc/self/status") as file:
    peak = next(int(line.split()[1]) * 1024 for line in file if line.startswith("VmHWM"))
report(bytes=peak - before)
"""
)


def measured(script, *arguments):
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore"}
    command = [sys.executable, "-c", script, *map(str, arguments)]
    done = subprocess.run(command, check=True, env=environment, stdout=subprocess.PIPE, text=True)
    line = next(x for x in done.stdout.splitlines() if x.startswith("FOUND "))
    return json.loads(line.removeprefix("FOUND "))


def show(found, title):
    seconds = found["seconds"]
    print(f"\n{machine()}: {title}")
    for name, value in seconds.items():
        print(f"  {name}: {value:.3f} s")
    print(f"  ours ÷ bare: {seconds['ours'] / seconds['bare']:.3f}")
    published = seconds.get("all logits, float32")  # only where it fits
    if published:
        print(f"  all logits in float32 ÷ ours: {published / seconds['ours']:.2f}")
    print(f"  share of the matmul rate: {found['matmul_share']:.0%}")
    print(f"  largest deviation of a row's mean from float32: {found['deviation']:.1e} nats")


@pytest.mark.bench
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_time_beside_the_bare_forward_pass(dtype):
    found = measured(TIMES, "70m", dtype, "cpu", 2)

    show(found, f"70m, 2 rows of 2,049 tokens, {dtype}, two threads")


@pytest.mark.bench
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_time_by_tokens_of_a_chunk(dtype):
    seconds = measured(CHUNKS, dtype)["seconds"]

    print(f"\n{machine()}: head product and statistics of 4,096 tokens, 70m, {dtype}")
    for chunk, value in seconds.items():
        print(f"  chunks of {chunk}: {value:.3f} s")


@pytest.mark.bench
def test_memory_beside_the_weights():
    ours, published = (measured(MEMORY, way)["bytes"] for way in ("ours", "all logits"))

    print(f"\n{machine()}: 70m, 2 rows of 2,049 tokens, float32: beyond the weights")
    print(f"  ours: {ours / 1e6:,.0f} MB; all logits: {published / 1e6:,.0f} MB")


@pytest.mark.gpu
@pytest.mark.parametrize(("size", "rows"), [("70m", 8), ("1.4b", 8)])
def test_time_on_a_gpu(size, rows):
    found = measured(TIMES, size, "bfloat16", "cuda", rows)

    show(found, f"{size}, {rows} rows of 2,049 tokens, bfloat16, on a GPU")
