"""Array jobs of a SLURM cluster: scripts that survive the time limit, and units mapped over them.

A task that nears its limit is told so (SIGUSR1), stops where it is and is put back into the queue;
the work it had committed is kept. So is a task whose node was lost or given to somebody else.
"""

import os
import shlex
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, TypeVar

from pydantic import Field

from pythia_profile.errors import StudyError
from pythia_profile.execute.calls import Calls, OnPart, OnProgress
from pythia_profile.execute.worker import Worker, WorkerError
from pythia_profile.settings import Settings

__all__ = ["TASK", "SlurmJobs", "array_script", "map_on_slurm", "single_script", "submit"]

U = TypeVar("U")
R = TypeVar("R")

TASK = "${SLURM_ARRAY_TASK_ID}"
"""Stands for the number of a task, from 1 on, in a command of `array_script`."""

_SECONDS_BEFORE_LIMIT = 120
_SECONDS = 2.0
_Line = Annotated[str, Field(pattern=r"^[^\n]*$")]


class SlurmJobs(Settings):
    """What one task of an array job asks for."""

    time: str = Field(
        "",
        pattern=r"^((\d+-)?\d+(:\d+){0,2})?$",
        description="limit of a task, as SLURM writes it: minutes, 12:00:00 or 1-12:00:00",
    )
    gpus: int = Field(0, ge=0, le=64, description="GPUs of a task")
    cpus: int = Field(1, ge=1, le=1024, description="cores of a task")
    memory: str = Field("", pattern=r"^(\d+[KMGT]?)?$", description="memory of a task: 16G")
    partition: str = Field(
        "", pattern=r"^[\w,.-]*$", description="partition; empty for the default"
    )
    account: str = Field("", pattern=r"^[\w.-]*$", description="account that pays")
    limit: int = Field(0, ge=0, description="tasks at a time; 0 for as many as there is room for")
    setup: tuple[_Line, ...] = Field(
        (), description="shell lines before the command: module load …"
    )
    folder: Path = Field(description="for scripts, calls and what tasks print; seen by all nodes")

    @property
    def slots(self) -> int:
        """Tasks at a time.

        Raises
        ------
        StudyError
            Nothing says how many.
        """
        if not self.limit:
            raise StudyError("slurm: how many tasks? give a number of workers")
        return self.limit


def array_script(name: str, command: Sequence[str], tasks: int, jobs: SlurmJobs) -> str:
    """Write the script of an array job with `tasks` tasks, numbered from 1.

    Parameters
    ----------
    command : words; `TASK` within a word is the number of the task.

    Examples
    --------
    >>> jobs = SlurmJobs(limit=2, folder="logs")
    >>> script = array_script("count", ["echo", f"{TASK}/4"], 4, jobs)
    >>> print([line for line in script.splitlines() if "array" in line][0])
    #SBATCH --array=1-4%2
    """
    at_a_time = f"%{jobs.limit}" if jobs.limit else ""
    head = [
        *_head(name, jobs, "%A_%a.log"),
        f"#SBATCH --array=1-{tasks}{at_a_time}",
        "#SBATCH --requeue",
        f"#SBATCH --signal=B:USR1@{_SECONDS_BEFORE_LIMIT}",
    ]
    words = " ".join(_word(word) for word in command)
    return "\n".join([
        *head,
        "",
        *jobs.setup,
        f"export OMP_NUM_THREADS={jobs.cpus}",
        "",
        "# Near its limit the task stops where it is, and goes on in its next slot.",
        "go_on_later() {",
        '    kill -TERM "$work" 2>/dev/null',
        '    wait "$work"',
        '    scontrol requeue "${SLURM_ARRAY_JOB_ID}_${SLURM_ARRAY_TASK_ID}"',
        "    exit 0",
        "}",
        "trap go_on_later USR1",
        "",
        f"{words} &",
        "work=$!",
        'wait "$work"',
        "",
    ])  # fmt: skip


def single_script(name: str, command: Sequence[str], jobs: SlurmJobs) -> str:
    """Write the script of one job that runs a command once."""
    words = " ".join(_word(word) for word in command)
    return "\n".join([*_head(name, jobs, "%j.log"), "", *jobs.setup, words, ""])


