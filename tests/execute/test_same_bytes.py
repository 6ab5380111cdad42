"""However a study is run, broken off or shared, every table is the same byte for byte."""

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

from pythia_profile.did.settings import Estimation
from pythia_profile.store import file_sha256
from pythia_profile.study import Sampling, Study, create_study

pytestmark = pytest.mark.slow
SCRIPT = Path(__file__).with_name("forked_runs.py")


def made(folder: Path, suite) -> str:
    """Create a study of one tiny size."""
    sample = Sampling(rows_per_cohort=16, batches_per_cohort=0, never_treated=48)
    settings = Study(
        suite=str(suite.root), sizes=("xs",), sample=sample, estimate=Estimation(draws=20)
    )
    create_study(folder, settings)
    return str(folder)


def run_steps(*steps) -> list[list[int]]:
    """Run steps of `forked_runs`; return the exit codes of each."""
    done = subprocess.run(
        [sys.executable, str(SCRIPT)],
        input="".join(json.dumps(step) + "\n" for step in steps),
        env={**os.environ, "OMP_NUM_THREADS": "1", "POLARS_MAX_THREADS": "1", "MPLBACKEND": "agg"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def tables(folder: Path) -> dict[str, str]:
    """Hash of each table, and of each record without the time that it took."""
    found = {str(p.relative_to(folder)): file_sha256(p) for p in folder.rglob("*.parquet")}
    for path in folder.rglob("done.json"):
        record = json.loads(path.read_text())
        found[str(path.relative_to(folder))] = json.dumps({**record, "speed": None})
    return found


@pytest.fixture(scope="module")
def done(tiny_suite, tmp_path_factory):
    """Four studies: run once; as shards; by two at once; killed again and again. Codes, tables."""
    home, rng = tmp_path_factory.mktemp("studies"), random.Random(15)
    whole, shared, both, broken = (
        made(home / name, tiny_suite) for name in ("whole", "shared", "both", "broken")
    )
    steps = {
        "whole": [["run", whole]],
        "rows": [["sample", shared]],
        "shards": [["score", shared, "--shard", f"{i}/3"] for i in (1, 2, 3)],
        "shared": [["score", shared, "--workers", "1"]],
        "effects": [["att", shared]],
        "both": [["run", both], ["run", both]],
        "stops": {"send": [[15, 0.6], [2, 0.6]], "words": ["run", broken]},
        "kills": {
            "send": [[9, rng.uniform(0.05, 0.9)] for _ in range(20)],
            "words": ["run", broken],
        },
        "broken": [["run", broken]],
    }
    codes = dict(zip(steps, run_steps(*steps.values()), strict=True))
    return home, codes


def test_three_shards_in_three_processes(done):
    home, codes = done
    serial, shared = tables(home / "whole"), tables(home / "shared")

    assert codes["shards"] == [0, 0, 0]
    assert {name for name in shared if name.startswith("scores")} == {
        name for name in serial if name.startswith("scores")
    }
    assert shared.keys() >= {"rows.parquet", "att.parquet", "placebo.parquet"}
    assert shared == {name: serial[name] for name in shared}


def test_two_whole_runs_at_once_in_one_folder(done):
    home, codes = done

    assert (codes["whole"], codes["both"]) == ([0], [0, 0])
    assert tables(home / "both") == tables(home / "whole")
    assert len(tables(home / "both")) > 20
    assert (home / "both" / "report.html").exists()
    assert not [*(home / "both").rglob("*.part")]


def test_sigterm_and_ctrl_c_end_a_run_within_ten_seconds_and_it_goes_on(done):
    home, codes = done

    assert codes["stops"] == [143, 130]
    assert tables(home / "broken") == tables(home / "whole")


def test_a_run_that_is_killed_at_twenty_random_moments(done):
    home, codes = done

    assert codes["kills"].count(-9) >= 15  # the others had ended before
    assert codes["broken"] == [0]
    assert tables(home / "broken") == tables(home / "whole")
    assert not [*(home / "broken").rglob("*.part")]
    assert not (home / "broken" / ".scores").exists()
