"""Rows from the hub: only the bytes asked for, the right ones or one clear error, whatever fails.

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

import httpx2
import numpy as np
import pytest

from data_order import Layout, MegatronStore, NeoxOrder, OrderError, StoreError, TokenRows
from data_order.errors import RemoteError, RemoteNotFoundError
from data_order.hub.access import Hub as HubSettings
from data_order.hub.range_cache import RangeCache
from data_order.hub.retry import RetryPolicy
from data_order.neox.documents import NeoxRows
from data_order.store.integrity import differing_rows
from data_order.store.token_stream import TokenStream
from tests.stand_in.hub import Hub, Virtual

LENGTH = 2049
WIDTH = 2 * LENGTH
TOKENS = np.random.default_rng(8).integers(0, 50_000, (120, LENGTH), dtype=np.uint16)
CUTS = [0, 150_001, 150_003, 333_333, TOKENS.nbytes]
QUICK = RetryPolicy(first_wait=0.01, longest_wait=0.02, total_wait=3.0)
REPO = "owner/rows"


def shard_files(data: bytes = TOKENS.tobytes(), cuts=CUTS, stem="document"):
    last = len(cuts) - 2
    return {
        f"{stem}-{i:05d}-of-{last:05d}.bin": data[cuts[i] : cuts[i + 1]] for i in range(last + 1)
    }


@pytest.fixture
def hub(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_CANARY")
    with Hub() as running:
        running.add("dataset", REPO, {**shard_files(), "README.md": b"rows"})
        yield running


@pytest.fixture
def rows(hub, tmp_path):
    return open_rows(hub, tmp_path)


def open_rows(hub, cache, where=REPO, **options):
    return TokenRows.open(where, hub=settings(hub, cache, **options))


def settings(hub, cache, **options):
    return HubSettings(endpoint=hub.endpoint, cache=cache, **{"retry": QUICK, **options})


def served(hub):
    return sum(request.sent for request in hub.requests("cdn"))


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


def test_progress_counts_the_bytes_that_are_still_to_be_read(hub, tmp_path):
    seen = []
    rows = open_rows(hub, tmp_path, progress=lambda done, total: seen.append((done, total)))

    rows[[1, 60]]
    rows[[1, 60, 100]]

    assert seen == [(WIDTH, 2 * WIDTH), (2 * WIDTH, 2 * WIDTH), (WIDTH, WIDTH)]


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
