"""Time and memory of effects at equal covariates, beside three other packages on the same panel.

Run with `PEERS=/path/to/python python -m pytest -m bench tests/bench/bench_covariates.py -s`, PEERS
an interpreter with csdid, moderndid and diff-diff. Each measurement is a process of its own; ours
runs before and after the others, and the faster of the two counts. The other packages make effects
and standard errors only, ours also 1,000 draws, bands and four aggregates.
"""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.bench.machine import machine

pytestmark = [pytest.mark.bench, pytest.mark.timeout(1800)]

HEAD = """
import json, resource, sys, time, warnings; warnings.simplefilter("ignore")
import numpy as np
given = np.load(sys.argv[1]); method = sys.argv[2]
y, cohort, checkpoints, x = (given[name] for name in ("y", "cohort", "checkpoints", "x"))
def report(**found):
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print("REPORT" + json.dumps({**found, "megabytes": peak}))
def long():
    import pandas as pd
    rows, count = y.shape
    columns = {f"x{k}": np.repeat(x[:, k], count) for k in range(x.shape[1])}
    return pd.DataFrame({"unit": np.repeat(np.arange(rows), count), "y": y.ravel(),
        "time": np.tile(checkpoints, rows), "g": np.repeat(cohort, count), **columns})
formula = " + ".join(f"x{k}" for k in range(x.shape[1]))
"""
OURS = """
from pythia_profile.did import NEVER, aggregate, att_gt, bands_of
from pythia_profile.did.inference.bootstrap import BootstrapSpec
how = {"reg": "regression", "dr": "doubly_robust"}[method]
start = time.perf_counter()
att = att_gt(y, np.where(cohort == 0, NEVER, cohort), checkpoints, covariates=x, adjustment=how)
kinds = ("event_time", "cohort", "calendar", "overall")
targets = [att, *(aggregate(att, kind) for kind in kinds)]
found = bands_of(targets, BootstrapSpec(1000, 0, workers=2))
report(seconds=time.perf_counter() - start, mean=float(att.att[att.post].mean()))
"""
DIFF_DIFF = """
from diff_diff import CallawaySantAnna
frame = long(); start = time.perf_counter()
found = CallawaySantAnna(control_group="never_treated", base_period="universal",
    estimation_method=method, n_bootstrap=0).fit(frame, outcome="y", unit="unit", time="time",
    first_treat="g", covariates=formula.split(" + "))
seconds = time.perf_counter() - start
cells = [v["effect"] for (g, c), v in found.group_time_effects.items() if c >= g]
report(seconds=seconds, mean=float(np.mean(cells)))
"""
MODERNDID = """
import moderndid, polars as pl
frame = pl.from_pandas(long()); start = time.perf_counter()
found = moderndid.att_gt(frame, yname="y", tname="time", idname="unit", gname="g",
    xformla="~ " + formula, est_method=method, control_group="nevertreated",
    base_period="universal")
seconds = time.perf_counter() - start
post = np.asarray(found.times) >= np.asarray(found.groups)
report(seconds=seconds, mean=float(np.asarray(found.att_gt)[post].mean()))
"""
CSDID = """
from csdid.att_gt import ATTgt
frame = long(); start = time.perf_counter()
found = ATTgt(yname="y", tname="time", idname="unit", gname="g", data=frame,
    control_group=["nevertreated"], xformla="y ~ " + formula).fit(
    est_method=method, base_period="universal", bstrap=False).results
seconds = time.perf_counter() - start
post = np.asarray(found["year"]) >= np.asarray(found["group"])
report(seconds=seconds, mean=float(np.asarray(found["att"])[post].mean()))
"""
PEERS = {"diff-diff": DIFF_DIFF, "moderndid": MODERNDID, "csdid": CSDID}


def write_panel(path: Path, cohorts: int, rows: int, never: int) -> Path:
    """Write a panel of outcomes that four covariates move; cohort 0 is never-treated."""
    rng = np.random.default_rng(0)
    checkpoints = 1000 * np.arange(cohorts + 1)
    cohort = np.append(np.repeat(checkpoints[1:], rows), np.zeros(never, np.int64))
    shape = (len(cohort), len(checkpoints))
    x = rng.normal(size=(len(cohort), 4))
    y = rng.normal(-3, 0.5, (len(cohort), 1)) + 0.03 * rng.normal(size=shape).cumsum(axis=1)
    y += x @ (0.02 * rng.normal(size=(4, shape[1])).cumsum(axis=1))
    y += 0.05 * ((cohort[:, None] > 0) & (cohort[:, None] <= checkpoints))
    np.savez(path, y=y, cohort=cohort, checkpoints=checkpoints, x=x)
    return path


def measure(program: str, panel: Path, method: str, python: str = sys.executable):
    """Run a program in a process of its own; return what it reports, or its last line of error."""
    done = subprocess.run(
        [python, "-c", HEAD + program, str(panel), method],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(Path.cwd())},
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("REPORT")]
    return json.loads(lines[0].removeprefix("REPORT")) if lines else done.stderr.strip()[-200:]


@pytest.mark.parametrize("method", ["reg", "dr"])
def test_pythias_panel_with_covariates_takes_four_seconds_and_a_gigabyte(tmp_path, method):
    panel = write_panel(tmp_path / "panel.npz", cohorts=143, rows=100, never=2000)

    first, other = measure(OURS, panel, method), measure(DIFF_DIFF, panel, method)
    second = measure(OURS, panel, method)

    best = min(first, second, key=lambda found: found["seconds"])
    print(
        f"\n{machine()}\n16,300 rows, 144 checkpoints, 4 covariates, {method}: ours with 1,000 "
        f"draws, bands, four aggregates {first['seconds']:.2f} s and {second['seconds']:.2f} s, "
        f"{best['megabytes']:.0f} MB; diff-diff without draws {other['seconds']:.1f} s, "
        f"{other['megabytes']:.0f} MB; ratio {other['seconds'] / best['seconds']:.1f}"
    )
    assert best["mean"] == pytest.approx(other["mean"], abs=1e-8 if method == "reg" else 1e-4)
    assert best["megabytes"] <= 1000
    assert best["seconds"] < other["seconds"]


@pytest.mark.parametrize("method", ["reg", "dr"])
def test_ours_is_ahead_of_each_of_three_packages(tmp_path, method):
    panel = write_panel(tmp_path / "panel.npz", cohorts=40, rows=100, never=1000)
    python = os.environ.get("PEERS", sys.executable)

    first = measure(OURS, panel, method)
    others = {name: measure(program, panel, method, python) for name, program in PEERS.items()}
    second = measure(OURS, panel, method)

    best = min(first, second, key=lambda found: found["seconds"])
    said = [
        f"{name} {found['seconds']:.1f} s, ratio {found['seconds'] / best['seconds']:.1f}"
        if isinstance(found, dict)
        else f"{name} failed: {found}"
        for name, found in others.items()
    ]
    print(
        f"\n{machine()}\n5,000 rows, 41 checkpoints, 4 covariates, {method}: ours with 1,000 draws,"
        f" bands, four aggregates {best['seconds']:.2f} s; without draws: {'; '.join(said)}"
    )
    for found in others.values():
        if isinstance(found, dict):
            assert best["mean"] == pytest.approx(found["mean"], abs=1e-4)
            assert best["seconds"] < found["seconds"]
