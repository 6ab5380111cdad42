"""Files appear whole or not at all; leftovers of killed processes go, those of living ones stay."""

import os
import subprocess
import sys

import polars as pl
import pytest

from pythia_profile.errors import MissingTableError, StudyError, TableError
from pythia_profile.store import (
    atomic_write,
    digest,
    lease,
    make_folder,
    read_json,
    read_table,
    remove_leftovers,
    write_json,
    write_table,
    write_text,
)
from pythia_profile.tables import PLACEBO, conform

LINE = {
    "suite": "t",
    "size": "s",
    "seed": 0,
    "outcome": "log_likelihood",
    "test": "joint",
    "cohort": None,
    "statistic": 2.0,
    "p_value": 0.2,
}


def test_an_error_inside_the_block_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "note.txt"
    write_text("old", path)

    def write_and_fail():
        with atomic_write(path) as file:
            file.write(b"new")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        write_and_fail()

    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_has_the_permissions_of_any_other_file(tmp_path):
    write_text("x", tmp_path / "a")
    (tmp_path / "b").write_text("x")

    assert (tmp_path / "a").stat().st_mode == (tmp_path / "b").stat().st_mode


def test_a_device_that_is_full_is_one_clear_error(tmp_path, monkeypatch):
    path = tmp_path / "table.json"
    write_json({"old": 1}, path)

    def full(_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        StudyError, match=r"table.json': No space left on device; nothing was"
    ) as caught:
        write_json({"new": 1}, path)
    assert caught.value.exit_code == 1
    assert read_json(path) == {"old": 1}


def test_leftovers_of_dead_processes_are_removed_and_no_others(tmp_path):
    dead = subprocess.run(
        [sys.executable, "-c", "import os; print(os.getpid())"], capture_output=True, check=True
    )
    import socket

    host = socket.gethostname()
    gone = tmp_path / "deep" / f".a.parquet~{host}~{int(dead.stdout)}~1234abcd.part"
    alive = tmp_path / f".b.parquet~{host}~{os.getpid()}~1234abcd.part"
    elsewhere = tmp_path / f".c.parquet~another-host~{int(dead.stdout)}~1234abcd.part"
    gone.parent.mkdir()
    for path in (gone, alive, elsewhere):
        path.touch()

    remove_leftovers(tmp_path)

    assert not gone.exists()
    assert alive.exists()
    assert elsewhere.exists()


def test_a_table_reads_back_and_two_writes_are_the_same_bytes(tmp_path):
    frame = pl.DataFrame([LINE], schema_overrides={"cohort": pl.Int64})

    write_table(frame, tmp_path / "a.parquet", PLACEBO)
    write_table(frame, tmp_path / "b.parquet", PLACEBO)

    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()
    assert read_table(tmp_path / "a.parquet", PLACEBO, "att").equals(frame)


def test_a_missing_table_names_the_verb_that_writes_it(tmp_path):
    with pytest.raises(MissingTableError, match=r"run `pythia-profile att .*` first"):
        read_table(tmp_path / "placebo.parquet", PLACEBO, "att")


@pytest.mark.parametrize("content", [b"", b"PAR1 and then nothing", b"\x00" * 100])
def test_a_damaged_table_is_named(tmp_path, content):
    (tmp_path / "placebo.parquet").write_bytes(content)

    with pytest.raises(TableError, match="cannot be read as parquet"):
        read_table(tmp_path / "placebo.parquet", PLACEBO, "att")


def test_broken_json_is_named(tmp_path):
    (tmp_path / "lock.json").write_text("{")

    with pytest.raises(StudyError, match=r"lock.json is not valid JSON"):
        read_json(tmp_path / "lock.json")


def test_a_lease_is_held_by_one_process_and_ends_with_it(tmp_path):
    code = (
        "from pathlib import Path; from pythia_profile.store import lease\n"
        f"with lease(Path({str(tmp_path / 'unit.lease')!r})) as mine: print(mine)"
    )

    def ask() -> str:
        done = subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True
        )
        return done.stdout.strip()

    with lease(tmp_path / "unit.lease") as mine:
        assert mine
        assert ask() == "False"
    assert ask() == "True"


def test_a_lease_whose_holder_was_killed_is_free_at_once_whatever_the_clock_says(tmp_path):
    """Faults 34 and 35: the kernel lets go of it; no time of any file or host is looked at."""
    path = tmp_path / "unit.lease"
    code = (
        "import sys; from pathlib import Path; from pythia_profile.store import lease\n"
        f"with lease(Path({str(path)!r})) as mine: print(mine, flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert holder.stdout.readline() == "True\n"
    for year in (0, 4_000_000_000):  # 1970, and a clock that is a century ahead
        os.utime(path, (year, year))
        with lease(path) as mine:
            assert not mine

    holder.kill()
    holder.communicate()

    with lease(path) as mine:
        assert mine


def test_a_file_system_without_locks_gives_everybody_the_lease(tmp_path, monkeypatch):
    def no_locks(*_, **__):
        raise OSError(37, "No locks available")

    monkeypatch.setattr("filelock.FileLock.acquire", no_locks)

    with lease(tmp_path / "unit.lease") as mine:
        assert mine


def test_a_folder_below_a_file_cannot_be_made(tmp_path):
    (tmp_path / "file").touch()

    with pytest.raises(StudyError, match="cannot write"):
        make_folder(tmp_path / "file" / "folder")


def test_digests_do_not_depend_on_the_order_of_keys():
    assert digest({"a": 1, "b": [1, 2]}) == digest({"b": [1, 2], "a": 1})
    assert digest({"a": 1}) != digest({"a": 2})


@pytest.mark.parametrize(
    "name", [".x~.part", ".~~~.part", ".a~b~c~d.part", ".a~h~99~zz.part", "x.part"]
)
def test_part_files_of_odd_names_are_left_alone(tmp_path, name):
    (tmp_path / name).write_text("whose?")

    remove_leftovers(tmp_path)

    assert (tmp_path / name).exists()


@pytest.mark.parametrize(
    ("column", "value", "expected"),
    [("p_value", 1.5, "0 to 1"), ("p_value", -0.1, "0 to 1"), ("cohort", -5, "0 or more")],
)
def test_values_that_nothing_measures_are_refused(column, value, expected):
    with pytest.raises(TableError, match=f"'{column}' holds {value}, expected {expected}"):
        conform(pl.DataFrame([{**LINE, column: value}]), PLACEBO)
