"""Rows from the hub, whatever fails: the right ones or one clear error.

The hub is a stand-in on this machine; the client is the real one.
"""

import os
import subprocess
import sys
from pathlib import Path

import httpx2
import numpy as np
import pytest

from data_order import StoreError, TokenRows
from data_order.errors import RemoteError, RemoteNotFoundError
from data_order.hub.retry import RetryPolicy
from data_order.store.integrity import differing_rows
from tests.data_order.remote_rows import (
    REPO,
    TOKENS,
    WIDTH,
    open_rows,
    served,
    settings,
    shard_files,
)
from tests.stand_in.hub import Virtual

FAULTS = {
    "ignores the range": ("ignore_range", {"times": 2}),
    "sends another range": ("wrong_range", {"times": 2}),
    "sends half and closes": ("short", {"times": 2}),
    "says half is all": ("lie", {"times": 2}),
    "cuts the connection": ("cut", {"times": 2}),
    "lets the address expire": ("expire", {}),
    "is busy": ("status", {"status": 503, "times": 3}),
    "fails": ("status", {"status": 500, "times": 2}),
    "answers 416": ("status", {"status": 416, "times": 1}),
    "limits the rate": ("status", {"status": 429, "retry_after": 0.1, "times": 3}),
    "is slow": ("latency", {"seconds": 0.02, "times": None}),
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("after", [0, 3])
def test_a_fault_that_passes_ends_in_the_right_rows(fault, after, hub, rows):
    kind, settings = FAULTS[fault]
    hub.misbehave(kind, at="cdn", after=after, **settings)
    asked = [119, 0, 36, 74, 75, 99, 12]

    assert np.array_equal(rows[asked], TOKENS[asked])


@pytest.mark.parametrize("at", ["api", "resolve"])
@pytest.mark.parametrize(
    ("kind", "settings"),
    [
        ("status", {"status": 429, "retry_after": 0.05, "times": 2}),
        ("status", {"status": 503, "times": 2}),
        ("cut", {"times": 2}),
    ],
)
def test_the_hubs_own_faults_pass_too(at, kind, settings, hub, tmp_path):
    hub.misbehave(kind, at=at, **settings)

    assert np.array_equal(open_rows(hub, tmp_path)[[3, 60]], TOKENS[[3, 60]])


LASTING = {
    "ignore_range": "ignored the range and answered 200 with the whole file; gave up after 6 tries",
    "wrong_range": "the server sent 'bytes .*', expected 'bytes",
    "short": "the connection failed",
    "lie": "got 64 bytes, expected 129",  # half of what was missing, six times,
    "cut": "the connection failed",
}


@pytest.mark.parametrize("kind", LASTING)
def test_a_fault_that_lasts_is_one_clear_error_and_no_wrong_row(kind, hub, rows):
    hub.misbehave(kind, at="cdn", times=None)

    with pytest.raises(RemoteError, match=LASTING[kind]) as caught:
        rows[[70]]
    assert "\n" not in str(caught.value)
    assert f"{REPO}/document-00002-of-00003.bin, bytes" in str(caught.value)
    assert len(hub.requests("cdn")) == 6


@pytest.mark.parametrize(
    ("at", "settings", "message"),
    [
        ("cdn", {"status": 500}, "the server answered 500; gave up after 6 tries"),
        ("cdn", {"status": 403}, r"refused \(403\) also at a new address"),
        ("cdn", {"status": 404}, "the server answered 404, expected 206"),
        ("cdn", {"status": 429, "retry_after": 3600}, "waiting 3600 s more would be 3600 s in all"),
        ("resolve", {"status": 429, "retry_after": 3600}, "the hub answered 429; waiting 3600 s"),
        ("resolve", {"status": 500}, "the hub answered 500; gave up after 6 tries"),
        ("resolve", {"status": 418}, "the hub answered 418"),
        ("api", {"status": 503}, "'owner/rows' at 'main': the hub answered 503; gave up"),
    ],
)
def test_a_status_that_lasts_is_named(at, settings, message, hub, tmp_path):
    hub.misbehave("status", at=at, times=None, **settings)

    with pytest.raises(RemoteError, match=message) as caught:
        open_rows(hub, tmp_path)[70]
    assert "Signature" not in str(caught.value)
    assert "\n" not in str(caught.value)


def test_retry_after_is_obeyed(hub, rows, monkeypatch):
    waits = []
    monkeypatch.setattr("data_order.hub.retry._sleep", lambda wait, _: waits.append(wait))
    hub.misbehave("status", status=429, retry_after=2, times=1)

    rows[70]

    assert waits == [2.0]


def test_an_expired_address_is_asked_for_once_more_and_only_once(hub, rows):
    rows[[70]]
    hub.expire()

    assert np.array_equal(rows[90:118:3], TOKENS[90:118:3])

    assert len(hub.requests("resolve")) == 2
    hub.misbehave("status", status=403, times=None)
    with pytest.raises(RemoteError, match="403"):
        rows[119]
    assert len(hub.requests("resolve")) == 3


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("owner/none", "the hub has no such dataset, or does not show it to us"),
        (f"hf://datasets/{REPO}@v9", "dataset 'owner/rows' at 'v9': the hub has no such revision"),
        (f"hf://datasets/{REPO}/other", "names no store of .bin shards; its stores: document"),
        ("hf://models/a/b", "expected owner/name, or hf://datasets"),
        ("hf://datasets/a--b/..", "expected owner/name|no dataset can have this name"),
    ],
)
def test_what_the_hub_does_not_have_is_named(where, message, hub, tmp_path):
    with pytest.raises(RemoteNotFoundError, match=message) as caught:
        open_rows(hub, tmp_path, where)
    assert caught.value.exit_code == 2
    assert "\n" not in str(caught.value)


