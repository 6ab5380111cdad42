"""Units mapped over the nodes of a Ray cluster, or over a local one.

Ray only starts calls and starts them again where a node was lost: no objects, no actors, no
dashboard. Calls and results are files (`calls`) in a folder that all nodes see, as a study is. The
cluster is asked to want a token of every client: Ray listens on all addresses even when told not
to.
"""

import os
import secrets
import socket
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, TypeVar

from pydantic import Field

from pythia_profile.errors import RefusedError, StudyError
from pythia_profile.execute.calls import Calls, OnPart, OnProgress, serve
from pythia_profile.execute.worker import Worker, WorkerError
from pythia_profile.settings import Settings

__all__ = ["RayCluster", "map_on_ray"]

U = TypeVar("U")
R = TypeVar("R")

_SECONDS = 0.5
_GRACE_SECONDS = 10.0
_OLDEST = (2, 52)
"""Releases from here on know tokens."""


class RayCluster(Settings):
    """A Ray cluster, and what one unit takes of it."""

    address: str = Field(
        "",
        pattern=r"^([\w.-]+:\d{1,5})?$",
        description="host:port of the head node; empty for a local cluster",
    )
    folder: Path = Field(description="where calls are kept while they run; seen by all nodes")
    cpus: float = Field(1, gt=0, description="cores of one unit")
    gpus: float = Field(0, ge=0, description="GPUs of one unit; fractions share a GPU")
    retries: int = Field(3, ge=0, description="how often a unit is started again elsewhere")

    @property
    def slots(self) -> int:
        """Units that the cluster can run at a time.

        Raises
        ------
        RefusedError
            It has no node with what a unit takes.
        """
        wanted = {"CPU": self.cpus, **({"GPU": self.gpus} if self.gpus else {})}
        nodes = [node["Resources"] for node in _connected(self).nodes() if node["Alive"]]
        fitting = sum(
            min(int(node.get(kind, 0) / n) for kind, n in wanted.items()) for node in nodes
        )
        if not fitting:
            raise RefusedError(
                f"ray: none of the {len(nodes)} nodes has {self.cpus:g} cores and {self.gpus:g} "
                "GPUs, which one worker takes"
            )
        return fitting


def map_on_ray(
    function: Callable[[U, Worker], R],
    units: Sequence[U],
    cluster: RayCluster,
    on_progress: OnProgress = lambda _: None,
    on_part: OnPart = lambda *_: None,
) -> list[R]:
    """Call `function(unit, worker)` for every unit on the cluster; as `map_units` does here.

    Raises
    ------
    StudyError
        Ray is not installed, or too old to keep strangers out.
    WorkerError
        The cluster does not answer, a unit failed, or its node was lost too often.
    """
    if not units:
        return []
    ray = _connected(cluster)
    with tempfile.TemporaryDirectory(
        dir=cluster.folder, prefix=".calls-", ignore_cleanup_errors=True
    ) as own:
        calls = Calls.write(Path(own), function, units)
        task = ray.remote(
            num_cpus=cluster.cpus, num_gpus=cluster.gpus, max_retries=cluster.retries
        )(serve)
        device, threads = "cuda:0" if cluster.gpus else "cpu", max(1, int(cluster.cpus))
        waiting = [task.remote(own, number, device, threads) for number in calls.numbers]
        seen: dict[int, int] = {}
        try:
            while waiting:
                ended, waiting = ray.wait(waiting, timeout=_SECONDS)
                ray.get(ended)
                calls.check()
                calls.tell(seen, on_progress, on_part)
        except ray.exceptions.RayError as error:
            reason = str(error).strip().splitlines()[0]
            raise WorkerError(
                f"ray: a worker was lost more than {cluster.retries} times ({reason}); run again "
                "to go on where it stopped"
            ) from error
        finally:
            for one in waiting:
                ray.cancel(one, force=True)
            if waiting:  # they write into the folder until they have ended
                ray.wait(waiting, num_returns=len(waiting), timeout=_GRACE_SECONDS)
        return calls.results()


def _connected(cluster: RayCluster) -> Any:
    """Return Ray, connected to the cluster, or to one started here, until this process ends."""
    os.environ["RAY_AUTH_MODE"] = "token"  # read when the module is imported
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    if not cluster.address and not _has_token():
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)
    ray = _ray()
    if ray.is_initialized():
        return ray
    where = {"address": cluster.address} if cluster.address else {"include_dashboard": False}
    try:
        if cluster.address:  # Ray itself would wait for minutes
            host, _, port = cluster.address.partition(":")
            socket.create_connection((host, int(port)), timeout=_GRACE_SECONDS).close()
        ray.init(**where, log_to_driver=False, logging_level="ERROR")
    except (OSError, OverflowError, RuntimeError, ValueError, ray.exceptions.RayError) as error:
        reason = str(error).strip().splitlines()[0]
        raise WorkerError(
            f"ray: {cluster.address or 'a local cluster'} does not answer ({reason}); is it up, "
            "and is its token in RAY_AUTH_TOKEN or ~/.ray/auth_token?"
        ) from error
    return ray


def _has_token() -> bool:
    named = any(os.environ.get(name) for name in ("RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"))
    return named or Path.home().joinpath(".ray", "auth_token").exists()


def _ray() -> Any:
    try:
        import ray
    except ImportError as error:
        raise StudyError("ray is not installed; pip install 'pythia-profile[cluster]'") from error
    if tuple(int(part) for part in ray.__version__.split(".")[:2]) < _OLDEST:
        oldest = ".".join(map(str, _OLDEST))
        raise StudyError(f"ray: got release {ray.__version__}, expected {oldest} or newer")
    return ray
