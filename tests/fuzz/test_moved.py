"""A finished study in another place, or where nothing can be written."""

import errno
import os
import shutil
from pathlib import Path

import pytest

import pythia_profile as pp
from pythia_profile.pipeline.stages import stage_states
from tests.fuzz.damages import outcome_of

pytestmark = pytest.mark.slow


def test_a_study_that_moved_is_up_to_date_and_names_no_old_place(finished, tmp_path):
    """Fault 40."""
    before = stage_states(finished)
    moved = Path(shutil.copytree(finished, tmp_path / "elsewhere" / "study"))

    assert stage_states(moved) == before
    for verb in ("profile", "report"):
        assert outcome_of([verb, moved]) == (0, outcome_of([verb, moved])[1])
    old = str(finished).encode()
    for path in (path for path in moved.rglob("*") if path.is_file()):
        assert old not in path.read_bytes(), path


@pytest.fixture
def read_only(copy, monkeypatch):
    """A study on a read-only medium: root may write to any other, so a stand-in refuses.

    `os.access` answers as for a medium that is mounted read-only, and below the study no file can
    be opened for writing, renamed, made or removed.
    """
    folder, opened, access = copy(), Path.open, os.access
    assert outcome_of(["plan", folder])[0] == 0  # what it finds is kept

    def refusal(path):
        return OSError(errno.EROFS, os.strerror(errno.EROFS), str(path))

    def open_(path, mode="r", *rest, **named):
        if path.is_relative_to(folder) and {*mode} & {*"wxa+"}:
            raise refusal(path)
        return opened(path, mode, *rest, **named)

    def accessible(path, mode, **named):
        below = Path(os.fspath(path)).resolve().is_relative_to(folder.resolve())
        return not (below and mode & os.W_OK) and access(path, mode, **named)

    def refusing(real):
        def call(path, *rest, **named):
            if Path(os.fspath(path)).is_relative_to(folder):
                raise refusal(path)
            return real(path, *rest, **named)

        return call

    for name in ("mkdir", "replace", "unlink", "rmdir", "rename"):
        monkeypatch.setattr(os, name, refusing(getattr(os, name)))
    monkeypatch.setattr(Path, "open", open_)
    monkeypatch.setattr(os, "access", accessible)
    return folder


def test_a_study_that_cannot_be_written_to_still_makes_its_report(read_only, tmp_path, monkeypatch):
    """Fault 40: in the folder where the program runs, or where it is told to."""
    before = {path: path.read_bytes() for path in read_only.rglob("*") if path.is_file()}
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")

    for verb in ("status", "plan", "profile", "att", "report"):
        code, error = outcome_of([verb, read_only])
        assert (code, "Traceback" in error) == (0, False), (verb, error)
    assert outcome_of(["report", read_only, "--out", "page.html"])[0] == 0
    assert pp.open_study(read_only).report("from_python.html") == Path("from_python.html")

    pages = {path.name: path.read_text() for path in Path.cwd().iterdir()}
    assert pages.keys() == {"study-report.html", "page.html", "from_python.html"}
    assert all("</html>" in page for page in pages.values())
    assert before == {path: path.read_bytes() for path in read_only.rglob("*") if path.is_file()}


def test_a_stage_that_is_not_current_says_that_it_cannot_be_written(read_only, monkeypatch):
    """Fault 40."""
    monkeypatch.setattr("pythia_profile.pipeline.running.is_current", lambda *_: False)

    for verb in ("profile", "att"):
        code, error = outcome_of([verb, read_only])
        assert code == 2
        assert "Read-only file system; nothing was changed" in error.splitlines()[-1]


def test_a_report_is_written_over_no_table_and_no_settings(copy):
    folder = copy()
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}

    for name in ("study.toml", "rows.parquet", "lock.json", "page"):
        code, told = outcome_of(["report", folder, "--out", folder / name])
        assert code == 2
        assert "expected a page's name, which ends in .html" in told
    assert all(path.read_bytes() == content for path, content in before.items())
