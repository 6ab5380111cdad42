"""Verify, export, publish, doctor, cache: on a tiny finished study."""

import base64
import json
import re
import shutil
import threading
import tomllib
import warnings
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import polars as pl
import pytest

from pythia_profile.cli import app
from pythia_profile.cli.app import run
from pythia_profile.did.settings import Estimation
from pythia_profile.pipeline import health
from pythia_profile.pipeline.export import ExportOptions, export_study
from pythia_profile.pipeline.running import run_stage
from pythia_profile.store import file_sha256, write_json
from pythia_profile.study import Sampling, Study, create_study
from pythia_profile.tables import REMEMBERED

pytestmark = pytest.mark.slow

LICENSE = ("--license", "CC-BY-4.0")
TERMS = ExportOptions(license="CC-BY-4.0")


@pytest.fixture(scope="module")
def made(tiny_suite, tmp_path_factory):
    folder = tmp_path_factory.mktemp("upkeep") / "study"
    settings = Study(
        suite=str(tiny_suite.root),
        sizes=("xs", "s"),
        sample=Sampling(rows_per_cohort=24, batches_per_cohort=0, never_treated=96),
        estimate=Estimation(draws=50),
    )
    create_study(folder, settings)
    for stage in ("sample", "score", "att"):
        run_stage(folder, stage)
    return folder


@pytest.fixture
def study(made, tmp_path):
    return Path(shutil.copytree(made, tmp_path / "study"))


def states(capsys, study, *more):
    code = run(app, ["verify", str(study), "--json", *more])
    return code, {line["what"]: line["state"] for line in json.loads(capsys.readouterr().out)}


def test_a_study_as_it_was_written_is_whole(study, capsys):
    code, found = states(capsys, study, "--rescore", "2", "--seed", "1")

    assert code == 0
    assert set(found.values()) == {"ok"}
    assert {"rows.parquet", "att.parquet", "scores/mini/xs/seed0"} <= found.keys()
    assert sum(" step " in name for name in found) == 2


def test_a_changed_score_is_found_by_its_hash(study, capsys):
    (path,) = study.glob("scores/*/xs/seed0/step16/scores.parquet")
    table = pl.read_parquet(path)
    table.with_columns(pl.col("log_likelihood") + 0.5).write_parquet(path)

    code, found = states(capsys, study)
    assert code == 1
    assert found["scores/mini/xs/seed0/step16"] == found["scores/mini/xs/seed0"] == "damaged"
    assert found["scores/mini/s/seed0"] == "ok"


def test_a_changed_score_whose_record_was_changed_too_is_found_by_scoring_again(study, capsys):
    """The hash in the record is made to fit: only the model itself can tell."""
    for path in study.glob("scores/*/*/seed0/*/scores.parquet"):
        table = pl.read_parquet(path)
        table.with_columns(pl.col("log_likelihood") + 0.5).write_parquet(path)
        record = json.loads(path.with_name("done.json").read_text())
        write_json({**record, "sha256": file_sha256(path)}, path.with_name("done.json"))

    code, found = states(capsys, study)
    assert code == 0
    code, found = states(capsys, study, "--rescore", "1")
    assert code == 1
    assert "differs" in found.values()


def test_a_changed_or_missing_table_is_named_with_its_stage(study, capsys):
    att = pl.read_parquet(study / "att.parquet")
    att.with_columns(pl.col("att") * 2).write_parquet(study / "att.parquet")
    (study / "placebo.parquet").unlink()

    assert run(app, ["verify", str(study)]) == 1
    shown = capsys.readouterr().out
    assert "not the file that `att` wrote" in shown
    assert "missing; run `pythia-profile att" in shown


def test_rows_that_are_others_are_named(study, capsys):
    rows = pl.read_parquet(study / "rows.parquet")
    rows.with_columns(pl.col("row_id") + 1).write_parquet(study / "rows.parquet")

    code, found = states(capsys, study)
    assert code == 1
    assert found["rows.parquet"] == "damaged"


@pytest.mark.parametrize("how", ["--json", None])
def test_a_study_without_its_records_is_not_called_whole(study, capsys, how):
    (study / "lock.json").unlink()

    assert run(app, ["verify", str(study), *([how] if how else [])]) == 1

    assert "no record of what the stages wrote" in capsys.readouterr().out


def test_where_nothing_was_recorded_nothing_is_called_whole(study, tmp_path, capsys):
    (tmp_path / "study.toml").write_bytes((study / "study.toml").read_bytes())
    assert run(app, ["verify", str(tmp_path)]) == 2
    assert "has no rows, scores or recorded tables to compare" in capsys.readouterr().err


