"""Strange answers of the hub end in one line, never in a traceback; long waits are said aloud."""

import hashlib
import json
import logging
import threading

import httpx2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from data_order.errors import OrderError, RemoteError, RemoteNotFoundError
from data_order.hub.access import Hub as HubSettings
from data_order.hub.access import hub_endpoint
from data_order.hub.client import RemoteFile, WrongBytesError
from data_order.hub.download import download
from data_order.hub.listings import list_branches, list_files, pinned_dataset
from data_order.hub.retry import RetryPolicy
from pythia_profile.cli import app
from pythia_profile.cli.app import run
from tests.stand_in.hub import Hub

QUICK = RetryPolicy(retries=1, first_wait=0.01, longest_wait=0.02, total_wait=3.0)
FILES = {"config.json": b"{}", "model.safetensors": bytes(range(256)) * 40}


@pytest.fixture
def hub():
    with Hub() as running:
        running.commit = running.add("model", "o/m", FILES)
        running.add("dataset", "o/d", {"document.bin": b"1234"})
        running.settings = HubSettings(endpoint=running.endpoint, cache=False, retry=QUICK)
        yield running


ASKED = {
    "branches": lambda hub: list_branches("o/m", hub.settings),
    "files": lambda hub: list_files("o/m", hub.commit, hub.settings),
    "dataset": lambda hub: pinned_dataset("o/d", "main", hub.settings),
}


@pytest.mark.parametrize("asked", ASKED)
@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("circle", "o/[md].*: the hub redirects in a circle"),
        ("garbage", r"the connection failed \(DecodingError\); gave up after 2 tries"),
        ("next", "the hub's answer is not in the form that it should have"),
        ("cut", r"the connection failed \(RemoteProtocolError\)"),
    ],
)
def test_a_strange_answer_is_one_line(asked, kind, message, hub):
    hub.misbehave(kind, at="api", times=None)

    with pytest.raises(RemoteError, match=message) as caught:
        ASKED[asked](hub)

    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("name", FILES)
@pytest.mark.parametrize("kind", ["circle", "cut"])
def test_a_strange_answer_for_a_file_is_one_line(name, kind, hub, tmp_path):
    remote = remote_file(hub, name)
    hub.misbehave(kind, at="resolve", times=None)

    with pytest.raises(RemoteError) as caught:
        download(remote, tmp_path / "x", hashlib.sha256)

    assert "\n" not in str(caught.value)


def remote_file(hub, name):
    file = next(f for f in list_files("o/m", hub.commit, hub.settings) if f.name == name)
    return RemoteFile(hub.settings, "model", "o/m", hub.commit, file)


@pytest.mark.parametrize("name", FILES)
def test_a_commit_that_is_gone_is_said_with_what_to_do(name, hub, tmp_path):
    remote = remote_file(hub, name)
    del hub.repositories["model", "o/m"].commits[hub.commit]

    with pytest.raises(RemoteNotFoundError, match="no longer has the pinned commit") as caught:
        download(remote, tmp_path / "x", hashlib.sha256)

    assert "deleting 'checkpoints' in its lock.json" in str(caught.value)


@pytest.mark.parametrize(
    "address", ["huggingface.co", "ftp://hub", "http://", "file:///x", "http://h:x", "http://a b"]
)
def test_an_endpoint_that_is_no_http_address_is_refused_at_once(address, monkeypatch):
    monkeypatch.setenv("HF_ENDPOINT", address)

    with pytest.raises(OrderError, match="set HF_ENDPOINT, or unset it") as caught:
        hub_endpoint()

    assert caught.value.exit_code == 2


def test_a_long_wait_is_said_aloud(hub, monkeypatch, caplog):
    monkeypatch.setattr("data_order.hub.client.TIMEOUT", httpx2.Timeout(0.2))
    monkeypatch.setattr("data_order.hub.retry._LONG_SECONDS", 0.15)
    hub.misbehave("stall", at="api", seconds=0.5, times=1)

    with caplog.at_level(logging.WARNING):
        list_branches("o/m", hub.settings)

    (line,) = caplog.messages
    assert "branches of model 'o/m': the connection failed (ReadTimeout); asking again" in line


