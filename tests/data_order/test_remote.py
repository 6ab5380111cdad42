"""Rows from the hub: only the bytes asked for, kept once, the same in every process.

The hub is a stand-in on this machine; the client is the real one.
"""

import logging
import os
import pickle
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from data_order import Layout, MegatronStore, NeoxOrder, OrderError
from data_order.hub.range_cache import RangeCache
from data_order.neox.documents import NeoxRows
from data_order.store.token_stream import TokenStream
from tests.data_order.remote_rows import (
    LENGTH,
    REPO,
    TOKENS,
    WIDTH,
    open_rows,
    served,
    settings,
    shard_files,
)
from tests.stand_in.hub import Virtual


def test_rows_are_those_of_the_store_and_cost_only_their_bytes(hub, rows):
    asked = [119, 3, 36, 37, 80, 81, 82, 3]

    got = rows[asked]

    assert np.array_equal(got, TOKENS[asked])
    assert len(rows) == 120
    assert served(hub) == len(set(asked)) * WIDTH
    assert len(hub.requests("api")) == 1
    heads = hub.requests("resolve")
    assert {r.method for r in heads} == {"HEAD"}
    assert len(heads) == len({r.path for r in heads}) == 4
    # 36 and 37 touch and lie in three shards; 80, 81 and 82 touch and lie in two
    assert len(hub.requests("cdn")) == 2 + 3 + 2


def test_a_second_run_asks_for_nothing_at_all(hub, rows, tmp_path):
    rows[[5, 36, 77]]
    before = len(hub.log)

    again = open_rows(hub, tmp_path)

    assert np.array_equal(again[[77, 5, 36, 36]], TOKENS[[77, 5, 36, 36]])
    assert np.array_equal(rows[36], TOKENS[36])
    assert len(hub.log) == before
    assert np.array_equal(again[[5, 6]], TOKENS[[5, 6]])
    assert [r.method for r in hub.log[before:]] == ["HEAD", "GET"]
    assert hub.log[-1].sent == WIDTH


def test_without_a_cache_nothing_is_written(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))

    assert np.array_equal(open_rows(hub, False)[7], TOKENS[7])

    assert not (tmp_path / "xdg").exists()


def test_the_default_cache_is_the_users(hub, tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))

    open_rows(hub, True)[7]

    assert (tmp_path / "xdg" / "pythia-profile" / "rows" / "owner--rows").is_dir()


def test_a_moved_branch_does_not_change_rows_until_it_is_asked_for(hub, rows, tmp_path):
    first = rows.source.commit
    moved = hub.add("dataset", REPO, shard_files((TOKENS + 1).tobytes()))

    pinned = open_rows(hub, tmp_path)
    fresh = open_rows(hub, tmp_path, refresh=True)
    by_commit = open_rows(hub, tmp_path, f"hf://datasets/{REPO}@{first}")

    assert moved != first
    assert np.array_equal(pinned[4], TOKENS[4])
    assert np.array_equal(fresh[4], TOKENS[4] + 1)
    assert np.array_equal(by_commit[4], TOKENS[4])
    assert (pinned.source.commit, fresh.source.commit) == (first, moved)


def test_the_token_goes_to_the_hub_and_nowhere_else(hub, rows):
    rows[0:60]

    assert all(r.authorized for r in [*hub.requests("api"), *hub.requests("resolve")])
    assert hub.requests("cdn")
    assert not any(r.authorized for r in hub.requests("cdn"))


def test_progress_counts_the_bytes_that_are_still_to_be_read(hub, tmp_path):
    seen = []
    rows = open_rows(hub, tmp_path, progress=lambda done, total: seen.append((done, total)))

    rows[[1, 60]]
    rows[[1, 60, 100]]

    assert seen == [(WIDTH, 2 * WIDTH), (2 * WIDTH, 2 * WIDTH), (WIDTH, WIDTH)]


