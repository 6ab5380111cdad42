"""Whole files in parallel ranges: the right bytes in order, resumed, bounded, and faster."""

import hashlib
import threading
import time

import numpy as np
import pytest

from data_order.errors import RemoteError
from data_order.hub import download as module
from data_order.hub.access import Hub as HubSettings
from data_order.hub.client import RemoteFile
from data_order.hub.download import download
from data_order.hub.listings import list_files
from data_order.hub.retry import RetryPolicy
from tests.stand_in.hub import Hub

DATA = np.random.default_rng(3).integers(0, 256, 300_001, dtype=np.uint8).tobytes()
SHA256 = hashlib.sha256(DATA).hexdigest()
QUICK = RetryPolicy(retries=3, first_wait=0.01, longest_wait=0.02, total_wait=3.0)


@pytest.fixture
def hub(monkeypatch):
    monkeypatch.setattr(module, "_RANGE", 20_000)
    with Hub() as running:
        running.commit = running.add("model", "o/m", {"model.safetensors": DATA, "empty": b""})
        yield running


def remote(hub, name="model.safetensors"):
    options = HubSettings(endpoint=hub.endpoint, cache=False, retry=QUICK)
    file = next(f for f in list_files("o/m", hub.commit, options) if f.name == name)
    return RemoteFile(options, "model", "o/m", hub.commit, file)


@pytest.mark.parametrize("fault", [None, "cut", "short", "wrong_range", "ignore_range", "lie"])
def test_ranges_side_by_side_make_the_file_whatever_fails(hub, tmp_path, fault):
    if fault:
        hub.misbehave(fault, at="cdn", times=3, after=2)
    came = []

    got = download(remote(hub), tmp_path / "x.part", hashlib.sha256, advance=came.append)

    assert (tmp_path / "x.part").read_bytes() == DATA
    assert got == SHA256
    assert sum(came) == len(DATA)
    assert len(hub.requests("resolve")) == 1
    if fault != "ignore_range":
        assert sum(request.sent for request in hub.requests("cdn")) <= len(DATA) + 3 * 20_000


def test_a_server_without_ranges_is_asked_for_the_whole_file(hub, tmp_path):
    hub.misbehave("ignore_range", at="cdn", times=None)

    assert download(remote(hub), tmp_path / "x.part", hashlib.sha256) == SHA256
    assert (tmp_path / "x.part").read_bytes() == DATA


def test_an_unfinished_file_is_a_beginning_and_is_gone_on_with(hub, tmp_path):
    hub.misbehave("status", at="cdn", status=500, times=None, after=6)

    with pytest.raises(RemoteError, match="answered 500; gave up after 4 tries"):
        download(remote(hub), tmp_path / "x.part", hashlib.sha256, connections=3)

    came = (tmp_path / "x.part").read_bytes()
    assert came
    assert came == DATA[: len(came)]
    hub._faults.clear()
    before = len(hub.log)
    assert download(remote(hub), tmp_path / "x.part", hashlib.sha256) == SHA256
    assert sum(r.sent for r in hub.log[before:] if r.host == "cdn") == len(DATA) - len(came)


def test_no_range_is_fetched_far_ahead_of_the_slowest(hub, tmp_path):
    hub.misbehave("latency", at="cdn", seconds=0.5, times=1)
    asked = []

    def look(_):
        asked.append(len(hub.requests("cdn")))

    download(remote(hub), tmp_path / "x.part", hashlib.sha256, advance=look, connections=3)

    assert max(asked[:3]) <= 4


def test_what_is_not_needed_any_more_is_left(hub, tmp_path):
    stop = threading.Event()
    threading.Timer(0.3, stop.set).start()
    started = time.monotonic()
    hub.misbehave("status", at="cdn", status=503, retry_after=2, times=None)

    with pytest.raises(RemoteError, match=r"not needed any more|another part failed"):
        download(remote(hub), tmp_path / "x.part", hashlib.sha256, stop=stop)

    assert time.monotonic() - started < 2


def test_an_empty_file_takes_no_request(hub, tmp_path):
    assert (
        download(remote(hub, "empty"), tmp_path / "x", hashlib.sha256)
        == hashlib.sha256().hexdigest()
    )
    assert not hub.requests("cdn")


def test_connections_side_by_side_are_faster_where_each_is_limited(hub, tmp_path):
    hub.misbehave("rate", at="cdn", rate=150_000, times=None)

    seconds = {}
    for connections in (1, 8):
        started = time.monotonic()
        path = tmp_path / str(connections)
        assert download(remote(hub), path, hashlib.sha256, connections=connections) == SHA256
        seconds[connections] = time.monotonic() - started

    assert seconds[8] < 0.7 * seconds[1], seconds
