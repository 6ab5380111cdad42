"""Units of a lab: each computed once, by whoever; killed, they go on."""

import threading
import time

import pytest

from pythia_profile.errors import ProfileError
from pythia_profile.execute.worker import Worker
from pythia_profile.store import lease, read_json, write_json
from pythia_profile.training import units
from pythia_profile.training.units import run_units

MODULE = """
import os, signal
from dataclasses import dataclass
from pathlib import Path
from pythia_profile.store import read_json, write_json

@dataclass(frozen=True)
class Count:
    folder: Path
    steps: int
    killed_at: int = -1

    @property
    def name(self):
        return self.folder.name

def count(unit, worker):
    '''Adds up 1 ... steps, from where the folder says; dies once where it is told to.'''
    noted = unit.folder / "sum.json"
    state = read_json(noted) if noted.exists() else {"step": 0, "sum": 0, "begun": 0}
    state["begun"] += 1
    for step in range(state["step"] + 1, unit.steps + 1):
        state |= {"step": step, "sum": state["sum"] + step}
        write_json(state, noted)
        if step == unit.killed_at:
            os.kill(os.getpid(), signal.SIGKILL)
        worker.advance(1)
    write_json(state, unit.folder / "result.json")
"""


@pytest.fixture
def counting(tmp_path, monkeypatch):
    (tmp_path / "counting_units.py").write_text(MODULE)
    monkeypatch.syspath_prepend(tmp_path)
    import counting_units

    return counting_units


@pytest.mark.slow
def test_a_killed_command_goes_on_and_what_is_done_is_read(counting, tmp_path):
    units = [
        counting.Count(tmp_path / "runs" / f"unit{steps}", steps, killed_at=7 if steps == 9 else -1)
        for steps in (5, 9, 6)
    ]
    with pytest.raises(ProfileError, match="the worker at unit9 was killed by signal 9"):
        run_units(units, counting.count, title="counting", workers=1)
    assert (units[0].folder / "result.json").exists()
    assert not (units[1].folder / "result.json").exists()

    results = run_units(units, counting.count, title="counting", workers=2)

    assert [one["sum"] for one in results] == [15, 45, 21]  # n (n + 1) / 2
    assert [one["begun"] for one in results] == [1, 2, 1]
    assert run_units(units, None, title="nothing to do") == results


def test_a_unit_that_another_command_is_at_is_waited_for(counting, tmp_path):
    unit = counting.Count(tmp_path / "runs" / "unit3", 3)
    unit.folder.mkdir(parents=True)

    def another():
        time.sleep(0.4)
        write_json({"sum": -1}, unit.folder / "result.json")

    with lease(unit.folder / "lock") as ours:
        assert ours
        other = threading.Thread(target=another)
        other.start()
        call = units._Call(unit, counting.count)
        units._once(call, Worker("cpu", 1, lambda _: None))
        other.join()

    assert read_json(unit.folder / "result.json") == {"sum": -1}  # nobody counted
    assert not (unit.folder / "sum.json").exists()
