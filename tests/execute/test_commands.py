"""Worker processes: lines arrive, failures are named, nothing is left running."""

import sys
import time
from pathlib import Path

import pytest

from pythia_profile.execute.commands import WorkerError, run_workers


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Write a module that workers can run: a factory of its name."""
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))

    def write(code: str, name: str = "little_worker") -> str:
        (tmp_path / f"{name}.py").write_text(code)
        return name

    return write


def test_every_line_of_every_worker_arrives(module):
    name = module("import sys; [print(sys.argv[1], i) for i in range(3)]")
    lines = []

    run_workers([[name, "a"], [name, "b"], [name, "c"]], workers=2, on_line=lines.append)

    assert sorted(lines) == [f"{who} {i}" for who in "abc" for i in range(3)]


def test_workers_compute_on_as_many_threads_as_they_are_told(module):
    name = module("import os; print(os.environ['OMP_NUM_THREADS'])")
    lines = []

    run_workers([[name]], workers=1, on_line=lines.append, threads=3)

    assert lines == ["3"]


def test_the_last_words_and_the_exit_code_of_a_failed_worker_are_the_error(module):
    name = module("import sys; print('noise', file=sys.stderr); sys.exit('error: out of paper')")

    with pytest.raises(WorkerError, match=r"^out of paper$") as caught:
        run_workers([[name]], workers=1, on_line=lambda _: None)
    assert caught.value.exit_code == 1


def test_a_killed_worker_is_named_and_the_others_are_ended(module, tmp_path):
    killed = module("import os; os.kill(os.getpid(), 9)", "killed")
    slow = module(
        f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid())); "
        "print(1, flush=True); time.sleep(60)",
        "slow",
    )
    started = []

    def begin_second(line):
        started.append(line)

    with pytest.raises(WorkerError, match="worker 'killed' was killed by signal 9"):
        run_workers([[slow], [killed]], workers=2, on_line=begin_second)
    if (tmp_path / "pid").exists():
        assert not Path(f"/proc/{(tmp_path / 'pid').read_text()}").exists()


def test_a_worker_without_a_parent_ends_at_its_next_line(module, tmp_path):
    """The parent is killed; the worker, which prints twice a second, must not live on."""
    import subprocess

    slow = module(
        f"import os, time; open({str(tmp_path / 'pid')!r}, 'w').write(str(os.getpid()))\n"
        "while True: print(1, flush=True); time.sleep(0.2)"
    )
    parent = subprocess.Popen(
        [
            sys.executable,
            "-c",
            "from pythia_profile.execute.commands import run_workers; "
            f"run_workers([[{slow!r}]], workers=1, on_line=lambda line: None)",
        ]
    )
    deadline = time.monotonic() + 20
    while not (tmp_path / "pid").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    parent.kill()
    parent.wait()
    child = Path(f"/proc/{(tmp_path / 'pid').read_text()}")
    while child.exists() and time.monotonic() < deadline:
        time.sleep(0.05)

    assert not child.exists()
