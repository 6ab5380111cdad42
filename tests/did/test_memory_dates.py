"""Dating checkpoints by their memory: planted panels, swapped checkpoints, what is refused."""

from dataclasses import replace

import numpy as np
import polars as pl
import pytest

from data_order.order import cohort_of_steps
from pythia_profile.did import NEVER
from pythia_profile.did.diagnostics.memory_dates import date_checkpoints
from pythia_profile.did.errors import NoControlError, PanelShapeError
from pythia_profile.did.panels import Panel


def remembering(seed=0, checkpoints=16, interval=32, per_step=3, never=600, noise=0.05):
    """Rows whose outcome rises by .2 when read, after a ramp of 8 steps, and fades by half."""
    rng = np.random.default_rng(seed)
    grid = np.arange(checkpoints + 1) * interval
    step = np.repeat(np.arange(1, grid[-1] + 1), per_step)
    step = np.append(step, np.full(never, NEVER))
    since = grid - np.where(step == NEVER, grid[-1] + 1, step)[:, None]
    effect = 0.2 * np.minimum((since + 1) / 8, 1) * (0.5 + 0.5 * np.exp(-since / 60))
    y = rng.normal(0, 0.5, (len(step), 1)) + np.linspace(0, 1, len(grid))
    y = y + rng.normal(0, noise, (len(step), len(grid))).cumsum(axis=1)
    return Panel(
        run=("planted", "s", 0),
        outcome="log_likelihood",
        y=y + np.where(since >= 0, effect, 0.0),
        cohort=cohort_of_steps(step, grid),
        cluster=np.full(len(step), NEVER),
        weight=np.ones(len(step)),
        row_id=np.arange(len(step)),
        checkpoints=grid,
        covariates=pl.DataFrame(),
        notes=(),
        step=step,
    )


def swapped(laid, j, k):
    y = laid.y.copy()
    y[:, [j, k]] = y[:, [k, j]]
    return replace(laid, y=y)


def test_checkpoints_are_dated_within_an_eighth_of_their_interval():
    found = date_checkpoints(remembering())

    error = np.abs(found.dates - found.labels)
    assert np.median(error) <= 4
    assert error[1:].max() <= 12
    assert not found.far.any()
    assert "none is far" in found.sentences()[0]


@pytest.mark.slow
def test_intervals_hold_the_label_about_as_often_as_they_say():
    inside = []
    for seed in range(8):
        found = date_checkpoints(remembering(seed, checkpoints=10, never=300))
        inside.append((found.lower <= found.labels) & (found.labels <= found.upper))

    # 88 checkpoints, whose common curve is estimated: a share of .95 has a standard error of .023
    assert np.mean(inside) > 0.95 - 3 * 0.023


@pytest.mark.slow
def test_swapped_checkpoints_are_found_and_others_are_not():
    laid, rng = remembering(1, per_step=2, never=300), np.random.default_rng(0)
    hits, alarms, errors = [], [], []
    for _ in range(5):
        j, k = rng.choice(np.arange(1, 17), 2, replace=False)
        found = date_checkpoints(swapped(laid, j, k))
        hits += [found.far[j], found.far[k]]
        errors += [found.dates[j] - found.labels[k], found.dates[k] - found.labels[j]]
        alarms += np.delete(found.far, [j, k]).tolist()

    assert np.mean(hits) >= 0.9
    assert np.mean(alarms) <= 0.05
    assert np.median(np.abs(errors)) <= 8


def test_a_sentence_names_what_a_checkpoint_holds():
    found = date_checkpoints(swapped(remembering(2), 4, 12))

    said = found.sentences()
    assert len(said) == 3
    assert said[1].startswith("checkpoint 128 seems to hold weights after 38")


def test_without_memory_nothing_is_far_and_intervals_are_wide():
    laid = remembering(3)
    rng = np.random.default_rng(4)
    y = rng.normal(0, 0.5, (len(laid), 1)) + rng.normal(0, 0.05, laid.y.shape).cumsum(axis=1)

    found = date_checkpoints(replace(laid, y=y))

    # one far checkpoint of 17 has a chance of .16, three of .001
    assert found.far.sum() < 3
    assert np.median(found.upper - found.lower) > 100


def test_what_cannot_be_dated_is_named():
    laid = remembering(checkpoints=8, never=5)
    with pytest.raises(NoControlError, match="5 never-treated rows, expected 18 or more"):
        date_checkpoints(laid)
    with pytest.raises(PanelShapeError, match="9 or more"):
        date_checkpoints(replace(laid, y=laid.y[:, :3], checkpoints=laid.checkpoints[:3]))
    with pytest.raises(PanelShapeError, match="treatment steps"):
        date_checkpoints(replace(remembering(), step=None))
