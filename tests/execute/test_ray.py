"""Work over the nodes of a Ray cluster: two nodes of this machine, one of which is killed."""

import os
import signal
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import polars as pl
import pytest

from pythia_profile.errors import SettingsError, StudyError
from pythia_profile.execute.executors import WorkerError, map_units
from pythia_profile.execute.ray_cluster import RayCluster

sys.path.insert(0, str(Path(__file__).parent))

import units as work

pytestmark = pytest.mark.slow
TOKEN = "5" * 64


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Two nodes with one core each, which want a token."""
    here = str(Path(__file__).parent)
    changed = {
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": TOKEN,
        "RAY_USAGE_STATS_ENABLED": "0",
        "PYTHONPATH": os.pathsep.join([here, os.environ.get("PYTHONPATH", "")]),
    }
    before = {name: os.environ.get(name) for name in changed}
    os.environ.update(changed)
    from ray.cluster_utils import Cluster

    nodes = Cluster(
        initialize_head=True,
        head_node_args={
            "num_cpus": 1,
            "object_store_memory": 80 * 2**20,
            "include_dashboard": False,
        },
    )
    nodes.add_node(num_cpus=1, object_store_memory=80 * 2**20)
    yield nodes
    import ray

    ray.shutdown()
    nodes.shutdown()
    for name, value in before.items():
        if value is None:
            os.environ.pop(name, None)
        else:
            os.environ[name] = value


@pytest.fixture
def executor(cluster, tmp_path):
    return RayCluster(address=cluster.address, folder=tmp_path)


def kill_second_node(cluster) -> None:
    """Send SIGKILL to everything of the second node."""
    node = cluster.list_all_nodes()[1]
    for processes in node.all_processes.values():
        for one in processes:
            os.kill(one.process.pid, signal.SIGKILL)
    cluster.remove_node(node, allow_graceful=False)


def test_results_come_in_the_order_of_the_units(executor):
    progress = []
    found = map_units(work.square, [work.Number(i) for i in range(7)], executor, progress.append)

    assert found == [0, 1, 4, 9, 16, 25, 36]
    assert sum(progress) == 21
    assert list(executor.folder.iterdir()) == []  # nothing of the exchange is left


def test_a_failure_is_one_line_without_tokens(executor):
    with pytest.raises(WorkerError, match=r"^out of paper; Bearer \S*$") as caught:
        map_units(work.refuse_two, [work.Number(i) for i in range(4)], executor)

    assert "secret-of-mine" not in str(caught.value)
    assert caught.value.exit_code == 4


def test_a_client_without_the_token_is_kept_out(cluster):
    code = (
        "import ray, sys\n"
        f"ray.init(address={cluster.address!r}, log_to_driver=False)\n"
        "print('connected')"
    )
    environment = {**os.environ, "RAY_AUTH_MODE": "token", "RAY_AUTH_TOKEN": "6" * 64}
    done = subprocess.run(
        [sys.executable, "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode != 0
    assert "connected" not in done.stdout


def test_a_killed_node_loses_no_unit_and_doubles_none(cluster, tmp_path, tiny_suite, tiny_rows):
    """The tables are, byte for byte, those of a serial run."""
    from pythia_profile.checkpoints.grid import locate
    from pythia_profile.scoring.run import Share, score
    from pythia_profile.scoring.settings import RunOptions, Scoring
    from pythia_profile.scoring.units import units_of
    from pythia_profile.store import file_sha256, write_table
    from pythia_profile.tables import ROWS

    if len(cluster.list_all_nodes()) < 2:
        cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20)
    rows, scores = tmp_path / "rows.parquet", tmp_path / "ray" / "scores"
    write_table(tiny_rows, rows, ROWS)
    works = tuple(units_of(tiny_suite, locate(tiny_suite, list(tiny_suite.sizes), None)))
    share = Share(works, rows, scores, Scoring(), 1024, None)

    executor = RayCluster(address=cluster.address, folder=tmp_path)
    with ThreadPoolExecutor(1) as pool:  # nodes can be started in the main thread only
        mapped = pool.submit(map_units, work.score_slowly, [share] * 2, executor)
        deadline = time.monotonic() + 60
        while len(list(scores.glob("*/*/*/*/done.json"))) < 3 and time.monotonic() < deadline:
            time.sleep(0.02)
        kill_second_node(cluster)
        unfinished = not mapped.done()
        cluster.add_node(num_cpus=1, object_store_memory=80 * 2**20)
        mapped.result(timeout=240)
    assert unfinished
    score(tiny_suite, tiny_rows, folder=tmp_path / "serial", options=RunOptions(workers=1))

    def tables(folder: Path) -> dict[str, str]:
        return {
            str(path.relative_to(folder)): file_sha256(path)
            for path in folder.rglob("scores.parquet")
        }

    assert len(tables(scores)) == len(works) >= 10
    assert tables(scores) == tables(tmp_path / "serial")
    ids = pl.concat([pl.read_parquet(path) for path in scores.rglob("scores.parquet")])
    assert not ids.select("size", "checkpoint", "row_id").is_duplicated().any()


def test_a_fork_is_trained_on_a_node(executor, tiny_suite, tiny_rows, tmp_path):
    """Forks run over the same seam: the same rows and scores as here."""
    from pythia_profile.mini.forks import forked

    there = forked(tiny_suite, "xs", tiny_rows, folder=tmp_path / "there", cluster=executor)
    here = forked(tiny_suite, "xs", tiny_rows, folder=tmp_path / "here", workers=1)

    assert [[frame.equals(own) for frame, own in zip(*pair, strict=True)]
            for pair in zip(there, here, strict=True)] == [[True, True]]  # fmt: skip


@pytest.mark.parametrize("address", ["127.0.0.1:1", "127.0.0.1:99999", "no-such-host.invalid:1"])
def test_a_cluster_that_does_not_answer_is_one_line(address, tmp_path, monkeypatch):
    import ray

    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    cluster = RayCluster(address=address, folder=tmp_path)
    with pytest.raises(WorkerError, match=f"^ray: {address} does not answer .*is its token in.*$"):
        map_units(work.square, [work.Number(1)], cluster)


def test_an_address_is_host_and_port(tmp_path):
    with pytest.raises(SettingsError, match="address: got 'somewhere'"):
        RayCluster(address="somewhere", folder=tmp_path)


def test_ray_that_is_missing_or_old_is_named(tmp_path, monkeypatch):
    pytest.importorskip("ray")
    import ray

    from pythia_profile.execute import ray_cluster

    monkeypatch.setattr(ray, "__version__", "2.10.0")
    with pytest.raises(StudyError, match=r"got release 2\.10\.0, expected 2\.52 or newer"):
        ray_cluster._ray()
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(StudyError, match="not installed"):
        ray_cluster._ray()
