"""Two runs over the same rows in different orders, with a planted effect."""

from dataclasses import dataclass

import numpy as np
import polars as pl

from data_order.order import cohort_of_steps
from pythia_profile.did import NEVER
from pythia_profile.did.panels import Panel


@dataclass
class TwoRuns:
    """Panels of run A and run B, and A's true effects."""

    one: Panel
    other: Panel
    truth: np.ndarray


def two_runs(seed=0, cohorts=8, per_cohort=64, never=200, noise=0.1, batch=0):
    """Draw two runs; at checkpoint 0 outcomes are unrelated to all that follow.

    Rows have a level and a walk that both runs share, and a walk of `noise` of each run's own; with
    `batch`, so many rows of a cohort share a batch, and a shock when it is read.
    """
    rng = np.random.default_rng(seed)
    grid = np.arange(cohorts + 1) * 10
    rows = cohorts * per_cohort
    step = np.append(np.repeat(grid[:-1] + 5, per_cohort), np.full(never, NEVER))
    other_step = step.copy()
    other_step[:rows] = rng.permutation(step[:rows])
    truth = np.zeros((cohorts, len(grid)))
    for i, g in enumerate(grid[1:]):
        since = grid - g
        truth[i] = np.where(since >= 0, 0.1 * np.exp(-since / 30) + 0.01 * i, 0.0)
    shared = rng.normal(0, 0.5, (len(step), 1))
    shared = shared + rng.normal(0, noise, (len(step), len(grid))).cumsum(axis=1)
    number = np.append(np.arange(rows), np.full(never, NEVER))
    cluster = np.where(number == NEVER, NEVER, number // batch) if batch else number * 0 + NEVER

    def run(steps, trend, clusters):
        cohort = cohort_of_steps(steps, grid)
        own = rng.normal(0, noise, shared.shape).cumsum(axis=1)
        y = shared + own + np.linspace(0, trend, len(grid))
        y[:, 0] = rng.normal(0, 0.5, len(y)) * (noise > 0)
        for i, g in enumerate(grid[1:]):
            y[cohort == g] += truth[i]
        if batch:
            shock = rng.normal(0, 0.1, len(step))[np.where(clusters == NEVER, 0, clusters)]
            y += np.where(cohort[:, None] <= grid, shock[:, None], 0.0)
        return Panel(
            run=("planted", "s", 0),
            outcome="log_likelihood",
            y=y,
            cohort=cohort,
            cluster=clusters,
            weight=np.ones(len(y)),
            row_id=np.arange(len(y)),
            checkpoints=grid,
            covariates=pl.DataFrame({"length": np.ones(len(y))}),
            notes=(),
            step=steps,
        )

    return TwoRuns(run(step, 1.0, cluster), run(other_step, 1.3, cluster * 0 + NEVER), truth)
