"""What the data order costs at the published size. Run with `pytest -m bench -s tests/bench`.

Each figure is measured in a child process of its own, so that its peak memory is its own.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from data_order import MegatronStore, TokenRows
from data_order.hub.access import Hub as HubSettings
from tests.bench.machine import machine
from tests.stand_in.hub import Hub, Virtual

pytestmark = pytest.mark.bench

ROOT = Path(__file__).parents[2]

FULL = """
import resource, sys, time
import numpy as np
from data_order import NeoxOrder, exposures
from data_order.neox.index_maps import sample_index_blocks

documents, epochs = 134_318_121, 2
rng = np.random.default_rng(0)
sizes = np.empty(documents, np.int32)
for start in range(0, documents, 1 << 22):
    part = sizes[start : start + (1 << 22)]
    part[:] = np.minimum(rng.lognormal(6.6, 1.22, len(part)), 1e6)
sizes[rng.integers(0, documents, 1000)] = 0

def peak():
    return f"{resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6:.2f} GB peak"

def measured(name, work):
    begun = time.perf_counter()
    result = work()
    print(f"{name}: {time.perf_counter() - begun:.2f} s, {peak()}", flush=True)
    return result

print(f"sizes of {documents:,} documents: {peak()}", flush=True)
if sys.argv[1] == "shuffles":
    shuffles = np.random.RandomState(1234)
    listed = np.tile(np.arange(documents, dtype=np.int32), epochs)
    rows = np.arange(202_929_588, dtype=np.uint32)
    measured("the two shuffles alone", lambda: (shuffles.shuffle(listed), shuffles.shuffle(rows)))
    sys.exit()
order = measured("document and shuffle index", lambda: NeoxOrder.from_sizes(sizes))
print(order)
if sys.argv[1] == "maps":
    blocks = sample_index_blocks(len(order), 2048, order.sizes, order.document_index)
    measured("sample index, block by block", lambda: sum(len(block) for block in blocks))
else:
    rows = np.sort(rng.choice(146_432_000, 14_300, replace=False))
    measured("pieces of 14,300 rows", lambda: order.pieces(rows))
    found = measured("exposures of 14,300 rows", lambda: exposures(order, rows))
    print(f"tokens read before: {found.share.mean():.3f}; reads found: {len(found.reads):,}")
