"""Panels with a planted effect, and ATT(g, c) by brute force, cell after cell, from the rows."""

from dataclasses import dataclass

import numpy as np

from pythia_profile.did import NEVER


@dataclass
class Planted:
    """A panel, and the effect that was put into it."""

    y: np.ndarray
    cohort: np.ndarray
    checkpoints: np.ndarray
    cluster: np.ndarray
    truth: np.ndarray


def planted(
    seed=0,
    cohorts=(10, 20, 30),
    checkpoints=(0, 10, 20, 30, 40),
    rows=12,
    never=15,
    noise=0.1,
    batch=1,
    batch_noise=0.0,
):
    """Rows with levels, a common trend, noise that wanders, and an effect that fades."""
    rng = np.random.default_rng(seed)
    checkpoints = np.array(checkpoints)
    sizes = [rows + (7 * i) % 5 for i in range(len(cohorts))]
    cohort = np.concatenate([np.repeat(cohorts, sizes), np.full(never, NEVER)])
    cluster = np.full(len(cohort), NEVER)
    cluster[: sum(sizes)] = np.concatenate(
        [1000 * i + np.arange(size) // batch for i, size in enumerate(sizes)]
    )
    truth = np.zeros((len(cohorts), len(checkpoints)))
    for i, g in enumerate(cohorts):
        since = checkpoints - g
        truth[i] = np.where(since >= 0, 0.3 * np.exp(-since / 30) + 0.05 * i, 0.0)
    effect = np.zeros((len(cohort), len(checkpoints)))
    for i, g in enumerate(cohorts):
        effect[cohort == g] = truth[i]
    walk = rng.normal(size=(len(cohort), len(checkpoints))).cumsum(axis=1)
    names, number = np.unique(cluster, return_inverse=True)
    shocks = rng.normal(size=(len(names), len(checkpoints)))[number]
    shocks[cluster == NEVER] = 0.0
    level = rng.normal(size=(len(cohort), 1))
    trend = np.linspace(-3, -1, len(checkpoints))
    y = level + trend + effect + noise * walk + batch_noise * shocks
    return Planted(y, cohort, checkpoints, cluster, truth)


def brute_cell(y, cohort, checkpoints, g, c, *, control="never", base="universal", theta=1.0):
    """ATT(g, c), its population-variance standard error, and the rows on either side."""
    last = max(p for p in checkpoints if p < g)
    b = last
    if base == "varying" and c < g:
        earlier = [p for p in checkpoints if p < c]
        if not earlier:
            return np.nan, np.nan, 0, 0
        b = max(earlier)
    treated = cohort == g
    later = (cohort > max(b, c)) & (cohort != g) & (cohort != NEVER)
    never = cohort == NEVER
    controls = {"never": never, "not_yet": later, "both": later | never}[control]
    if not controls.any():
        return np.nan, np.nan, int(treated.sum()), 0
    at = {p: i for i, p in enumerate(checkpoints)}
    change = y[:, at[c]] - theta * y[:, at[b]]
    on, off = change[treated], change[controls]
    se = np.sqrt(on.var() / len(on) + off.var() / len(off))
    return on.mean() - off.mean(), se, len(on), len(off)
