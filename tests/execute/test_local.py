"""Units over processes: results in order, failures of one line, no process left behind."""

import logging
import os
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from pythia_profile.errors import RefusedError
from pythia_profile.execute.executors import Worker, WorkerError, map_units
from pythia_profile.execute.resources import Resources, on_cores

TWO = Resources(("cpu", "cpu"), 1)


@dataclass(frozen=True)
class Number:
    value: int
    folder: Path = Path()

    @property
    def name(self):
        return f"number {self.value}"


def square(unit: Number, worker: Worker):
    worker.advance(unit.value)
    return unit.value**2


def environment(unit: Number, worker: Worker):
    return worker.device, worker.threads, os.environ["OMP_NUM_THREADS"], os.getpid()


def fail_at_two(unit: Number, worker: Worker):
    if unit.value == 2:
        raise RefusedError("out of paper; Bearer secret-of-mine")
    return unit.value


def divide(unit: Number, worker: Worker):
    return 1 // (unit.value - 2)


def die_at_two(unit: Number, worker: Worker):
    (unit.folder / str(os.getpid())).touch()
    if unit.value == 2:
        os.kill(os.getpid(), 9)
    time.sleep(60)


def leave(unit: Number, worker: Worker):
    os.write(1, b"the last thing I saw\n")
    os._exit(7)


def log_something(unit: Number, worker: Worker):
    logging.getLogger("pythia_profile.somewhere").warning("token hf_%s", "a" * 20)


def sleep(unit: Number, worker: Worker):
    (unit.folder / str(os.getpid())).touch()
    worker.advance(1)
    time.sleep(60)


def alive(folder: Path):
    return [path.name for path in folder.iterdir() if Path("/proc", path.name).exists()]


def until(condition, seconds=20.0):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
    return condition()


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 3])
def test_results_come_in_the_order_of_the_units_whatever_the_number_of_workers(workers):
    progress = []

    found = map_units(square, [Number(i) for i in range(7)], on_cores(workers), progress.append)

    assert found == [i**2 for i in range(7)]
    assert sorted(progress) == list(range(7))


def test_nothing_to_do_starts_nothing():
    assert map_units(square, [], TWO) == []


def test_one_process_a_device_serves_many_units_on_its_own_threads():
    found = map_units(environment, [Number(i) for i in range(8)], Resources(("cpu", "cuda:1"), 3))

    assert {device for device, *_ in found} <= {"cpu", "cuda:1"}
    assert {(threads, variable) for _, threads, variable, _ in found} == {(3, "3")}
    assert len({pid for *_, pid in found}) <= 2


def test_a_failure_keeps_its_message_and_exit_code_and_no_token():
    with pytest.raises(WorkerError, match=r"^out of paper; Bearer <token>$") as caught:
        map_units(fail_at_two, [Number(i) for i in range(4)], TWO)
    assert caught.value.exit_code == 4


def test_an_unexpected_error_is_one_line_with_its_kind():
    with pytest.raises(WorkerError, match=r"^ZeroDivisionError: [^\n]*$") as caught:
        map_units(divide, [Number(2)], TWO)
    assert caught.value.exit_code == 1


def test_a_killed_worker_names_its_unit_and_the_others_are_ended(tmp_path):
    started = time.monotonic()

    with pytest.raises(WorkerError, match=r"worker at number 2 was killed by signal 9"):
        map_units(die_at_two, [Number(1, tmp_path), Number(2, tmp_path)], TWO)
    assert not alive(tmp_path)
    assert time.monotonic() - started < 30


def test_the_last_words_of_a_worker_that_ended_are_the_error():
    with pytest.raises(WorkerError, match=r"number 1 ended: the last thing I saw$") as caught:
        map_units(leave, [Number(1)], TWO)
    assert caught.value.exit_code == 7


def test_log_records_arrive_without_tokens(caplog):
    map_units(log_something, [Number(1)], TWO)

    assert [record.getMessage() for record in caplog.records] == ["token <token>"]
    assert caplog.records[0].name == "pythia_profile.somewhere"


def test_a_function_without_a_name_to_import_is_refused():
    with pytest.raises(WorkerError, match="cannot be sent to another process"):
        map_units(lambda *_: None, [Number(1)], TWO)


def test_an_interruption_ends_the_workers(tmp_path):
    def interrupt(_):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        map_units(sleep, [Number(1, tmp_path), Number(2, tmp_path)], TWO, interrupt)
    assert not alive(tmp_path)


def test_a_worker_whose_caller_was_killed_ends_at_once(tmp_path):
    code = (
        "import sys; from pathlib import Path; from test_local import *; "
        "map_units(sleep, [Number(1, Path(sys.argv[1]))], TWO)"
    )
    path = os.pathsep.join([str(Path(__file__).parent), *sys.path])
    caller = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], env={**os.environ, "PYTHONPATH": path}
    )
    assert until(lambda: alive(tmp_path))
    caller.kill()
    caller.wait()

    assert until(lambda: not alive(tmp_path), 5)