"""


@pytest.mark.parametrize("part", ["shuffles", "maps", "pieces"])
def test_full_size_index_maps(part):
    print(f"\n{machine()}, numpy {np.__version__}")
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OPENBLAS_NUM_THREADS": "1"}

    subprocess.run([sys.executable, "-c", FULL, part], check=True, env=environment)


def test_random_rows_of_a_local_store(tmp_path):
    rows = np.random.default_rng(0).integers(0, 50_000, (60_000, 2049), dtype=np.uint16)
    store = MegatronStore.write(tmp_path / "document", rows)
    data = store.prefix.with_suffix(".bin")
    whole = data.read_bytes()
    cuts = [0, len(whole) // 3 + 1, len(whole) // 2 + 1, len(whole)]
    for i in range(3):
        (tmp_path / f"cut-{i:05d}-of-00002.bin").write_bytes(whole[cuts[i] : cuts[i + 1]])
    one, cut = TokenRows.open(store.prefix), TokenRows.open(tmp_path / "cut")
    memory = np.memmap(data, mode="r")
    asked = np.random.default_rng(1).integers(0, len(rows), 14_300)

    def row_by_row():
        return [
            np.frombuffer(memory, np.uint16, 2049, 4098 * int(row)).copy() for row in asked.tolist()
        ]

    rates = {"one file": [], "three shards": [], "MegatronStore": [], "row by row": []}
    for _ in range(7):
        for name, work in zip(
            rates,
            [lambda: one[asked], lambda: cut[asked], lambda: store[asked], row_by_row],
            strict=True,
        ):
            begun = time.perf_counter()
            work()
            rates[name].append(len(asked) / (time.perf_counter() - begun))

    print(f"\n{machine()}: 14,300 random rows of 2,049 tokens, copied out, best and median of 7")
    for name, seen in rates.items():
        print(f"  {name}: {max(seen):,.0f} and {np.median(seen):,.0f} rows/s")
    assert np.array_equal(one[asked], rows[asked])
    assert np.array_equal(cut[asked], rows[asked])


def test_rows_side_by_side_and_one_by_one(tmp_path):
    tokens = np.random.default_rng(0).integers(0, 50_000, (60_000, 2049), dtype=np.uint16)
    data = MegatronStore.write(tmp_path / "document", tokens).prefix.with_suffix(".bin")
    plain = np.memmap(data, np.uint16, mode="r").reshape(-1, 2049)
    ours = TokenRows.open(tmp_path / "document")
    checked = TokenRows.open(tmp_path / "document", vocabulary=50_304)
    whole = data.read_bytes()
    for i, cut in enumerate((whole[: len(whole) // 3], whole[len(whole) // 3 :])):
        (tmp_path / f"cut-{i:05d}-of-00001.bin").write_bytes(cut)
    shards = TokenRows.open(tmp_path / "cut")
    singles = np.random.default_rng(1).integers(0, len(tokens), 20_000).tolist()
    batches = [(first, first + 1024) for first in range(0, 58_000, 1024)]
    works = {
        "batches of 1,024": lambda rows: [np.array(rows[a:b]) for a, b in batches],
        "single rows": lambda rows: [np.array(rows[row]) for row in singles],
    }
    counts = {"batches of 1,024": 1024 * len(batches), "single rows": len(singles)}
    readers = {
        "numpy memmap": plain,
        "TokenRows": ours,
        "two shards": shards,
        "vocabulary": checked,
    }

    print(f"\n{machine()}: rows of 2,049 tokens, copied out, best of 7")
    for name, work in works.items():
        best = dict.fromkeys(readers, 0.0)
        for _ in range(7):
            for reader, rows in readers.items():
                begun = time.perf_counter()
                work(rows) if reader == "numpy memmap" else _read(rows, name, batches, singles)
                rate = counts[name] / (time.perf_counter() - begun)
                best[reader] = max(best[reader], rate)
        print("  " + name + ": " + ", ".join(f"{k} {v:,.0f} rows/s" for k, v in best.items()))


def _read(rows, name, batches, singles):
    """Read without a second copy: what TokenRows gives belongs to the caller already."""
    if name == "single rows":
        return [rows[row] for row in singles]
    return [rows[a:b] for a, b in batches]


def test_opening_and_checking_an_index_of_ten_million_sequences(tmp_path):
    sizes = np.random.default_rng(0).integers(0, 3, 10_000_000)
    tokens = np.zeros(int(sizes.sum()), np.uint16)
    MegatronStore.write(tmp_path / "d", np.split(tokens, np.cumsum(sizes)[:-1]))

    begun = time.perf_counter()
    store = MegatronStore(tmp_path / "d")

    print(f"\n{machine()}: {len(store):,} sequences checked in {time.perf_counter() - begun:.2f} s")


@pytest.mark.parametrize("latency", [0.0, 0.02])
def test_scattered_rows_of_the_published_size_from_the_hub(latency, tmp_path):
    sizes = [30_000_000_000] * 20 + [78_336_000]
    payload = np.random.default_rng(0).bytes(1 << 20)
    files = {
        f"document-{i:05d}-of-00020.bin": Virtual(size, lambda _, length: payload[:length])
        for i, size in enumerate(sizes)
    }
    asked = np.sort(np.random.default_rng(1).choice(146_432_000, 14_300, replace=False))
    with Hub() as hub:
        hub.add("dataset", "owner/rows", files)
        if latency:
            hub.misbehave("latency", at="cdn", times=None, seconds=latency)
        rows = TokenRows.open("owner/rows", hub=HubSettings(endpoint=hub.endpoint, cache=tmp_path))
        begun = time.perf_counter()
        rows[asked]
        first = time.perf_counter() - begun
        begun = time.perf_counter()
        again = TokenRows.open("owner/rows", hub=HubSettings(endpoint=hub.endpoint, cache=tmp_path))
        again[asked]
        second = time.perf_counter() - begun
        sent = sum(request.sent for request in hub.requests("cdn"))

        print(
            f"\n{machine()}: 14,300 scattered rows of 600 GB, {latency * 1000:.0f} ms latency: "
            f"{sent / 1e6:.1f} MB in {first:.1f} s, served ÷ needed = {sent / (14_300 * 4098):.4f},"
            f" {len(hub.requests('resolve'))} HEADs, {len(hub.requests('cdn')):,} GETs; from the "
            f"cache, in a new reader: {second:.2f} s"
        )
