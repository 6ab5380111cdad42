"""What the hub, the network and the disk can do wrong while a checkpoint is fetched."""

import pickle
import shutil
import signal
import subprocess
import sys
import time
from collections import namedtuple

import pytest

from data_order.hub import client
from pythia_profile.checkpoints.grid import locate
from pythia_profile.checkpoints.source import HubCheckpoint
from pythia_profile.cli import app
from pythia_profile.cli.app import run
from pythia_profile.errors import RefusedError
from tests.checkpoints.conftest import DONE, MODELS, tiny_files

CHILD = """
import pickle, sys
with pickle.loads(bytes.fromhex(sys.argv[1])).held():
    pass
"""


def sent(hub, start=0):
    """Bytes that the cdn sent of each file, since the request of number `start`."""
    bytes_of: dict[str, int] = {}
    for request in hub.log[start:]:
        if request.host == "cdn":
            name = request.path.rsplit("/", 1)[1]
            bytes_of[name] = bytes_of.get(name, 0) + request.sent
    return bytes_of


def source_at(published, step) -> HubCheckpoint:
    grid = locate(published.suite, ["s"], [step], hub=published.settings, keep=-1)
    return grid.located[0].source


def _wait_for_half(source, published):
    part = source.folder / "model-00002-of-00003.safetensors.part"
    size = len(published.steps[4]["model-00002-of-00003.safetensors"])
    deadline = time.monotonic() + 60
    while not (part.exists() and part.stat().st_size >= size // 2):
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.slow
def test_killed_while_downloading_a_later_run_fetches_only_what_is_missing(published):
    """Fault 2."""
    source = source_at(published, 4)
    published.hub.misbehave("hang", match="00002-of-00003", share=0.5, seconds=20)
    child = subprocess.Popen([sys.executable, "-c", CHILD, pickle.dumps(source).hex()])
    try:
        _wait_for_half(source, published)
    finally:
        child.send_signal(signal.SIGKILL)
        child.wait()
    before = len(published.hub.log)
    size = len(published.steps[4]["model-00002-of-00003.safetensors"])
    assert not (source.folder / "model-00002-of-00003.safetensors").exists()

    with source.held() as folder:
        there = {path.name: path.read_bytes() for path in folder.iterdir() if path.suffix}

    assert {name: there[name] for name in published.steps[4]} == published.steps[4]
    again = sent(published.hub, before)
    assert again == {
        "model-00002-of-00003.safetensors": size - size // 2,
        "model-00003-of-00003.safetensors": len(
            published.steps[4]["model-00003-of-00003.safetensors"]
        ),
    }
    assert not list(source.folder.glob("*.part"))
    assert not list(source.folder.parent.glob("*.use~*"))


Usage = namedtuple("Usage", "total used free")


def test_a_full_disk_is_refused_before_the_fetch(published, rows, monkeypatch):
    """Fault 4."""
    monkeypatch.setattr(shutil, "disk_usage", lambda _: Usage(10**9, 10**9, 5000))

    with pytest.raises(
        RefusedError, match=r"need 0\.000 GB .* 0\.000 GB are free in '/"
    ) as refused:
        published.score(rows)

    assert refused.value.exit_code == 4
    assert sent(published.hub) == {}


@pytest.mark.slow
def test_a_full_disk_ends_the_verb_with_4(published, tmp_path, monkeypatch, capsys):
    """Fault 4, from outside: worker processes find the disk full."""
    (tmp_path / "patch").mkdir()
    (tmp_path / "patch/sitecustomize.py").write_text(
        "import shutil, collections\n"
        "Usage = collections.namedtuple('Usage', 'total used free')\n"
        "shutil.disk_usage = lambda _: Usage(10**9, 10**9, 5000)\n"
    )
    study = tmp_path / "study"
    begun = ["init", str(study), "--suite", str(tmp_path / "suite"), "--set", "rows_per_cohort=4"]
    begun += ["--set", "never_treated=4", "--set", "batches_per_cohort=0"]
    assert run(app, begun) == 0
    assert run(app, ["sample", str(study)]) == 0
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path / 'patch'}:{sys.path[0] or '.'}")

    assert run(app, ["score", str(study), "--workers", "1"]) == 4

    error = capsys.readouterr().err
    assert "error: not enough disk space to fetch a checkpoint: need" in error
    assert str(tmp_path / "cache") in error


def test_wrong_bytes_once_are_fetched_anew(published, rows):
    """Fault 6."""
    published.hub.misbehave("flip", match="model.safetensors", times=1)

    assert published.score(rows) == DONE

    size = len(published.steps[2]["model.safetensors"])
    assert sent(published.hub)["model.safetensors"] == 2 * size


def test_wrong_bytes_always_are_quarantined_with_expected_and_got(published, rows):
    """Fault 6."""
    published.hub.misbehave("flip", match="model.safetensors", times=None)

    states = published.score(rows)

    assert (states[0], states[4]) == ("done", "done")
    assert states[2].startswith("quarantine: ")
    assert "also after fetching it twice: got sha256 " in states[2]
    assert ", expected sha256 " in states[2]
    size = len(published.steps[2]["model.safetensors"])
    assert sent(published.hub)["model.safetensors"] == 2 * size