def _head(name: str, jobs: SlurmJobs, log: str) -> list[str]:
    wanted = {
        "job-name": name,
        "time": jobs.time,
        "gpus-per-task": jobs.gpus or "",
        "cpus-per-task": jobs.cpus,
        "mem": jobs.memory,
        "partition": jobs.partition,
        "account": jobs.account,
        "output": jobs.folder / log,
    }
    options = [f"#SBATCH --{key}={value}" for key, value in wanted.items() if value != ""]
    return ["#!/bin/bash", *options, "#SBATCH --ntasks=1", "#SBATCH --open-mode=append"]


def _word(word: str) -> str:
    """Quote a word for the shell, all but the number of the task."""
    return TASK.join(shlex.quote(part) if part else "" for part in word.split(TASK)) or "''"


def submit(script: Path, after: str = "") -> str:
    """Submit a script, to run when job `after` has ended well; return the number of its job.

    Raises
    ------
    StudyError
        There is no SLURM here.
    WorkerError
        SLURM refuses the script; its reason is the message.
    """
    options = [f"--dependency=afterok:{after}", "--kill-on-invalid-dep=yes"] if after else []
    done = _slurm("sbatch", "--parsable", *options, str(script))
    if done.returncode:
        reason = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
        raise WorkerError(f"SLURM refuses '{script}': {reason}")
    return done.stdout.strip().split(";")[0]


def map_on_slurm(
    function: Callable[[U, Worker], R],
    units: Sequence[U],
    jobs: SlurmJobs,
    on_progress: OnProgress = lambda _: None,
    on_part: OnPart = lambda *_: None,
) -> list[R]:
    """Call `function(unit, worker)` for every unit, a task each; as `map_units` does here.

    Raises
    ------
    WorkerError
        SLURM refuses the job, a unit failed, or its task ended without an answer.
    """
    if not units:
        return []
    with tempfile.TemporaryDirectory(dir=jobs.folder, prefix=".calls-") as own:
        calls = Calls.write(Path(own), function, units)
        device = "cuda:0" if jobs.gpus else "cpu"
        command = [
            *(sys.executable, "-m", "pythia_profile.execute.calls"),
            *(own, TASK, device, str(jobs.cpus)),
        ]
        script = Path(own, "units.sbatch")
        script.write_text(
            array_script("pythia-profile", command, len(units), jobs.replace(folder=own)),
            encoding="utf-8",
        )
        job = submit(script)
        try:
            _wait(calls, job, on_progress, on_part)
        except BaseException:
            _slurm("scancel", job)
            raise
        return calls.results()


def _wait(calls: Calls, job: str, on_progress: OnProgress, on_part: OnPart) -> None:
    seen: dict[int, int] = {}
    while True:
        queued = bool(_slurm("squeue", "--noheader", "--jobs", job).stdout.strip())
        calls.tell(seen, on_progress, on_part)
        calls.check()
        missing = calls.missing()
        if not missing:
            return
        if not queued:
            raise WorkerError(
                f"SLURM: {len(missing)} of {calls.count} tasks of job {job} ended without an "
                f"answer; {_last_words(calls.folder)}; run again to go on where they stopped"
            )
        time.sleep(_SECONDS)


def _last_words(folder: Path) -> str:
    for log in sorted(folder.glob("*.log"), key=lambda path: path.stat().st_mtime, reverse=True):
        lines = log.read_text(encoding="utf-8", errors="replace").strip().splitlines()
        if lines:
            return f"last: {lines[-1]}"
    return "they printed nothing"


def _slurm(*words: str) -> "subprocess.CompletedProcess[str]":
    try:
        return subprocess.run(
            words, capture_output=True, text=True, check=False, env={**os.environ}, timeout=120
        )
    except FileNotFoundError as error:
        raise StudyError(
            f"no SLURM here: '{words[0]}' is not found; run this where jobs are submitted"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise WorkerError(f"SLURM does not answer ('{words[0]}', 120 s)") from error
