"""What each bad input is told: an error of its own, with counts and names, in one line."""

import numpy as np
import pytest

from pythia_profile.did import (
    NEVER,
    aggregate,
    att_gt,
    bands,
    leave_one_out,
    placebo,
    sensitivity,
)
from pythia_profile.did.errors import (
    CheckpointOrderError,
    ClusterError,
    ConstantOutcomeError,
    DegenerateError,
    DuplicateError,
    EarlyCohortError,
    EmptyFamilyError,
    MissingOutcomeError,
    NoControlError,
    NoTreatedError,
    OptionError,
    PanelShapeError,
    SmallCohortError,
)
from pythia_profile.errors import EstimationError


def never(panel):
    return np.full(len(panel.y), NEVER)


def with_cell(y, value):
    changed = y.copy()
    changed[3, 2] = value
    return changed


def one_row_left(panel):
    alone = panel.cohort.copy()
    alone[np.flatnonzero(alone == 20)[1:]] = 10
    return alone


def parallel(panel):
    """All rows move alike: no cell has a variance."""
    y = np.arange(57.0)[:, None] + np.arange(5.0)
    return att_gt(y, panel.cohort, panel.checkpoints)


def first_cohort(panel):
    kept = (panel.cohort == 10) | (panel.cohort == NEVER)
    return att_gt(panel.y[kept], panel.cohort[kept], panel.checkpoints)