@pytest.mark.parametrize(("name", "step"), [("model.safetensors", 2), ("pytorch_model.bin", 0)])
def test_a_truncated_download_is_quarantined_and_the_others_go_on(published, rows, name, step):
    """Fault 7."""
    published.hub.misbehave("lie", match=f"/{name}", times=None)

    states = published.score(rows)

    assert states.pop(step).startswith("quarantine: ")
    assert set(states.values()) == {"done"}


@pytest.mark.parametrize("at", ["api", "resolve", "cdn"])
def test_too_many_requests_are_waited_for_as_the_hub_says(published, rows, at, caplog):
    """Fault 21."""
    caplog.set_level("INFO")
    published.hub.misbehave("status", at=at, status=429, retry_after=1, times=2)
    started = time.monotonic()

    assert published.score(rows) == DONE

    assert time.monotonic() - started >= 2 if at != "api" else True
    assert "answered 429; asking again in 1.0 s" in caplog.text


def test_waiting_without_end_is_not_asked_for(published, rows):
    """Fault 21: the wait that the hub asks for is bounded."""
    published.hub.misbehave("status", at="cdn", status=429, retry_after=3600, times=None)

    states = published.score(rows)

    assert all(state.startswith("failed: ") for state in states.values())
    assert "waiting 3600 s more would be 3600 s in all, expected at most 5 s" in states[0]


PASSING = [
    ("status", {"status": 500}),
    ("status", {"status": 503}),
    ("cut", {}),
    ("short", {"share": 0.3}),
    ("stall", {"seconds": 0.6}),
    ("hang", {"share": 0.3, "seconds": 0.6}),
]


@pytest.mark.parametrize(("kind", "how"), PASSING, ids=[f"{k}{h}" for k, h in PASSING])
def test_a_failure_that_passes_is_tried_again(published, rows, kind, how, monkeypatch):
    """Fault 22."""
    monkeypatch.setattr(client, "TIMEOUT", 0.3)
    published.hub.misbehave(kind, at="cdn", match="model.safetensors", times=1, **how)

    assert published.score(rows) == DONE


@pytest.mark.parametrize(
    ("kind", "how"), [PASSING[1], PASSING[2], PASSING[4]], ids=["503", "cut", "stall"]
)
def test_a_failure_that_stays_fails_the_unit_and_the_run_goes_on(
    published, rows, kind, how, monkeypatch
):
    """Fault 22; a later run tries it again."""
    monkeypatch.setattr(client, "TIMEOUT", 0.3)
    published.hub.misbehave(kind, at="cdn", match="model.safetensors", times=3, **how)

    states = published.score(rows)

    assert states[2].startswith("failed: ")
    assert "gave up after 3 tries" in states[2]
    assert (states[0], states[4]) == ("done", "done")
    assert published.score(rows) == DONE


def test_a_stream_that_broke_off_is_taken_up_where_it_stopped(published, rows):
    published.hub.misbehave("short", match="model.safetensors", share=0.5, times=1)

    assert published.score(rows) == DONE

    size = len(published.steps[2]["model.safetensors"])
    assert sent(published.hub)["model.safetensors"] == size
    ranges = [r.range for r in published.hub.log if r.path.endswith("/model.safetensors")]
    assert f"bytes={size // 2}-{size - 1}" in ranges


@pytest.mark.parametrize("fault", ["no repository", "gated", "no revision"])
def test_what_is_not_there_or_not_for_us_ends_with_2_before_any_work(
    published, fault, capsys, monkeypatch, tmp_path
):
    """Fault 23."""
    monkeypatch.delenv("HF_TOKEN")
    if fault == "no repository":
        published.hub.repositories.pop(("model", MODELS))
    published.hub.repositories.get(("model", MODELS), published).gated = fault == "gated"
    steps = "0,3" if fault == "no revision" else "0,2"
    study = tmp_path / "study"

    begun = ["init", str(study), "--suite", str(tmp_path / "suite"), "--checkpoints", steps]
    codes = [run(app, begun), run(app, ["plan", str(study)])]

    said = capsys.readouterr().err
    assert codes[-1] == 2
    message = {
        "no repository": f"branches of model '{MODELS}': the hub has no such model",
        "gated": "access is restricted; ask for it on the hub",
        "no revision": "no checkpoint 3 of tiny s; known: 0, 2, 4",
    }[fault]
    assert message in said
    assert sent(published.hub) == {}


def test_an_address_that_expired_is_asked_for_once_more(published, rows):
    published.hub.misbehave("expire", match="model.safetensors", times=1)

    assert published.score(rows) == DONE


def test_a_checkpoint_that_was_given_up_lets_the_next_ones_have_their_turn(published, rows):
    published.publish(0, tiny_files(0))
    published.hub.misbehave("flip", match="model", times=None)

    states = published.score(rows)

    assert all(state.startswith("quarantine") for state in states.values())
