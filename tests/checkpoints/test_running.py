"""How a study on the hub is run: mixed failures, retries, parts, plans, offline, disk in bounds."""

import json
import shutil
import time
from types import SimpleNamespace

import polars as pl
import pytest
from huggingface_hub import constants

from pythia_profile.checkpoints import source as source_module
from pythia_profile.checkpoints.grid import locate
from pythia_profile.cli import app
from pythia_profile.cli.app import run
from pythia_profile.errors import RefusedError, StudyError
from pythia_profile.pipeline.planning import plan_study
from pythia_profile.scoring import engine
from pythia_profile.scoring.run import part_of, score
from pythia_profile.scoring.settings import RunOptions
from pythia_profile.suites.registry import open_suite
from pythia_profile.suites.sampling import Sampling, sample_rows
from tests.checkpoints.conftest import DONE, MODELS, TEXTS, tiny_files
from tests.checkpoints.test_faulty_files import SMALL
from tests.checkpoints.test_fetch_faults import sent
from tests.stand_in.hub import Virtual

pytestmark = pytest.mark.slow

ONE = RunOptions(workers=1)


@pytest.fixture
def study(published, tmp_path, in_process):
    folder = tmp_path / "study"
    assert run(app, ["init", str(folder), "--suite", str(tmp_path / "suite"), *SMALL]) == 0
    assert run(app, ["sample", str(folder)]) == 0
    return folder


def test_failed_and_quarantined_units_end_with_3_and_are_scored_again_on_request(
    published, study, capsys
):
    published.hub.misbehave("flip", match="model.safetensors", times=None)
    published.hub.misbehave("status", match="pytorch_model.bin", status=404, times=None)
    capsys.readouterr()

    assert run(app, ["score", str(study), "--workers", "1"]) == 3
    error = capsys.readouterr().err
    assert "2 of 3 checkpoints could not be scored (1 quarantined, 1 failed)" in error
    assert "not scored again before `score --retry`" in error
    states = {unit.checkpoint: unit.state for unit in plan_study(study).units}
    assert states == {0: "to do", 2: "quarantined", 4: "done"}

    published.hub._faults.clear()
    before = len(published.hub.log)
    assert run(app, ["score", str(study), "--workers", "1"]) == 3
    assert set(sent(published.hub, before)) == {"pytorch_model.bin"}
    assert run(app, ["score", str(study), "--workers", "1", "--retry"]) == 0
    assert {unit.state for unit in plan_study(study).units} == {"done"}


def test_parts_for_several_machines_share_the_units_and_give_the_same_study(
    published, study, capsys
):
    for part in ("1/3", "3/3"):
        assert run(app, ["score", str(study), "--shard", part, "--workers", "1"]) == 0
    assert "at 1 of 3 checkpoints, part 3 of 3" in capsys.readouterr().out
    states = {unit.checkpoint: unit.state for unit in plan_study(study).units}
    assert states == {0: "done", 2: "to do", 4: "done"}
    assert run(app, ["status", str(study)]) == 0
    assert "score           partly run" in capsys.readouterr().out

    assert run(app, ["score", str(study), "--workers", "1"]) == 0

    done = sorted((study / "scores/tiny/s/seed0").glob("step*/done.json"))
    assert len(done) == 3
    assert not (study / ".scores").exists()
    for wrong in ("0/2", "3/2", "1", "a/b", "1/0"):
        assert run(app, ["score", str(study), "--shard", wrong]) == 2, wrong


def test_a_missing_checkpoint_ends_with_3_where_all_are_required(published, study, capsys):
    """Fault 18."""
    published.hub.repositories["model", MODELS].branches.pop("step2")

    assert run(app, ["score", str(study), "--workers", "1", "--require-complete"]) == 3

    error = capsys.readouterr().err
    assert "1 of 3 checkpoints are missing, the first is 2 of s (no branch step2 in" in error
    assert len([*(study / "scores").rglob("done.json")]) == 2
    assert run(app, ["score", str(study), "--workers", "1"]) == 0


def test_every_unit_is_in_exactly_one_part():
    sizes = ["s"] * 7 + ["l"] * 4
    works = [SimpleNamespace(unit=SimpleNamespace(size=s, name=i)) for i, s in enumerate(sizes)]
    costs = {"s": 1.0, "l": 3.0}

    parts = [part_of(works, (number, 4), costs) for number in (1, 2, 3, 4)]

    assert sorted(work.unit.name for part in parts for work in part) == list(range(11))
    # 19 in all: 4.75 each, and no share can be nearer to another than a small unit
    assert sorted(sum(costs[w.unit.size] for w in part) for part in parts) == [4, 5, 5, 5]
    with pytest.raises(StudyError, match="cannot be shared by 12 machines"):
        part_of(works, (1, 12), costs)


