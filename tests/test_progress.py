"""Progress: plain lines off a terminal, bars on one, silence when asked."""

import logging
import os
import pty
import subprocess
import sys

from pythia_profile import progress
from pythia_profile.execute.time_left import Part
from pythia_profile.progress import track

CODE = """
import logging, sys, time
logging.basicConfig(level=logging.WARNING, format='%(message)s')
logging.getLogger('pythia_profile').setLevel(sys.argv[1])
from pythia_profile.execute.time_left import Part
from pythia_profile.progress import track
with track('training l', 4, 'steps', done=1) as task:
    for _ in range(3):
        task.advance(); time.sleep(0.15)
"""


def test_off_a_terminal_the_end_is_one_line_with_amount_time_and_rate():
    done = subprocess.run(
        [sys.executable, "-c", CODE, "INFO"], capture_output=True, text=True, check=True
    )

    assert done.stdout == ""
    assert done.stderr.startswith("training l: 4 of 4 steps in ")
    assert done.stderr.count("\n") == 1


def test_a_line_comes_every_minute(caplog, monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    caplog.set_level(logging.INFO, "pythia_profile")

    with track("scoring", 100, "rows") as task:
        for _ in range(10):
            now[0] += 15.0
            task.advance(5)

    lines = [record.getMessage() for record in caplog.records]
    assert lines[0] == "scoring: 20 of 100 rows, 4 min left (0.33/s)"
    assert len(lines) == 3


def test_on_a_terminal_a_bar_shows_what_is_done_and_the_time_left():
    leader, follower = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "100"}
    subprocess.run(
        [sys.executable, "-c", CODE, "INFO"], stderr=follower, check=True, env=environment
    )
    os.close(follower)
    screen = os.read(leader, 100_000).decode()
    os.close(leader)

    assert "training l" in screen
    assert "4/4" in screen
    assert "steps/s" in screen


def test_quiet_is_silent():
    done = subprocess.run(
        [sys.executable, "-c", CODE, "WARNING"], capture_output=True, text=True, check=True
    )

    assert done.stderr == done.stdout == ""


def test_a_plain_script_shows_progress_without_being_asked():
    code = CODE.replace("logging.basicConfig(level=logging.WARNING, format='%(message)s')\n", "")
    code = code.replace("logging.getLogger('pythia_profile').setLevel(sys.argv[1])\n", "")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == ""
    assert done.stderr.startswith("training l: 4 of 4 steps in ")


def test_a_notebook_has_one_line_that_moves():
    code = "import ipykernel, sys; sys.argv.append('NOTSET')" + CODE.replace(
        "logging.basicConfig(level=logging.WARNING, format='%(message)s')", ""
    ).replace("time.sleep(0.15)", "time.sleep(0.6)")
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)

    assert done.stderr.count(b"\n") == 1
    assert done.stderr.count(b"\r") >= 2
    assert done.stderr.endswith(b"/s)\n")


def test_the_time_left_of_unequal_units_is_that_of_their_schedule(monkeypatch):
    now = [0.0]
    monkeypatch.setattr(progress.time, "monotonic", lambda: now[0])
    parts = [Part("large", "l", 10, cost=3.0), Part("small", "s", 10)]

    with track("scoring", 20, "rows", parts=parts) as task:
        task.advance_part("large", 0, 0)
        now[0] = 3.0
        task.advance_part("large", 1, 0)  # 3 s a row from the start on
        now[0] = 9.0
        task.advance_part("large", 2, 0)

        # 7 rows of 3 s and 10 of 1 s: by rows alone it would be 51 s
        assert "31 s left" in task.line()
