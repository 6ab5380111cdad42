"""Checkpoints that arrive whole and are wrong: damaged, hostile, or another step's."""

import hashlib
import io
import json
import pickle
import resource
import struct
import subprocess
import sys
import zipfile

import pytest
import torch

from pythia_profile.checkpoints.grid import locate
from pythia_profile.checkpoints.load import CheckpointLoader
from pythia_profile.cli import app
from pythia_profile.cli.app import run
from pythia_profile.errors import CheckpointError, RefusedError
from pythia_profile.pipeline.inputs import known_suite, study_scores
from pythia_profile.study import open_study
from tests.checkpoints.conftest import DONE, tiny_files, tiny_tensors, written
from tests.checkpoints.test_fetch_faults import sent


def quarantined(published, rows, reason):
    """Score with a bad step 2: it alone is quarantined, for `reason`, in one line."""
    states = published.score(rows, "accept")
    assert states[2].startswith("quarantine: ")
    assert reason in states[2]
    assert "Traceback" not in states[2]
    assert states | {2: "done"} == DONE


@pytest.mark.parametrize("kind", ["safetensors", "bin"])
def test_a_file_that_was_cut_before_it_was_published_is_quarantined(published, rows, kind):
    """Fault 7."""
    files = tiny_files(2, kind)
    name = next(name for name in files if name.endswith(kind))
    published.publish(2, files | {name: files[name][:-200]})

    quarantined(published, rows, "is damaged")


@pytest.mark.parametrize("change", ["missing", "renamed"])
def test_a_missing_or_renamed_tensor_is_refused_by_name_and_gives_no_score(published, rows, change):
    """Fault 8."""
    tensors = tiny_tensors(2)
    head = tensors.pop("embed_out.weight")
    if change == "renamed":
        tensors["head.weight"] = head
    published.publish(2, tiny_files(2) | {"model.safetensors": written(tensors, "safetensors")})

    quarantined(published, rows, "missing: lm_head.weight")


@pytest.mark.slow
def test_two_steps_with_the_same_weights_are_refused_unless_the_user_says_otherwise(
    published, rows, capsys, tmp_path, in_process
):
    """Fault 9."""
    published.publish(2, tiny_files(4, shards=3))
    with pytest.raises(RefusedError, match=r"1 of 3 .*same weights at steps 2, 4") as refused:
        published.score(rows)
    assert refused.value.exit_code == 4
    assert sent(published.hub) == {}
    assert published.score(rows, "skip") == {0: "done", 4: "done"}
    assert published.score(rows, "accept") == DONE

    study = tmp_path / "study"
    assert run(app, ["init", str(study), "--suite", str(tmp_path / "suite"), *SMALL]) == 0
    assert run(app, ["audit", str(study)]) == 4
    assert "same weights at steps 2, 4" in capsys.readouterr().out
    assert run(app, ["sample", str(study)]) == 0
    assert run(app, ["score", str(study)]) == 4
    assert "faulty = 'skip' in study.toml" in capsys.readouterr().err
    toml = study / "study.toml"
    toml.write_text(toml.read_text().replace('faulty = "refuse"', 'faulty = "accept"'))
    assert run(app, ["run", str(study)]) == 0
    audit = json.loads((study / "lock.json").read_text())["audit"]
    assert audit["choice"] == "accept"
    assert [line["step"] for line in audit["faulty"]] == [2]
    assert "faulty: scored all the same)" in capsys.readouterr().out
    assert run(app, ["status", str(study)]) == 0
    line = "s step 2 is duplicate: same weights at steps 2, 4"
    said = capsys.readouterr().out
    assert line in said
    assert "faulty = 'accept'" in said
    assert f"{line} (scored all the same)" in (study / "report.html").read_text()

    toml.write_text(toml.read_text().replace('faulty = "accept"', 'faulty = "skip"'))
    assert run(app, ["score", str(study)]) == 0
    kept = study_scores(study, open_study(study), known_suite(study))
    assert kept["checkpoint"].unique().sort().to_list() == [0, 4]


SMALL = ["--set=rows_per_cohort=4", "--set=batches_per_cohort=0", "--set=never_treated=6"]
SMALL += ["--set=draws=20"]


def test_one_shard_of_another_step_is_named(published, rows):
    """Fault 10."""
    mixed = tiny_files(2, shards=3)
    first = "model-00001-of-00003.safetensors"
    mixed[first] = published.steps[4][first]
    published.publish(2, mixed)

    with pytest.raises(RefusedError, match=rf"1 of 3 .*s step 2: same {first} at steps 2, 4"):
        published.score(rows)


def hostile(trace) -> object:
    class Hostile:
        def __reduce__(self):
            return (open, (str(trace), "w"))

    return Hostile()


@pytest.mark.parametrize("form", ["zip", "raw", "old"])
def test_a_pickle_that_would_run_code_is_not_executed(published, rows, tmp_path, form):
    """Fault 29."""
    trace = tmp_path / "executed"
    content = {**tiny_tensors(2), "x": hostile(trace)}
    if form == "raw":
        data = pickle.dumps(content)
    else:
        file = io.BytesIO()
        torch.save(content, file, _use_new_zipfile_serialization=form == "zip")
        data = file.getvalue()
    files = tiny_files(2, "bin")
    published.publish(2, files | {"pytorch_model.bin": data})

    quarantined(published, rows, "it was not executed")
    assert not trace.exists()