def test_a_damaged_cache_is_dropped_and_read_anew(hub, rows, tmp_path, caplog):
    rows[[8, 9]]
    (database,) = tmp_path.rglob("*.sqlite")
    data = bytearray(database.read_bytes())
    place = data.find(TOKENS[8].tobytes()[:64])
    data[place] ^= 1
    database.write_bytes(data)

    with caplog.at_level(logging.WARNING):
        assert np.array_equal(open_rows(hub, tmp_path)[[8, 9]], TOKENS[[8, 9]])

    assert "does not match its checksum; read anew" in caplog.text
    data = database.read_bytes()
    for cut in (0, 10, 44, 5000, len(data) - 3):
        database.write_bytes(data[:cut])
        assert np.array_equal(open_rows(hub, tmp_path)[[8, 9]], TOKENS[[8, 9]])
        before = len(hub.log)
        assert np.array_equal(open_rows(hub, tmp_path)[[8, 9]], TOKENS[[8, 9]])
        assert len(hub.log) == before
    assert "is damaged (" in caplog.text
    assert not any("\n" in record.getMessage() for record in caplog.records)


def test_a_cache_survives_processes_that_are_killed_while_they_write(hub, tmp_path):
    code = (
        "import numpy as np, sys; from pathlib import Path\n"
        "from data_order.hub.range_cache import RangeCache\n"
        "cache = RangeCache(Path(sys.argv[1]))\n"
        "print(flush=True)\n"
        "for i in range(10**6):\n"
        "    start = 300_000 * (i % 7) + int(sys.argv[2])\n"
        "    data = np.arange(start, start + 200_000).astype(np.uint8)\n"
        "    cache.add(np.array([start]), np.array([200_000]), data)\n"
    )
    path = tmp_path / "ranges.sqlite"
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    for wave in range(3):
        children = [
            subprocess.Popen(
                [sys.executable, "-c", code, path, str(number)],
                stdout=subprocess.PIPE,
                env=environment,
            )
            for number in range(2)
        ]
        for child in children:
            child.stdout.readline()
        time.sleep(0.2 + 0.05 * wave)
        for child in children:
            child.kill()
            child.communicate()

    out = np.empty(200_000, np.uint8)
    found = RangeCache(path).read_into(out, np.array([0]), np.array([200_000]))

    assert found.all()
    assert np.array_equal(out, np.arange(200_000).astype(np.uint8))


def test_a_damaged_pin_is_asked_for_anew(hub, rows, tmp_path):
    (known,) = tmp_path.rglob("*.json")
    known.write_text("{")

    assert np.array_equal(open_rows(hub, tmp_path)[3], TOKENS[3])
    assert len(hub.requests("api")) == 2


def test_a_cache_that_cannot_be_written_does_not_stop_the_read(hub, tmp_path, caplog):
    (tmp_path / "file").write_text("in the way")

    assert np.array_equal(open_rows(hub, tmp_path / "file")[3], TOKENS[3])

    assert "cannot be written" in caplog.text


def test_many_small_reads_are_one_file(hub, tmp_path):
    rows = open_rows(hub, tmp_path)

    for row in range(70):
        rows[row]

    assert len([path for path in (tmp_path / "rows").rglob("*") if path.is_file()]) == 1
    before = len(hub.log)
    assert np.array_equal(open_rows(hub, tmp_path)[:70], TOKENS[:70])
    assert len(hub.log) == before


def test_threads_and_processes_share_one_cache(hub, tmp_path):
    rows = open_rows(hub, tmp_path)
    answers = {}

    def read(number):
        answers[number] = rows[number : number + 40 : 3]

    threads = [threading.Thread(target=read, args=(n,)) for n in range(0, 80, 10)]
    for thread in threads:
        thread.start()
    code = (
        "from data_order import TokenRows; from data_order.hub.access import Hub\n"
        f"hub = Hub(endpoint={hub.endpoint!r}, cache={str(tmp_path)!r})\n"
        f"rows = TokenRows.open({REPO!r}, hub=hub)\n"
        "print(int(sum(rows[i].astype(int).sum() for i in range(0, 120, 2))))\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    children = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, env=environment)
        for _ in range(2)
    ]
    for thread in threads:
        thread.join()

    for number, answer in answers.items():
        assert np.array_equal(answer, TOKENS[number : number + 40 : 3])
    for child in children:
        assert int(child.communicate(timeout=60)[0]) == int(TOKENS[::2].astype(int).sum())


