"""Whatever a study's files hold and whatever is typed: an exit code, one line, whole files.

Records, settings and tables of a finished study are changed at random, and verbs get words that
nobody meant. What is drawn is the same in every run.
"""

import contextlib
import io
import json
import re
import shutil
import tomllib
from pathlib import Path

import numpy as np
import polars as pl
import pytest
import tomli_w
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from typer.main import get_command

from data_order.store.megatron import MegatronStore
from pythia_profile.cli import app
from pythia_profile.cli.app import run
from pythia_profile.pipeline.running import run_stage
from pythia_profile.scoring.settings import Scoring
from pythia_profile.scoring.units import rows_sha256
from pythia_profile.store import file_sha256, write_json
from pythia_profile.study import Estimation, Study, create_study
from pythia_profile.suites.folder import write_suite
from pythia_profile.suites.model import Size, Suite

CODES = {0, 1, 2, 3, 4}
STEPS = (0, 10, 20, 30)


def bounded(examples):
    return settings(
        max_examples=examples,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


def _suite(folder: Path) -> Suite:
    small = Size(
        name="s",
        layers=2,
        width=8,
        heads=2,
        parameters=1000,
        peak_lr=1e-3,
        min_lr=1e-4,
        precision="float32",
        weights="weights",
        checkpoints=STEPS,
    )
    return Suite(
        name="planted",
        title="a suite without weights",
        batch_size=4,
        steps=30,
        row_tokens=3,
        vocabulary=50,
        schedule="neox_v1",
        warmup_steps=2,
        seed=0,
        sizes={"s": small},
        root=folder,
        store="rows",
    )


@pytest.fixture(scope="module")
def finished(planted, tmp_path_factory) -> Path:
    """A finished study with the records of four scored units, of a suite whose weights are gone."""
    home = tmp_path_factory.mktemp("fuzz")
    suite = _suite(home / "study" / "suite")
    write_suite(suite, suite.root)
    MegatronStore.write(suite.root / "rows", np.ones((200, 3), np.int64))
    (suite.root / "weights").mkdir()
    folder = home / "study"
    rows, scores = planted(lambda *_: 0.3, per_cohort=12, never=24)
    create_study(folder, Study(suite="suite", sizes=("s",), estimate=Estimation(draws=50)))
    rows.write_parquet(folder / "rows.parquet")
    for step in STEPS:
        unit = folder / "scores" / "planted" / "s" / "seed0" / f"step{step}"
        unit.mkdir(parents=True)
        table = scores.filter(checkpoint=step)
        table.write_parquet(unit / "scores.parquet")
        record = {
            "key": f"{step:064x}",
            "sha256": file_sha256(unit / "scores.parquet"),
            "rows": len(table),
            "rows_sha256": rows_sha256(rows),
            "finite": {"log_likelihood": len(table)},
            "settings": Scoring().numerics,
            "architecture": {"hidden_size": 8},
            "speed": {"rows": len(table), "seconds": 1.0},
            "weights": {"model.safetensors": f"{step:064x}"},
        }
        write_json(record, unit / "done.json")
    for stage in ("covariates", "att", "precision", "profile", "check", "plot", "report"):
        run_stage(folder, stage)
    return folder


HUGE = "@5,000 digits@"
VALUES = (
    *(None, True, -1, 0, 3, 0.5, -0.0, 2**31, 2**63, -(2**63) - 1, 10**30, 10**400, HUGE),
    *(float("nan"), float("inf"), -float("inf"), 1e308, 5e-324),
    *("", "x", "s", "-1", "step{label}", "../../..", "a\0b", "\ud800", "☃" * 300, "nan", "not_yet"),
    *([], {}, [[]], [None], [1, 1], ["s", "s"], {"": {}}, {"s": {"name": "s"}}, [{}], {"x": [1]}),
)
DAMAGES = (
    b"",
    b"\xff\xfe",
    b"[" * 100_000,
    b"[]",
    b"{}",
    b"null",
    b"1",
    b'{"a": 1e999}',
    b"\0" * 50,
)


def outcome_of(words):
    """Exit code and stderr of a verb, run in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        code = run(app, [str(word) for word in words])
    return code, err.getvalue()


def assert_clean(words, folder):
    """Run a verb; demand an exit code, one error line, and whole files."""
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    code, err = outcome_of(words)
    shown = f"pythia-profile {words} -> {code}\n{err[-3000:]}"
    assert code in CODES, shown
    assert "Traceback" not in err, shown
    errors = re.findall(r"^error: .*$", err, re.MULTILINE | re.IGNORECASE)
    assert len(errors) == (code != 0 and (words[0], code) != ("audit", 4)), shown
    assert not [*folder.rglob("*.part")], shown
    for path in (path for path in folder.rglob("*") if path.is_file()):
        if path.read_bytes() != before.get(path):
            assert is_whole(path), f"{path}\n{shown}"
            assert path.name != "study.toml" or code == 0, shown


def is_whole(path):
    """Whether a file ends as files of its kind do."""
    content = path.read_bytes()
    match path.suffix:
        case ".json":
            return isinstance(json.loads(content), dict)
        case ".parquet":
            return pl.read_parquet(path) is not None
        case ".toml":
            return "format" in tomllib.loads(content.decode())
        case ".html" | ".svg":
            return content.rstrip().endswith(f"</{path.suffix[1:]}>".encode())
        case _:
            return bool(content) or path.suffix == ".lock"


def places(tree, path=()):
    """Yield the path to every value of nested maps and lists."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in items:
        yield (*path, key)
        if isinstance(value, dict | list):
            yield from places(value, (*path, key))


@st.composite
def changes(draw):
    """Draw a change of a file: of the bytes, or of one value among all that it holds."""
    if draw(st.integers(0, 4)) == 0:
        return None, draw(st.one_of(st.sampled_from(DAMAGES), st.floats(0, 1)))
    action = draw(st.sampled_from(["replace"] * 4 + ["delete", "add"]))
    return (draw(st.integers(0, 10_000)), action), draw(st.sampled_from(VALUES))


def changed(tree, where, value):
    """Change one value of nested maps and lists."""
    number, action = where
    every = [*places(tree)]
    *way, last = every[number % len(every)]
    inner = tree
    for key in way:
        inner = inner[key]
    if action == "delete":
        del inner[last]
    elif action == "add" and isinstance(inner, dict):
        inner["added"] = value
    else:
        inner[last] = value
    return tree


def damage(path, change):
    """Write a changed JSON or TOML file."""
    where, value = change
    if where is None:
        content = path.read_bytes()
        path.write_bytes(content[: int(value * len(content))] if type(value) is float else value)
        return
    is_json = path.suffix == ".json"
    read, write = (json.loads, json.dumps) if is_json else (tomllib.loads, toml_of)
    text = write(changed(read(path.read_text(encoding="utf-8")), where, value))
    path.write_text(text.replace(f'"{HUGE}"', "1" * 5000), encoding="utf-8")


def toml_of(tree):
    """TOML has no null, and no half of a pair of UTF-16."""
    text = json.dumps(tree)
    plain = json.loads(text.replace("\\ud800", "?"), parse_int=int)
    return tomli_w.dumps(without_null(plain))


def without_null(value):
    if isinstance(value, dict):
        return {key: without_null(v) for key, v in value.items() if v is not None}
    return [without_null(v) for v in value if v is not None] if isinstance(value, list) else value


@pytest.fixture
def copy(finished, tmp_path):
    """Make a copy of the finished study: a factory, for each example anew."""

    def make():
        folder = tmp_path / "study"
        shutil.rmtree(folder, ignore_errors=True)
        return shutil.copytree(finished, folder)

    return make


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


KINDS = (pl.String, pl.Int64, pl.Float64, pl.Boolean, pl.List(pl.Int64), pl.Null, pl.UInt8)


@st.composite
def table_changes(draw):
    action = draw(st.sampled_from(["cut", "empty", "twice", "drop", "kind", "value", "rename"]))
    return (
        action,
        draw(st.integers(0, 100)),
        draw(st.sampled_from(range(len(KINDS)))),
        draw(st.floats(0, 1)),
    )


def damage_table(path, change):
    """Write a changed parquet table."""
    action, number, kind, part = change
    if action == "cut":
        content = path.read_bytes()
        path.write_bytes(content[: int(part * len(content))])
        return
    table = pl.read_parquet(path)
    name = table.columns[number % table.width]
    values = (None, float("nan"), float("inf"), -1, 10**18, 0, -1e300)
    if action == "kind":
        dtype = KINDS[kind]
        nested = dtype == pl.List(pl.Int64)
        column = pl.lit([1]) if nested else pl.lit(None if dtype == pl.Null else 1).cast(dtype)
        table = table.with_columns(column.alias(name))
    elif action == "value":
        value = pl.lit(values[kind])
        some = pl.int_range(pl.len()) < part * pl.len()
        with contextlib.suppress(pl.exceptions.PolarsError):
            table = table.with_columns(
                pl.when(some).then(value).otherwise(pl.col(name)).alias(name)
            )
    else:
        table = {
            "empty": table.clear(),
            "twice": pl.concat([table, table]),
            "drop": table.drop(name),
            "rename": table.rename({name: "other"}),
        }[action]
    table.write_parquet(path)


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


WORDS = (
    *(
        "1" * 5000,
        "-" + "1" * 5000,
        "-1",
        "0",
        "1",
        "2",
        "10",
        "nan",
        "inf",
        "-inf",
        "1e400",
        "1e-400",
    ),
    *(str(2**63), str(2**64), str(2**31), str(-(2**63) - 1), "1e9", "0.5", "", " ", ",", "1,,2"),
    *("x", "s", "s,s", "0:30:10", "30:0:1", "0:9999999999999:1", "1:2", "1/4", "5/4", "0/0", "☃"),
    *("a/b", "/", ".", "/dev/null", "/proc/1/mem", "x" * 5000, "a\0b", "\udcff", "-h", "--", "~"),
    *(
        "mini",
        "pythia",
        "sample.seed=-1",
        "score.dtype=float99",
        "estimate.level=nan",
        "draws=1e99",
    ),
    *("estimate.draws=" + "1" * 5000, "sample.rows_per_cohort=9223372036854775808", "=", "audit="),
)


def options_of(verb):
    """Every option of a verb, and whether it takes words."""
    for parameter in get_command(app).commands[verb].params:
        if parameter.param_type_name == "option" and "--help" not in parameter.opts:
            yield parameter.opts[0], 0 if parameter.is_flag else parameter.nargs


VERBS = sorted(get_command(app).commands)


def example(verb, folder):
    """Words with which a verb would do its work, or stop before it trains or fetches."""
    suite = folder / "suite"
    return {
        "demo": ["--quick", "--out", folder],  # holds another study
        "order": ["--suite", suite],
        "suites": [suite],
        "audit": [folder],
        "init": [folder, "--suite", "suite"],
        "rows": [
            *(folder / "made", "--documents", suite / "rows"),
            *("--batch-size", 4, "--steps", 10, "--seed", 1, "--row-tokens", 3),
        ],
    }.get(verb, [folder])


@st.composite
def arguments(draw, verb):
    """Draw options of a verb, with words that they may or may not take."""
    every = [(name, count) for name, count in options_of(verb) if name != "--out"]
    words = []
    for name, count in draw(st.lists(st.sampled_from(every), max_size=3)) if every else []:
        words += [name, *(draw(st.sampled_from(WORDS)) for _ in range(count))]
    return words


@pytest.mark.parametrize("verb", VERBS)
def test_arguments_of_verbs(copy, verb, monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.chdir(tmp_path)
    folder = copy()
    usual = example(verb, folder)
    examples = min(20, 3 * len([*options_of(verb)])) or 1

    @bounded(examples)
    @given(words=arguments(verb), odd=st.sampled_from(WORDS), where=st.integers(0, 9))
    def each(words, odd, where):
        first = [odd, *usual[1:]] if where == 0 and verb != "power" else usual
        assert_clean([verb, *first, *words], folder)

    each()


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
