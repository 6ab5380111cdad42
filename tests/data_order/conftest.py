"""A stand-in for the hub that has a store of rows; what the tests of rows from the hub share."""

import pytest

from tests.data_order.remote_rows import REPO, open_rows, shard_files
from tests.stand_in.hub import Hub


@pytest.fixture
def hub(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_CANARY")
    with Hub() as running:
        running.add("dataset", REPO, {**shard_files(), "README.md": b"rows"})
        yield running


@pytest.fixture
def rows(hub, tmp_path):
    return open_rows(hub, tmp_path)