BAD = {
    "no never-treated rows": (
        lambda p: att_gt(p.y[p.cohort != NEVER], p.cohort[p.cohort != NEVER], p.checkpoints),
        NoControlError,
        r"all rows are treated \(3 cohorts, 0 never-treated rows\)",
    ),
    "no later cohort": (
        lambda p: att_gt(p.y, np.minimum(p.cohort, 10), p.checkpoints, control="both"),
        NoControlError,
        "1 cohorts",
    ),
    "nobody treated": (
        lambda p: att_gt(p.y, never(p), p.checkpoints),
        NoTreatedError,
        "all rows are never-treated",
    ),
    "cohort at the first checkpoint": (
        lambda p: att_gt(p.y, np.where(p.cohort == 10, 0, p.cohort), p.checkpoints),
        EarlyCohortError,
        r"1 of 3 cohorts have no checkpoint .*\(0; the first checkpoint is 0\)",
    ),
    "one row in a cohort": (
        lambda p: att_gt(p.y, one_row_left(p), p.checkpoints),
        SmallCohortError,
        r"1 of 4 groups have a single row \(20\)",
    ),
    "one cluster in a cohort": (
        lambda p: att_gt(
            p.y, p.cohort, p.checkpoints, clusters=np.where(p.cohort == NEVER, NEVER, p.cohort)
        ),
        SmallCohortError,
        r"3 of 4 groups have a single cluster \(10, 20, 30\)",
    ),
    "constant outcome": (
        lambda p: att_gt(np.full_like(p.y, 2.5), p.cohort, p.checkpoints),
        ConstantOutcomeError,
        r"all 285 outcomes equal 2\.5",
    ),
    "NaN": (
        lambda p: att_gt(with_cell(p.y, np.nan), p.cohort, p.checkpoints),
        MissingOutcomeError,
        "1 of 285 outcomes are NaN or infinite, in 1 of 57 rows; first at row number 3, checkpoint "
        "number 2",
    ),
    "infinity": (
        lambda p: att_gt(with_cell(p.y, -np.inf), p.cohort, p.checkpoints),
        MissingOutcomeError,
        "1 of 285",
    ),
    "huge": (
        lambda p: att_gt(with_cell(p.y, 1e300), p.cohort, p.checkpoints),
        PanelShapeError,
        r"the largest outcome is 1e\+300",
    ),
    "ids twice": (
        lambda p: att_gt(p.y, p.cohort, p.checkpoints, units=np.arange(len(p.y)) // 2),
        DuplicateError,
        "28 of 29 ids are duplicated, first 0",
    ),
    "cluster over cohorts": (
        lambda p: att_gt(p.y, p.cohort, p.checkpoints, clusters=np.arange(len(p.y)) // 13),
        ClusterError,
        r"2 of 5 hold rows of several cohorts, first cluster 0 \(cohorts 10 and 20\)",
    ),
    "checkpoints in disorder": (
        lambda p: att_gt(p.y, p.cohort, [0, 20, 10, 30, 40]),
        CheckpointOrderError,
        "number 2 is 10 after 20",
    ),
    "a checkpoint twice": (
        lambda p: att_gt(p.y, p.cohort, [0, 10, 10, 30, 40]),
        CheckpointOrderError,
        "number 2 is 10 after 10",
    ),
    "one checkpoint": (
        lambda p: att_gt(p.y[:, :1], p.cohort, [0]),
        CheckpointOrderError,
        "two or more",
    ),
    "columns and checkpoints": (
        lambda p: att_gt(p.y[:, 1:], p.cohort, p.checkpoints),
        PanelShapeError,
        "4 columns for 5 checkpoints",
    ),
    "rows and cohorts": (
        lambda p: att_gt(p.y, p.cohort[1:], p.checkpoints),
        PanelShapeError,
        "expected 57 numbers",
    ),
    "words as outcomes": (
        lambda p: att_gt(p.y.astype(str), p.cohort, p.checkpoints),
        PanelShapeError,
        "expected numbers",
    ),
    "no rows": (
        lambda p: att_gt(p.y[:0], p.cohort[:0], p.checkpoints),
        PanelShapeError,
        r"got shape \(0, 5\)",
    ),
    "cohort before all": (
        lambda p: att_gt(p.y, np.where(p.cohort == 10, -np.inf, 20.0), p.checkpoints),
        PanelShapeError,
        "12 of 57 are -inf; expected steps, or NEVER, NaN or inf",
    ),
    "unknown control": (
        lambda p: att_gt(p.y, p.cohort, p.checkpoints, control="all"),
        OptionError,
        "got 'all', expected: 'never', 'not_yet' or 'both'",
    ),
    "unknown rule for gaps": (
        lambda p: att_gt(p.y, p.cohort, p.checkpoints, missing="drop"),
        OptionError,
        "missing: got 'drop', expected: 'error', 'balanced' or 'available'",
    ),
    "lines of different lengths": (
        lambda _: att_gt([[1.0, 2.0], [3.0]], [10, 10], [0, 10]),
        PanelShapeError,
        "y: lines of different lengths",
    ),
    "weight 0": (
        lambda p: att_gt(p.y, p.cohort, p.checkpoints, weights=np.arange(len(p.y))),
        OptionError,
        "1 of 57 are not above 0",
    ),
    "clusters as words": (
        lambda p: att_gt(p.y, p.cohort, p.checkpoints, clusters=p.cluster.astype(str)),
        PanelShapeError,
        "expected 57 whole numbers",
    ),
    "masked outcomes": (
        lambda p: att_gt(np.ma.masked_greater(p.y, p.y.max() - 1e-9), p.cohort, p.checkpoints),
        MissingOutcomeError,
        "1 of 285 outcomes are NaN",
    ),
    "words in no cohort's place": (
        lambda p: att_gt(p.y, np.where(p.cohort == 10, "b", "z"), list("abcde")),
        PanelShapeError,
        "cohort: 45 of 57 labels are none of the 5 checkpoints, first 'z'",
    ),
    "a word twice": (
        lambda p: att_gt(p.y, p.cohort, list("abcda")),
        CheckpointOrderError,
        "1 of 5 labels are duplicated",
    ),
    "dates in disorder": (
        lambda p: att_gt(p.y, p.cohort, np.datetime64("2026-01-01") - p.checkpoints),
        CheckpointOrderError,
        "number 1 is 2025-12-22 after 2026-01-01; expected strictly ascending dates",
    ),
    "all cells without variance": (
        lambda p: bands(parallel(p)),
        DegenerateError,
        "all 9 cells of the family have zero variance",
    ),
    "all placebo cells without variance": (
        lambda p: placebo(parallel(p)),
        DegenerateError,
        "placebo: all 3 cells have zero variance",
    ),
    "an aggregate without variance": (
        lambda p: bands(aggregate(parallel(p), "event_time")),
        DegenerateError,
        "cells of the family have zero variance",
    ),
    "sensitivity without variance": (
        lambda p: sensitivity(parallel(p)),
        EmptyFamilyError,
        "0 effects before and 0 after treatment have a variance",
    ),
    "an empty mask": (
        lambda p: bands(att_gt(p.y, p.cohort, p.checkpoints), family=np.zeros((3, 5), bool)),
        EmptyFamilyError,
        "none of 15 cells belongs to it",
    ),
    "no cells before treatment": (
        lambda p: bands(first_cohort(p), family="placebo"),
        EmptyFamilyError,
        "family 'placebo': none of 5 cells belongs to it",
    ),
    "no placebo tests": (
        lambda p: placebo(first_cohort(p)),
        EmptyFamilyError,
        "none of 1 cohorts has a scored checkpoint before its base",
    ),
    "a path that is not there": (
        lambda p: bands(att_gt(p.y, p.cohort, p.checkpoints), family="path:15"),
        OptionError,
        "no such cohort; the first are 10, 20, 30",
    ),
    "anticipation below 0": (
        lambda p: att_gt(p.y, p.cohort, p.checkpoints, anticipation=-1),
        OptionError,
        "got -1",
    ),
}


@pytest.mark.parametrize("case", BAD)
def test_bad_input_is_its_own_error_with_counts_and_names(small, case):
    call, error, message = BAD[case]

    with pytest.raises(error, match=message) as caught:
        call(small)
    assert isinstance(caught.value, EstimationError)
    assert "\n" not in str(caught.value)


def test_checkpoints_of_effects_without_variance_are_described(small):
    text = str(leave_one_out(parallel(small)))

    assert text == "checkpoints: suspects none; the overall effect has no variance"
