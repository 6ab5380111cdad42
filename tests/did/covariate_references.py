"""Effects at equal covariates by three other packages: how `covariate_references.json` was made.

Run in an environment of its own, from the repository's root:

    pip install csdid==0.4.3 drdid==1.1.7 moderndid==0.2.0
    python -m tests.did.covariate_references

csdid is the Python port of R's `did` by its authors, drdid that of R's `DRDID`, moderndid an
independent one. `both` is their "not yet treated"; `sampled` has sampling weights.
"""

import json
import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np

STORED = Path(__file__).with_suffix(".json")
NEVER_READ = 0


@dataclass(frozen=True)
class Case:
    """One panel and the settings it is estimated with."""

    seed: int
    method: str
    control: str = "never"
    base: str = "universal"
    covariates: int = 2
    sampled: bool = False


CASES = {
    "regression": Case(1, "reg"),
    "doubly robust": Case(1, "dr"),
    "regression, varying base": Case(2, "reg", base="varying", covariates=3),
    "doubly robust, both": Case(3, "dr", control="both", covariates=1),
    "regression, both, varying base": Case(4, "reg", control="both", base="varying"),
    "doubly robust, sampled": Case(5, "dr", covariates=3, sampled=True),
}


def panel(case: Case):
    """Outcomes, cohorts (0 is never-treated), checkpoints, covariates, weights of a case."""
    rng = np.random.default_rng(case.seed)
    checkpoints = np.array([0, 10, 20, 30, 40])
    cohort = np.repeat([10, 20, 30, NEVER_READ], [35, 40, 45, 90])
    x = rng.normal(size=(len(cohort), case.covariates))
    x[:, 0] += 0.3 * (cohort == 20)
    x[:, -1] += 0.2 * x[:, -1] ** 2
    slopes = 0.3 * rng.normal(size=(case.covariates, 5)).cumsum(axis=1)
    effect = 0.4 * ((cohort[:, None] > 0) & (cohort[:, None] <= checkpoints))
    noise = 0.2 * rng.normal(size=(len(cohort), 5)).cumsum(axis=1)
    y = rng.normal(size=(len(cohort), 1)) + x @ slopes + effect + noise
    weights = rng.uniform(0.5, 2, len(cohort)) if case.sampled else np.ones(len(cohort))
    return y, cohort, checkpoints, x, weights


def long(case: Case):
    """Return the panel with one line a row and checkpoint."""
    import pandas as pd

    y, cohort, checkpoints, x, weights = panel(case)
    rows, count = y.shape
    columns = {f"x{k}": np.repeat(x[:, k], count) for k in range(x.shape[1])}
    return pd.DataFrame(
        {
            "unit": np.repeat(np.arange(rows), count),
            "time": np.tile(checkpoints, rows),
            "y": y.ravel(),
            "g": np.repeat(cohort, count),
            "w": np.repeat(weights, count),
            **columns,
        }
    )


def settings(case: Case):
    """Return what csdid and moderndid call the settings of a case alike."""
    formula = "~ " + " + ".join(f"x{k}" for k in range(case.covariates))
    group = "nevertreated" if case.control == "never" else "notyettreated"
    return formula, group


def by_csdid(case: Case):
    """Cells (g, c) and three aggregates: [label, effect, standard error]."""
    from csdid.att_gt import ATTgt

    formula, group = settings(case)
    model = ATTgt(
        yname="y", tname="time", idname="unit", gname="g", data=long(case), control_group=[group],
        xformla="y " + formula, weights_name="w" if case.sampled else None,
    ).fit(est_method=case.method, base_period=case.base, bstrap=False)  # fmt: skip
    found = model.results
    cells = [
        [int(g), int(c), float(a), float(s)]
        for g, c, a, s in zip(found["group"], found["year"], found["att"], found["se"], strict=True)
        if np.isfinite(s)
    ]
    summaries = {}
    for ours, theirs in (("event_time", "dynamic"), ("cohort", "group"), ("calendar", "calendar")):
        made = model.aggte(typec=theirs, bstrap=False, cband=False).atte
        lines = zip(made["egt"], made["att_egt"], np.ravel(made["se_egt"]), strict=True)
        summaries[ours] = [[int(e), float(a), float(s)] for e, a, s in lines if np.isfinite(s)]
    return cells, summaries


def by_moderndid(case: Case):
    """Cells (g, c): [g, c, effect, standard error]."""
    import moderndid
    import polars as pl

    formula, group = settings(case)
    found = moderndid.att_gt(
        pl.from_pandas(long(case)), yname="y", tname="time", idname="unit", gname="g",
        xformla=formula, weightsname="w" if case.sampled else None, est_method=case.method,
        control_group=group, base_period=case.base,
    )  # fmt: skip
    lines = zip(found.groups, found.times, found.att_gt, found.se_gt, strict=True)
    return [[int(g), int(c), float(a), float(s)] for g, c, a, s in lines if np.isfinite(s)]


def by_drdid(case: Case):
    """One cell, cohort 20 at checkpoint 40: effect and influence of each of its rows."""
    from drdid.drdid import drdid_panel
    from drdid.reg_did import reg_did_panel

    y, cohort, _, x, weights = panel(case)
    used = (cohort == 20) | (cohort == NEVER_READ)
    function = reg_did_panel if case.method == "reg" else drdid_panel
    treated = (cohort[used] == 20).astype(float)
    effect, influence = function(y[used, 4], y[used, 1], treated, x[used], weights[used])
    return [float(effect), np.ravel(influence).tolist()]


def main() -> None:
    """Write what the packages say of each case."""
    warnings.simplefilter("ignore")
    stored = {}
    for name, case in CASES.items():
        cells, summaries = by_csdid(case)
        stored[name] = {
            "csdid": cells,
            "aggregates": summaries,
            "moderndid": by_moderndid(case),
            "drdid": by_drdid(case) if case.control == "never" else None,
        }
    STORED.write_text(json.dumps(stored) + "\n")


if __name__ == "__main__":
    main()
