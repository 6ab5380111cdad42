"""Published shuffled runs: their facts, and their rows from a folder and from the net."""

import hashlib
from dataclasses import dataclass, replace

import numpy as np
import pytest

from data_order.errors import OrderError, RemoteError, RemoteNotFoundError, StoreNotFoundError
from data_order.hub.access import Hub
from data_order.hub.retry import RetryPolicy
from data_order.order import TrainingOrder
from data_order.sample import Draw, sample_rows
from data_order.shuffled.runs import RUNS
from tests.stand_in.files import FileServer

QUICK = RetryPolicy(retries=2, first_wait=0.01, longest_wait=0.02, total_wait=3.0)


@dataclass(frozen=True)
class Listed:
    """A list of files as `FileList` gives it, of a server of our own."""

    paths: tuple[str, ...]
    address: str = "http://127.0.0.1:9/"


@pytest.fixture
def contents():
    rng = np.random.default_rng(0)
    lengths = {"d/a.npy": 67, "d/b.npy": 40, "e/c.npy": 95}
    return {
        path: rng.integers(0, 100_000, length, dtype=np.uint32).tobytes()
        for path, length in lengths.items()
    }


@pytest.fixture
def small():
    """Three files, one of them listed twice: 43 rows of 6 tokens, batches of 4."""
    return replace(
        RUNS["olmo2-7b"],
        files=Listed(("d/a.npy", "d/b.npy", "e/c.npy", "d/a.npy")),
        batch_size=4,
        steps=9,
        row_tokens=6,
        rows_between=(40, 43),
    )


def test_lists_are_those_of_the_configurations():
    facts = {
        "olmo2-7b": (1122, 1117, "f8a78a70c1f7"),
        "olmo2-7b-stage2-1": (576, 576, "5164c43454b1"),
        "olmo2-13b-stage2-3": (1253, 697, "97379cf9500c"),
    }
    facts["olmo2-13b-stage2-4"] = facts["olmo2-32b-stage2-3"] = (2476, 992, "539881dec266")
    facts["olmo2-32b-stage2-2"] = facts["olmo2-13b-stage2-3"]
    facts["olmo3-32b"] = (950, 950, "ea3ce37af91a")
    facts["olmo3-7b"] = (1016, 1016, RUNS["olmo3-7b"].files.sha256)
    # allenai/OLMo-core at fa6c501: entries by `wc -l`, paths joined by newlines through `sha256sum`
    facts["olmo3-7b-stage2-1"] = (11_933, 11_933, "c08e690a5055")
    facts["olmo3-32b-stage2-1"] = (12_252, 12_252, "f58fcd625dc0")
    facts["olmo3-32b-stage2-2"] = (12_252, 12_252, "6eccad490b98")
    for name, (listed, different, digest) in facts.items():
        paths = RUNS[name].files.paths
        assert (len(paths), len(set(paths))) == (listed, different)
        assert hashlib.sha256("\n".join(paths).encode()).hexdigest()[:12] == digest
    assert RUNS["olmo2-1b"].files == RUNS["olmo2-13b"].files == RUNS["olmo2-32b"].files
    twice = {p for p in RUNS["olmo2-7b"].files.paths if RUNS["olmo2-7b"].files.paths.count(p) > 1}
    assert {path.split("/")[-1] for path in twice} == {f"part-104-0000{n}.npy" for n in range(5)}


def test_ingredients_are_other_seeds_at_other_sizes():
    def seeds(size):
        return [RUNS[f"olmo2-{size}-stage2-{number}"].seed for number in (1, 2, 3)]

    assert seeds("1b") == [42069, 666, 42]
    assert seeds("7b") == [42, 42069, 666]
    assert seeds("13b") == [1110, 2662, 6209]
    assert [RUNS[f"olmo2-32b-stage2-{number}"].seed for number in (1, 2, 3)] == [1110, 2662, 2662]
    long = RUNS["olmo2-13b-stage2-4"]
    assert (long.seed, long.steps, long.idle_from) == (2662, 35_773, 35_763)
    core = RUNS["olmo2-32b-stage2-1"]
    assert (core.first_pass, core.filtered, core.steps, core.idle_from) == (
        1,
        False,
        11_921,
        11_921,
    )
    run = RUNS["olmo2-7b-stage2-1"]
    assert (run.idle_from, run.steps) == (11_921, 11_931)


