"""Studies whose true effects are known: rows of several sizes that share their noise."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from pythia_profile.did import NEVER
from pythia_profile.did.estimation import effects
from pythia_profile.did.panels import Panel
from pythia_profile.did.settings import Estimation
from pythia_profile.profiles.estimates import Estimates, RunEstimate
from pythia_profile.suites.model import Size, Suite

SETTINGS = Estimation(clusters="row", draws=50)
STEP = 100
"""Steps between checkpoints."""


@dataclass(frozen=True, kw_only=True)
class Design:
    """How large a planted study is."""

    cohorts: int = 16
    rows: int = 24
    never: int = 120
    noise: float = 0.05
    shared: float = 0.9


def suite_of(parameters, cohorts=16, schedule="neox_current"):
    """A suite with rates: sizes by name with their parameters."""
    sizes = {
        name: Size(
            name=name,
            layers=1,
            width=8,
            heads=1,
            parameters=count,
            peak_lr=1e-3,
            min_lr=1e-4,
            precision="float32",
            weights=name,
            checkpoints=tuple(range(0, STEP * (cohorts + 1), STEP)),
        )
        for name, count in parameters.items()
    }
    return Suite(
        name="planted",
        title="a planted suite",
        batch_size=8,
        steps=STEP * cohorts,
        row_tokens=65,
        vocabulary=100,
        schedule=schedule,
        warmup_steps=STEP,
        seed=0,
        sizes=sizes,
    )


def grid(cohorts):
    checkpoints = np.arange(0, STEP * (cohorts + 1), STEP)
    return checkpoints[1:], checkpoints


def noise_of_rows(rng, design, count):
    """Outcomes without effects (count, U, C): a level, and steps that sizes share in part."""
    rows = design.cohorts * design.rows + design.never
    shape = (rows, design.cohorts + 1)
    common = rng.normal(size=shape)
    own = rng.normal(size=(count, *shape))
    steps = np.sqrt(design.shared) * common + np.sqrt(1 - design.shared) * own
    return rng.normal(size=(rows, 1)) + design.noise * steps.cumsum(axis=2) / 2


def planted(rng, effects_of, design=None, seeds=None, columns=None):
    """Estimates of runs with these true effects.

    Parameters
    ----------
    effects_of : by size (or seed), (G, C) true effects; what stands before treatment is ignored.
    """
    design = design or Design()
    cohorts, checkpoints = grid(design.cohorts)
    cohort = np.append(np.repeat(cohorts, design.rows), np.full(design.never, NEVER))
    base = noise_of_rows(rng, design, len(effects_of))
    runs = []
    for y, (name, tau) in zip(base, effects_of.items(), strict=True):
        after = checkpoints >= cohorts[:, None]
        whole = np.vstack(
            [
                np.repeat(np.where(after, tau, 0.0), design.rows, axis=0),
                np.zeros((design.never, len(checkpoints))),
            ]
        )
        run = ("planted", "s", name) if seeds else ("planted", name, 0)
        panel = Panel(
            run=run,
            outcome="log_likelihood",
            y=y + whole,
            cohort=cohort,
            cluster=np.full(len(cohort), NEVER),
            weight=np.ones(len(cohort)),
            row_id=np.arange(len(cohort)),
            checkpoints=checkpoints,
            covariates=pl.DataFrame(columns or {})
            if columns
            else pl.DataFrame({"length": np.full(len(cohort), 65)}),
            notes=(),
            step=cohort,
        )
        runs.append(RunEstimate(panel, effects(panel, SETTINGS)))
    return Estimates(tuple(runs), SETTINGS)
