"""The user's token reaches the hub and nothing else: no other host, no log, no file, no error."""

import json
import logging
import os
import subprocess
import sys

import pytest

from pythia_profile.cli import app
from pythia_profile.cli.app import run
from pythia_profile.redaction import RedactingFormatter, redact
from tests.checkpoints.conftest import CANARY, tiny_files
from tests.checkpoints.test_faulty_files import SMALL

pytestmark = pytest.mark.slow


def written_below(folder):
    """Every byte of every file below a folder, names included."""
    for path in folder.rglob("*"):
        yield str(path).encode()
        if path.is_file():
            yield path.read_bytes()


def command(*arguments, **environment):
    """Run the program as a user does; returns exit code and everything it said."""
    done = subprocess.run(
        [sys.executable, "-m", "pythia_profile", *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )
    return done.returncode, done.stdout + done.stderr


def test_the_token_goes_to_the_hub_only_and_is_written_nowhere(published, tmp_path):
    """Faults 27 and 28: a run with every kind of failure, then a whole one."""
    study = tmp_path / "study"
    published.hub.misbehave("flip", match="model.safetensors", times=None)
    published.hub.misbehave("status", at="resolve", status=503, times=1)
    published.publish(0, tiny_files(0, "bin") | {"pytorch_model.bin": b"damaged"})
    said = [
        command("init", study, "--suite", tmp_path / "suite", *SMALL),
        command("--debug", "sample", study, HF_DEBUG="1"),
        command("--debug", "score", study, "--workers", "1", HF_DEBUG="1"),
        command("score", tmp_path / CANARY),
        command("--debug", "audit", CANARY),
        command("status", study),
    ]

    assert [code for code, _ in said] == [0, 0, 3, 2, 2, 0]
    assert "2 of 3 checkpoints could not be scored (2 quarantined)" in said[2][1]
    assert not any(CANARY in text for _, text in said)
    published.hub._faults.clear()
    published.publish(0, tiny_files(0))
    lock = study / "lock.json"
    pinned = json.loads(lock.read_text())
    del pinned["checkpoints"]  # branch 0 was published anew
    lock.write_text(json.dumps(pinned))
    assert command("score", study, "--retry")[0] == 0
    assert command("run", study)[0] == 0
    assert (study / "report.html").exists()
    assert not any(CANARY.encode() in content for content in written_below(tmp_path))
    asked = published.hub.requests()
    assert any(request.authorized for request in asked if request.host != "cdn")
    assert any(request.host == "cdn" for request in asked)
    assert not any(request.authorized for request in asked if request.host == "cdn")


def test_a_pickle_only_revision_is_loaded_without_a_request_of_transformers(published, rows):
    """Fault 28: the conversion service of the hub is not asked."""
    published.score(rows)

    paths = {request.path for request in published.hub.log}
    assert not [path for path in paths if "discussions" in path or "commits" in path]
    assert os.environ["DISABLE_SAFETENSORS_CONVERSION"] == "1"


@pytest.mark.parametrize(
    "text",
    [
        f"GET https://user:{CANARY}@hub/x",
        f"authorization: Bearer {CANARY}",
        f"{{'Authorization': 'Bearer {CANARY}', 'a': 1}}",
        f"token={CANARY}&b=1",
        "hf_otherotherotherother",
    ],
)
def test_every_shape_of_a_token_is_replaced(text):
    said = redact(text)

    assert "<token>" in said
    assert CANARY not in said
    assert "hf_other" not in said


def test_a_token_without_a_known_shape_is_known_from_the_environment(monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "a-company-token")

    assert redact("got a-company-token") == "got <token>"


def test_tracebacks_in_logs_are_redacted():
    try:
        raise RuntimeError(f"at {CANARY}")
    except RuntimeError:
        record = logging.LogRecord("x", 40, "", 0, f"failed {CANARY}", (), sys.exc_info())

    text = RedactingFormatter().format(record)

    assert "RuntimeError: at <token>" in text
    assert CANARY not in text


def test_no_verb_takes_a_token(capsys):
    for verb in ("score", "audit", "plan", "suites", "run", "sample", "order"):
        assert run(app, [verb, "--token", "x", "y"]) == 2
        assert "No such option" in capsys.readouterr().err