def test_the_rows_that_the_run_tells_are_the_only_ones_for_both_facts():
    fewest, most = RUNS["olmo2-7b"].rows_between

    # 7B: one pass of whole batches ended at 928,646; 13B saved 464,323 at the end of its first
    for rows, holds in ((fewest - 1, False), (fewest, True), (most, True), (most + 1, False)):
        assert (rows // 1024 == 928_646 and rows // 2048 == 464_323) == holds


def test_rows_of_a_folder_are_read_in_the_order_of_the_run(small, contents, tmp_path):
    for path, content in contents.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        (tmp_path / path).write_bytes(content)

    rows = small.open(tmp_path)

    flat = [
        np.frombuffer(contents[path], np.uint32)[: len(contents[path]) // 24 * 6].reshape(-1, 6)
        for path in small.files.paths
    ]
    content = np.concatenate(flat)
    order = np.arange(len(content), dtype=np.uint32)
    np.random.Generator(np.random.PCG64(6198)).shuffle(order)
    assert np.array_equal(rows[:36], content[order[:36]])
    assert small.step_of([0, 35, 36]).tolist()[:2] == [1, 9]
    assert isinstance(small, TrainingOrder)
    with pytest.raises(OrderError, match=r"hold 43 rows, the run read 40 to 42 in a pass"):
        replace(small, rows_between=(40, 42)).open(tmp_path)
    (tmp_path / "e" / "c.npy").unlink()
    with pytest.raises(StoreNotFoundError, match="1 of the 3 token files of olmo2-7b are missing"):
        small.open(tmp_path)


def test_rows_from_the_net_cost_one_head_a_file_and_their_own_bytes(
    small, contents, tmp_path, monkeypatch
):
    monkeypatch.setenv("HF_TOKEN", "hf_CANARY")
    with FileServer(contents, {("HEAD", "d/b.npy"): [503], ("GET", "d/a.npy"): [502]}) as server:
        run = replace(small, files=replace(small.files, address=server.address))
        hub = Hub(cache=tmp_path, retry=QUICK)

        rows = run.open("hub", hub)
        batch = rows[[0, 5, 17, 41]]
        heads = [path for method, path, _ in server.log if method == "HEAD"]
        again = run.open("hub", hub)[[17, 41]]
        asked = [entry for entry in server.log if entry[0] == "GET"]

        assert sorted(heads) == ["d/a.npy", "d/b.npy", "d/b.npy", "e/c.npy"]
        assert len([path for method, path, _ in server.log if method == "HEAD"]) == 4
        assert all(ranged for _, _, ranged in asked)
        assert np.array_equal(again, batch[2:])
        assert all("hf_CANARY" not in str(headers) for headers in server.headers)
    flat = np.concatenate(
        [
            np.frombuffer(contents[path], np.uint32)[: len(contents[path]) // 24 * 6].reshape(-1, 6)
            for path in run.files.paths
        ]
    )
    assert np.array_equal(batch, flat[rows.order.rows_at([0, 5, 17, 41])])


def test_what_the_net_does_not_give_is_named(small, contents, tmp_path):
    del contents["e/c.npy"]
    with FileServer(contents) as server:
        run = replace(small, files=replace(small.files, address=server.address))
        with pytest.raises(RemoteNotFoundError, match=r"e/c\.npy: the server answered 404"):
            run.open("hub", Hub(cache=tmp_path, retry=QUICK))
    with pytest.raises(RemoteError, match=r"cannot reach 127\.0\.0\.1"):
        small.open("hub", Hub(cache=tmp_path / "other", retry=QUICK))


def test_a_study_draws_treated_and_never_treated_rows_of_a_shuffled_run(small, contents, tmp_path):
    narrow = {path: np.frombuffer(c, np.uint32) % 60_000 for path, c in contents.items()}
    for path, content in narrow.items():
        (tmp_path / path).parent.mkdir(exist_ok=True)
        content.astype(np.uint32).tofile(tmp_path / path)
    rows = small.open(tmp_path)

    table = sample_rows(rows, small, [0, 3, 6, 9], Draw(kind="iid", per_cohort=5, never=4))

    assert table["treatment_step"].null_count() == 4
    assert table["tokens"].to_list() == rows[table["row_id"].to_numpy()].tolist()
