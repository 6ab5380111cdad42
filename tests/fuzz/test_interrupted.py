"""A verb that is stopped while it writes: 130 or 143, whole files, and it can be run again."""

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pythia_profile.cli.app import Terminated
from tests.fuzz.damages import bounded, is_whole, outcome_of

pytestmark = pytest.mark.slow

STOPS = {130: KeyboardInterrupt, 143: Terminated}


@bounded(6)
@given(code=st.sampled_from([*STOPS]), point=st.integers(1, 6))
@pytest.mark.parametrize("verb", ["att", "profile", "report"])
def test_a_verb_that_is_stopped_leaves_whole_files_and_goes_on(copy, verb, code, point):
    """Fault 3: stopped at any flush of any file."""
    folder, real, calls = copy(), os.fsync, []

    def stopping(handle):
        calls.append(handle)
        if len(calls) == point:
            raise STOPS[code]
        real(handle)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", stopping)
        found, error = outcome_of([verb, folder])

    assert found == (code if len(calls) >= point else 0), error
    assert ("interrupted; resume with: pythia-profile" in error) == (found == code)
    assert "Traceback" not in error
    assert not [*folder.rglob("*.part")]
    for path in (path for path in folder.rglob("*") if path.is_file()):
        assert is_whole(path), path
    again, error = outcome_of([verb, folder])
    assert again == 0, error
