"""Array jobs on a real SLURM of one node, started here from Debian's packages."""

import os
import subprocess
import sys
import time
from pathlib import Path

import polars as pl
import pytest

from pythia_profile.cli import app
from pythia_profile.cli.app import run
from pythia_profile.errors import SettingsError, StudyError
from pythia_profile.execute.executors import WorkerError, map_units
from pythia_profile.execute.slurm import TASK, SlurmJobs, array_script, single_script, submit
from pythia_profile.mini.retraining import retrain
from pythia_profile.mini.settings import Audit
from pythia_profile.scoring.run import score
from pythia_profile.scoring.settings import RunOptions
from pythia_profile.store import file_sha256

sys.path.insert(0, str(Path(__file__).parent))

import slurm_node
import units as work


@pytest.fixture(scope="module")
def slurm(tmp_path_factory):
    if missing := slurm_node.missing():
        reason = f"no {', '.join(missing)}; apt-get install {slurm_node.PACKAGES}"
        can_be_had = slurm_node.which("apt-get") and os.geteuid() == 0
        pytest.fail(reason) if can_be_had else pytest.skip(reason)
    with slurm_node.slurm_node(tmp_path_factory.mktemp("slurm")) as environment:
        yield environment


@pytest.fixture
def jobs(slurm, tmp_path, monkeypatch):
    monkeypatch.setenv("SLURM_CONF", slurm["SLURM_CONF"])
    here = str(Path(__file__).parent)
    monkeypatch.setenv("PYTHONPATH", f"{here}:{slurm.get('PYTHONPATH', '')}")
    return SlurmJobs(folder=tmp_path, limit=2)


def ended(job: str, seconds: float = 180.0) -> bool:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        words = ["squeue", "--noheader", "--jobs", job]
        if not subprocess.run(words, capture_output=True, text=True, check=False).stdout.strip():
            return True
        time.sleep(0.3)
    return False


def shown(job: str) -> str:
    words = ["scontrol", "show", "job", job]
    return subprocess.run(words, capture_output=True, text=True, check=False).stdout


def put_back(task: str) -> None:
    """Let a job that was put back start soon; SLURM's own rule is to wait two minutes.

    Not at once: within the second its node takes it for the one that it just ended.
    """
    until(lambda: "JobState=PENDING" in shown(task))
    while "JobState=PENDING" in shown(task):
        words = ["scontrol", "update", f"JobId={task}", "StartTime=now+3"]
        subprocess.run(words, capture_output=True, check=False)
        time.sleep(5)


def until(condition, seconds: float = 60.0) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen"
        time.sleep(0.1)


@pytest.mark.slow
def test_units_are_tasks_and_results_come_in_their_order(jobs):
    progress = []
    found = map_units(work.square, [work.Number(i) for i in range(4)], jobs, progress.append)

    assert found == [0, 1, 4, 9]
    assert sum(progress) == 6
    assert list(jobs.folder.iterdir()) == []


@pytest.mark.slow
def test_failures_and_tasks_that_end_are_one_line(jobs):
    with pytest.raises(WorkerError, match=r"^out of paper; Bearer \S*$") as caught:
        map_units(work.refuse_two, [work.Number(i) for i in (1, 2)], jobs)
    assert caught.value.exit_code == 4

    with pytest.raises(WorkerError, match=r"1 of 1 tasks .* last: the last thing I saw"):
        map_units(work.leave, [work.Number(1)], jobs)


@pytest.mark.slow
def test_a_task_that_is_told_of_its_limit_goes_on_later(jobs):
    """A task counts up in a file; told of its limit it stops, is queued again, and goes on."""
    counter = jobs.folder / "count.py"
    counter.write_text(
        "import sys, time, pathlib\n"
        "file = pathlib.Path(sys.argv[1])\n"
        "for _ in range(8 - len(file.read_text() if file.exists() else '')):\n"
        "    file.open('a').write('x'); time.sleep(0.4)\n"
    )
    command = [sys.executable, str(counter), str(jobs.folder / f"count{TASK}")]
    script = jobs.folder / "count.sbatch"
    script.write_text(array_script("count", command, 1, jobs))
    job = submit(script)
    written = jobs.folder / "count1"
    until(written.exists)
    subprocess.run(["scancel", "--signal=USR1", "--batch", f"{job}_1"], check=True)

    until(lambda: "Restarts=1" in shown(job))
    stopped_at = len(written.read_text())
    put_back(job)

    assert ended(job)
    assert 1 <= stopped_at < 8
    assert written.read_text() == "x" * 8


@pytest.mark.slow
def test_a_job_waits_for_another_and_for_its_success(jobs):
    for name, command in (("first", "sleep 1"), ("bad", "false"), ("second", "echo after")):
        (jobs.folder / f"{name}.sbatch").write_text(single_script(name, command.split(), jobs))
    first = submit(jobs.folder / "first.sbatch")
    second = submit(jobs.folder / "second.sbatch", after=first)
    never = submit(jobs.folder / "second.sbatch", after=submit(jobs.folder / "bad.sbatch"))

    assert ended(second)
    assert ended(never)
    assert (jobs.folder / f"{second}.log").read_text() == "after\n"
    assert not (jobs.folder / f"{never}.log").exists()


