"""Whole matches by one forward pass against decoding; counts by the suffix array.

Run with `python -m pytest -m bench tests/bench/bench_recall.py -s`; half a minute. Both are made in
one run on the same rows, so that their ratio does not depend on what else the machine does.
"""

import time

import numpy as np
import pytest
import torch

from pythia_profile.labs.recall.recall_counts import SuffixArray
from pythia_profile.scoring import score_checkpoint
from pythia_profile.training.planted import PlantedSettings, planted_corpus
from pythia_profile.training.shapes import ModelShape, tiny_model
from tests.bench.machine import machine

pytestmark = pytest.mark.bench


def seconds(function, times=3):
    """Shortest of some calls, in seconds of this process's CPU."""
    spent = []
    for _ in range(times):
        begun = time.process_time()
        function()
        spent.append(time.process_time() - begun)
    return min(spent)


@pytest.mark.parametrize("shape", [(32, 2), (128, 4), (256, 6)])
def test_one_pass_against_decoding(shape):
    torch.set_num_threads(1)
    width, layers = shape
    model = tiny_model(ModelShape(width=width, layers=layers), 1024, 65, seed=0).eval()
    rows = np.random.default_rng(0).integers(0, 1024, (256, 65))

    base, exact, recall = (
        seconds(lambda names=names: score_checkpoint(model, rows, outcomes=names))
        for names in ((), ("exact_32_32",), ("exact_32_32", "recall_32_32"))
    )

    print(
        f"\n{machine()}\n{width}x{layers}, {len(rows)} rows, 32 tokens after 32: base scores "
        f"{base:.2f} s, with whole matches {exact:.2f} s; decoding takes {recall - exact:.2f} s "
        f"more, {(recall - exact) / base:.1f} times the forward pass that decides it"
    )
    assert recall > exact


@pytest.mark.parametrize("rows", [4_000, 32_000])
def test_exact_counts(rows):
    settings = PlantedSettings(background=rows, sequences=24)
    corpus = planted_corpus(settings)
    begun = time.process_time()
    index = SuffixArray.of(corpus.rows, 32)
    built = time.process_time() - begun
    begun = time.process_time()
    found = index.count(corpus.planted[:, 16:])
    print(
        f"\n{machine()}\n{corpus.rows.size:,} tokens sorted by 32 in {built:.2f} s; "
        f"{len(found)} counts in {1e3 * (time.process_time() - begun):.1f} ms"
    )
    assert (found >= corpus.frequency).all()
