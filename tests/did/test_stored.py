"""Estimates as arrays in a file, and back."""

import numpy as np
import pytest

from pythia_profile.did import att_gt, bands
from pythia_profile.did.stored import from_arrays, to_arrays
from pythia_profile.errors import TableError
from tests.did.planted import planted


@pytest.mark.parametrize("estimator", ["did", "ancova"])
def test_an_estimate_comes_back_from_a_file_as_it_was(tmp_path, estimator):
    panel = planted()
    att = att_gt(panel.y, panel.cohort, panel.checkpoints, estimator=estimator, control="both")

    np.savez(tmp_path / "att.npz", **to_arrays(att))
    again = from_arrays(np.load(tmp_path / "att.npz", allow_pickle=False))

    kept, made = to_arrays(att), to_arrays(again)
    assert kept.keys() == made.keys()
    for name in kept:
        np.testing.assert_array_equal(kept[name], made[name])
    assert (again.notes, again.settings, str(again)) == (att.notes, att.settings, str(att))
    np.testing.assert_array_equal(bands(again, 20).lower, bands(att, 20).lower)


def test_an_array_that_is_missing_is_named():
    panel = planted()
    kept = to_arrays(att_gt(panel.y, panel.cohort, panel.checkpoints))

    with pytest.raises(TableError, match=r"'fit.sums.total' is missing"):
        from_arrays({name: array for name, array in kept.items() if name != "fit.sums.total"})