def test_a_restricted_dataset_says_how_to_get_in(hub, tmp_path, monkeypatch):
    hub.repositories["dataset", REPO].gated = True
    monkeypatch.delenv("HF_TOKEN")

    with pytest.raises(RemoteNotFoundError, match="access is restricted; ask for it"):
        open_rows(hub, tmp_path)


def test_missing_truncated_and_mixed_shards_are_refused_before_any_row(hub, tmp_path):
    files = shard_files()
    hub.add("dataset", "o/lost", {n: f for n, f in files.items() if "00001" not in n})
    hub.add("dataset", "o/short", {**files, "document-00002-of-00003.bin": b"x"})
    hub.add("dataset", "o/two", {**files, **shard_files(stem="other")})

    with pytest.raises(StoreError, match="3 of 4 shards found; missing: 1"):
        open_rows(hub, tmp_path, "o/lost")
    with pytest.raises(StoreError, match="bytes are no whole number of rows of 2049 uint16"):
        open_rows(hub, tmp_path, "o/short")
    with pytest.raises(RemoteNotFoundError, match="stores: document, other; add one of them"):
        open_rows(hub, tmp_path, "o/two")
    assert len(open_rows(hub, tmp_path, "hf://datasets/o/two/other")) == 120
    assert not hub.requests("cdn")


def test_a_file_whose_size_is_not_the_listed_one_is_refused(hub, rows):
    commit = rows.source.commit
    name = "document-00003-of-00003.bin"
    files = hub.repositories["dataset", REPO].commits[commit]
    files[name] = Virtual(files[name].size - 2, files[name].read)

    with pytest.raises(RemoteError, match="bytes, the listing says"):
        rows[119]


def test_offline_mode_reads_what_is_cached_and_names_itself_otherwise(hub, rows, tmp_path):
    rows[[11, 12]]
    code = (
        "from data_order import TokenRows; from data_order.hub.access import Hub\n"
        f"hub = Hub(endpoint={hub.endpoint!r}, cache={str(tmp_path)!r})\n"
        f"rows = TokenRows.open({REPO!r}, hub=hub)\n"
        "print(int(rows[11].sum()))\n"
        "try: rows[13]\n"
        "except Exception as error: print(type(error).__name__, error)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(Path(__file__).parents[2])},
        capture_output=True,
        text=True,
        check=True,
    )

    first, second = done.stdout.splitlines()
    assert int(first) == int(TOKENS[11].sum())
    assert second.startswith("RemoteError offline mode is on")


def test_a_read_that_is_broken_off_keeps_what_came(hub, tmp_path, monkeypatch):
    monkeypatch.setattr("data_order.store.remote._BATCH", 10 * WIDTH)
    rows = open_rows(hub, tmp_path, parallel=1)
    hub.misbehave("status", status=404, times=None, after=25)
    asked = np.arange(0, 120, 2)

    with pytest.raises(RemoteError, match="404"):
        rows[asked]
    hub._faults.clear()
    before = served(hub)

    assert np.array_equal(rows[asked], TOKENS[asked])
    assert served(hub) - before == (60 - 20) * WIDTH


@pytest.mark.parametrize("at", ["cdn", "resolve"])
def test_an_interrupted_read_does_not_wait_for_the_others(at, hub, tmp_path, monkeypatch):
    stopped = []

    def wait(seconds, stop):  # as the package does, but never for the whole time
        stopped.append(stop.wait(60))
        return stopped[-1]

    def interrupt(done, total):
        raise KeyboardInterrupt

    monkeypatch.setattr("data_order.hub.retry._sleep", wait)
    rows = open_rows(hub, tmp_path, retry=RetryPolicy(), progress=interrupt)
    hub.misbehave("status", at=at, status=429, retry_after=300, times=None, after=1)

    with pytest.raises(KeyboardInterrupt):
        rows[[0, 50, 100]]

    assert all(stopped)


@pytest.mark.parametrize("times", [1, None])
def test_a_server_that_stalls_is_left_and_asked_again(times, hub, rows, monkeypatch):
    monkeypatch.setattr("data_order.hub.client.TIMEOUT", httpx2.Timeout(0.2))
    hub.misbehave("stall", seconds=1.0, times=times)

    if times:
        assert np.array_equal(rows[70], TOKENS[70])
    else:
        with pytest.raises(RemoteError, match=r"the connection failed \(ReadTimeout\); gave up"):
            rows[70]


def test_a_flipped_byte_is_found_by_a_second_fetch_and_dropped_from_the_cache(hub, rows, tmp_path):
    hub.misbehave("flip", at="cdn", times=1)
    assert not np.array_equal(rows[70], TOKENS[70])

    assert differing_rows(rows, [69, 70, 71]).tolist() == [70]

    assert np.array_equal(open_rows(hub, tmp_path)[70], TOKENS[70])
    assert differing_rows(rows, [69, 70, 71]).tolist() == []


@pytest.mark.parametrize("key", [70, [70, 3], slice(69, 71)])
def test_an_id_beyond_the_vocabulary_is_refused_and_not_kept(key, hub, tmp_path):
    def strange(offset, length):
        data = bytearray(TOKENS.tobytes())
        data[70 * WIDTH : 70 * WIDTH + 2] = b"\xff\xff"
        return bytes(data[offset : offset + length])

    hub.add("dataset", "o/odd", {"document.bin": Virtual(TOKENS.nbytes, strange)})
    options = settings(hub, tmp_path)
    rows = TokenRows.open("o/odd", vocabulary=50_304, hub=options)

    for _ in range(2):
        before = served(hub)
        with pytest.raises(StoreError, match="row 70, position 0: token id is 65535") as caught:
            rows[key]
        assert "dropped from the cache, ask again" in str(caught.value)
        assert served(hub) > before
