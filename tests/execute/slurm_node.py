"""A SLURM of one node with two pretended GPUs, from Debian's packages, while a test runs.

Daemons run as the user who runs the tests (root, on CI), in a temporary folder, on free ports.
"""

import os
import secrets
import shutil
import socket
import subprocess
import time
from contextlib import contextmanager
from pathlib import Path

PACKAGES = "slurm-wlm munge"
CONFIGURATION = """
ClusterName=tests
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
SlurmctldPort={control}
SlurmdPort={daemon}
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
ReturnToService=2
SchedulerType=sched/backfill
SchedulerParameters=bf_interval=1,sched_min_interval=200000,batch_sched_delay=0
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
JobRequeue=1
KillWait=1
MinJobAge=60
GresTypes=gpu
SlurmdParameters=config_overrides
NodeName={host} NodeAddr=127.0.0.1 CPUs=4 CoresPerSocket=4 RealMemory=2000 Gres=gpu:2 State=UNKNOWN
PartitionName=main Nodes={host} Default=YES MaxTime=INFINITE State=UP OverSubscribe=NO
"""


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def missing() -> list[str]:
    """Programs that the packages would have brought."""
    return [name for name in ("slurmctld", "slurmd", "munged", "sbatch") if not which(name)]


def which(name: str) -> str | None:
    return shutil.which(name, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin")


@contextmanager
def slurm_node(folder: Path):
    """Start the daemons; give the environment in which SLURM's commands find them."""
    host, user = socket.gethostname().split(".")[0], os.environ.get("USER") or "root"
    folder.chmod(0o755)
    for name in ("state", "spool"):
        (folder / name).mkdir()
    key = folder / "munge.key"
    key.write_bytes(secrets.token_bytes(128))
    key.chmod(0o400)
    ports = {"control": _free_port(), "daemon": _free_port()}
    text = CONFIGURATION.format(host=host, user=user, folder=folder, **ports)
    (folder / "slurm.conf").write_text(text)
    (folder / "gres.conf").write_text(
        f"NodeName={host} Name=gpu File=/dev/null\nNodeName={host} Name=gpu File=/dev/zero\n"
    )
    (folder / "cgroup.conf").write_text("CgroupAutomount=no\n")
    environment = {**os.environ, "SLURM_CONF": str(folder / "slurm.conf")}
    munge = [
        *(which("munged"), "--foreground", "--force", f"--key-file={key}"),
        *(f"--socket={folder}/munge.socket", f"--pid-file={folder}/munged.pid"),
        *(f"--log-file={folder}/munged.log", f"--seed-file={folder}/munge.seed"),
    ]
    daemons: list[subprocess.Popen[bytes]] = []

    def start(*command: str) -> None:
        with (folder / "output").open("ab") as output:
            daemons.append(subprocess.Popen(command, env=environment, stdout=output, stderr=output))

    try:
        start(*munge)
        _until(lambda: (folder / "munge.socket").exists(), folder)
        start(which("slurmctld"), "-D", "-c")
        start(which("slurmd"), "-D", "-c", "-N", host)
        _until(lambda: "idle" in _ask(environment, "sinfo", "-h", "-o", "%T"), folder)
        yield environment
    finally:
        for one in reversed(daemons):
            one.terminate()
        for one in reversed(daemons):
            try:
                one.wait(10)
            except subprocess.TimeoutExpired:
                one.kill()


def _ask(environment: dict[str, str], *command: str) -> str:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return done.stdout


def _until(condition, folder: Path, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            logs = "\n".join(
                f"{path.name}: {path.read_text(errors='replace')[-600:]}"
                for path in [*folder.glob("*.log"), folder / "output"]
            )
            raise TimeoutError(f"no SLURM within {seconds:g} s\n{logs}")
        time.sleep(0.2)
