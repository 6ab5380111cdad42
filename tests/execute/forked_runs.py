"""Run verbs in forks of one process: `forked_runs.py < steps`, JSON in and JSON out.

A step is a list of command lines that are run at once, a process each; or {"send": [[signal,
seconds], ...], "words": [...]}: a command line that is started again and again, and sent a signal
after so many seconds; it has ten seconds to end.
The modules are loaded once, before the forks. This process itself runs nothing, so that no thread
pool is forked. Scoring happens in the forks and not in workers of their own, which would load torch
again for every command.
"""

import contextlib
import io
import json
import os
import sys
import time

import linearmodels  # noqa: F401 (before the forks)
import matplotlib.pyplot  # noqa: F401
import seaborn  # noqa: F401

import pythia_profile.scoring.run as scoring
from pythia_profile.cli import app
from pythia_profile.cli.app import end_on_sigterm, run
from pythia_profile.execute.worker import Worker
from pythia_profile.figures import answers, comparisons, gallery, heatmaps, profiles  # noqa: F401
from pythia_profile.pipeline import running, verification  # noqa: F401
from pythia_profile.report import page  # noqa: F401
from pythia_profile.scoring import engine  # noqa: F401


def in_process(function, units, executor, on_part):
    for unit in units[:1]:
        function(unit, Worker("cpu", 1, lambda _: None))


def started(words: list[str]) -> int:
    child = os.fork()
    if child:
        return child
    code = 70
    try:
        os.setpgid(0, 0)
        scoring.map_units = in_process
        end_on_sigterm()
        with contextlib.redirect_stdout(io.StringIO()):
            code = run(app, words)
    finally:
        sys.stderr.flush()
        os._exit(code)


def ended(child: int) -> int:
    _, status = os.waitpid(child, 0)
    return -os.WTERMSIG(status) if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def stopped(words: list[str], number: int, seconds: float) -> int:
    child = started(words)
    time.sleep(seconds)
    with contextlib.suppress(ProcessLookupError):
        os.kill(child, number)
    sent = time.monotonic()
    code = ended(child)
    return code if time.monotonic() - sent < 10 else 71


def main() -> None:
    for line in sys.stdin:
        step = json.loads(line)
        if isinstance(step, dict):
            codes = [stopped(step["words"], *one) for one in step["send"]]
        else:
            codes = [ended(child) for child in [started(words) for words in step]]
        sys.stdout.write(json.dumps(codes) + "\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
