"""A finished study in another place, or where nothing can be written."""

import shutil
from pathlib import Path

import pytest

from pythia_profile.pipeline.stages import stage_states
from tests.fuzz.damages import outcome_of


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
    """A study below which no file can be opened for writing; root may write to any other."""
    folder, real = copy(), Path.open
    assert outcome_of(["plan", folder])[0] == 0  # what it finds is kept

    def refused(path, mode="r", *rest, **named):
        if path.is_relative_to(folder) and {*mode} & {*"wxa+"}:
            raise PermissionError(13, "Permission denied", str(path))
        return real(path, mode, *rest, **named)

    monkeypatch.setattr(Path, "open", refused)
    return folder


def test_a_study_that_cannot_be_written_to_is_read_all_the_same(read_only):
    """Fault 40."""
    before = {path: path.read_bytes() for path in read_only.rglob("*") if path.is_file()}

    for verb in ("status", "plan"):
        code, error = outcome_of([verb, read_only])
        assert (code, "Traceback" in error) == (0, False), (verb, error)
    for verb in ("profile", "report", "att"):
        code, error = outcome_of([verb, read_only])
        assert code == 2
        assert "Permission denied; nothing was changed" in error.splitlines()[-1]

    assert before == {path: path.read_bytes() for path in read_only.rglob("*") if path.is_file()}