def test_what_a_study_used_is_cited_and_nothing_else(study, tmp_path, capsys, monkeypatch):
    assert run(app, ["cite", str(study)]) == 0
    entries = capsys.readouterr().out
    keys = re.findall(r"^@\w+\{(\w+),$", entries, flags=re.MULTILINE)
    assert keys == [
        "pythia_profile", "lesci2024causal", "callaway2021difference", "holm1979simple",
    ]  # fmt: skip
    assert entries.count("{") == entries.count("}")

    assert run(app, ["cite", str(study), "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["bibtex"].strip() == entries.strip()
    assert "sizes xs, s" in found["methods"]

    assert run(app, ["cite", str(tmp_path / "none")]) == 2
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()
    assert run(app, ["cite"]) == 0  # without a study: what every one uses
    assert entries.startswith(capsys.readouterr().out.strip())


def test_an_export_is_valid_croissant_and_has_every_table(study, tmp_path):
    """The public validator finds nothing to say."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # of the validator's own libraries
        import mlcroissant

        files = export_study(study, tmp_path / "out", TERMS)
        found = mlcroissant.Dataset(jsonld=str(tmp_path / "out" / "croissant.json"))

    assert found.metadata.issues.errors == set()
    assert {record.name for record in found.metadata.record_sets} >= {"rows", "scores", "att"}
    facts = json.loads((tmp_path / "out" / "croissant.json").read_text())
    assert {"rai:dataCollection", "rai:dataLimitations", "rai:personalSensitiveInformation"} <= {
        *facts
    }
    for file in facts["distribution"]:
        assert file_sha256(tmp_path / "out" / file["contentUrl"]) == file["sha256"]
    scores = pl.read_parquet(tmp_path / "out" / "data" / "scores.parquet")
    units = [pl.read_parquet(path) for path in study.rglob("scores.parquet")]
    assert len(scores) == sum(map(len, units))
    assert scores["log_likelihood"].sum() == pytest.approx(
        sum(unit["log_likelihood"].sum() for unit in units)
    )
    assert "tokens" not in pl.read_parquet_schema(tmp_path / "out" / "data" / "rows.parquet")
    assert Path("provenance.json") in files
    assert str(study) not in (tmp_path / "out" / "croissant.json").read_text()


def test_no_table_of_an_export_has_text_unless_it_is_asked_for(study, tmp_path):
    empty = pl.DataFrame(schema=REMEMBERED.columns)
    empty.write_parquet(study / "remembered.parquet")

    for tokens in (False, True):
        out = tmp_path / f"tokens-{tokens}"
        export_study(study, out, replace(TERMS, tokens=tokens))
        columns = pl.read_parquet_schema(out / "data" / "remembered.parquet")

        assert ("tokens" in columns) == tokens
        assert {"row_id", "effect", "changes"} <= {*columns}


def test_the_card_lists_every_column_and_says_what_of_text_is_in_it(study, tmp_path, capsys):
    out = tmp_path / "out"
    assert (
        run(app, ["export", str(study), "--to", str(out), "--tokens", "--name", "mine", *LICENSE])
        == 0
    )
    card = (out / "README.md").read_text()

    assert 'pretty_name: "mine"' in card
    assert "holds the token ids" in card
    assert "tokens" in pl.read_parquet_schema(out / "data" / "rows.parquet")
    assert "| `log_likelihood` | Float | mean log-likelihood" in card
    header = card.split("---")[1]
    assert "license: cc-by-4.0" in header
    assert header.count("config_name") == len(list((out / "data").iterdir()))
    assert tomllib.loads((out / "study.toml").read_text())["sizes"] == ["xs", "s"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--to", "{new}"], "license: missing, expected the terms"),
        (["--to", "{here}", *LICENSE], "exists; name a folder that does not"),
        (["--hub", "a/b"], "go with --to"),
        (["--to", "{new}", "--push"], "needs --hub"),
        (["--to", "{new}", *LICENSE, "--hub", "no-owner"], "expected OWNER/NAME"),
        (["--to", "{new}", *LICENSE, "--hub", "../../etc/x"], "expected OWNER/NAME"),
    ],
)
def test_wishes_that_cannot_be_are_one_line(options, message, study, tmp_path, capsys):
    words = [word.format(here=study, new=tmp_path / "new") for word in options]
    assert run(app, ["export", str(study), *words]) == 2
    assert message in capsys.readouterr().err


def test_an_export_that_fails_half_way_leaves_nothing_behind(study, tmp_path, capsys):
    words = ["--to", str(tmp_path / "out"), *LICENSE, "--effects", str(study / "study.toml" / "x")]

    assert run(app, ["export", str(study), *words]) != 0

    assert capsys.readouterr().err.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_a_study_without_tables_leaves_nothing_behind(tiny_suite, tmp_path, capsys):
    create_study(tmp_path / "new", Study(suite=str(tiny_suite.root), sizes=("xs",)))
    words = ["export", str(tmp_path / "new"), "--to", str(tmp_path / "out"), *LICENSE]
    assert run(app, words) == 2
    assert "holds no table yet" in capsys.readouterr().err
    assert sorted(path.name for path in tmp_path.iterdir()) == ["new"]


class Repositories(BaseHTTPRequestHandler):
    """The three answers of the hub that a commit of small files needs."""

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        self.server.seen.append((self.path, self.headers.get("authorization", ""), body))
        if self.server.refuses:
            self.send_error(403, "Forbidden")
            return
        here = f"http://127.0.0.1:{self.server.server_port}"
        if self.path == "/api/repos/create":
            answer = {"url": f"{here}/datasets/me/mine", "name": "me/mine"}
        elif "/preupload/" in self.path:
            files = json.loads(body)["files"]
            answer = {
                "files": [
                    {"path": file["path"], "uploadMode": "regular", "shouldIgnore": False}
                    for file in files
                ]
            }
        else:
            answer = {
                "commitOid": "c" * 40,
                "success": True,
                "commitUrl": f"{here}/datasets/me/mine/commit/{'c' * 40}",
            }
        content = json.dumps(answer).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_):
        pass


@pytest.fixture
def repositories(monkeypatch):
    server = ThreadingHTTPServer(("127.0.0.1", 0), Repositories)
    server.seen, server.refuses = [], False
    threading.Thread(target=server.serve_forever, daemon=True).start()
    monkeypatch.setenv("HF_ENDPOINT", f"http://127.0.0.1:{server.server_port}")
    monkeypatch.setenv("HF_TOKEN", "hf_" + "k" * 20)
    yield server
    server.shutdown()
    server.server_close()


def test_nothing_is_sent_without_push(study, tmp_path, repositories, capsys):
    arguments = ["export", str(study), "--to", str(tmp_path / "out"), "--hub", "me/mine", *LICENSE]
    assert run(app, arguments) == 0
    assert "nothing was sent; --push sends these" in capsys.readouterr().out
    assert repositories.seen == []


def test_a_push_is_one_commit_of_all_files(study, tmp_path, repositories, capsys):
    out = tmp_path / "out"
    arguments = ["export", str(study), "--to", str(out), "--hub", "me/mine", "--push", *LICENSE]
    assert run(app, arguments) == 0
    shown = capsys.readouterr()

    assert f"commit {'c' * 40}" in shown.out
    commits = [body for path, _, body in repositories.seen if "/commit/" in path]
    assert len(commits) == 1
    lines = [json.loads(line)["value"] for line in commits[0].splitlines()]
    sent = {line["path"]: base64.b64decode(line["content"]) for line in lines if "path" in line}
    assert sent == {
        str(path.relative_to(out)): path.read_bytes() for path in out.rglob("*") if path.is_file()
    }
    assert "hf_kkk" not in shown.out + shown.err


def test_a_refusal_of_the_hub_is_one_line_without_the_token(study, tmp_path, repositories, capsys):
    repositories.refuses = True
    out = tmp_path / "out"
    code = run(
        app, ["export", str(study), "--to", str(out), "--hub", "me/mine", "--push", *LICENSE]
    )
    error = capsys.readouterr().err
    assert code == 1
    assert "the hub refuses 'me/mine'" in error
    assert "hf_kkk" not in error
    assert "Traceback" not in error


def test_the_doctor_says_what_will_not_do(tmp_path, capsys, monkeypatch):
    assert run(app, ["doctor", str(tmp_path), "--json"]) in (0, 1)  # disks differ
    found = {line["what"]: line["good"] for line in json.loads(capsys.readouterr().out)}
    assert found["file locks"]
    assert found["hub"]
    assert {"python", "torch", "device", "memory", "ray", "slurm", "token"} <= found.keys()

    monkeypatch.setattr(health, "LIBRARIES", ("torch", "no-such-library"))
    assert run(app, ["doctor", str(tmp_path / "missing")]) == 1
    shown = capsys.readouterr().out
    assert "missing; install" in shown
    monkeypatch.setenv("HF_ENDPOINT", "somewhere")
    assert not health._hub().good


def test_parts_of_the_cache_are_listed_and_deleted_by_name(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    root = tmp_path / "pythia-profile"
    (root / "checkpoints").mkdir(parents=True)
    (root / "checkpoints" / "a").write_bytes(b"x" * 3000)
    (root / "ranges.sqlite").write_bytes(b"y" * 100)

    assert run(app, ["cache", "--json"]) == 0
    parts = json.loads(capsys.readouterr().out)["parts"]
    assert [(p["name"], p["size"], p["files"]) for p in parts] == [
        ("checkpoints", 3000, 1),
        ("ranges.sqlite", 100, 1),
    ]
    assert run(app, ["cache", "--prune", "checkpoint"]) == 2
    assert "did you mean 'checkpoints'" in capsys.readouterr().err
    assert (root / "checkpoints" / "a").exists()
    assert run(app, ["cache", "--prune", "checkpoints"]) == 0
    assert [path.name for path in root.iterdir()] == ["ranges.sqlite"]