@pytest.mark.parametrize("name", ["../outside.bin", "a/../../outside.bin", "/tmp/outside.bin"])
def test_a_listing_that_leads_out_of_its_folder_is_refused(published, rows, name):
    """Fault 30."""
    published.publish(2, {**tiny_files(2), name: b"x"})

    with pytest.raises(RefusedError, match="names files outside its folder"):
        published.score(rows)

    assert published.score(rows, "accept") == {0: "done", 4: "done"}
    assert not list(published.folder.rglob("outside.bin"))


@pytest.mark.parametrize("name", ["../../x.safetensors", "/etc/hostname", "config.json"])
def test_an_index_that_names_other_files_is_refused(published, rows, name):
    """Fault 30."""
    files = tiny_files(2, shards=2)
    index = json.loads(files["model.safetensors.index.json"])
    index["weight_map"]["embed_out.weight"] = name
    files["model.safetensors.index.json"] = json.dumps(index).encode()
    published.publish(2, files)

    states = published.score(rows)

    assert states[2].startswith("quarantine: ")
    assert states | {2: "done"} == DONE


def test_a_config_with_code_of_its_own_is_refused(published, rows):
    """Fault 30."""
    files = tiny_files(2)
    config = json.loads(files["config.json"]) | {"auto_map": {"AutoConfig": "evil.Config"}}
    published.publish(
        2, {**files, "config.json": json.dumps(config).encode(), "evil.py": b"raise SystemExit"}
    )

    quarantined(published, rows, "asks for code of its own")
    assert not list((published.folder / "cache").rglob("evil.py"))


def header_bomb() -> bytes:
    return struct.pack("<Q", 100 * 2**20) + b" " * 64


def zip_bomb() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * (200 * 2**20))
    return file.getvalue()


BOMBS = {
    "header": ("model.safetensors", header_bomb),
    "zip": ("pytorch_model.bin", zip_bomb),
    "deep json": ("config.json", lambda: b"[" * 3_000_000),
    "large json": ("config.json", lambda: b'{"a": "' + b"x" * (5 * 2**20) + b'"}'),
    "many layers": (
        "config.json",
        lambda: json.dumps(
            json.loads(tiny_files(2)["config.json"]) | {"num_hidden_layers": 10**9}
        ).encode(),
    ),
    "wide": (
        "config.json",
        lambda: json.dumps(
            json.loads(tiny_files(2)["config.json"]) | {"vocab_size": 10**12}
        ).encode(),
    ),
}


@pytest.mark.parametrize("bomb", BOMBS)
def test_what_claims_to_be_huge_is_refused_within_little_memory(published, rows, bomb):
    """Fault 31."""
    name, content = BOMBS[bomb]
    files = tiny_files(2, "bin" if name.endswith("bin") else "safetensors")
    published.publish(2, files | {name: content()})
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss

    states = published.score(rows, "accept")

    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert states[2].startswith("quarantine: ")
    assert states | {2: "done"} == DONE
    assert grown < 150_000  # kB; what the bombs would unpack to is 200 MB and more


def test_a_branch_that_moves_changes_nothing_and_status_says_so(
    published, capsys, tmp_path, in_process
):
    """Fault 26."""
    study = tmp_path / "study"
    assert run(app, ["init", str(study), "--suite", str(tmp_path / "suite"), *SMALL]) == 0
    assert run(app, ["sample", str(study)]) == 0
    assert run(app, ["plan", str(study)]) == 0
    pinned = published.hub.repositories["model", "tests/tiny"].branches["step2"]
    published.publish(2, tiny_files(77))
    capsys.readouterr()

    assert run(app, ["score", str(study)]) == 0
    assert run(app, ["status", str(study)]) == 0

    done = json.loads((study / "scores/tiny/s/seed0/step2/done.json").read_text())
    original = hashlib.sha256(tiny_files(2)["model.safetensors"]).hexdigest()
    assert done["weights"]["model.safetensors"] == original
    assert f"tests/tiny step2: pinned at {pinned[:12]}, now" in capsys.readouterr().out


def test_one_that_cannot_be_read_leaves_the_folder_as_it_was(published):
    published.publish(2, tiny_files(2) | {"model.safetensors": b"short"})
    place = locate(published.suite, ["s"], [2], hub=published.settings, keep=-1).located[0]

    with place.source.held() as folder, pytest.raises(CheckpointError):
        CheckpointLoader().load(folder)

    assert (place.source.folder / "model.safetensors").read_bytes() == b"short"
    code = "import pickle, sys; print(len(pickle.loads(bytes.fromhex(sys.argv[1])).missing))"
    said = subprocess.run(
        [sys.executable, "-c", code, pickle.dumps(place.source).hex()],
        capture_output=True,
        text=True,
        check=True,
    )
    assert said.stdout.strip() == "0"