@pytest.mark.slow
def test_a_refused_script_is_one_line(jobs):
    script = jobs.folder / "job.sbatch"
    script.write_text(single_script("job", ["true"], jobs.replace(partition="nowhere")))

    with pytest.raises(WorkerError, match=r"^SLURM refuses '.*': .*invalid partition"):
        submit(script)


def test_without_slurm_the_message_says_so(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(StudyError, match="no SLURM here: 'sbatch' is not found"):
        submit(tmp_path / "job.sbatch")


def test_a_script_quotes_every_word_but_the_number_of_the_task(tmp_path):
    folder = tmp_path / "it's; rm -rf $HOME"
    words = ["echo", f"{folder}/{TASK}", TASK, "$(id)"]
    script = tmp_path / "job.sh"
    script.write_text(array_script("a", words, 1, SlurmJobs(folder=tmp_path)))
    done = subprocess.run(
        ["bash", str(script)],
        env={"SLURM_ARRAY_TASK_ID": "3", "PATH": "/usr/bin:/bin"},
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout == f"{folder}/3 3 $(id)\n"


@pytest.mark.parametrize(
    "wrong",
    [{"time": "soon"}, {"memory": "lots"}, {"partition": "a b\n#SBATCH --x"}, {"gpus": -1}],
)
def test_impossible_wishes_are_refused(wrong, tmp_path):
    with pytest.raises(SettingsError, match=next(iter(wrong))):
        SlurmJobs(folder=tmp_path, **wrong)


def test_an_array_needs_a_number_of_tasks(tmp_path):
    with pytest.raises(StudyError, match="how many tasks"):
        _ = SlurmJobs(folder=tmp_path).slots


@pytest.fixture
def study(tiny_suite, tmp_path):
    """A study of two tiny sizes, its rows drawn."""
    from pythia_profile.did.settings import Estimation
    from pythia_profile.pipeline.running import run_stage
    from pythia_profile.study import Sampling, Study, create_study

    sample = Sampling(rows_per_cohort=24, batches_per_cohort=0, never_treated=96)
    settings = Study(
        suite=str(tiny_suite.root),
        sizes=("xs", "s"),
        sample=sample,
        estimate=Estimation(draws=50),
    )
    create_study(tmp_path / "study", settings)
    run_stage(tmp_path / "study", "sample")
    return tmp_path / "study"


def tables(scores: Path) -> dict[str, str]:
    return {
        str(path.relative_to(scores)): file_sha256(path) for path in scores.rglob("scores.parquet")
    }


@pytest.mark.slow
def test_a_study_runs_as_an_array_of_four_though_a_task_is_put_back(
    jobs, study, tiny_suite, tmp_path, capsys
):
    """From the verb's own scripts to the report; the tables are those of a serial run."""
    assert run(app, ["sbatch", str(study), "--tasks", "4", "--array-limit", "2", "--submit"]) == 0
    words = capsys.readouterr().out.split()
    array, last = words[3], words[-1]
    until(lambda: "JobState=RUNNING" in shown(f"{array}_1"))
    subprocess.run(["scontrol", "requeue", f"{array}_1"], check=True)
    put_back(f"{array}_1")

    assert ended(array)
    assert ended(last)
    assert (study / "report.html").exists(), [log.read_text() for log in study.rglob("*.log")]
    rows = pl.read_parquet(study / "rows.parquet")
    score(tiny_suite, rows, folder=tmp_path / "serial", options=RunOptions(workers=1))
    assert len(tables(study / "scores")) >= 10
    assert tables(study / "scores") == tables(tmp_path / "serial")


@pytest.mark.slow
def test_a_cohort_is_retrained_by_a_task(jobs, tiny_suite, tiny_rows, tmp_path):
    """Counterfactual retraining runs over the same seam: the same scores as here."""
    audit, own = Audit(size="xs", cohorts=1), jobs.replace(limit=1)
    there = retrain(tiny_suite, audit, tiny_rows, folder=tmp_path / "there", cluster=own)
    here = retrain(tiny_suite, audit, tiny_rows, folder=tmp_path / "here", workers=1)

    assert there.equals(here)
    assert len(there) > 100


@pytest.mark.slow
def test_scoring_waits_for_its_tasks(jobs, study, capsys):
    arguments = ["score", str(study), "--cluster", "slurm", "--workers", "2"]
    assert run(app, arguments) == 0
    assert "at 10 checkpoints" in capsys.readouterr().out
    assert not list(study.glob(".calls-*"))


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (["score", "--cluster", "slurm"], "how many tasks"),
        (["score", "--cluster", "slurm", "--gpus", "0.5"], "whole number"),
        (["score", "--gpus", "1"], "go with --cluster"),
        (["score", "--address", "a:1"], "goes with --cluster ray"),
        (["sbatch", "--time", "soon"], "time: got 'soon'"),
        (["sbatch", "--memory", "16 G\n#SBATCH"], "memory"),
        (["sbatch", "--setup", "a\nb"], "setup"),
    ],
)
def test_wishes_that_cannot_be_are_one_line(wrong, message, study, capsys):
    verb, *options = wrong
    assert run(app, [verb, str(study), *options]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert "Traceback" not in error


def test_scripts_need_rows(tmp_path, tiny_suite, capsys):
    assert run(app, ["init", str(tmp_path / "new"), "--suite", str(tiny_suite.root)]) == 0
    assert run(app, ["sbatch", str(tmp_path / "new")]) == 2
    assert "sample" in capsys.readouterr().err