def test_what_is_waited_for_is_said_by_the_verb(hub, monkeypatch, tmp_path, caplog):
    """A silent server, and then one that sends a part that was not asked for."""
    monkeypatch.setenv("HF_ENDPOINT", hub.endpoint)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setattr("data_order.hub.client.TIMEOUT", httpx2.Timeout(0.2))
    monkeypatch.setattr("data_order.hub.retry._LONG_SECONDS", 0.15)
    hub.add("dataset", "o/rows", {"document.bin": bytes(4098)})
    hub.misbehave("stall", at="cdn", seconds=0.5, times=1)
    hub.misbehave("wrong_range", at="cdn", times=1)

    assert run(app, ["order", "--row", "0", "--store", "o/rows"]) == 0

    first, second = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert "o/rows/document.bin, bytes 0 to 4097: the connection failed (ReadTimeout); ask" in first
    assert "the server sent 'bytes 2-4099/4098', expected 'bytes 0-4097/4098'; asking" in second


atoms = st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=6)
names = st.sampled_from(
    [
        "branches",
        "name",
        "targetCommit",
        "sha",
        "siblings",
        "rfilename",
        "size",
        "lfs",
        "oid",
        "sha256",
        "blobId",
        "type",
        "path",
    ]
) | st.text(max_size=3)
known = st.sampled_from(["file", "abc123", "model.safetensors", "../x", 12, -1, 2**60])
answers = st.recursive(
    atoms | known,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(names, inner, max_size=6),
    max_leaves=25,
)


@settings(max_examples=150, deadline=None)
@given(answer=answers, asked=st.sampled_from(["branches", "files", "dataset"]))
def test_json_of_any_form_is_a_listing_or_one_line(answer, asked):
    hub = Answering(answer)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("data_order.hub.listings.get_json", hub.get_json)
        try:
            found = ASKED[asked](hub)
        except RemoteError as error:
            found = str(error).splitlines()

    assert not isinstance(found, list) or len(found) == 1


class Answering:
    """A hub that always gives the same JSON."""

    commit = "abc"
    settings = HubSettings(endpoint="http://127.0.0.1:1", cache=False, retry=QUICK)

    def __init__(self, answer):
        self.answer = answer

    def get_json(self, *_):
        """Give the answer, and no next page."""
        return self.answer, None


@settings(max_examples=60, deadline=None)
@given(kept=answers | st.binary(max_size=40), asked=st.sampled_from(["files", "dataset"]))
def test_a_kept_listing_of_any_form_is_read_or_asked_for_anew(kept, asked, tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    good = {
        "files": [{"type": "file", "path": "config.json", "size": 2, "oid": "a"}],
        "dataset": {"sha": "abc", "siblings": [{"rfilename": "document.bin", "size": 4}]},
    }
    hub = Answering(good[asked])
    hub.settings = HubSettings(endpoint="http://127.0.0.1:1", cache=folder, retry=QUICK)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("data_order.hub.listings.get_json", hub.get_json)
        expected = ASKED[asked](hub)
        (path,) = folder.rglob("*.json")
        path.write_bytes(kept if isinstance(kept, bytes) else json.dumps(kept).encode())

        again = ASKED[asked](hub)

    assert type(again) is type(expected)


def test_a_server_that_sends_more_than_was_asked_for_is_one_line(hub, monkeypatch):
    remote = remote_file(hub, "model.safetensors")

    def too_much(_, first, end, take, __):
        take(bytes(end - first))
        raise WrongBytesError("got more")

    monkeypatch.setattr(remote, "_get", too_much)

    with pytest.raises(RemoteError, match="the server sends more bytes than are asked for"):
        remote.read(0, 10, threading.Event())