def test_a_plan_counts_units_bytes_disk_and_requests_and_fetches_nothing(published, study):
    first = plan_study(study, workers=1, bandwidth=1e6)

    bytes_of = {
        step: sum(len(content) for content in files.values())
        for step, files in published.steps.items()
    }
    assert first.states == {"to do": 3}
    assert {unit.why for unit in first.units} == {"not scored yet"}
    assert first.fetch_bytes == sum(bytes_of.values())
    assert first.here_bytes == 0
    # nothing is scored yet: hours are assumed, and the plan says so
    (cost,) = first.costs
    assert (first.device, cost.share) == ("cpu", 0.25)
    assert "none of this was measured" in first.assumptions[-1]
    computed = first.operations / cost.rate + first.fetch_bytes / 0.5e9
    assert first.device_hours == pytest.approx(computed / 3600)
    assert first.wall_hours == pytest.approx(max(first.device_hours, first.fetch_hours))
    assert first.requests == 3 + 3 + (1 + 1 + 2 * 3)  # a small file takes one, a large one two
    largest = sorted(bytes_of.values())[-2:]
    assert first.peak_disk_bytes == sum(largest) + first.output_bytes
    assert first.rows == 14
    assert first.operations == 3 * 2 * 8000 * 14 * 8
    assert first.fetch_hours == pytest.approx(first.fetch_bytes / 1e6 / 3600)
    assert set(sent(published.hub)) == {"document-00000-of-00000.bin"}  # of `sample`
    before = len(published.hub.log)
    assert plan_study(study, workers=1, bandwidth=1e6) == first
    assert len(published.hub.log) == before


def test_the_first_scored_unit_calibrates_the_hours(published, study, capsys):
    assert run(app, ["score", str(study), "--shard", "1/3", "--workers", "1"]) == 0
    place = study / "scores/tiny/s/seed0/step0/done.json"
    record = json.loads(place.read_text())
    place.write_text(json.dumps(record | {"speed": {"rows": 14, "seconds": 36.0}}))

    found = plan_study(study, workers=2, bandwidth=1e9)

    assert found.states == {"done": 1, "to do": 2}
    assert found.device_hours == pytest.approx(2 * 36 / 3600)
    assert found.wall_hours == pytest.approx(36 / 3600)
    assert (found.costs[0].share, found.assumptions) == (None, ())
    # what was measured here says nothing of another device
    assert plan_study(study, device="h200").costs[0].share == 0.1
    capsys.readouterr()
    assert run(app, ["plan", str(study), "--json"]) == 0
    content = json.loads(capsys.readouterr().out)
    assert content["states"] == {"done": 1, "to do": 2}
    assert run(app, ["run", str(study), "--dry-run"]) == 0
    said = capsys.readouterr().out
    assert "device time" in said
    assert "peak disk" in said
    toml = study / "study.toml"
    toml.write_text(toml.read_text().replace('dtype = "float32"', 'dtype = "bfloat16"'))
    why = {unit.checkpoint: unit.why for unit in plan_study(study).units}
    assert why[0] == "rows, settings or weights have changed"


def test_a_suite_that_is_made_here_is_planned_without_making_it(tmp_path):
    assert run(app, ["init", str(tmp_path / "mini"), "--suite", "mini", "--sizes", "xs"]) == 0

    found = plan_study(tmp_path / "mini", workers=1)

    assert found.states == {"to do": 17}
    assert found.fetch_bytes == 0
    assert not (tmp_path / "cache").exists()


def test_one_call_scores_a_suite_of_the_hub_and_a_second_asks_for_nothing(
    published, rows, tmp_path, in_process
):
    first = score(published.suite, rows, folder=tmp_path / "scores", options=ONE)
    published.hub.log.clear()

    again = score(published.suite, rows, folder=tmp_path / "scores", options=ONE)

    assert published.hub.log == []
    assert again.equals(first)
    assert first["checkpoint"].unique().sort().to_list() == [0, 2, 4]


def test_what_is_kept_is_read_offline_from_the_cache(published, rows, monkeypatch):
    assert published.score(rows, keep=-1) == DONE
    shutil.rmtree(published.folder / "scores")
    published.hub.log.clear()
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    assert published.score(rows, keep=-1) == DONE

    assert published.hub.log == []


