"""Plans of published suites: hours for a stated device before anything was scored, and offline."""

import hashlib
import json
import os
import subprocess
import sys

import polars as pl
import pytest

from pythia_profile.cli import app
from pythia_profile.cli.app import run
from pythia_profile.errors import NotFoundError
from pythia_profile.pipeline import planned, planning
from pythia_profile.pipeline.devices import DEVICE_NAMES, device_named
from pythia_profile.pipeline.planning import plan_study
from pythia_profile.store import write_table
from pythia_profile.study import change_study, open_study, update_lock
from pythia_profile.suites.registry import suite_facts_of
from pythia_profile.tables import COVARIATES, PRECISION

WEIGHTS = {
    # GB of float16 weights of a checkpoint, as published
    "70m": 0.14, "160m": 0.33, "410m": 0.81, "1b": 2.0,
    "1.4b": 2.8, "2.8b": 5.6, "6.9b": 13.7, "12b": 23.7,
}  # fmt: skip


@pytest.fixture
def study(tmp_path, monkeypatch):
    """A study of eight sizes of Pythia at 143 checkpoints each, where no hub can be reached."""
    monkeypatch.setenv("HF_ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = tmp_path / "study"
    assert run(app, ["init", str(folder), "--suite", "pythia", "--sizes", ",".join(WEIGHTS)]) == 0
    return folder


def without_hub(monkeypatch):
    def refused(*_):
        raise planned.RemoteError("cannot reach the hub")

    monkeypatch.setattr(planned, "_check_reachable", lambda: None)
    monkeypatch.setattr(planned, "study_grid", refused)


def test_a_published_suite_is_planned_offline_from_the_facts_of_the_package(study, monkeypatch):
    without_hub(monkeypatch)

    found = plan_study(study, device="h200", bandwidth=1e8)

    steps = len([unit for unit in found.units if unit.size == "70m"])
    gigabytes = {cost.size: cost.fetch_bytes / steps / 1e9 for cost in found.costs}
    assert gigabytes == pytest.approx(WEIGHTS, rel=0.02)
    assert found.states == {"to do": 8 * steps}
    assert "the hub did not answer (cannot reach the hub)" in found.notes[0]
    assert found.fetch_hours == pytest.approx(steps * sum(gigabytes.values()) * 10 / 3600)
    assert found.wall_hours == max(found.device_hours, found.fetch_hours)
    done = study / "scores/pythia/70m/seed0/step0/done.json"
    done.parent.mkdir(parents=True)
    record = {"key": "", "sha256": "", "rows": 1, "rows_sha256": ""}
    done.write_text(json.dumps(record), encoding="utf-8")
    monkeypatch.setattr(planning, "_rates", lambda *_: {})
    assert plan_study(study).states == {"done": 1, "to do": 8 * steps - 1}


def test_hours_by_hand_and_a_rate_of_its_own_for_each_class_of_sizes(study, monkeypatch):
    without_hub(monkeypatch)

    found = plan_study(study, device="h200")

    steps = len([unit for unit in found.units if unit.size == "70m"])
    costs = {cost.size: cost for cost in found.costs}
    # 67 TFLOP/s in float32, of which 10 % for 70m and 45 % for 12b; 0.5 GB/s of weights
    for size, parameters, share in (("70m", 70_426_624, 0.10), ("12b", 11_846_072_320, 0.45)):
        tokens = found.rows * found.targets
        seconds = 2 * parameters * tokens / (67e12 * share) + 2 * parameters / 0.5e9
        assert costs[size].share == share
        assert costs[size].hours == pytest.approx(steps * seconds / 3600, rel=1e-6)
    assert costs["70m"].rate < costs["410m"].rate < costs["1b"].rate < costs["12b"].rate
    said = " ".join(found.assumptions)
    for part in ("h200 in float32: 67 TFLOP/s", "70m: 10% of that; launch- and", "data sheet"):
        assert part in said
    assert found.memory_bytes == pytest.approx(4 * 11.85e9 + 0.6e9, rel=0.01)
    assert len(found.notes) == 1  # it fits
    two = plan_study(study, device="h200", workers=2)
    assert two.wall_hours == max(two.device_hours / 2, two.fetch_hours)


@pytest.mark.parametrize("device", DEVICE_NAMES)
def test_every_device_can_be_planned_for_in_every_precision(study, monkeypatch, device):
    without_hub(monkeypatch)
    toml = study / "study.toml"
    for dtype in ("bfloat16", "float16"):
        toml.write_text(toml.read_text().replace('dtype = "float32"', f'dtype = "{dtype}"'))

        found = plan_study(study, device=device)

        assert found.device == device
        assert found.device_hours > 0
        assert f"{device} in " in found.assumptions[0]


def test_shares_rise_with_the_size_and_are_below_one():
    for name in DEVICE_NAMES:
        shares = [one.share for one in device_named(name).shares]
        assert shares == sorted(shares)
        assert 0 < shares[0] <= shares[-1] < 1
        assert all(one.reason for one in device_named(name).shares)


def test_the_verb_names_the_device_and_its_assumptions(study, monkeypatch, capsys):
    without_hub(monkeypatch)
    capsys.readouterr()

    assert run(app, ["plan", str(study), "--device", "h200"]) == 0
    said = capsys.readouterr().out
    assert run(app, ["plan", str(study), "--device", "h200", "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert run(app, ["plan", str(study), "--device", "h20"]) == 2

    assert "did you mean 'h200'" in capsys.readouterr().err
    for part in ("assumed, 10% of peak", "none of this was measured", "note         the hub did"):
        assert part in said
    assert content["device"] == "h200"
    assert [cost["size"] for cost in content["costs"]] == list(WEIGHTS)
    assert content["assumptions"]


def test_a_model_beyond_the_memory_of_a_device_is_planned_with_a_note(study, monkeypatch):
    without_hub(monkeypatch)
    small = device_named("a100")
    monkeypatch.setattr(planning, "memory_of", lambda *_: small.memory + 1)

    assert "one a100 has 80 GB" in plan_study(study, device="a100").notes[-1]
    with pytest.raises(NotFoundError, match="no device 'tpu'"):
        plan_study(study, device="tpu")


def test_without_a_network_and_a_listing_nobody_waits_for_the_hub(study, monkeypatch):
    """The hub is not asked again and again: 18 s before, for a plan from the package's facts."""
    monkeypatch.setattr(planned, "study_grid", lambda *_: pytest.fail("asked"))
    monkeypatch.setattr(planned, "getproxies", dict)

    found = plan_study(study, device="a100")

    assert "cannot reach 127.0.0.1 (is there a network?)" in found.notes[0]
    assert found.states == {"to do": len(found.units)}


STEPS = (0, *(2**power for power in range(10)), *range(1000, 143_001, 1000))


def listed(repository: str, gigabytes: float) -> dict:
    """Section of a lock file: 154 branches of a repository, with weights of their own each."""

    def name(*parts):
        return hashlib.sha256(repr((repository, *parts)).encode()).hexdigest()

    shards = 3 if gigabytes > 10 else 1
    weights = [f"pytorch_model-{i:05d}-of-{shards:05d}.bin" for i in range(1, shards + 1)]
    small = [["config.json", 570, "", name("config")[:40]]]
    if shards == 1:
        weights = ["pytorch_model.bin"]
    else:
        small.append(["pytorch_model.bin.index.json", 40_000, "", name("index")[:40]])
    branches = {f"step{step}": name(step)[:40] for step in STEPS}
    size = round(gigabytes * 1e9 / shards)
    trees = {
        commit: [*small, *([w, size, name(commit, w), name(w)[:40]] for w in weights)]
        for commit in branches.values()
    }
    return {"branches": branches, "trees": trees}


@pytest.mark.slow
def test_1232_listed_checkpoints_are_planned_within_two_seconds_without_a_network(tmp_path):
    """From the start of the process; bytes, minutes and words are those of the listing."""
    folder, asked = tmp_path / "study", ",".join(map(str, STEPS))
    words = ["init", str(folder), "--suite", "pythia-deduped", "--sizes", ",".join(WEIGHTS)]
    assert run(app, [*words, "--checkpoints", asked]) == 0
    suite = suite_facts_of(open_study(folder).suite)
    repositories = {suite.repository(size): gb for size, gb in WEIGHTS.items()}
    update_lock(folder, "checkpoints", {r: listed(r, gb) for r, gb in repositories.items()})
    away = {"HF_ENDPOINT": "http://127.0.0.1:9", "XDG_CACHE_HOME": str(tmp_path / "cache")}
    plan = [sys.executable, "-m", "pythia_profile", "plan", str(folder), "--device", "a100"]

    seconds = []
    for _ in range(2):
        before = os.times()
        done = subprocess.run(
            [*plan, "--json"],
            env={**os.environ, **away},
            capture_output=True,
            text=True,
            check=True,
        )
        after = os.times()
        # of the processor: other tests run beside this one
        seconds.append(sum(after[2:4]) - sum(before[2:4]))
    content = json.loads(done.stdout)
    said = subprocess.run(plan, env={**os.environ, **away}, capture_output=True, text=True).stdout

    assert min(seconds) < 2
    assert content["fetch_bytes"] == pytest.approx(154 * sum(WEIGHTS.values()) * 1e9, rel=1e-3)
    assert content["fetch_bytes"] == pytest.approx(7.6e12, rel=0.01)
    assert content["states"] == {"to do": 1232}
    assert "1,232 checkpoints on a100: computing takes longest" in said


def test_a_plan_knows_what_features_and_a_reference_take_and_are_worth(study, monkeypatch):
    without_hub(monkeypatch)

    features, reference = plan_study(study, device="h200").covariates

    # 128 runs of 64 rows of 2,049 tokens of two bytes
    assert (features.state, features.fetch_bytes) == ("to do", 128 * 64 * 2049 * 2)
    assert features.requests == 128
    assert reference.state == "not asked for"
    change_study(study, {"reference": "clean.parquet"})
    assert str(plan_study(study).covariates[1]).startswith("reference: missing, the table 'clean")
    names = ["features, base"] * 2 + ["features, reference, base"]
    line = {"suite": "pythia", "seed": 0, "outcome": "log_likelihood", "adjustment": "regression"}
    precision = pl.DataFrame(
        {"size": ["70m", "12b", "70m"], "covariates": names, "ratio": [0.6, 0.5, 0.4]}
    ).with_columns(**{k: pl.lit(v) for k, v in line.items()}, kind=pl.lit("overall"))
    write_table(
        precision.with_columns(att=0.1, se=0.01, seed=pl.lit(0, pl.Int64)).select(
            *PRECISION.columns
        ),
        study / "precision.parquet",
        PRECISION,
    )
    made = pl.DataFrame({"row_id": [0], "features.bigram": [0.0], "reference.entropy": [0.0]})
    write_table(made, study / "covariates.parquet", COVARIATES)

    features, reference = plan_study(study).covariates

    assert (features.state, features.fetch_bytes, features.ratios) == ("made", 0, (0.5, 0.6))
    # half the standard error is a quarter of the rows
    assert "the same precision from 25% to 36% of the rows" in str(features)
    assert reference.ratios == (0.4, 0.4)


def test_a_reference_that_is_trained_here_is_counted(tmp_path):
    folder = tmp_path / "study"
    assert run(app, ["init", str(folder), "--suite", "mini", "--set", "reference=held_out"]) == 0

    plan = plan_study(folder)

    suite, (_, reference) = suite_facts_of("mini"), plan.covariates
    trained = suite.order.rows - plan.rows
    size = open_study(folder).sizes[len(open_study(folder).sizes) // 2]
    by_hand = suite.size(size).parameters * plan.targets * (6 * trained + 2 * plan.rows)
    assert reference.operations == by_hand > 0
    assert f"{size} trained here" in str(reference)
