"""The same panel in the words of two other packages, their answers on our grid."""

import warnings

import numpy as np
import pandas as pd

from pythia_profile.did import NEVER


def long_frame(panel):
    """One line a row and checkpoint; cohort 0 is never-treated; `x` is a copy of the outcome."""
    rows, checkpoints = panel.y.shape
    frame = pd.DataFrame(
        {
            "unit": np.repeat(np.arange(rows), checkpoints),
            "time": np.tile(panel.checkpoints, rows),
            "y": panel.y.ravel(),
            "cohort": np.repeat(np.where(panel.cohort == NEVER, 0, panel.cohort), checkpoints),
        }
    )
    frame["x"] = frame["y"]
    return frame


def by_diff_diff(panel, *, control, base, adjusted=False, anticipation=0):
    """Cells (g, c) -> (ATT, standard error, rows, control rows), and aggregates, of diff-diff."""
    from diff_diff import CallawaySantAnna

    model = CallawaySantAnna(
        control_group=control,
        base_period=base,
        anticipation=anticipation,
        estimation_method="reg",
        n_bootstrap=0,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        result = model.fit(
            long_frame(panel),
            outcome="y",
            unit="unit",
            time="time",
            first_treat="cohort",
            covariates=["x"] if adjusted else None,
            aggregate="all",
        )
    cells = {
        (int(g), int(c)): (cell["effect"], cell["se"], cell["n_treated"], cell["n_control"])
        for (g, c), cell in result.group_time_effects.items()
    }
    aggregates = {
        "event_time": {e: (v["effect"], v["se"]) for e, v in result.event_study_effects.items()},
        "cohort": {g: (v["effect"], v["se"]) for g, v in result.group_effects.items()},
        "overall": {None: (result.overall_att, result.overall_se)},
    }
    return cells, aggregates


def by_differences(panel, *, control, base, adjusted=False):
    """Cells (g, c) -> (ATT, standard error), and aggregates, of differences."""
    from differences import ATTgt

    frame = long_frame(panel)
    frame["cohort"] = frame["cohort"].replace(0, np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = ATTgt(
            data=frame.set_index(["unit", "time"]), cohort_column="cohort", base_period=base
        )
        table = model.fit(
            "y ~ x" if adjusted else "y",
            est_method="reg",
            control_group=control,
            progress_bar=False,
        ).to_pandas()
        summaries = {
            ours: model.aggregate(theirs)
            for ours, theirs in (
                ("event_time", "event"),
                ("cohort", "cohort"),
                ("calendar", "time"),
            )
        }
    cells = {(int(g), int(c)): pair for (g, _, c), pair in _pairs(table).items()}
    return cells, {kind: _pairs(summary) for kind, summary in summaries.items()}


def _pairs(table):
    plain = table.copy()
    plain.columns = [name[-1] for name in plain.columns]
    return {at: (line["ATT"], line["std_error"]) for at, line in plain.iterrows()}


def overall_by_differences(panel):
    """Aggregate -> its overall (ATT, standard error), of differences."""
    from differences import ATTgt

    frame = long_frame(panel)
    frame["cohort"] = frame["cohort"].replace(0, np.nan)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        model = ATTgt(
            data=frame.set_index(["unit", "time"]), cohort_column="cohort", base_period="universal"
        )
        model.fit("y", est_method="reg", control_group="never_treated", progress_bar=False)
        found = {
            ours: model.aggregate(theirs, overall=True)
            for ours, theirs in (
                ("event_time", "event"),
                ("cohort", "cohort"),
                ("calendar", "time"),
            )
        }
    return {kind: _pairs(table)[0] for kind, table in found.items()}