def test_offline_without_a_cache_is_one_clear_error(published, rows, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)

    with pytest.raises(Exception, match=r"offline mode is on \(HF_HUB_OFFLINE\), and not all"):
        published.score(rows)


def test_a_plain_folder_in_place_of_the_repository_is_read_without_the_hub(published, rows):
    published.on_disk({0: 0, 2: 2, 4: 4})

    assert published.score(rows) == DONE

    assert published.hub.log == []


def test_no_more_checkpoints_than_allowed_are_on_disk_at_one_time(published, rows, monkeypatch):
    most = []
    original = source_module.HubCheckpoint._bring

    def counted(self, *rest):
        original(self, *rest)
        most.append(len(list(self.folder.parent.glob("[0-9a-f]*/config.json"))))

    monkeypatch.setattr(source_module.HubCheckpoint, "_bring", counted)
    slow = engine.score_rows  # slow enough that the next checkpoint arrives meanwhile
    monkeypatch.setattr(engine, "score_rows", lambda *a, **k: (time.sleep(0.5), slow(*a, **k))[1])

    assert published.score(rows) == DONE

    assert max(most) == 2
    left = list((published.folder / "cache/checkpoints/models").glob("*/[0-9a-f]*"))
    assert left == []


def test_only_the_format_that_is_needed_is_fetched(published, rows):
    published.publish(2, tiny_files(2) | tiny_files(2, "bin"))

    assert published.score(rows) == DONE

    asked = {request.path for request in published.hub.requests("cdn") if "bin" in request.path}
    commit = published.hub.repositories["model", "tests/tiny"].branches["step2"]
    assert not [path for path in asked if commit in path]


def test_a_published_suite_draws_its_rows_from_the_hub_with_controls_of_later_steps(hub):
    """The whole store of 600 GB is there; only the bytes of the drawn rows are read."""
    rows_in_all, bytes_of_row = 146_432_000, 4098

    def read(offset, length):
        first, last = offset // bytes_of_row, (offset + length - 1) // bytes_of_row
        row = b"".join(
            (number % 50_000).to_bytes(2, "little") * 2049 for number in range(first, last + 1)
        )
        start = offset - first * bytes_of_row
        return row[start : start + length]

    name = "document-{:05d}-of-00020.bin"
    files, left, offset = {}, rows_in_all * bytes_of_row, 0
    for number in range(21):
        size = min(30_000_000_000, left)
        files[name.format(number)] = Virtual(size, lambda at, n, o=offset: read(o + at, n))
        left, offset = left - size, offset + size
    hub.add("dataset", "EleutherAI/pile-standard-pythia-preshuffled", files)
    suite = open_suite("pythia")

    chosen = Sampling(rows_per_cohort=4, batches_per_cohort=2, never_treated=6)
    table = sample_rows(suite, chosen, checkpoints=[0, 1000, 142_000])

    treated = table.filter(pl.col("treatment_step").is_not_null())
    controls = table.filter(pl.col("treatment_step").is_null())
    assert (len(treated), len(controls)) == (8, 6)
    assert controls["row_id"].min() >= 142_000 * 1024
    for row_id, tokens in table.select("row_id", "tokens").iter_rows():
        assert set(tokens) == {row_id % 50_000}
    assert sum(sent(hub).values()) <= 14 * bytes_of_row
    assert TEXTS not in str(hub.log)


def test_faulty_checkpoints_that_are_missing_too_are_told_apart(published, rows):
    published.hub.repositories["model", "tests/tiny"].branches.pop("step2")
    grid = locate(published.suite, ["s"], hub=published.settings)

    assert [verdict.step for verdict in grid.missing] == [2]
    assert grid.faulty == []
    assert published.score(rows) == {0: "done", 4: "done"}
    with pytest.raises(StudyError, match="got 'ignore', expected one of refuse, skip, accept"):
        grid.chosen("ignore")
    published.publish(2, tiny_files(4, shards=3))
    with pytest.raises(RefusedError):
        locate(published.suite, ["s"], hub=published.settings).chosen("refuse")


def test_a_plan_is_made_where_the_study_could_not_run(published, study, monkeypatch):
    monkeypatch.setattr("pythia_profile.execute.resources.physical_memory", lambda: 10**6)

    found = plan_study(study)

    assert (found.workers, found.states) == (1, {"to do": 3})
    assert "not on this machine: the largest model needs" in found.notes[0]
    monkeypatch.undo()
    toml = study / "study.toml"
    toml.write_text(toml.read_text().replace('device = "auto"', 'device = "cuda"'))
    assert plan_study(study).workers == 1
