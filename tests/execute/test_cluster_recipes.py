"""Every line of the guide to clusters, run on a tiny study as far as it can be here."""

import re
import shlex
import shutil
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

from pythia_profile.cli import app
from pythia_profile.cli.app import run
from pythia_profile.did.settings import Estimation
from pythia_profile.execute.ray_cluster import RayCluster
from pythia_profile.execute.resources import Resources
from pythia_profile.execute.slurm import SlurmJobs
from pythia_profile.execute.worker import Worker
from pythia_profile.study import Sampling, Study, create_study

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "cluster.md").read_text(encoding="utf-8")
LINES = [
    shlex.split(line, comments=True)
    for block in re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)
    for line in block.splitlines()
]
OURS = [words[1:] for words in LINES if words[0] == "pythia-profile"]


@pytest.fixture
def study(tiny_suite, tmp_path, monkeypatch):
    """A study of one tiny size, its rows drawn, in the folder where commands run."""
    settings = Study(
        suite=str(tiny_suite.root),
        sizes=("xs",),
        sample=Sampling(rows_per_cohort=16, batches_per_cohort=0, never_treated=48),
        estimate=Estimation(draws=20),
    )
    create_study(tmp_path / "my-study", settings)
    monkeypatch.chdir(tmp_path)
    assert run(app, ["sample", "my-study"]) == 0
    return tmp_path / "my-study"


@pytest.fixture
def executors(monkeypatch):
    """Executors that were asked for; the work itself is done in this process."""
    asked = []

    def in_process(function, units, executor, on_part):
        asked.append(executor)
        return [function(unit, Worker("cpu", 1, lambda _: None)) for unit in units[:1]]

    monkeypatch.setattr(import_module("pythia_profile.scoring.run"), "map_units", in_process)
    monkeypatch.setattr(RayCluster, "slots", 2)
    return asked


def scoring() -> list[list[str]]:
    """Lines that score, those inside of containers and jobs included."""
    rented = [words for words in LINES if words[0] in ("docker", "hf") and "score" in words]
    inside = [words[words.index("score") :] for words in rented]
    here = [words for words in OURS if words[0] == "score"]
    return [[word.replace("/work/", "") for word in words] for words in (*here, *inside)]


def test_every_line_that_scores_runs(study, executors):
    kinds = {"": Resources, "slurm": SlurmJobs, "ray": RayCluster}
    for words in scoring():
        shutil.rmtree(study / "scores", ignore_errors=True)

        assert run(app, words) == 0, words

        wanted = (
            Resources if "--cluster" not in words else kinds[words[words.index("--cluster") + 1]]
        )
        assert type(executors.pop()) is wanted, words
        done = len([*study.rglob("done.json")])
        assert done == (5 if "--shard" not in words else done), words
        assert done >= 1
    assert len(scoring()) >= 7


def test_scripts_are_written_and_name_the_parts(study):
    for words in (words for words in OURS if words[0] == "sbatch"):
        assert run(app, words) == 0, words
    scripts = [path.read_text() for path in study.rglob("*.sbatch")]

    assert any("--shard" in script for script in scripts)
    assert any("module load cuda" in script for script in scripts)


@pytest.mark.slow
def test_what_other_programs_are_asked_for_exists():
    """Their own parsers know every option; nothing is started or rented."""
    known = said_by("hf", "jobs", "run", "--help")
    (job,) = [words for words in LINES if words[0] == "hf"]
    for word in job[: job.index("OWNER/IMAGE")]:
        if word.startswith("-"):
            assert re.search(rf"(^|[ ,]){word}\b", known, re.MULTILINE), word
    assert "a10g-small" in known

    known = said_by("ray", "start", "--help")
    for words in (words for words in LINES if "start" in words):
        assert {word for word in words if word.startswith("--")} <= {
            *re.findall(r"--[\w-]+", known)
        }
    assert "get-auth-token" in said_by("ray", "--help")


def said_by(program, *words):
    """What a program of this environment prints; ray is not imported, for it then keeps its token
    mode to itself until the process ends."""
    path = Path(sys.executable).with_name(program)
    return subprocess.run([path, *words], capture_output=True, text=True, check=True).stdout


def test_the_container_runs_the_program():
    content = (ROOT / "Dockerfile").read_text(encoding="utf-8")
    assert 'ENTRYPOINT ["pythia-profile"]' in content
    assert "WORKDIR /work" in content  # where the guide mounts the folder of the study