def test_remote_rows_travel_to_another_process_at_their_commit(hub):
    rows = open_rows(hub, False, progress=lambda *_: None)
    hub.add("dataset", REPO, shard_files((TOKENS + 1).tobytes()))
    before = len(hub.requests("api"))

    again = pickle.loads(pickle.dumps(rows))

    assert np.array_equal(again[5], TOKENS[5])
    assert again.source.commit == rows.source.commit
    assert len(hub.requests("api")) == before


def test_tokens_of_documents_are_read_piece_by_piece(hub, tmp_path):
    rng = np.random.default_rng(1)
    documents = [rng.integers(0, 50_000, n) for n in rng.integers(0, 400, 200)]
    store = MegatronStore.write(tmp_path / "pile", documents)
    data = store.prefix.with_suffix(".bin").read_bytes()
    hub.add("dataset", "o/pile", shard_files(data, [0, 1000, 1001, 20_000, len(data)], "pile"))
    order = NeoxOrder.from_idx(store.prefix, Layout(seed=3, samples=500, sequence_length=128))
    stream = TokenStream.open("o/pile", hub=settings(hub, tmp_path))

    got = NeoxRows(order, stream)[[7, 100, 313]]

    assert np.array_equal(got, NeoxRows(order, store)[[7, 100, 313]])
    assert served(hub) == 3 * 129 * 2
    before = len(hub.log)
    assert np.array_equal(NeoxRows(order, stream)[[313]], got[2:])
    assert len(hub.log) == before


def published_size(offset, length):
    """Token i of the store is a hash of i, at the size of the published one."""
    first, last = offset // 2, (offset + length + 1) // 2
    return tokens_at(np.arange(first, last)).tobytes()[offset % 2 :][:length]


def tokens_at(places):
    return ((places * 2_654_435_761) >> 13).astype(np.uint16)


@pytest.mark.slow
def test_rows_of_the_published_size_cost_their_bytes_and_one_head_a_shard(hub, tmp_path):
    sizes = [30_000_000_000] * 20 + [78_336_000]
    begins = np.cumsum([0, *sizes])

    def shard(begin):
        return lambda offset, length: published_size(int(begin) + offset, length)

    files = {
        f"document-{i:05d}-of-00020.bin": Virtual(size, shard(begins[i]))
        for i, size in enumerate(sizes)
    }
    hub.add("dataset", "o/full", files)
    rows = open_rows(hub, tmp_path, "o/full")
    straddling = begins[1:-1] // WIDTH
    asked = np.unique(
        np.concatenate([np.random.default_rng(0).integers(0, len(rows), 14_280), straddling])
    )

    got = rows[asked]

    assert len(rows) == 146_432_000
    assert np.array_equal(got, tokens_at(asked[:, None] * LENGTH + np.arange(LENGTH)))
    assert len(asked) > 14_250
    assert served(hub) == len(asked) * WIDTH
    assert len(hub.requests("resolve")) == 21
    assert len(hub.requests("cdn")) <= len(asked) + 20


def test_a_folder_of_the_owners_name_means_a_place_on_disk(hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "owner").mkdir()

    with pytest.raises(OrderError, match="no store there"):
        open_rows(hub, tmp_path)


def test_parallel_must_be_a_whole_number(hub, tmp_path):
    with pytest.raises(OrderError, match="parallel: got 0, expected a whole number above 0"):
        open_rows(hub, tmp_path, parallel=0)
