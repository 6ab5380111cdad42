"""Changes of files drawn at random, and what any verb must leave whatever it finds."""

import contextlib
import io
import json
import re
import tomllib

import polars as pl
import tomli_w
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st

from pythia_profile.cli import app
from pythia_profile.cli.app import run

CODES = {0, 1, 2, 3, 4}


def bounded(examples):
    return settings(
        max_examples=examples,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        database=None,
        deadline=None,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


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
