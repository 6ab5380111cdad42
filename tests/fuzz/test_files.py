"""Whatever a study's files hold: an exit code, one line, whole files.

Records, settings and tables of a finished study are changed at random. What is drawn is the same in
every run.
"""

import json
import tomllib

import pytest
import tomli_w
from hypothesis import given
from hypothesis import strategies as st

from pythia_profile.store import file_sha256, write_json
from tests.fuzz.damages import (
    DAMAGES,
    assert_clean,
    bounded,
    changes,
    damage,
    damage_table,
    outcome_of,
    table_changes,
)

pytestmark = pytest.mark.slow

READERS = ("status", "plan", "att", "profile", "report", "score", "audit", "power", "estimands")


@bounded(14)
@given(change=changes(), verb=st.sampled_from(READERS))
def test_a_damaged_lock_file(copy, change, verb):
    folder = copy()
    damage(folder / "lock.json", change)
    assert_clean([verb, folder], folder)


UNIT = "scores/planted/s/seed0/step10"


@bounded(14)
@given(change=changes(), verb=st.sampled_from(READERS))
def test_a_damaged_record_of_a_unit(copy, change, verb):
    folder = copy()
    damage(folder / UNIT / "done.json", change)
    assert_clean([verb, folder], folder)


@bounded(6)
@given(change=changes(), name=st.sampled_from(["quarantine", "failed"]))
def test_a_damaged_reason(copy, change, name):
    folder = copy()
    write_json({"key": "k", "reason": "why"}, folder / UNIT / f"{name}.json")
    damage(folder / UNIT / f"{name}.json", change)
    for verb in ("plan", "report"):
        assert_clean([verb, folder], folder)


@bounded(14)
@given(change=changes(), verb=st.sampled_from(("suites", *READERS, "sample")))
def test_a_damaged_suite(copy, change, verb):
    folder = copy()
    damage(folder / "suite" / "suite.toml", change)
    assert_clean([verb, folder / "suite" if verb == "suites" else folder], folder)


@bounded(14)
@given(change=changes(), verb=st.sampled_from((*READERS, "init", "run")))
def test_damaged_settings(copy, change, verb):
    folder = copy()
    damage(folder / "study.toml", change)
    more = ["--suite", "suite"] if verb == "init" else []
    assert_clean([verb, folder, *more], folder)


@bounded(14)
@given(
    change=table_changes(), verb=st.sampled_from(("att", "plan", "profile", "estimands", "power"))
)
@pytest.mark.parametrize("name", ["rows", "scores", "covariates"])
def test_damaged_inputs(copy, change, name, verb):
    folder = copy()
    path = folder / UNIT / "scores.parquet" if name == "scores" else folder / f"{name}.parquet"
    damage_table(path, change)
    if name == "scores":
        record = json.loads((folder / UNIT / "done.json").read_text())
        write_json({**record, "sha256": file_sha256(path)}, folder / UNIT / "done.json")
    assert_clean([verb, folder], folder)


RESULTS = ("att", "placebo", "profiles", "agreement", "precision", "sensitivity", "balance")


@bounded(12)
@given(
    change=table_changes(),
    name=st.sampled_from((*RESULTS, "contrasts", "leave_one_out", "alternatives")),
    verb=st.sampled_from(("report", "report", "report", "plot", "status")),
)
def test_damaged_results(copy, change, name, verb):
    folder = copy()
    damage_table(folder / f"{name}.parquet", change)
    assert_clean([verb, folder], folder)


@bounded(6)
@given(content=st.one_of(st.sampled_from(DAMAGES), st.binary(max_size=40)))
def test_damaged_figures(copy, content):
    folder = copy()
    (folder / "figures" / "heatmap.svg").write_bytes(content)
    assert_clean(["report", folder], folder)


FACTS = {
    "batch_size": 10**30,
    "steps": -1,
    "sizes": {},
    "sizes.s.peak_lr": float("nan"),
    "sizes.s.layers": -3,
    "sizes.s.checkpoints": [-1, 10],
}


@pytest.mark.parametrize("name", FACTS)
@pytest.mark.parametrize("file", ["lock.json", "suite/suite.toml"])
def test_facts_that_cannot_be_are_refused(copy, file, name):
    folder = copy()
    path = folder / file
    is_json = path.suffix == ".json"
    tree = (json.loads if is_json else tomllib.loads)(path.read_text())
    inner = tree["suite"] if is_json else tree
    *way, last = name.split(".")
    for key in way:
        inner = inner[key]
    inner[last] = FACTS[name]
    path.write_text((json.dumps if is_json else tomli_w.dumps)(tree))

    code, err = outcome_of(["report", folder] if is_json else ["plan", folder])

    assert code == 2, err
    assert err.splitlines()[-1].startswith(f"error: '{path}'"), err
    assert last in err
