"""Whether a run's rows came in a random order: by outcomes before they are read, and never-read."""

from dataclasses import replace

import numpy as np
import polars as pl

from pythia_profile.did.panels import panel
from pythia_profile.did.settings import Estimation
from pythia_profile.pipeline.running import run_stage
from pythia_profile.profiles.diagnostics import check
from pythia_profile.profiles.exchangeable import FIRST, UNREAD, assignment_lines
from pythia_profile.study import create_study, new_study
from pythia_profile.suites.folder import write_suite


def test_a_random_order_passes_and_a_sorted_one_fails_before_any_effect(planted):
    rows, scores = planted(lambda *_: 0.2)
    laid = panel(rows, scores)
    hard = np.argsort(np.argsort(laid.y[:, 0]))  # the hardest rows first
    bad = replace(laid, y=laid.y[np.argsort(laid.y[:, 0])] + 0 * hard[:, None])

    good, sorted_by = (pl.DataFrame(assignment_lines(one)) for one in (laid, bad))

    assert set(good["content"]) == {FIRST, UNREAD}
    assert good["p_adjusted"].min() > 0.05
    of_first = sorted_by.filter(content=FIRST)
    assert of_first.filter(pattern="by cohort")["p_adjusted"].item() < 0.05
    assert of_first.filter(pattern="drift")["p_adjusted"].item() < 0.05


def test_rows_never_read_that_drift_with_their_place_fail(planted):
    rows, scores = planted(lambda *_: 0.0)
    laid = panel(rows, scores)
    never = laid.step == laid.step.max()
    y = laid.y.copy()
    y[never, -1] += np.linspace(0, 1, never.sum())

    found = pl.DataFrame(assignment_lines(replace(laid, y=y)))

    drift = found.filter(content=UNREAD, pattern="drift")
    assert drift["p_adjusted"].item() < 0.05


def test_the_check_names_the_order_first(planted):
    found = check(*planted(lambda *_: 0.2), Estimation(draws=20))

    assert "tests of the order" in found.sentences[0]
    assert next(iter(found.tables)) == "assignment"


def test_the_sample_of_a_suite_known_not_to_be_exchangeable_says_so(tiny_suite, tmp_path):
    folder = tmp_path / "suite"
    folder.mkdir()
    for path in tiny_suite.root.iterdir():
        if path.name != "suite.toml":
            (folder / path.name).symlink_to(path)
    reason = "files were read one after the other"
    write_suite(replace(tiny_suite, not_exchangeable=reason), folder)
    settings = {"rows_per_cohort": 16, "batches_per_cohort": 0, "never_treated": 50}

    create_study(tmp_path / "study", new_study(str(folder), ("xs",), settings))
    message = run_stage(tmp_path / "study", "sample")

    assert f"known not to be random: {reason}" in message
    assert "tests of the order find no sign" in message
