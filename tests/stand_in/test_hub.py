"""The stand-in answers the real client as the hub does, and misbehaves as it is told."""

import httpx2
import pytest
from huggingface_hub import HfApi, get_hf_file_metadata, hf_hub_url, snapshot_download
from huggingface_hub.errors import RepositoryNotFoundError, RevisionNotFoundError

from tests.stand_in.hub import Hub

FILES = {"model.safetensors": b"0123456789" * 40, "config.json": b"{}"}


@pytest.fixture
def hub():
    with Hub() as running:
        yield running


def cdn_address(hub, commit):
    url = hf_hub_url("a/m", "model.safetensors", revision=commit, endpoint=hub.endpoint)
    return get_hf_file_metadata(url, token=False).location


def test_the_real_client_lists_pins_and_downloads(hub, tmp_path):
    commit = hub.add("model", "a/m", FILES, revision="step1")
    api = HfApi(endpoint=hub.endpoint, token="hf_secret")

    info = api.model_info("a/m", revision="step1", files_metadata=True)
    folder = snapshot_download(
        "a/m", revision="step1", endpoint=hub.endpoint, cache_dir=tmp_path, token="hf_secret"
    )

    assert info.sha == commit
    assert [ref.name for ref in api.list_repo_refs("a/m").branches] == ["step1"]
    assert {file.path for file in api.list_repo_tree("a/m", revision=commit)} == set(FILES)
    assert (tmp_path / folder / "model.safetensors").read_bytes() == FILES["model.safetensors"]
    assert not any(request.authorized for request in hub.requests("cdn"))
    assert all(request.authorized for request in hub.requests("resolve"))
    with pytest.raises(RevisionNotFoundError):
        api.model_info("a/m", revision="step2")
    with pytest.raises(RepositoryNotFoundError):
        api.model_info("a/none")


def test_each_fault_does_what_it_says_and_ends(hub):
    commit = hub.add("model", "a/m", FILES)
    url = cdn_address(hub, commit)

    def get():
        return httpx2.get(url, headers={"Range": "bytes=10-19"})

    hub.misbehave("status", status=429, retry_after=7)
    assert (get().status_code, get().status_code) == (429, 206)
    hub.misbehave("ignore_range")
    assert (get().status_code, len(get().content)) == (200, 10)
    hub.misbehave("wrong_range")
    assert get().headers["Content-Range"] == "bytes 12-21/400"
    hub.misbehave("lie")
    assert get().content == b"01234"
    hub.misbehave("flip")
    assert get().content == b"1123456789"
    for kind in ("short", "cut"):
        hub.misbehave(kind)
        with pytest.raises(httpx2.RemoteProtocolError):
            get()
    hub.misbehave("latency", seconds=0.01, after=1)
    assert (get().content, get().content) == (b"0123456789",) * 2
    hub.misbehave("expire")
    assert (get().status_code, get().status_code) == (403, 403)
    url = cdn_address(hub, commit)
    assert get().status_code == 206
