"""Several workers on one run: equal work is shared equally, nothing is fetched twice."""

import sys
import threading
import time
from collections import Counter
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from pythia_profile.checkpoints.grid import locate
from pythia_profile.checkpoints.prefetch import Prefetcher
from pythia_profile.errors import RefusedError
from pythia_profile.scoring import engine
from pythia_profile.scoring.engine import Session, score_units
from pythia_profile.scoring.run import score
from pythia_profile.scoring.settings import RunOptions, Scoring
from pythia_profile.scoring.units import units_of
from tests.checkpoints.conftest import MODELS, QUICK, tiny_files
from tests.checkpoints.test_fetch_faults import sent

pytestmark = pytest.mark.slow

UNITS = 24
SCORING = 0.25
FETCHING = 0.15


@pytest.fixture
def many(published):
    """Twenty-four checkpoints of one size on the hub, each of other weights."""
    steps = tuple(range(0, 4 * UNITS, 4))
    size = replace(published.suite.sizes["s"], checkpoints=steps)
    published.suite = replace(published.suite, sizes={"s": size}, steps=steps[-1])
    for step in steps:
        published.publish(step, tiny_files(step))
    published.hub.add("model", MODELS, published.steps[steps[-1]], revision="main")
    return published


def score_with(workers, published, rows, monkeypatch):
    """Score in threads that take units as worker processes do.

    Returns units by worker, seconds in all, and seconds that each worker waited for a checkpoint.
    """
    works = units_of(published.suite, locate(published.suite, ["s"], hub=published.settings))
    done, original = Counter(), engine.score_rows
    waits, held = [], Prefetcher.held

    @contextmanager
    def timed(self, source):
        asked = time.monotonic()
        with held(self, source) as folder:
            waits.append(time.monotonic() - asked)
            yield folder

    monkeypatch.setattr(Prefetcher, "held", timed)
    monkeypatch.setattr(
        engine, "score_rows", lambda *a, **k: (time.sleep(SCORING), original(*a, **k))[1]
    )

    def work():
        session = Session(
            rows=rows,
            scores=published.folder / "scores",
            settings=Scoring(batch_tokens=4096),
            prefetcher=Prefetcher(retry=QUICK),
            retry=False,
            advance=lambda _: done.update([threading.current_thread().name]),
        )
        score_units(works, session)

    threads = [threading.Thread(target=work, name=f"worker {n}") for n in range(workers)]
    started = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return done, time.monotonic() - started, sum(waits) / workers


def test_two_workers_share_equal_units_equally(many, rows, monkeypatch):
    """Each fetches its next checkpoint while it scores, so scoring alone sets the pace."""
    many.hub.misbehave("latency", match="model.safetensors", seconds=FETCHING, times=None)

    done, seconds, waited = score_with(2, many, rows, monkeypatch)

    assert sum(done.values()) == UNITS
    assert all(abs(count - UNITS // 2) <= 2 for count in done.values()), done
    alone = {request.path for request in many.hub.requests("cdn")}
    assert len(alone) == UNITS  # nothing was fetched twice
    assert seconds <= 1.15 * (seconds - waited)  # but for the first fetch, none waits


WITNESS = """
import os, sys, time
from pathlib import Path
def note(event, arguments):
    if event == "os.rename" and str(arguments[1]).endswith("done.json"):
        with Path(os.environ["WITNESS"], str(os.getpid())).open("a") as file:
            print(time.time(), file=file)
sys.addaudithook(note)
"""


def scored_by_processes(workers, published, rows, tmp_path, monkeypatch):
    """Score with worker processes; returns when each of them finished its units."""
    for name in ("patch", "witness"):
        (tmp_path / name).mkdir()
    (tmp_path / "patch" / "sitecustomize.py").write_text(WITNESS)
    monkeypatch.setenv("WITNESS", str(tmp_path / "witness"))
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'patch'}:{Path(__file__).parents[2]}")
    score(published.suite, rows, folder=tmp_path / "scores", options=RunOptions(workers=workers))
    return [
        [float(line) for line in path.read_text().split()]
        for path in (tmp_path / "witness").iterdir()
    ]


def test_two_worker_processes_share_equal_units_equally(many, rows, tmp_path, monkeypatch):
    """The hub sets the pace, and lets both begin together: how busy this machine is says nothing.

    That each fetches while the other does, the bench of scoring shows in seconds.
    """
    many.hub.misbehave("gate", match="model.safetensors", times=2)
    many.hub.misbehave("latency", match="model.safetensors", seconds=0.8, times=None)

    finished = scored_by_processes(2, many, rows, tmp_path, monkeypatch)

    counts = [len(times) for times in finished]
    assert sum(counts) == UNITS
    assert len(counts) == 2
    assert all(abs(count - UNITS // 2) <= 2 for count in counts), counts
    fetched = [request.path for request in many.hub.requests("cdn", "GET") if request.sent]
    assert len([path for path in fetched if "model.safetensors" in path]) == UNITS


@pytest.mark.bench
@pytest.mark.parametrize("workers", [1, 2])
def test_wall_time_of_worker_processes(workers, many, rows, tmp_path, monkeypatch, capsys):
    """From the first finished unit to the last, over what as many waits for the hub take."""
    wait = 1.5
    many.hub.misbehave("gate", match="model.safetensors", times=workers)
    many.hub.misbehave("latency", match="model.safetensors", seconds=wait, times=None)

    finished = scored_by_processes(workers, many, rows, tmp_path, monkeypatch)

    every = sorted(moment for times in finished for moment in times)
    ideal = wait * (UNITS / workers - 1)
    with capsys.disabled():
        sys.stdout.write(
            f"\n{workers} workers, units of each {[*map(len, finished)]}, from the first unit to "
            f"the last {every[-1] - every[0]:.1f} s, ideal {ideal:.1f} s, ratio "
            f"{(every[-1] - every[0]) / ideal:.2f}\n"
        )


def test_a_bad_checkpoint_is_fetched_twice_in_all_however_many_workers_there_are(
    many, rows, monkeypatch
):
    bad = many.hub.repositories["model", MODELS].branches["step40"]
    many.hub.misbehave("flip", match=bad, times=None)

    done, *_ = score_with(3, many, rows, monkeypatch)

    assert sum(done.values()) == UNITS - 1
    fetched = [r for r in many.hub.requests("cdn") if bad in r.path]
    assert len(fetched) == 2
    assert sent(many.hub)


def test_an_unsupported_architecture_is_told_by_its_config_and_its_weights_are_not_fetched(
    published, rows
):
    files = tiny_files(2)
    published.publish(2, files | {"config.json": b'{"model_type": "mamba"}'})

    states = published.score(rows, "accept")

    assert states[2] == (
        "quarantine: config.json: model_type is 'mamba', expected one of gpt_neox, gpt_bigcode, "
        "llama, olmo, olmo2, olmo3"
    )
    commit = published.hub.repositories["model", MODELS].branches["step2"]
    assert not [r for r in published.hub.requests("cdn") if commit in r.path]
    with pytest.raises(RefusedError, match="1 of 3 checkpoints are not what they claim"):
        published.score(rows)
